import { liveness, ms, type LivenessSettings } from './liveness.js';
import { marking } from './marking-statements.js';

export interface SweepSettings extends LivenessSettings {
  sessions: string;
  slots: string;
  exemptions: string;
  /** Milliseconds. */
  retention: number;
}

export type SweepStatements = ReturnType<typeof sweepStatements>;

export const BATCH = 1_000;

/** The sweeper's, which waits for nobody. */
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
