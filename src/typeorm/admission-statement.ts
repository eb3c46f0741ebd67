import type { Admission } from '../session/session.js';
import { exemptNow } from './exemption-statements.js';
import { liveness, type StatementSettings } from './liveness.js';
import { inTime, ipv4IfMapped, ms } from './sql-parts.js';
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

/** What a login needs beyond the simplest statement. PostgreSQL plans it anew at each login, so the text holds only what this one needs. */
interface Case {
  /** A login without room is refused. */
  reject: boolean;
  /** Dead sessions must give up their places, as others than the new one stay live. */
  prune: boolean;
  /** The browser carried a session, whose place becomes free first. */
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
  prune: limit > 1,
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

function textOf(settings: AdmissionSettings, which: Case): Text {
  const text = new AdmissionText(settings, which);
  return { sql: text.statement(), names: text.names };
}

// Whether a login is admitted as exempt, judged with the slots row locked: it was ruled exempt, and no enforced login has
// been counted in `limited` since. One that was, while this login waited for the lock, says that the exemption has ended
// meanwhile; if it still counted, the sessions of both would live. A login that loses its exemption in this way is not
// counted itself: those that wait behind it would lose theirs for it, and so on for as long as anybody waits.
const EXEMPT = `(EXCLUDED.limited = 0 AND u.limited <= COALESCE((SELECT ruling.limited FROM ruling), 0))`;

/**
 * The text of one case: an upsert of the slots row, the new id in front and the surplus dropped, and an insert of the
 * session's row. A login that is admitted gives one row. One that is refused, for want of room or because it is not
 * entitled, gives none, or a row with `displaces` where it ended what an exemption had left behind. In every part `u` is
 * the user's slots row, locked, and `ruling` is what was known before the wait for that lock.
 */
class AdmissionText {
  readonly names: Text['names'] = [];

  constructor(
    private readonly settings: AdmissionSettings,
    private readonly which: Case,
  ) {}

  statement(): string {
    const deciding = `WITH ${this.ruling()},
  ${this.slot()}`;
    if (!this.raises) return `${deciding} ${this.inserting()}`;
    return `${deciding}, ${this.raised()}, inserted AS (${this.inserting()})
  SELECT *, false AS displaces FROM inserted UNION ALL SELECT NULL, NULL, NULL, displaces FROM raised`;
  }

  /**
   * Sessions that an exemption has left behind end with the user's next enforced login. With `'reject'` that one may be
   * refused, and all that follow it as well; so a refused login ends them, too.
   */
  private get raises(): boolean {
    return this.which.reject && !this.which.entitled;
  }

  private ruling(): string {
    const { slots, exemptions } = this.settings;
    const exempt = exemptNow(exemptions, `${this.$('username')}::text`, `${this.$('roles')}::text[]`);
    const known = (column: string): string =>
      `(SELECT ${column} FROM ${slots} k WHERE k.user_id = ${this.$('user')}::text)`;
    return `ruling AS MATERIALIZED (
    SELECT ${this.$('exempt')}::boolean OR ${exempt} AS exempt,
      ${known('k.limited')} AS limited${this.raises ? `, ${known('k.generation - k.limited')} AS unlimited` : ''})`;
  }

  /**
   * `first`: a row that was inserted has no xmax. The user never had a session before, so nothing can have been displaced.
   * Nor does its `protected_generation` tell anybody anything: an order that does not see the row does not wait for it.
   */
  private slot(): string {
    const { slots, cutoffs } = this.settings;
    const { entitled, replaces } = this.which;
    const conditions = this.conditions();
    return `slot AS (
    INSERT INTO ${slots} AS u (user_id, generation, active, floor, limited, succession, cutoff, storm_since, storm_logins)
    SELECT ${this.$('user')}::text, clock.g, CASE WHEN ruling.exempt THEN '{}' ELSE ${this.own} END, clock.g - 1,
        (NOT ruling.exempt)::int, '{}', COALESCE((SELECT max(c.id) FROM ${cutoffs} c), 0), clock.now, (NOT ruling.exempt)::int
      FROM (SELECT now, (extract(epoch FROM now) * 1000)::bigint AS g FROM clock_timestamp() AS now) clock, ruling
      ${entitled ? `WHERE EXISTS (SELECT FROM ${slots} k WHERE k.user_id = ${this.$('user')})` : ''}
    ON CONFLICT (user_id) DO UPDATE SET
      generation = u.generation + 1,
      floor = CASE WHEN ${EXEMPT} THEN u.floor ELSE u.generation END,
      limited = u.limited + EXCLUDED.limited,
      ${replaces ? `succession = ARRAY[${this.$('replaces')}::uuid, ${this.$('id')}],` : ''}
      active = ${this.active()},
      protected_generation = CASE WHEN ${this.$('administrator')}::boolean THEN u.generation + 1 ELSE u.protected_generation END,
      cutoff = GREATEST(u.cutoff, EXCLUDED.cutoff),
      ${this.storm()}
    ${conditions.length === 0 ? '' : `WHERE ${conditions.join(' AND ')}`}
    RETURNING u.generation, u.cutoff, u.xmax = 0 AS first, ${this.$('id')} <> ALL (u.active) AS exempt, u.storm_logins AS logins)`;
  }

