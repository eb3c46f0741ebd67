import type { Admission } from '../session/session.js';
import { exemptNow, inTime, ipv4IfMapped, liveness, ms, type StatementSettings } from './liveness.js';
import { TIME_LEFT } from './primary-database.js';

export interface AdmissionSettings extends StatementSettings {
  /** Milliseconds. */
  maxAge: number;
  stormWindow: number;
}

/** A statement with the values of its parameters. */
export interface Statement {
  sql: string;
  parameters: unknown[];
}

/** What a login asks for beyond the least. PostgreSQL plans anew what each statement says, so it says no more than it needs. */
interface Case {
  /** A login without room is refused. */
  reject: boolean;
  /** Dead sessions must not count: more than one may be live, or the dead could refuse the login. */
  prune: boolean;
  /** The browser carried a session, which makes room first. */
  replaces: boolean;
  /** A live session was taken in place of a password. */
  entitled: boolean;
}

/** The statement of an admission, its text made once for each case. */
export function admissionStatement(settings: AdmissionSettings): (admission: Admission) => Statement {
  const known = new Map<string, Text>();
  return (admission) => {
    const which = caseOf(admission);
    const key = Object.values(which).join();
    let text = known.get(key);
    if (text === undefined) known.set(key, (text = textOf(settings, which)));
    const values = valuesOf(admission);
    return { sql: text.sql, parameters: text.names.map((name) => values[name]) };
  };
}

const caseOf = ({ limit, onLimit, replaces, entitledBy }: Admission): Case => ({
  reject: onLimit === 'reject',
  prune: onLimit === 'reject' || limit > 1,
  replaces: replaces !== null,
  entitled: entitledBy !== null,
});

type Values = ReturnType<typeof valuesOf>;

const valuesOf = ({ identity, origin, ...admission }: Admission) => ({
  id: admission.id,
  logins: [admission.loginId],
  user: identity.id,
  username: identity.username,
  roles: identity.roles,
  exempt: admission.exempt,
  administrator: admission.administrator,
  protected: admission.protected,
  limit: admission.limit,
  replaces: admission.replaces,
  entitledBy: admission.entitledBy,
  ip: origin.ip,
  userAgent: origin.userAgent,
  timeLeft: TIME_LEFT,
});

interface Text {
  sql: string;
  /** Whose values the parameters are, in their order. */
  names: (keyof Values)[];
}

/**
 * Upserts the slots row, the new id in front and the surplus dropped, and inserts the session's row. No row comes back, or
 * one that says that a refused login displaces others: no room, or not entitled. An inserted slots row has no xmax: nothing
 * can have been displaced.
 */
