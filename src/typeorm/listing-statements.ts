import { liveness, type StatementSettings } from './liveness.js';

const MICROSECONDS = (time: string): string => `(extract(epoch FROM ${time}) * 1000000)::bigint::text`;

/** Who is signed in. They read, and lock nothing. */
export function listingStatements(settings: StatementSettings) {
  const { sessions, slots, cutoffs, idleTimeout } = settings;
  const { live, timedOut, cutOff, ofCutOff, diedAt, deadBecause } = liveness(settings);

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

  /** $1 username. */
  const latestOf = `SELECT s.user_id AS "userId", s.roles FROM ${sessions} s WHERE s.username = $1
  ORDER BY s.created_at DESC LIMIT 1`;

  return { list, listAfterCutOff, unsweptCutOff, latestOf };
}