  /**
   * The dead are dropped before the rest is cut to the limit: where the limit was lowered, they take no place from a session
   * in use. A session beyond the limit that a check has refused does not come back by that: its row says that it has ended.
   */
  private active(): string {
    const ofExempt = this.which.replaces ? `array_remove(u.active, ${this.$('replaces')})` : 'u.active';
    const ofLimited = this.which.prune
      ? `(${this.own} || ${this.kept('u.active')})[1:${this.limit}]`
      : this.own;
    return `CASE WHEN ${EXEMPT} THEN ${ofExempt} ELSE ${ofLimited} END`;
  }

  /**
   * These slots of the user in their order, without the dead, without the session that the browser carried, and without the
   * one that another click of the same browser has put in its place already (`succession`). Only negative evidence prunes:
   * a row that says it is over. A session committed a moment ago has no row in this snapshot yet, and must be kept.
   */
  private kept(slots: string): string {
    const { sessions } = this.settings;
    const { isOver } = liveness(this.settings);
    const replaced = this.which.replaces ? this.$('replaces') : undefined;
    return `ARRAY(SELECT slot.id FROM unnest(${slots}) WITH ORDINALITY AS slot (id, place)
    WHERE NOT EXISTS (SELECT FROM ${sessions} s WHERE s.id = slot.id AND (s.ended_at IS NOT NULL OR ${isOver}))
      ${replaced ? `AND slot.id <> ${replaced} AND slot.id IS DISTINCT FROM CASE WHEN u.succession[1] = ${replaced} THEN u.succession[2] END` : ''}
    ORDER BY slot.place)`;
  }

  private storm(): string {
    const window = ms(this.settings.stormWindow);
    const same = `u.storm_since > EXCLUDED.storm_since - ${window}`;
    const next = `u.storm_since > EXCLUDED.storm_since - 2 * ${window}`;
    return `storm_since = CASE WHEN ${same} THEN u.storm_since ELSE EXCLUDED.storm_since END,
      storm_logins = CASE WHEN ${EXEMPT} THEN 0 WHEN ${same} THEN u.storm_logins + 1 ELSE 1 END,
      storm_before = CASE WHEN ${EXEMPT} THEN 0 WHEN ${same} THEN u.storm_before WHEN ${next} THEN u.storm_logins ELSE 0 END`;
  }

  private conditions(): string[] {
    const { reject, entitled } = this.which;
    return [...(reject ? [this.hasRoom()] : []), ...(entitled ? [this.isEntitled()] : [])];
  }

  /**
   * Counted as at a check: what is live among the first `limit`. A login whose id has a slot already goes on without room:
   * the insert fails on that id, and says so better (`exists`).
   */
  private hasRoom(): string {
    const live = `cardinality(${this.kept(`u.active[1:${this.limit}]`)})`;
    return `(${EXEMPT} OR ${live} < ${this.$('limit')} OR ${this.$('id')} = ANY (u.active))`;
  }

  /** Judged by the slots row, too: what was checked before may have ended since. */
  private isEntitled(): string {
    const { live } = liveness(this.settings);
    return `EXISTS (SELECT FROM ${this.settings.sessions} s WHERE s.id = ${this.$('entitledBy')} AND s.user_id = u.user_id AND ${live('u', this.limit)})`;
  }

  /**
   * Raises the floor where anything above it was admitted as exempt. What was admitted while this login waited for the lock
   * is not in its snapshot, but in the counters of the locked row: `generation` has grown by more than `limited`; or, where
   * the snapshot has no row, it is beyond `floor + 1`, where an enforced login leaves it. An upsert, since an UPDATE would
   * not find a row that was made after the snapshot.
   */
  private raised(): string {
    const { sessions, slots } = this.settings;
    return `raised AS (
    INSERT INTO ${slots} AS u (user_id, generation, active, floor, succession)
    SELECT ${this.$('user')}::text, 0, '{}', 0, '{}' FROM ruling WHERE NOT ruling.exempt AND NOT EXISTS (SELECT FROM slot)
    ON CONFLICT (user_id) DO UPDATE SET generation = u.generation + 1, floor = u.generation, limited = u.limited + 1
    WHERE (COALESCE(u.generation - u.limited > (SELECT ruling.unlimited FROM ruling), u.generation > u.floor + 1)
        OR EXISTS (SELECT FROM ${sessions} s WHERE s.user_id = u.user_id AND s.ended_at IS NULL AND s.exempt AND s.generation > u.floor))
      AND ${inTime(this.$('timeLeft'))}
    RETURNING true AS displaces)`;
  }

  private inserting(): string {
    const { sessions, maxAge } = this.settings;
    return `INSERT INTO ${sessions}
    (id, logins, user_id, username, roles, administrator, generation, exempt, cutoff, created_at, last_seen_at, expires_at, ip, user_agent)
  SELECT ${this.$('id')}, ${this.$('logins')}::uuid[], ${this.$('user')}, ${this.$('username')}, ${this.$('roles')}, ${this.$('administrator')}, slot.generation, slot.exempt,
    slot.cutoff, now(), now(), now() + ${ms(maxAge)},
    ${ipv4IfMapped(`${this.$('ip')}::inet`)}, ${this.$('userAgent')}::text FROM slot
  WHERE ${inTime(this.$('timeLeft'))}
  RETURNING (SELECT slot.first FROM slot), exempt, (SELECT slot.logins FROM slot)`;
  }

  private get own(): string {
    return `ARRAY[${this.$('id')}::uuid]`;
  }

  private get limit(): string {
    return `${this.$('limit')}::int`;
  }

  /** The parameter with this value. */
  private $(name: keyof Values): string {
    if (!this.names.includes(name)) this.names.push(name);
    return `$${this.names.indexOf(name) + 1}`;
  }
}
