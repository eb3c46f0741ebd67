import { recordAction } from './action-statements.js';
import { endDue, endedOf } from './ended-row.js';
import { inTime, ipv4IfMapped, isAdministrator, liveness, type StatementSettings } from './liveness.js';

/** What administrators order. Locks are taken in the same order as everywhere: slots rows by user, then sessions by id. */
export function administrationStatements(settings: StatementSettings) {
  const { sessions, slots, cutoffs, actions } = settings;
  const { live, held, timedOut, spared } = liveness(settings);

  /**
   * $1 user ids, $2 usernames, $3 a session or NULL, $4 whether administrators are left alone, $5 the roles that make
   * one. A session that was admitted while the statement waited for the slots row is not in its sight; that it is an
   * administrator's, the locked row says.
   */
  const judged = (lock = '', condition = 'true'): string => `WITH wanted AS (
    SELECT q.user_id, NULL::text AS username FROM unnest($1::text[]) AS q (user_id)
    UNION SELECT s.user_id, s.username FROM ${sessions} s WHERE s.username = ANY($2::text[]) AND s.ended_at IS NULL
    UNION SELECT s.user_id, NULL FROM ${sessions} s WHERE s.id = $3::uuid),
  known AS (SELECT u.user_id, u.generation FROM ${slots} u WHERE u.user_id IN (SELECT w.user_id FROM wanted w)),
  locked AS MATERIALIZED (
    SELECT u.* FROM ${slots} u WHERE u.user_id IN (SELECT w.user_id FROM wanted w) ORDER BY u.user_id ${lock}),
  old AS (SELECT locked.* FROM locked WHERE ${condition}),
  judged AS (
    SELECT old.*, $4::boolean AND (old.protected_generation > known.generation OR EXISTS (
        SELECT FROM ${sessions} s WHERE s.user_id = old.user_id AND ${live('old')} AND ${isAdministrator('$5')})) AS protected
    FROM old JOIN known ON known.user_id = old.user_id)`;

  const due = `SELECT s.* FROM ${sessions} s JOIN judged ON s.user_id = judged.user_id
    WHERE NOT judged.protected AND ${live('judged')} AND ($3::uuid IS NULL OR s.id = $3)`;

  // 'ended': what ended; 'late': what ended and is not in sight; 'asked': whom the order meant.
  const told = `SELECT 'ended' AS kind, ${endedOf('ended')}, false AS protected FROM ended
  UNION ALL SELECT 'late', late.id, late.user_id, NULL, NULL, NULL, NULL, NULL, false FROM late
  UNION ALL SELECT 'asked', NULL, wanted.user_id, wanted.username, NULL, NULL, NULL, NULL, COALESCE(judged.protected, false)
    FROM wanted LEFT JOIN judged ON judged.user_id = wanted.user_id`;

  /** As `judged`, and $6 by, $7 ip, $8 action, $9 note, $10 target, $11 the time left. */
  const endUsers = `${judged('FOR NO KEY UPDATE OF u', inTime('$11'))},
  slot AS (
    UPDATE ${slots} u SET active = CASE WHEN $3 IS NULL THEN '{}' ELSE array_remove(judged.active, $3) END,
      floor = CASE WHEN $3 IS NULL THEN judged.generation ELSE judged.floor END
    FROM judged WHERE u.user_id = judged.user_id AND NOT judged.protected),
  due AS (${due} ORDER BY s.id FOR NO KEY UPDATE OF s),
  ended AS (${endDue(sessions, "'admin'", '$6')}),
  late AS (
    SELECT slot.id, judged.user_id FROM judged, unnest(judged.active) AS slot (id)
    WHERE $3 IS NULL AND NOT judged.protected AND NOT EXISTS (SELECT FROM ${sessions} s WHERE s.id = slot.id)),
  both_of AS (SELECT id, user_id FROM ended UNION ALL SELECT id, user_id FROM late),
  action AS (${recordAction(actions, {
    by: '$6::text',
    ip: ipv4IfMapped('$7::inet'),
    action: '$8::text',
    ended: 'count(*)',
    users: 'count(DISTINCT user_id)',
    note: '$9::text',
    target: '$10::jsonb',
  })} FROM both_of HAVING $3 IS NULL OR EXISTS (SELECT FROM wanted))
  ${told}`;

  /** As `judged`. */
  const wouldEndUsers = `${judged()},
  due AS (${due}),
  ended AS (SELECT ${endedOf('due')} FROM due),
  late AS (SELECT NULL::uuid AS id, NULL::text AS user_id WHERE false)
  ${told}`;

  // Committed in the order of their ids: a login that sees one must see all those that are older.
  const oneAtATime = `pg_advisory_xact_lock(hashtext('nestjs-single-session:cut-off'), hashtext('${cutoffs}'))`;
  /** $1 by, $2 administrators, $3 roles, $4 usernames, $5 user ids, $6 ip, $7 note, $8 target, $9 the time left. */
  const insertCutOff = `WITH locked AS MATERIALIZED (SELECT ${oneAtATime}),
  cutoff AS (
    INSERT INTO ${cutoffs} (created_at, created_by, administrators, roles, usernames, user_ids)
    SELECT now(), $1::text, $2::boolean, $3::text[], $4::text[], $5::text[] FROM locked WHERE ${inTime('$9')} RETURNING id, created_at),
  action AS (${recordAction(actions, {
    by: '$1::text',
    ip: ipv4IfMapped('$6::inet'),
    action: `'logout-everyone'`,
    note: '$7::text',
    target: '$8::jsonb',
  })} RETURNING id)
  SELECT cutoff.id::text, cutoff.created_at AS at, action.id::text AS "actionId" FROM cutoff, action`;

  // Each session is counted by one cut-off: the first that ended it.
  const endedBefore = `EXISTS (SELECT FROM ${cutoffs} c WHERE s.cutoff < c.id AND ($1 IS NULL OR c.id < $1) AND NOT ${spared})`;
  /**
   * $1 the cut-off or NULL for one that is only thought of, $2 administrators, $3 roles, $4 usernames, $5 user ids. What was marked
   * since by a check or a login counts, too.
   */
  const countCutOff = `SELECT COALESCE(sum(t.ended), 0)::int AS ended, count(*) FILTER (WHERE t.ended > 0)::int AS users,
    COALESCE(sum(t.spared), 0)::int AS spared
  FROM (
    SELECT s.user_id, count(*) FILTER (WHERE NOT ${spared}) AS ended, count(*) FILTER (WHERE ${spared}) AS spared
    FROM (
      SELECT s.* FROM ${sessions} s JOIN ${slots} u ON u.user_id = s.user_id
      WHERE s.ended_at IS NULL AND NOT ${timedOut} AND ($1::bigint IS NULL OR s.cutoff < $1) AND ${held('u')} AND NOT ${endedBefore}
      UNION ALL
      SELECT s.* FROM ${sessions} s WHERE s.ended_at = (SELECT created_at FROM ${cutoffs} WHERE id = $1) AND s.end_reason = 'cut-off' AND s.cutoff < $1) s,
      (SELECT $2::boolean AS administrators, $3::text[] AS roles, $4::text[] AS usernames, $5::text[] AS user_ids) c
    GROUP BY s.user_id) t`;

  return { endUsers, wouldEndUsers, insertCutOff, countCutOff };
}
