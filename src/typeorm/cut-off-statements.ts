import { recordAction } from './action-statements.js';
import { liveness, type StatementSettings } from './liveness.js';
import { inTime, ipv4IfMapped } from './sql-parts.js';

/** An administrator's order to log out everyone, except those that it spares. */
export function cutOffStatements(settings: StatementSettings) {
  const { sessions, slots, cutoffs, actions } = settings;
  const { held, timedOut, spared } = liveness(settings);

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
   * $1 the cut-off, or NULL to count what one would end, $2 administrators, $3 roles, $4 usernames, $5 user ids. Sessions that a
   * check or a login has marked since as ended by it count, too.
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

  return { insertCutOff, countCutOff };
}
