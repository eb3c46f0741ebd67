import { liveness, type StatementSettings } from './liveness.js';
import { ms } from './sql-parts.js';
import { marking } from './marking-statements.js';

export interface SweepSettings extends StatementSettings {
  /** Milliseconds. */
  retention: number;
}

export type SweepStatements = ReturnType<typeof sweepStatements>;

export const BATCH = 1_000;

/** The sweeper's, which waits for no session that somebody holds. */
export function sweepStatements(settings: SweepSettings) {
  const { sessions, slots, cutoffs, exemptions, retention } = settings;
  const { spared, deadBecause } = liveness(settings);
  const mark = marking(settings);

  /** $1 ids. */
  const markIds = mark(
    `unnest($1::uuid[]) AS q (id) JOIN ${sessions} s ON s.id = q.id`,
    deadBecause(),
    'SKIP LOCKED',
  );

  // One worker at a time is enough; a second gained nothing. The lock is held for the statement only.
  const elected = `(SELECT pg_try_advisory_xact_lock(hashtext('nestjs-single-session:sweep'), hashtext('${sessions}')))`;
  /** Expired, and not marked yet. */
  const nextExpired = `SELECT s.id FROM ${sessions} s WHERE ${elected} AND s.ended_at IS NULL AND s.expires_at <= now() LIMIT ${BATCH}`;
  /**
   * $1 expiry, $2 id: where the walk over all sessions that are not marked has come to. Gives one row at least, which says
   * whether this worker may walk.
   */
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
  const dropCutOffs = `DELETE FROM ${cutoffs} c WHERE c.created_at < now() - interval '10 minutes'
    AND NOT EXISTS (SELECT FROM ${sessions} s WHERE s.ended_at IS NULL AND s.cutoff < c.id)`;
  const dropExemptions = `DELETE FROM ${exemptions} x WHERE x.expires_at <= now()`;
  // An adopted session (its id is of UUID version 8) must stay known: its credential would be adopted again.
  const swept = `get_byte(uuid_send(s.id), 6) >> 4 <> 8`;
  // Their ids are taken out of the slots with them: an id in the slots that has no row counts as live at the next admission. All
  // slots rows are locked first, in the order in which many users are ended, and only then the sessions: a login, too, holds
  // its slots row when it waits for a session.
  const sweepEnded = `WITH due AS (
    SELECT s.id, s.user_id FROM ${sessions} s WHERE ${elected} AND s.ended_at < now() - ${ms(retention)} AND ${swept}
    LIMIT ${BATCH}),
  held AS (
    SELECT u.user_id FROM ${slots} u JOIN (SELECT user_id, array_agg(id) AS ids FROM due GROUP BY user_id) d
      ON u.user_id = d.user_id AND u.active && d.ids ORDER BY u.user_id FOR NO KEY UPDATE OF u),
  taken AS (
    SELECT s.id FROM ${sessions} s JOIN due ON s.id = due.id
    WHERE (SELECT count(*) FROM held) >= 0 FOR UPDATE OF s SKIP LOCKED),
  gone AS (
    DELETE FROM ${sessions} s USING taken WHERE s.id = taken.id RETURNING s.id, s.user_id),
  freed AS (
    UPDATE ${slots} u SET active = ARRAY(SELECT slot.id FROM unnest(u.active) WITH ORDINALITY AS slot (id, place)
      WHERE slot.id <> ALL (g.ids) ORDER BY slot.place)
    FROM (SELECT held.user_id, array_agg(gone.id) AS ids FROM held JOIN gone ON gone.user_id = held.user_id GROUP BY held.user_id) g
    WHERE u.user_id = g.user_id)
  SELECT (SELECT count(*)::int FROM due) AS due, (SELECT count(*)::int FROM gone) AS gone`;

  return {
    markIds,
    nextExpired,
    nextUnmarked,
    newestCutOff,
    cutOffsSwept,
    dropCutOffs,
    dropExemptions,
    sweepEnded,
  };
}
