import {
  isPlainObject,
  oneOf,
  readBoolean,
  readDuration,
  readFunction,
  readStrings,
  refuseUnknownKeys,
  wrong,
  type Reader,
} from './option-readers.js';
import type { AdmissionsSettings } from './session/admissions.js';
import type { StormSettings } from './session/announcing-store.js';
import type { FreshnessSettings } from './session/freshness.js';
import type { IdentityLike, OfUser } from './session/identity.js';
import { DEFAULT_POLICY, toLimit, type Exemptions, type PolicySettings } from './session/policy.js';
import type { SessionsSettings } from './session/sessions.js';
import { EXTRAS } from './single-session.extras.js';

/** What may be written in `forRoot()` beside `SingleSessionModuleExtras`; all of it may come from a factory. */
export interface SingleSessionOptions {
  /** How many sessions a user may have at once: a whole number from 1 to 1,000, or a function of the user, called at each login and each check. `Infinity`: not enforced. Default 1. */
  maxSessions?: number | OfUser<number | Promise<number>>;
  /** When a login exceeds the limit: `'evict'` ends the oldest sessions, `'reject'` answers 409 to the login. Default `'evict'`. */
  onLimit?: 'evict' | 'reject';
  /** Users to whom the limit does not apply, compared exactly, at each login. Their sessions are recorded, never evicted, and never evict. Default: none. */
  exempt?: Partial<Exemptions>;
  /** Reads id, username and roles from your user object. Default: `id`, `username ?? email ?? id`, `roles ?? []`. */
  identify?: OfUser<IdentityLike>;
  /** Whether a logout ends all of the user's sessions; an exempt user's logout ends only its own. Default `true`. */
  logoutEverywhere?: boolean;
  /** An authenticated request whose login was never recorded: `'reject'` answers 401, `'adopt'` records it now. Default `'reject'`. */
  unregistered?: 'reject' | 'adopt';
  /** Milliseconds without a request after which a session ends. Default: none. */
  idleTimeout?: number;
  /** Milliseconds after the login at which a session ends. Default 14 days. */
  maxAge?: number;
  /** Milliseconds for which the rows of ended sessions are kept. Default 30 days. */
  retention?: number;
  /** More than `threshold` enforced logins of one account within `windowMs` milliseconds are a storm: one event and one warning for each window. Default 10 in 60,000. */
  storm?: Partial<StormSettings>;
  /** Finds the user of a username, for the explanation of a policy: your user object or a promise of it, `undefined` or `null` for nobody. Without it, that knows only the roles of the latest session, and no functions are asked. */
  findUser?: (username: string) => unknown;
  /** How old a decision may be. `'strong'`: never older than the request. `{ maxStalenessMs }`: remembered for so long at most, and forgotten when another process says that it changed. Default `'strong'`. */
  freshness?: 'strong' | FreshnessSettings;
}

/** The options with their defaults. */
export interface ResolvedOptions extends PolicySettings, AdmissionsSettings, SessionsSettings {
  unregistered: 'reject' | 'adopt';
  idleTimeout: number | undefined;
  maxAge: number;
  retention: number;
  storm: StormSettings;
  findUser: ((username: string) => unknown) | undefined;
  freshness: 'strong' | Readonly<FreshnessSettings>;
}

const DAY = 86_400_000;
/** Milliseconds. */
export const DEFAULT_MAX_AGE = 14 * DAY;
const DEFAULT_STORM: StormSettings = Object.freeze({ threshold: 10, windowMs: 60_000 });
const SHORTEST_STALENESS = 100;
const LONGEST_STALENESS = 3_600_000;
const READERS = {
  maxSessions: (value: unknown) => (typeof value === 'function' ? (value as OfUser<number>) : toLimit(value)),
  onLimit: oneOf('evict', 'reject'),
  exempt: readExemptions,
  identify: readFunction as Reader<OfUser<IdentityLike>>,
  logoutEverywhere: readBoolean,
  unregistered: oneOf('reject', 'adopt'),
  idleTimeout: readDuration,
  maxAge: readDuration,
  retention: readDuration,
  storm: readStorm,
  findUser: readFunction as Reader<(username: string) => unknown>,
  freshness: readFreshness,
} satisfies Record<keyof SingleSessionOptions, Reader<unknown>>;

/**
 * Checks the options and adds the defaults, into a new object: the caller's is not changed and not kept. `readElsewhere`
 * are options that stand beside them.
 * @throws Error that says what to write instead
 */
