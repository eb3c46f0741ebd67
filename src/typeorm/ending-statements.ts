import { A_MOMENT_MS, type EndTarget } from '../session/session.js';
import { endDue } from './ended-row.js';
import { exemptNow } from './exemption-statements.js';
import { liveness, type StatementSettings } from './liveness.js';
import { inTime, ipv4IfMapped, ms } from './sql-parts.js';

/** What an end makes of the slots row `old`, all as SQL. */
interface Ending {
  active: string;
  floor: string;
  /** Which sessions `s` of its user end. */
  due: string;
  /** Whether those end, too, that the statement's snapshot does not have: see `LateEnds`. */
  late: string;
  /** Default: that of the order. */
  reason?: string;
  /** What must hold besides, once the row is locked, for anything to happen. */
  condition?: string;
  /** Whether the session `s` ends no others. Default: it does not. */
  alone?: string;
}

/** What ends sessions, and what makes two logins of one browser one session. */
export function endingStatements(settings: StatementSettings) {
  const { sessions, slots, exemptions } = settings;
  const { isOver, held, live } = liveness(settings);

  // A session in the locked slots row that has no row in this snapshot was admitted while the statement waited for the
  // lock. It is dead like the others, and a second statement says so: see `LateEnds`.
  const finish = ({ due, late, reason = '$2' }: Pick<Ending, 'due' | 'late' | 'reason'>): string => `due AS (
    SELECT s.id FROM ${sessions} s JOIN old ON s.user_id = old.user_id
    WHERE ${live('old')} AND (${due})
    ORDER BY s.id FOR NO KEY UPDATE OF s),
  ended AS (${endDue(sessions, reason, '$3')})
  SELECT *, false AS late FROM ended
  UNION ALL
  SELECT slot.id, old.user_id, NULL, NULL, NULL, NULL, NULL, true FROM old, unnest(old.active) AS slot (id)
    WHERE ${late} AND NOT EXISTS (SELECT FROM ${sessions} s WHERE s.id = slot.id)`;

  /** $1 session, $2 reason, $3 by, $4 its user or NULL, $5 limit. Begins with the slots row of a session that is live, locked; without one nothing happens. */
  const endBySession = ({
    active,
    floor,
    condition = 'true',
    alone = 'true',
    ...ending
  }: Ending): string => `WITH own AS (
    SELECT s.* FROM ${sessions} s
    WHERE s.id = $1::uuid AND ($4::text IS NULL OR s.user_id = $4) AND s.ended_at IS NULL AND NOT ${isOver}),
  locked AS MATERIALIZED (
    SELECT u.*, s.id AS own_id, s.exempt AS own_exempt,
      ${alone} AS own_alone FROM ${slots} u JOIN own s ON s.user_id = u.user_id
    WHERE ${held('u', '$5::int')} FOR NO KEY UPDATE OF u),
  old AS (SELECT locked.* FROM locked WHERE ${condition}),
  slot AS (
    UPDATE ${slots} u SET active = ${active}, floor = ${floor} FROM old WHERE u.user_id = old.user_id),
  ${finish(ending)}`;

  // What was admitted as exempt is in no slot, so the locked slots row does not tell that it has ended during the wait. Its own
  // row does, once that is locked: in its turn, with all that may end.
  const ownStillLive = `locked.own_id = ANY (ARRAY(
    SELECT s.id FROM ${sessions} s WHERE s.user_id = locked.user_id AND ${live('locked')} ORDER BY s.id FOR NO KEY UPDATE OF s))`;
  const floorUnless = (alone: string): string => `CASE WHEN ${alone} THEN old.floor ELSE old.generation END`;
  const withoutOwn = 'array_remove(old.active, old.own_id)';

  // The session's row is locked, too: whether other logins share it (`logins`) may have changed during the wait for the slots
  // row.
  const ofSession = (columns: string, condition: string, limit: string): string => `SELECT ${columns}
    FROM ${slots} u JOIN ${sessions} s ON s.user_id = u.user_id
    WHERE ${condition} AND ${live('u', limit)} LIMIT 1 FOR NO KEY UPDATE OF u, s`;

  /** $1 sessions, $2 user, $3 limit, $4 login. */
  const share = `WITH old AS (${ofSession('s.id', `s.id = ANY($1::uuid[]) AND s.user_id = $2 AND s.created_at > now() - ${ms(A_MOMENT_MS)}`, '$3::int')})
  UPDATE ${sessions} s SET logins = s.logins || $4::uuid FROM old WHERE s.id = old.id RETURNING s.id`;

  /** As the others that begin with a session, and $6 login. */
  const endLogin = `WITH old AS (${ofSession('u.*, s.id AS own_id, array_remove(s.logins, $6::uuid) AS others', 's.id = $1::uuid AND ($4::text IS NULL OR s.user_id = $4)', '$5::int')}),
  kept AS (UPDATE ${sessions} s SET logins = old.others FROM old WHERE s.id = old.own_id AND old.others <> '{}'),
  slot AS (
    UPDATE ${slots} u SET active = ${withoutOwn} FROM old WHERE u.user_id = old.user_id AND old.others = '{}'),
  ${finish({ due: "s.id = old.own_id AND old.others = '{}'", late: 'false' })}`;

  /** By the scope of the target. What ends others than the session itself has $6, the time left; that of a user, $4. For `everywhere`, $7 roles or NULL. */
  const end: Record<EndTarget['scope'], string> = {
    session: endBySession({
      active: withoutOwn,
      floor: 'old.floor',
      due: 's.id = old.own_id',
      late: 'false',
    }),
    login: endLogin,
    everywhere: endBySession({
      active: `CASE WHEN old.own_alone THEN ${withoutOwn} ELSE '{}' END`,
      floor: floorUnless('old.own_alone'),
      due: 's.id = old.own_id OR NOT old.own_alone',
      late: 'NOT old.own_alone',
      reason: `CASE WHEN s.id = $1 THEN $2 ELSE 'logout-everywhere' END`,
      condition: inTime('$6'),
      alone: `s.exempt OR ${exemptNow(exemptions, 's.username', 'COALESCE($7::text[], s.roles)')}`,
    }),
    others: endBySession({
      active: `CASE WHEN old.own_exempt THEN '{}' ELSE ARRAY[old.own_id] END`,
      floor: floorUnless('old.own_exempt'),
      due: 's.id <> old.own_id',
      late: 'true',
      condition: `${inTime('$6')} AND ${ownStillLive}`,
    }),
    user: `WITH locked AS MATERIALIZED (SELECT u.* FROM ${slots} u WHERE u.user_id = $1 FOR NO KEY UPDATE OF u),
  old AS (SELECT locked.* FROM locked WHERE ${inTime('$4')}),
  slot AS (
    UPDATE ${slots} u SET active = '{}', floor = old.generation FROM old WHERE u.user_id = old.user_id),
  ${finish({ due: 'true', late: 'true' })}`,
  };

  /** $1 session, $2 user, $3 username, $4 roles, $5 ip, $6 user agent, $7 reason. Generation 0: no admission made it. */
  const recordEnded = `INSERT INTO ${sessions}
    (id, user_id, username, roles, generation, exempt, created_at, last_seen_at, expires_at, ip, user_agent, ended_at, end_reason)
  VALUES ($1, $2, $3, $4, 0, false, now(), now(), now(), ${ipv4IfMapped('$5::inet')}, $6, now(), $7)
  ON CONFLICT (id) DO NOTHING RETURNING id`;

  return { share, end, recordEnded };
}
