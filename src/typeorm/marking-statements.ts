import { endedOf } from './ended-row.js';
import { HELD_ROLES, liveness, type StatementSettings } from './liveness.js';
import { ms } from './sql-parts.js';

export interface MarkingSettings extends StatementSettings {
  /** Milliseconds. */
  seenInterval: number;
}

/**
 * The statement that writes reason and time on the rows of dead sessions. `asked` is a FROM in which `s` is the session;
 * `reason` is NULL for one that is live.
 */
export function marking(settings: StatementSettings) {
  const { sessions, slots } = settings;
  const { diedAt, ofCutOff } = liveness(settings);

  return (asked: string, reason: string, wait = ''): string => `WITH due AS (
    SELECT s.id, ${reason} AS reason, CASE WHEN u.succession[1] = s.id THEN u.succession[2] ELSE u.active[1] END AS successor
    FROM ${asked} AND s.ended_at IS NULL LEFT JOIN ${slots} u ON u.user_id = s.user_id
    WHERE ${reason} IS NOT NULL
    ORDER BY s.id FOR NO KEY UPDATE OF s ${wait})
  UPDATE ${sessions} s SET end_reason = due.reason, ended_at = ${diedAt('due.reason')},
    ended_by = CASE due.reason WHEN 'cut-off' THEN ${ofCutOff('created_by')} END,
    replaced_by = CASE due.reason WHEN 'superseded' THEN due.successor END
  FROM due WHERE s.id = due.id
  RETURNING ${endedOf('s')}`;
}

/** What is written down of sessions, and decides nothing. */
export function markingStatements(settings: MarkingSettings) {
  const { sessions, slots, seenInterval } = settings;
  const { over, timedOut, held, deadBecause } = liveness(settings);
  const mark = marking(settings);

  // What an admission displaced is not in the slots row any more, whatever the limit. The newest session cannot have been
  // displaced: if it is not there, an order that waited while it was admitted has ended it, and `LateEnds` writes why.
  const displaced = `CASE WHEN s.generation IS DISTINCT FROM u.generation AND NOT ${held('u')} THEN 'superseded' END`;

  /** $1 users. */
  const markUsers = mark(
    `unnest($1::text[]) AS q (user_id) JOIN ${sessions} s ON s.user_id = q.user_id`,
    `COALESCE(${over}, ${displaced})`,
  );

  /** $1 id, $2 limit. No other session of its user: another request may have been judged by another limit. */
  const markChecked = mark(
    `(SELECT $1::uuid AS id, $2::int AS n) AS q JOIN ${sessions} s ON s.id = q.id`,
    deadBecause('q.n'),
  );

  /**
   * $1 id, $2 roles, $3 administrator, $4 whether a role makes one. What was held at the admission can only shrink. An
   * administrator's order that waits for the slots row does not see these roles, so where they make an administrator, that
   * row says so (`protected_generation`), as at an admission. Where the order came first, the session has ended, and
   * its row stays as it is.
   */
  const refresh = `WITH slot AS (
    UPDATE ${slots} u SET generation = u.generation + 1, protected_generation = u.generation + 1
    FROM ${sessions} s WHERE s.id = $1::uuid AND s.ended_at IS NULL AND $4::boolean AND u.user_id = s.user_id
    RETURNING u.user_id)
  UPDATE ${sessions} s SET roles = $2::text[], administrator = s.administrator AND $3::boolean,
    held_roles = ARRAY(SELECT held FROM unnest(${HELD_ROLES}) AS held WHERE held = ANY($2))
  WHERE s.id = $1::uuid AND s.ended_at IS NULL AND (SELECT count(*) FROM slot) >= 0`;

  /**
   * $1 ids. Waits for nobody: what is locked is being written anyway. A session that has timed out since its request is left
   * alone: this process may have stood still meanwhile, and others have refused the session or shown it as ended.
   */
  const seen = `WITH due AS (
    SELECT s.id FROM ${sessions} s
    WHERE s.id = ANY($1::uuid[]) AND s.ended_at IS NULL AND NOT ${timedOut} AND s.last_seen_at <= now() - ${ms(seenInterval)}
    FOR NO KEY UPDATE SKIP LOCKED)
  UPDATE ${sessions} s SET last_seen_at = now() FROM due WHERE s.id = due.id`;

  return { markUsers, markChecked, refresh, seen };
}