function textOf(settings: AdmissionSettings, which: Case): Text {
  const { sessions, slots, cutoffs, exemptions, maxAge, stormWindow } = settings;
  const { isOver, live } = liveness(settings);
  const names: Text['names'] = [];
  const $ = (name: keyof Values): string => {
    if (!names.includes(name)) names.push(name);
    return `$${names.indexOf(name) + 1}`;
  };

  // Only negative evidence prunes: a row that says it is over. A session committed a moment ago has no row in this
  // snapshot yet, and must be kept.
  const kept = (
    slots: string,
  ): string => `ARRAY(SELECT slot.id FROM unnest(${slots}) WITH ORDINALITY AS slot (id, place)
    WHERE NOT EXISTS (SELECT FROM ${sessions} s WHERE s.id = slot.id AND (s.ended_at IS NOT NULL OR ${isOver}))
      ${which.replaces ? `AND slot.id <> ${$('replaces')} AND slot.id IS DISTINCT FROM CASE WHEN u.succession[1] = ${$('replaces')} THEN u.succession[2] END` : ''}
    ORDER BY slot.place)`;
  // What is over takes no place from one in use, where the limit was lowered. Whom a check has refused by its place
  // meanwhile does not come back: its row says so.
  const own = `ARRAY[${$('id')}::uuid]`;
  const active = which.prune ? `(${own} || ${kept('u.active')})[1:${$('limit')}::int]` : own;

  // Where another was limited while an exempt login waited for the lock, the exemption has ended meanwhile and counts no
  // more: both would live. It is not counted as limited itself: those that wait behind it would be limited for its sake,
  // and others for theirs, for as long as anybody waits.
  const exempt = `(EXCLUDED.limited = 0 AND u.limited <= COALESCE((SELECT ruling.limited FROM ruling), 0))`;
  // A login that takes a session in place of a password is judged by the locked slots row too: what was checked before
  // may have ended since.
  const conditions = [
    // What is live by the limit counts, as at a check. Who is in already finds out by the session's id, which is there.
    ...(which.reject
      ? [
          `(${exempt} OR cardinality(${kept(`u.active[1:${$('limit')}::int]`)}) < ${$('limit')} OR ${$('id')} = ANY (u.active))`,
        ]
      : []),
    ...(which.entitled
      ? [
          `EXISTS (SELECT FROM ${sessions} s WHERE s.id = ${$('entitledBy')} AND s.user_id = u.user_id AND ${live('u', `${$('limit')}::int`)})`,
        ]
      : []),
  ];
  // Whoever is refused is limited, too, and no login may ever be admitted that would end what an exemption has left behind.
  // What was let in while this login waited for the lock is not in its snapshot: there the row has gone on by more
  // generations than by limited logins, or, where the snapshot has no row, by more than the last login that raised the
  // floor. An upsert: nothing else reads a row that came to be after the snapshot.
  const raises = which.reject && !which.entitled;
  const raised = `raised AS (
    INSERT INTO ${slots} AS u (user_id, generation, active, floor, succession)
    SELECT ${$('user')}::text, 0, '{}', 0, '{}' FROM ruling WHERE NOT ruling.exempt AND NOT EXISTS (SELECT FROM slot)
    ON CONFLICT (user_id) DO UPDATE SET generation = u.generation + 1, floor = u.generation, limited = u.limited + 1
    WHERE (COALESCE(u.generation - u.limited > (SELECT ruling.unlimited FROM ruling), u.generation > u.floor + 1)
        OR EXISTS (SELECT FROM ${sessions} s WHERE s.user_id = u.user_id AND s.ended_at IS NULL AND s.exempt AND s.generation > u.floor))
      AND ${inTime($('timeLeft'))}
    RETURNING true AS displaces)`;
  const sameWindow = `u.storm_since > EXCLUDED.storm_since - ${ms(stormWindow)}`;
  const nextWindow = `u.storm_since > EXCLUDED.storm_since - 2 * ${ms(stormWindow)}`;

  const known = (column: string): string =>
    `(SELECT ${column} FROM ${slots} k WHERE k.user_id = ${$('user')}::text)`;
  const deciding = `WITH ruling AS MATERIALIZED (
    SELECT ${$('exempt')}::boolean OR ${exemptNow(exemptions, `${$('username')}::text`, `${$('roles')}::text[]`)} AS exempt,
      ${known('k.limited')} AS limited${raises ? `, ${known('k.generation - k.limited')} AS unlimited` : ''}),
  slot AS (
    INSERT INTO ${slots} AS u (user_id, generation, active, floor, limited, succession, protected_generation, cutoff, storm_since, storm_logins)
    SELECT ${$('user')}::text, clock.g, CASE WHEN ruling.exempt THEN '{}' ELSE ${own} END, clock.g - 1,
        (NOT ruling.exempt)::int, '{}', CASE WHEN ${$('protected')}::boolean THEN clock.g ELSE 0 END, COALESCE((SELECT max(c.id) FROM ${cutoffs} c), 0), clock.now, (NOT ruling.exempt)::int
      FROM (SELECT now, (extract(epoch FROM now) * 1000)::bigint AS g FROM clock_timestamp() AS now) clock, ruling
      ${which.entitled ? `WHERE EXISTS (SELECT FROM ${slots} k WHERE k.user_id = ${$('user')})` : ''}
    ON CONFLICT (user_id) DO UPDATE SET
      generation = u.generation + 1,
      floor = CASE WHEN ${exempt} THEN u.floor ELSE u.generation END,
      limited = u.limited + EXCLUDED.limited,
      ${which.replaces ? `succession = ARRAY[${$('replaces')}::uuid, ${$('id')}],` : ''}
      active = CASE WHEN ${exempt} THEN ${which.replaces ? `array_remove(u.active, ${$('replaces')})` : 'u.active'} ELSE ${active} END,
      protected_generation = CASE WHEN ${$('protected')} THEN u.generation + 1 ELSE u.protected_generation END,
      cutoff = GREATEST(u.cutoff, EXCLUDED.cutoff),
      storm_since = CASE WHEN ${sameWindow} THEN u.storm_since ELSE EXCLUDED.storm_since END,
      storm_logins = CASE WHEN ${exempt} THEN 0 WHEN ${sameWindow} THEN u.storm_logins + 1 ELSE 1 END,
      storm_before = CASE WHEN ${exempt} THEN 0 WHEN ${sameWindow} THEN u.storm_before WHEN ${nextWindow} THEN u.storm_logins ELSE 0 END
    ${conditions.length === 0 ? '' : `WHERE ${conditions.join(' AND ')}`}
    RETURNING u.generation, u.cutoff, u.xmax = 0 AS first, ${$('id')} <> ALL (u.active) AS exempt, u.storm_logins AS logins)`;
  const inserting = `INSERT INTO ${sessions}
    (id, logins, user_id, username, roles, administrator, generation, exempt, cutoff, created_at, last_seen_at, expires_at, ip, user_agent)
  SELECT ${$('id')}, ${$('logins')}::uuid[], ${$('user')}, ${$('username')}, ${$('roles')}, ${$('administrator')}, slot.generation, slot.exempt,
    slot.cutoff, now(), now(), now() + ${ms(maxAge)},
    ${ipv4IfMapped(`${$('ip')}::inet`)}, ${$('userAgent')}::text FROM slot
  WHERE ${inTime($('timeLeft'))}
  RETURNING (SELECT slot.first FROM slot), exempt, (SELECT slot.logins FROM slot)`;
  const sql = raises
    ? `${deciding}, ${raised}, inserted AS (${inserting})
  SELECT *, false AS displaces FROM inserted UNION ALL SELECT NULL, NULL, NULL, displaces FROM raised`
    : `${deciding} ${inserting}`;
  return { sql, names };
}
