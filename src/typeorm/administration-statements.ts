import { endedOf } from './ended-row.js';
import {
  exemptNow,
  IN_TIME,
  ipv4IfMapped,
  isAdministrator,
  liveness,
  ms,
  type LivenessSettings,
} from './liveness.js';
import type { TableNames } from './table-names.js';

export interface AdministrationStatementSettings
  extends LivenessSettings, Record<Exclude<keyof TableNames, 'cutoffs'>, string> {
  /** Milliseconds. */
  stormWindow: number;
}

export type AdministrationStatements = ReturnType<typeof administrationStatements>;

const MICROSECONDS = (time: string): string => `(extract(epoch FROM ${time}) * 1000000)::bigint::text`;

/** What administrators ask, as fixed texts. Locks are taken in the same order as everywhere: slots rows by user, then sessions by id. */
export function administrationStatements(settings: AdministrationStatementSettings) {
  const { sessions, slots, cutoffs, exemptions, actions, stormWindow, idleTimeout } = settings;
  const { live, held, timedOut, spared, cutOff, ofCutOff, diedAt, deadBecause } = liveness(settings);

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

  const record = (columns: Record<string, string>): string =>
    `INSERT INTO ${actions} (at, ${Object.keys(columns)
      .map((name) => `"${name}"`)
      .join(', ')}) SELECT now(), ${Object.values(columns).join(', ')}`;

  /** As `judged`, and $6 by, $7 ip, $8 action, $9 note, $10 target. */
  const endUsers = `${judged('FOR NO KEY UPDATE OF u', IN_TIME)},
  slot AS (
    UPDATE ${slots} u SET active = CASE WHEN $3 IS NULL THEN '{}' ELSE array_remove(judged.active, $3) END,
      floor = CASE WHEN $3 IS NULL THEN judged.generation ELSE judged.floor END
    FROM judged WHERE u.user_id = judged.user_id AND NOT judged.protected),
  due AS (${due} ORDER BY s.id FOR NO KEY UPDATE OF s),
  ended AS (
    UPDATE ${sessions} s SET ended_at = now(), end_reason = 'admin', ended_by = $6
    FROM due WHERE s.id = due.id AND s.ended_at IS NULL
    RETURNING ${endedOf('s')}),
  late AS (
    SELECT slot.id, judged.user_id FROM judged, unnest(judged.active) AS slot (id)
    WHERE $3 IS NULL AND NOT judged.protected AND NOT EXISTS (SELECT FROM ${sessions} s WHERE s.id = slot.id)),
  both_of AS (SELECT id, user_id FROM ended UNION ALL SELECT id, user_id FROM late),
  action AS (${record({
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
  /** $1 by, $2 administrators, $3 roles, $4 usernames, $5 user ids, $6 ip, $7 note, $8 target. */
  const insertCutOff = `WITH locked AS MATERIALIZED (SELECT ${oneAtATime}),
  cutoff AS (
    INSERT INTO ${cutoffs} (created_at, created_by, administrators, roles, usernames, user_ids)
    SELECT now(), $1::text, $2::boolean, $3::text[], $4::text[], $5::text[] FROM locked WHERE ${IN_TIME} RETURNING id, created_at),
  action AS (${record({
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

  /** $1 action, $2 ended, $3 users. */
  const recordCounts = `UPDATE ${actions} SET ended = $2, users = $3 WHERE id = $1::bigint`;

  const filtered = `($4::text IS NULL OR s.user_id = $4) AND ($5::text IS NULL OR s.username = $5)
      AND ($6::text IS NULL OR s.roles @> ARRAY[$6])
      AND ($1::bigint IS NULL OR (s.created_at, s.id) < ('epoch'::timestamptz + $1 * interval '1 microsecond', $2::uuid))`;
  const listed = `s.id, s.user_id, s.username, s.roles, s.created_at, ${MICROSECONDS('s.created_at')} AS position,
    s.last_seen_at, s.expires_at, host(s.ip) AS ip, s.user_agent, s.exempt`;
  const newestFirst = 'ORDER BY s.created_at DESC, s.id DESC LIMIT $3::int';

  // Each half reads a partial index backwards, as far as the page goes.
  const unmarked = (
    condition: string,
    from = sessions,
  ): string => `SELECT ${listed}, died.reason AS end_reason,
      CASE WHEN died.reason IS NOT NULL THEN ${diedAt('died.reason')} END AS ended_at,
      CASE died.reason WHEN 'cut-off' THEN ${ofCutOff('created_by')} END AS ended_by
    FROM ${from} s LEFT JOIN ${slots} u ON u.user_id = s.user_id CROSS JOIN LATERAL (SELECT ${deadBecause()} AS reason) died
    WHERE s.ended_at IS NULL AND ${filtered} AND ${condition} ${newestFirst}`;
  const marked = `SELECT ${listed}, s.end_reason, s.ended_at, s.ended_by
    FROM ${sessions} s WHERE s.ended_at IS NOT NULL AND ${filtered} ${newestFirst}`;
  const union = (...parts: string[]): string =>
    `SELECT * FROM (${parts.map((part) => `(${part})`).join(' UNION ALL ')}) s ${newestFirst}`;
  const unswept = `(SELECT bool_or(NOT c.swept) FROM ${cutoffs} c)`;
  // Read by their index, whatever PostgreSQL believes about their number: the sweeper leaves no more than these.
  const expired = `(SELECT e.* FROM ${sessions} e WHERE e.ended_at IS NULL AND e.expires_at <= now() ORDER BY e.expires_at LIMIT 10000)`;
  const isIdle = idleTimeout === undefined ? [] : [unmarked(`s.expires_at > now() AND ${timedOut}`)];
  // Of a cut-off that is not swept: what it cannot have ended is found by indices, without looking at all that it has.
  const notCovered = `(s.cutoff >= $7::bigint OR s.roles && $8::text[] OR ($9::boolean AND s.administrator)
      OR s.username = ANY($10::text[]) OR s.user_id = ANY($11::text[]))`;

  /** By state. $1 position and $2 id of the last session of the page before, $3 limit, $4 user, $5 username, $6 role. */
  const list = {
    active: unmarked(live('u')),
    // Those that another login displaced are marked at once.
    ended: union(
      unmarked('true', expired),
      ...isIdle,
      unmarked(`${unswept} AND NOT ${timedOut} AND ${cutOff}`),
      marked,
    ),
    all: union(unmarked('true'), marked),
  };
  /** $7 the newest cut-off that is not swept, $8 its roles, $9 administrators, $10 usernames and $11 user ids. */
  const listAfterCutOff = unmarked(`${notCovered} AND ${live('u')}`);
  const unsweptCutOff = `SELECT c.id, c.roles, c.administrators, c.usernames, c.user_ids FROM ${cutoffs} c
  WHERE NOT c.swept ORDER BY c.id DESC LIMIT 1`;

  /** $1 the roles that make an administrator. */
  const summary = `SELECT count(*)::int AS "activeSessions", count(DISTINCT s.user_id)::int AS "activeUsers",
    (count(DISTINCT s.user_id) FILTER (WHERE ${isAdministrator('$1')}))::int AS administrators,
    (count(*) FILTER (WHERE s.exempt))::int AS "exemptSessions"
  FROM ${sessions} s JOIN ${slots} u ON u.user_id = s.user_id WHERE ${live('u')}`;

  /** $1 threshold. Of the present window and the one before. */
  const logins = `GREATEST(u.storm_logins, u.storm_before)`;
  const storms = `SELECT u.user_id AS "userId", s.username, ${logins} AS logins
  FROM ${slots} u LEFT JOIN LATERAL (
    SELECT s.username, s.roles FROM ${sessions} s WHERE s.user_id = u.user_id ORDER BY s.generation DESC LIMIT 1) s ON true
  WHERE ${logins} > $1::int AND u.storm_since > now() - 2 * ${ms(stormWindow)}
    AND NOT ${exemptNow(exemptions, 's.username', 's.roles')}
  ORDER BY 3 DESC LIMIT 100`;

  /** $1 username. */
  const latestOf = `SELECT s.user_id AS "userId", s.roles FROM ${sessions} s WHERE s.username = $1
  ORDER BY s.created_at DESC LIMIT 1`;

  const exemption = `x.kind, x.value, x.note, x.added_by AS "addedBy", x.added_at AS "addedAt", x.expires_at AS "expiresAt"`;
  const inForce = '(x.expires_at IS NULL OR x.expires_at > now())';
  const exemptionsList = `SELECT ${exemption} FROM ${exemptions} x WHERE ${inForce} ORDER BY x.added_at DESC, x.kind, x.value`;
  /** $1 username, $2 roles. */
  const exemptionsOf = `SELECT ${exemption} FROM ${exemptions} x WHERE ${inForce}
    AND (x.kind = 'username' AND x.value = $1 OR x.kind = 'role' AND x.value = ANY($2::text[]))`;

  const recordExemption = (action: string, from: string): string =>
    `action AS (${record({
      by: '$3::text',
      ip: ipv4IfMapped('$4::inet'),
      action: `'${action}'`,
      note: '$5::text',
      target: `jsonb_build_object('kind', $1::text, 'value', $2::text)`,
    })} FROM ${from})`;
  /** $1 kind, $2 value, $3 by, $4 ip, $5 note, $6 expiry. */
  const addExemption = `WITH x AS (
    INSERT INTO ${exemptions} AS x (kind, value, note, added_by, added_at, expires_at)
    VALUES ($1, $2, $5, $3, now(), $6::timestamptz)
    ON CONFLICT (kind, value) DO UPDATE SET note = EXCLUDED.note, added_by = EXCLUDED.added_by,
      added_at = EXCLUDED.added_at, expires_at = EXCLUDED.expires_at
    RETURNING *),
  ${recordExemption('add-exemption', 'x')}
  SELECT ${exemption} FROM x`;
  /** $1 kind, $2 value, $3 by, $4 ip, $5 note. One that has expired is gone already. */
  const removeExemption = `WITH x AS (
    DELETE FROM ${exemptions} x WHERE x.kind = $1 AND x.value = $2 AND ${inForce} RETURNING x.kind),
  ${recordExemption('remove-exemption', 'x')}
  SELECT kind FROM x`;

  /** $1 the last of the page before, $2 limit. */
  const actionsList = `SELECT a.id::text, a.at, a."by", host(a.ip) AS ip, a.action, a.ended, a.users, a.note, a.target
  FROM ${actions} a WHERE $1::bigint IS NULL OR a.id < $1 ORDER BY a.id DESC LIMIT $2::int`;

  return {
    endUsers,
    wouldEndUsers,
    insertCutOff,
    countCutOff,
    recordCounts,
    list,
    listAfterCutOff,
    unsweptCutOff,
    summary,
    storms,
    latestOf,
    exemptionsList,
    exemptionsOf,
    addExemption,
    removeExemption,
    actionsList,
  };
}
