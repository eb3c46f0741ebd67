import { recordAction } from './action-statements.js';
import { endDue, endedOf } from './ended-row.js';
import { isAdministrator, liveness, type StatementSettings } from './liveness.js';
import { inTime, ipv4IfMapped } from './sql-parts.js';

/** An administrator's order to end sessions of users. Locks are taken in the same order as everywhere: slots rows by user, then sessions by id. */
export function endUsersStatements(settings: StatementSettings) {
  const { sessions, slots, actions } = settings;
  const { live } = liveness(settings);

  /**
   * $1 user ids, $2 usernames, $3 a session or NULL, $4 whether administrators are left alone, $5 the roles that make
   * one. A session that was admitted while the statement waited for the slots row is not in its snapshot; that it is an
   * administrator's, the locked row says (`protected_generation`).
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

  // 'ended': what ended; 'late': what ended and is not in the snapshot, see `LateEnds`; 'asked': whom the order meant.
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

  return { endUsers, wouldEndUsers };
}