export function resolveOptions(
  given: SingleSessionOptions,
  readElsewhere: readonly string[] = [],
): ResolvedOptions {
  refuseUnknownKeys(given, [...Object.keys(READERS), ...readElsewhere], '', hintAt);
  const read = <Key extends keyof typeof READERS>(key: Key): ReturnType<(typeof READERS)[Key]> | undefined =>
    given[key] === undefined
      ? undefined
      : (READERS[key](given[key], key) as ReturnType<(typeof READERS)[Key]>);
  const options: ResolvedOptions = {
    maxSessions: read('maxSessions') ?? DEFAULT_POLICY.maxSessions,
    onLimit: read('onLimit') ?? 'evict',
    exempt: read('exempt') ?? DEFAULT_POLICY.exempt,
    identify: read('identify') ?? DEFAULT_POLICY.identify,
    logoutEverywhere: read('logoutEverywhere') ?? true,
    unregistered: read('unregistered') ?? 'reject',
    idleTimeout: read('idleTimeout'),
    maxAge: read('maxAge') ?? DEFAULT_MAX_AGE,
    retention: read('retention') ?? 30 * DAY,
    storm: read('storm') ?? DEFAULT_STORM,
    findUser: read('findUser'),
    freshness: read('freshness') ?? 'strong',
  };
  refuseContradictions(options);
  return Object.freeze(options);
}

const hintAt = (unknown: string): string | undefined =>
  EXTRAS.includes(unknown)
    ? `"${unknown}" shapes the module: write it beside useFactory in forRootAsync(), not in what the factory returns.`
    : undefined;

function refuseContradictions(options: ResolvedOptions): void {
  const { idleTimeout, maxAge, maxSessions, onLimit, freshness } = options;
  if (idleTimeout !== undefined && idleTimeout >= maxAge)
    throw new Error(
      `SingleSessionModule: idleTimeout (${idleTimeout} ms) is not shorter than maxAge (${maxAge} ms), so it can never end a session. Leave one of them out, or make idleTimeout shorter.`,
    );
  if (onLimit === 'reject' && maxSessions === Infinity)
    throw new Error(
      "SingleSessionModule: onLimit: 'reject' contradicts maxSessions: Infinity: no login can exceed it. Leave one of them out.",
    );
  // While a verdict is remembered nobody notes that the session is used, and it must not become idle of that.
  if (freshness !== 'strong' && freshness.maxStalenessMs > (idleTimeout ?? Infinity) / 4)
    throw new Error(
      `SingleSessionModule: freshness.maxStalenessMs (${freshness.maxStalenessMs} ms) is more than a quarter of idleTimeout (${idleTimeout} ms), so a session in use could end as idle. Make maxStalenessMs shorter, or idleTimeout longer.`,
    );
}

function readExemptions(value: unknown, key: string): Exemptions {
  if (!isPlainObject(value))
    throw wrong(key, "an object: { usernames: ['batch-worker'], roles: ['service'] }", value);
  refuseUnknownKeys(value, ['usernames', 'roles', 'when'], 'exempt.');
  const { usernames = [], roles = [], when } = value;
  return Object.freeze({
    usernames: readStrings(usernames, 'exempt.usernames', 'batch-worker'),
    roles: readStrings(roles, 'exempt.roles', 'service'),
    ...(when !== undefined && { when: readFunction(when, 'exempt.when') as OfUser<boolean> }),
  });
}

function readStorm(value: unknown, key: string): StormSettings {
  if (!isPlainObject(value)) throw wrong(key, 'an object: { threshold: 10, windowMs: 60_000 }', value);
  refuseUnknownKeys(value, ['threshold', 'windowMs'], 'storm.');
  const { threshold = DEFAULT_STORM.threshold, windowMs = DEFAULT_STORM.windowMs } = value;
  if (!Number.isInteger(threshold) || Number(threshold) < 1 || Number(threshold) > 1_000_000)
    throw wrong('storm.threshold', 'a whole number of logins, from 1 to 1,000,000', threshold);
  return Object.freeze({ threshold: Number(threshold), windowMs: readDuration(windowMs, 'storm.windowMs') });
}

function readFreshness(value: unknown, key: string): ResolvedOptions['freshness'] {
  if (value === 'strong') return value;
  if (!isPlainObject(value)) throw wrong(key, "'strong' or { maxStalenessMs: 2_000 }", value);
  refuseUnknownKeys(value, ['maxStalenessMs'], 'freshness.');
  const { maxStalenessMs } = value;
  if (
    !Number.isInteger(maxStalenessMs) ||
    Number(maxStalenessMs) < SHORTEST_STALENESS ||
    Number(maxStalenessMs) > LONGEST_STALENESS
  )
    throw wrong(
      `${key}.maxStalenessMs`,
      `a whole number of milliseconds, from ${SHORTEST_STALENESS} to ${LONGEST_STALENESS} (an hour), such as 2_000`,
      maxStalenessMs,
    );
  return Object.freeze({ maxStalenessMs: Number(maxStalenessMs) });
}
