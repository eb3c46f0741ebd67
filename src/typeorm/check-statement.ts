import { livenessBy } from './liveness.js';
import type { Tables } from './table-names.js';

/**
 * The check of many sessions: $1 ids, $2 the idle timeout or NULL, $3 how old last-seen gets before it is written again.
 * The answer is one text, for rows of many columns take the driver longer than the check: a JSON array with an entry for
 * each id, in their order. An entry is `null` when nobody knows the session, or an array: its id, its user, when it was
 * ended (milliseconds since 1970), why it is over, its place in its user's slots (1 for an exempt session that is live; 0
 * or `null` when it is dead), whether last-seen is due, its roles, and whether it is an administrator's. A replica gives
 * NULL, also where it was the primary when the process started, or somebody sends to it what only reads.
 *
 * It runs for every request, and as a plain statement most of its time is planning: joins were measured to plan in twice
 * the time. So a function of the database holds this text, and PostgreSQL plans it once for each connection. Whoever
 * changes it adds a migration with a function of the next number. That one plan must be good for any number of ids and a
 * table of any size: for an array that it can see, PostgreSQL plans anew each time, so the array is the answer of a
 * `SELECT`; a sub-select looks each id up in the primary key; and the function does so also when the table was empty, or
 * one page, at the time.
 */
export function checkStatement({ sessions, slots, cutoffs }: Tables): string {
  const { over } = livenessBy(cutoffs, '$2::interval');
  return `SELECT CASE WHEN NOT pg_is_in_recovery() THEN to_json(ARRAY(SELECT (SELECT json_build_array(s.id, s.user_id, extract(epoch FROM s.ended_at) * 1000,
      CASE WHEN s.ended_at IS NOT NULL THEN s.end_reason ELSE ${over} END,
      (SELECT CASE WHEN s.exempt THEN (s.generation > u.floor)::int ELSE array_position(u.active, s.id) END
        FROM ${slots} u WHERE u.user_id = s.user_id),
      s.last_seen_at <= now() - $3::interval, array_to_string(s.roles, chr(31)), s.administrator)
    FROM ${sessions} s WHERE s.id = asked.id) FROM unnest((SELECT $1::uuid[])) AS asked (id)))::text END AS answer`;
}
