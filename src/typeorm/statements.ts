import type { EndTarget } from '../session/session.js';
import { endedOf } from './ended-row.js';
import { exemptNow, HELD_ROLES, IN_TIME, liveness, ms, type LivenessSettings } from './liveness.js';

/** What the statements are made for; all of it is fixed at start. */
export interface StatementSettings extends LivenessSettings {
  sessions: string;
  slots: string;
  exemptions: string;
  /** Milliseconds. */
  retention: number;
  seenInterval: number;
}

export type Statements = ReturnType<typeof statements>;

export const BATCH = 1_000;

/** Within this time, two logins of one browser are one. Longer, and a copy of its cookie elsewhere would hold a second place. */
const SAME_MOMENT_MS = 10_000;

/**
 * Every statement of the module, as fixed texts: what varies is a parameter. In all of them `s` is a session, `u` the
 * slots row of its user, and what is dead stays dead whatever snapshot it is read from.
 *
 * Locks are taken in one order, so that statements wait for each other and never deadlock: first the slots row, then
 * session rows by id.
 */
export function statements(settings: StatementSettings) {
  const { sessions, slots, cutoffs, exemptions, retention, seenInterval } = settings;
  const { spared, isOver, over, held, ofCutOff, deadBecause, diedAt, live } = liveness(settings);

  const mark = (asked: string, reason: string, wait = ''): string => `WITH due AS (
    SELECT s.id, ${reason} AS reason, u.active[1] AS newest
    FROM ${asked} AND s.ended_at IS NULL LEFT JOIN ${slots} u ON u.user_id = s.user_id
    WHERE ${reason} IS NOT NULL
    ORDER BY s.id FOR NO KEY UPDATE OF s ${wait})
  UPDATE ${sessions} s SET end_reason = due.reason, ended_at = ${diedAt('due.reason')},
    ended_by = CASE due.reason WHEN 'cut-off' THEN ${ofCutOff('created_by')} END,
    replaced_by = CASE due.reason WHEN 'superseded' THEN due.newest END
  FROM due WHERE s.id = due.id AND s.ended_at IS NULL
  RETURNING ${endedOf('s')}`;

  // What an admission displaced is not in the slots row any more, whatever the limit. The newest session is displaced by
  // nothing: an order that waited while it was admitted has ended it, and says so itself, see `LateEnds`.
  const displaced = `CASE WHEN s.generation IS DISTINCT FROM u.generation AND NOT ${held('u')} THEN 'superseded' END`;

  /** $1 users. */
  const markUsers = mark(
    `unnest($1::text[]) AS q (user_id) JOIN ${sessions} s ON s.user_id = q.user_id`,
    `COALESCE(${over}, ${displaced})`,
  );

  /** $1 ids. For the sweeper, which waits for nobody. */
  const markIds = mark(
    `unnest($1::uuid[]) AS q (id) JOIN ${sessions} s ON s.id = q.id`,
    deadBecause(),
    'SKIP LOCKED',
  );

  /** $1 id, $2 limit. No other session of its user: another request may have been judged by another limit. */
  const markChecked = mark(
    `(SELECT $1::uuid AS id, $2::int AS n) AS q JOIN ${sessions} s ON s.id = q.id`,
    deadBecause('q.n'),
  );

  /** $1 id, $2 roles, $3 administrator. What was held at the admission can only shrink. */
  const refresh = `UPDATE ${sessions} s SET roles = $2::text[], administrator = s.administrator AND $3::boolean,
    held_roles = ARRAY(SELECT held FROM unnest(${HELD_ROLES}) AS held WHERE held = ANY($2))
  WHERE s.id = $1::uuid AND s.ended_at IS NULL`;

  /** $1 ids. Waits for nobody: what is locked is being written anyway. */
  const seen = `WITH due AS (
    SELECT s.id FROM ${sessions} s
    WHERE s.id = ANY($1::uuid[]) AND s.ended_at IS NULL AND s.last_seen_at <= now() - ${ms(seenInterval)}
    ORDER BY s.id FOR NO KEY UPDATE SKIP LOCKED)
  UPDATE ${sessions} s SET last_seen_at = now() FROM due WHERE s.id = due.id`;

  // A session in the locked slots row that has no row in this snapshot was admitted while the statement waited for the
  // lock. It is dead like the others, and a second statement says so: see `LateEnds`.
  const finish = (due: string, all: string, reason: string): string => `due AS (
    SELECT s.id FROM ${sessions} s JOIN old ON s.user_id = old.user_id
    WHERE ${live('old')} AND (${due})
    ORDER BY s.id FOR NO KEY UPDATE OF s),
  ended AS (
    UPDATE ${sessions} s SET ended_at = now(), end_reason = ${reason}, ended_by = $3
    FROM due WHERE s.id = due.id AND s.ended_at IS NULL
    RETURNING ${endedOf('s')})
  SELECT *, false AS late FROM ended
  UNION ALL
  SELECT slot.id, old.user_id, NULL, NULL, NULL, NULL, NULL, true FROM old, unnest(old.active) AS slot (id)
    WHERE ${all} AND NOT EXISTS (SELECT FROM ${sessions} s WHERE s.id = slot.id)`;

  /** $1 session, $2 reason, $3 by, $4 its user or NULL, $5 limit. Begins with the slots row of a session that is live, locked; without one nothing happens. */
  const endBySession = (
    slot: { active: string; floor: string },
    due: string,
    all: string,
    reason = '$2',
  ): string => `WITH own AS (
    SELECT s.* FROM ${sessions} s
    WHERE s.id = $1::uuid AND ($4::text IS NULL OR s.user_id = $4) AND s.ended_at IS NULL AND NOT ${isOver}),
  old AS (
    SELECT u.*, s.id AS own_id, s.exempt AS own_exempt,
      s.exempt OR ${exemptNow(exemptions, 's.username', 's.roles')} AS own_alone FROM ${slots} u JOIN own s ON s.user_id = u.user_id
    WHERE ${held('u', '$5::int')} FOR NO KEY UPDATE OF u),
  slot AS (
    UPDATE ${slots} u SET active = ${slot.active}, floor = ${slot.floor} FROM old WHERE u.user_id = old.user_id),
  ${finish(due, all, reason)}`;

  const floorUnless = (alone: string): string => `CASE WHEN ${alone} THEN old.floor ELSE old.generation END`;
  const withoutOwn = 'array_remove(old.active, old.own_id)';

  // The session's row is locked after the slots row: whether it is shared may have changed while this waited for that.
  const ofSession = (columns: string, condition: string, limit: string): string => `SELECT ${columns}
    FROM ${slots} u JOIN ${sessions} s ON s.user_id = u.user_id
    WHERE ${condition} AND ${live('u', limit)} LIMIT 1 FOR NO KEY UPDATE OF u, s`;

  /** $1 sessions, $2 user, $3 limit, $4 login. */
  const share = `WITH old AS (${ofSession('s.id', `s.id = ANY($1::uuid[]) AND s.user_id = $2 AND s.created_at > now() - ${ms(SAME_MOMENT_MS)}`, '$3::int')})
  UPDATE ${sessions} s SET logins = s.logins || $4::uuid FROM old WHERE s.id = old.id RETURNING s.id`;

  /** As the others that begin with a session, and $6 login. */
  const endLogin = `WITH old AS (${ofSession('u.*, s.id AS own_id, array_remove(s.logins, $6::uuid) AS others', 's.id = $1::uuid AND ($4::text IS NULL OR s.user_id = $4)', '$5::int')}),
  kept AS (UPDATE ${sessions} s SET logins = old.others FROM old WHERE s.id = old.own_id AND old.others <> '{}'),
  slot AS (
    UPDATE ${slots} u SET active = ${withoutOwn} FROM old WHERE u.user_id = old.user_id AND old.others = '{}'),
  ${finish("s.id = old.own_id AND old.others = '{}'", 'false', '$2')}`;

  /** By the scope of the target. */
  const end: Record<EndTarget['scope'], string> = {
    session: endBySession({ active: withoutOwn, floor: 'old.floor' }, 's.id = old.own_id', 'false'),
    login: endLogin,
    everywhere: endBySession(
      {
        active: `CASE WHEN old.own_alone THEN ${withoutOwn} ELSE '{}' END`,
        floor: floorUnless('old.own_alone'),
      },
      's.id = old.own_id OR NOT old.own_alone',
      'NOT old.own_alone',
      `CASE WHEN s.id = $1 THEN $2 ELSE 'logout-everywhere' END`,
    ),
    others: endBySession(
      {
        active: `CASE WHEN old.own_exempt THEN '{}' ELSE ARRAY[old.own_id] END`,
        floor: floorUnless('old.own_exempt'),
      },
      's.id <> old.own_id',
      'true',
    ),
    user: `WITH locked AS MATERIALIZED (SELECT u.* FROM ${slots} u WHERE u.user_id = $1 FOR NO KEY UPDATE OF u),
  old AS (SELECT locked.* FROM locked WHERE ${IN_TIME}),
  slot AS (
    UPDATE ${slots} u SET active = '{}', floor = old.generation FROM old WHERE u.user_id = old.user_id),
  ${finish('true', 'true', '$2')}`,
  };

  // One worker at a time is enough; a second gained nothing. The lock is held for the statement only.
  const elected = `(SELECT pg_try_advisory_xact_lock(hashtext('nestjs-single-session:sweep'), hashtext('${sessions}')))`;
  /** Expired, and not marked yet. */
  const nextExpired = `SELECT s.id FROM ${sessions} s WHERE ${elected} AND s.ended_at IS NULL AND s.expires_at <= now() LIMIT ${BATCH}`;
  /** $1 expiry, $2 id: where the walk over all sessions that are not marked has come to. One row at least: whether this worker may walk. */
  const nextUnmarked = `SELECT e.elected, s.id, s.expires_at::text AS expires_at FROM (SELECT ${elected} AS elected) e LEFT JOIN LATERAL (
    SELECT s.id, s.expires_at FROM ${sessions} s
    WHERE e.elected AND s.ended_at IS NULL AND (s.expires_at, s.id) > ($1::timestamptz, $2::uuid)
    ORDER BY s.expires_at, s.id LIMIT ${BATCH}) s ON true`;
  const newestCutOff = `SELECT max(c.id)::text AS id, COALESCE(bool_or(NOT c.swept), false) AS unswept FROM ${cutoffs} c`;
  /** $1 the newest cut-off when the walk began. What somebody held meanwhile, or committed late, the next walk finds. */
  const cutOffsSwept = `UPDATE ${cutoffs} c SET swept = true WHERE c.id <= $1::bigint AND NOT c.swept
    AND NOT EXISTS (SELECT FROM ${sessions} s WHERE s.ended_at IS NULL AND s.cutoff < c.id AND NOT ${spared})`;
  // Whom a role has spared may lose it, so a cut-off stays as long as a session that is older than it. A login that
  // has read an older one may not have committed yet; no statement takes ten minutes.
  const dropCutOffs = `DELETE FROM ${cutoffs} c WHERE c.swept AND c.created_at < now() - interval '10 minutes'
    AND NOT EXISTS (SELECT FROM ${sessions} s WHERE s.ended_at IS NULL AND s.cutoff < c.id)`;
  const dropExemptions = `DELETE FROM ${exemptions} x WHERE x.expires_at <= now()`;
  // An adopted session (its id is of UUID version 8) must stay known: its credential would be adopted again.
  const swept = `get_byte(uuid_send(s.id), 6) >> 4 <> 8`;
  // Their slots go with them: without a row nothing would say any more that they are over.
  const sweepEnded = `WITH due AS (
    SELECT s.id FROM ${sessions} s WHERE ${elected} AND s.ended_at < now() - ${ms(retention)} AND ${swept}
    LIMIT ${BATCH} FOR UPDATE SKIP LOCKED),
  gone AS (
    DELETE FROM ${sessions} s USING due WHERE s.id = due.id RETURNING s.id, s.user_id),
  held AS (
    SELECT u.user_id, g.ids FROM ${slots} u JOIN (SELECT user_id, array_agg(id) AS ids FROM gone GROUP BY user_id) g
      ON u.user_id = g.user_id AND u.active && g.ids ORDER BY u.user_id FOR NO KEY UPDATE OF u),
  freed AS (
    UPDATE ${slots} u SET active = ARRAY(SELECT slot.id FROM unnest(u.active) WITH ORDINALITY AS slot (id, place)
      WHERE slot.id <> ALL (g.ids) ORDER BY slot.place)
    FROM held g WHERE u.user_id = g.user_id)
  SELECT count(*)::int AS gone FROM gone`;

  return {
    markUsers,
    markIds,
    markChecked,
    refresh,
    seen,
    share,
    end,
    nextExpired,
    nextUnmarked,
    newestCutOff,
    cutOffsSwept,
    dropCutOffs,
    dropExemptions,
    sweepEnded,
  };
}
