import type { EndTarget } from '../session/session.js';

/** What the statements are made for; all of it is fixed at start. */
export interface StatementSettings {
  /** Quoted names. */
  sessions: string;
  slots: string;
  /** Milliseconds. */
  idleTimeout: number | undefined;
  maxAge: number;
  retention: number;
  seenInterval: number;
}

export type Statements = ReturnType<typeof statements>;

export const BATCH = 1_000;

// One value for one address, however it is written (RFC 4291, section 2.5.5.2).
const ipv4IfMapped = (ip: string): string =>
  `CASE WHEN ${ip} <<= '::ffff:0:0/96' THEN '0.0.0.0'::inet + (${ip} - '::ffff:0.0.0.0'::inet) ELSE ${ip} END`;

const ms = (milliseconds: number): string => `interval '${milliseconds} milliseconds'`;

/**
 * Every statement of the module, as fixed texts: what varies is a parameter. In all of them `s` is a session, `u` the
 * slots row of its user, and what is dead stays dead whatever snapshot it is read from.
 *
 * Locks are taken in one order, so that statements wait for each other and never deadlock: first the slots row, then
 * session rows by id.
 */
export function statements(settings: StatementSettings) {
  const { sessions, slots, idleTimeout, maxAge, retention, seenInterval } = settings;

  const idleSince = idleTimeout === undefined ? 'NULL::timestamptz' : `s.last_seen_at + ${ms(idleTimeout)}`;
  const timedOut = `(s.expires_at <= now() OR COALESCE(${idleSince} <= now(), false))`;
  const held = (
    u: string,
    limit?: string,
  ): string => `COALESCE(CASE WHEN s.exempt THEN s.generation > ${u}.floor
    ELSE s.id = ANY(${limit === undefined ? `${u}.active` : `${u}.active[1:${limit}]`}) END, false)`;

  /** Why a session that is not marked is dead; NULL when it is live. */
  const deadBecause = (limit?: string): string => `CASE WHEN s.expires_at <= now() THEN 'expired'
    WHEN ${idleSince} <= now() THEN 'idle' WHEN NOT ${held('u', limit)} THEN 'superseded' END`;

  // Only negative evidence prunes: a row that says it is over. A session committed a moment ago has no row in this
  // snapshot yet, and must be kept.
  const kept = `ARRAY(SELECT slot.id FROM unnest(u.active[1:$4::int]) WITH ORDINALITY AS slot (id, place)
    WHERE slot.id IS DISTINCT FROM $7::uuid
      AND slot.id IS DISTINCT FROM CASE WHEN u.succession[1] = $7::uuid THEN u.succession[2] END
      AND NOT EXISTS (SELECT FROM ${sessions} s WHERE s.id = slot.id AND (s.ended_at IS NOT NULL OR ${timedOut}))
    ORDER BY slot.place)`;

  // A login that takes a session in place of a password is judged by the locked slots row too: what was checked before
  // may have ended since.
  const entitled = `($11::uuid IS NULL OR EXISTS (
      SELECT FROM ${sessions} s WHERE s.id = $11 AND s.user_id = u.user_id AND s.ended_at IS NULL AND NOT ${timedOut}
        AND ${held('u', '$4')}))`;

  /** $1 id, $2 user, $3 exempt, $4 limit, $5 reject, $6 username, $7 replaces, $8 roles, $9 ip, $10 user agent, $11 entitled by. No row: no room, or not entitled. An inserted row has no xmax: nothing can have been displaced. */
  const admit = `WITH slot AS (
    INSERT INTO ${slots} AS u (user_id, generation, active, floor, succession)
    SELECT $2::text, clock.g, CASE WHEN $3::boolean THEN '{}'::uuid[] ELSE ARRAY[$1::uuid] END, clock.g - 1, '{}'::uuid[]
      FROM (SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS g) clock
    ON CONFLICT (user_id) DO UPDATE SET
      generation = u.generation + 1,
      floor = CASE WHEN $3 THEN u.floor ELSE u.generation END,
      succession = CASE WHEN $7::uuid IS NULL THEN u.succession ELSE ARRAY[$7::uuid, $1::uuid] END,
      active = CASE WHEN $3 THEN array_remove(u.active, $7::uuid) ELSE (ARRAY[$1::uuid] || ${kept})[1:$4] END
    WHERE ($3 OR NOT $5::boolean OR cardinality(${kept}) < $4) AND ${entitled}
    RETURNING u.generation, u.xmax = 0 AS first)
  INSERT INTO ${sessions}
    (id, user_id, username, roles, generation, exempt, created_at, last_seen_at, expires_at, ip, user_agent)
  SELECT $1, $2, $6::text, $8::text[], slot.generation, $3, now(), now(), now() + ${ms(maxAge)}, ${ipv4IfMapped('$9::inet')}, $10::text FROM slot
  RETURNING (SELECT slot.first FROM slot)`;

  /**
   * $1 ids. A row for each session that is known: `over` is why it is, `place` where it stands in its user's slots (1 for
   * an exempt session that is live; 0 or NULL when it is dead). The last row repeats how many were asked: an answer that
   * was cut short must not read as "nobody knows these sessions". Joins were measured to plan in twice the time.
   */
  const verify = `SELECT s.id, s.user_id, s.ended_at,
    CASE WHEN s.ended_at IS NOT NULL THEN s.end_reason WHEN s.expires_at <= now() THEN 'expired'
      WHEN ${idleSince} <= now() THEN 'idle' END AS over,
    (SELECT CASE WHEN s.exempt THEN (s.generation > u.floor)::int ELSE array_position(u.active, s.id) END
      FROM ${slots} u WHERE u.user_id = s.user_id) AS place,
    s.last_seen_at <= now() - ${ms(seenInterval)} AS unseen
  FROM ${sessions} s WHERE s.id = ANY($1::uuid[])
  UNION ALL SELECT NULL, NULL, NULL, NULL, cardinality($1), NULL`;

  const mark = (asked: string, reason: string): string => `WITH due AS (
    SELECT s.id, ${reason} AS reason, u.active[1] AS newest
    FROM ${asked} AND s.ended_at IS NULL LEFT JOIN ${slots} u ON u.user_id = s.user_id
    WHERE ${reason} IS NOT NULL
    ORDER BY s.id FOR NO KEY UPDATE OF s)
  UPDATE ${sessions} s SET end_reason = due.reason,
    ended_at = CASE due.reason WHEN 'expired' THEN s.expires_at WHEN 'idle' THEN ${idleSince} ELSE now() END,
    replaced_by = CASE due.reason WHEN 'superseded' THEN due.newest END
  FROM due WHERE s.id = due.id AND s.ended_at IS NULL
  RETURNING s.id, s.user_id, s.end_reason`;

  /** $1 users. What an admission displaced is not in the slots row any more, whatever the limit. */
  const markUsers = mark(
    `unnest($1::text[]) AS q (user_id) JOIN ${sessions} s ON s.user_id = q.user_id`,
    deadBecause(),
  );

  /** $1 id, $2 limit. No other session of its user: another request may have been judged by another limit. */
  const markChecked = mark(
    `(SELECT $1::uuid AS id, $2::int AS n) AS q JOIN ${sessions} s ON s.id = q.id`,
    deadBecause('q.n'),
  );

  /** $1 ids. Waits for nobody: what is locked is being written anyway. */
  const seen = `WITH due AS (
    SELECT s.id FROM ${sessions} s
    WHERE s.id = ANY($1::uuid[]) AND s.ended_at IS NULL AND s.last_seen_at <= now() - ${ms(seenInterval)}
    ORDER BY s.id FOR NO KEY UPDATE SKIP LOCKED)
  UPDATE ${sessions} s SET last_seen_at = now() FROM due WHERE s.id = due.id`;

  // A session in the locked slots row that has no row in this snapshot was admitted while the statement waited for the
  // lock. It is dead like the others, and a second statement says so: see `endLate`.
  const finish = (due: string, all: string, reason: string): string => `due AS (
    SELECT s.id FROM ${sessions} s JOIN old ON s.user_id = old.user_id
    WHERE s.ended_at IS NULL AND NOT ${timedOut} AND ${held('old')} AND (${due})
    ORDER BY s.id FOR NO KEY UPDATE OF s),
  ended AS (
    UPDATE ${sessions} s SET ended_at = now(), end_reason = ${reason}, ended_by = $3
    FROM due WHERE s.id = due.id AND s.ended_at IS NULL
    RETURNING s.id, s.user_id, s.end_reason)
  SELECT id, user_id, end_reason, false AS late FROM ended
  UNION ALL
  SELECT slot.id, old.user_id, $2::text, true FROM old, unnest(old.active) AS slot (id)
    WHERE ${all} AND NOT EXISTS (SELECT FROM ${sessions} s WHERE s.id = slot.id)`;

  /** $1 session, $2 reason, $3 by, $4 its user or NULL, $5 limit. Begins with the slots row of a session that is live, locked; without one nothing happens. */
  const endBySession = (
    slot: { active: string; floor: string },
    due: string,
    all: string,
    reason = '$2',
  ): string => `WITH own AS (
    SELECT s.* FROM ${sessions} s
    WHERE s.id = $1::uuid AND ($4::text IS NULL OR s.user_id = $4) AND s.ended_at IS NULL AND NOT ${timedOut}),
  old AS (
    SELECT u.*, s.id AS own_id, s.exempt AS own_exempt FROM ${slots} u JOIN own s ON s.user_id = u.user_id
    WHERE ${held('u', '$5::int')} FOR NO KEY UPDATE OF u),
  slot AS (
    UPDATE ${slots} u SET active = ${slot.active}, floor = ${slot.floor} FROM old WHERE u.user_id = old.user_id),
  ${finish(due, all, reason)}`;

  const floorUnlessExempt = 'CASE WHEN old.own_exempt THEN old.floor ELSE old.generation END';

  /** By the scope of the target. */
  const end: Record<EndTarget['scope'], string> = {
    session: endBySession(
      { active: 'array_remove(old.active, old.own_id)', floor: 'old.floor' },
      's.id = old.own_id',
      'false',
    ),
    everywhere: endBySession(
      { active: `CASE WHEN old.own_exempt THEN old.active ELSE '{}' END`, floor: floorUnlessExempt },
      's.id = old.own_id OR NOT old.own_exempt',
      'NOT old.own_exempt',
      `CASE WHEN s.id = $1 THEN $2 ELSE 'logout-everywhere' END`,
    ),
    others: endBySession(
      { active: `CASE WHEN old.own_exempt THEN '{}' ELSE ARRAY[old.own_id] END`, floor: floorUnlessExempt },
      's.id <> old.own_id',
      'true',
    ),
    user: `WITH old AS (SELECT u.* FROM ${slots} u WHERE u.user_id = $1 FOR NO KEY UPDATE OF u),
  slot AS (
    UPDATE ${slots} u SET active = '{}', floor = old.generation FROM old WHERE u.user_id = old.user_id),
  ${finish('true', 'true', '$2')}`,
  };

  /** $1 ids, $2 reason, $3 by. */
  const endLate = `UPDATE ${sessions} s SET ended_at = now(), end_reason = $2, ended_by = $3
  WHERE s.id = ANY($1::uuid[]) AND s.ended_at IS NULL
  RETURNING s.id, s.user_id, s.end_reason`;

  // One worker at a time is enough; a second gained nothing. The lock is held for the statement only.
  const elected = `(SELECT pg_try_advisory_xact_lock(hashtext('nestjs-single-session:sweep'), hashtext('${sessions}')))`;
  const sweepExpired = `WITH due AS (
    SELECT s.id FROM ${sessions} s WHERE ${elected} AND s.ended_at IS NULL AND s.expires_at <= now()
    LIMIT ${BATCH} FOR NO KEY UPDATE SKIP LOCKED)
  UPDATE ${sessions} s SET ended_at = s.expires_at, end_reason = 'expired' FROM due WHERE s.id = due.id`;
  // An adopted session (its id is of UUID version 8) must stay known: its credential would be adopted again.
  const swept = `get_byte(uuid_send(s.id), 6) >> 4 <> 8`;
  // Their slots go with them: without a row nothing would say any more that they are over.
  const sweepEnded = `WITH due AS (
    SELECT s.id FROM ${sessions} s WHERE ${elected} AND s.ended_at < now() - ${ms(retention)} AND ${swept}
    LIMIT ${BATCH} FOR UPDATE SKIP LOCKED),
  gone AS (
    DELETE FROM ${sessions} s USING due WHERE s.id = due.id RETURNING s.id, s.user_id),
  freed AS (
    UPDATE ${slots} u SET active = ARRAY(SELECT slot.id FROM unnest(u.active) WITH ORDINALITY AS slot (id, place)
      WHERE slot.id <> ALL (g.ids) ORDER BY slot.place)
    FROM (SELECT user_id, array_agg(id) AS ids FROM gone GROUP BY user_id) g
    WHERE u.user_id = g.user_id AND u.active && g.ids)
  SELECT count(*)::int AS gone FROM gone`;

  return { admit, verify, markUsers, markChecked, seen, end, endLate, sweepExpired, sweepEnded };
}
