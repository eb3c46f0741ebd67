import type { CanActivate, Type } from '@nestjs/common';
import { inspect } from 'node:util';
import type { StormSettings } from './session/announcing-store.js';
import type { IdentityLike, OfUser } from './session/identity.js';
import type { PermissionFunction, PermissionSettings } from './session/permissions.js';
import { DEFAULT_POLICY, toLimit } from './session/policy.js';

/** What may be written in `forRoot()` beside {@link SingleSessionModuleExtras}; all of it may come from a factory. */
export interface SingleSessionOptions {
  /** How many sessions a user may have at once: a whole number from 1 to 1,000, or a function of the user, called at each login and each check. `Infinity`: not enforced. Default 1. */
  maxSessions?: number | OfUser<number | Promise<number>>;
  /** When a login exceeds the limit: `'evict'` ends the oldest sessions, `'reject'` answers 409 to the login. Default `'evict'`. */
  onLimit?: 'evict' | 'reject';
  /** Users to whom the limit does not apply, compared exactly, at each login. Their sessions are recorded, never evicted, and never evict. Default: none. */
  exempt?: {
    usernames?: readonly string[];
    roles?: readonly string[];
    when?: OfUser<boolean | Promise<boolean>>;
  };
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
  /** Finds the user of a username, for the explanation of a policy. Without it, that knows only the roles of the latest session, and no functions are asked. */
  findUser?: (username: string) => unknown;
  /** How old a decision may be. `'strong'`: never older than the request. `{ maxStalenessMs }`: remembered for so long at most, and forgotten when another process says that it changed. Default `'strong'`. */
  freshness?: 'strong' | { maxStalenessMs: number };
}

/** Who may administer sessions, and where. Whoever has one of the permissions counts as an administrator. */
export interface AdminOptions {
  /** Users with one of these roles may log out people who are not administrators. */
  roles?: readonly string[];
  /** Users with one of these roles may log out anyone. */
  superRoles?: readonly string[];
  /** In place of `roles`, or beside them: exactly true or false for the authenticated user of the request. */
  logout?: PermissionFunction;
  /** In place of `superRoles`, or beside them. */
  logoutAdmins?: PermissionFunction;
  /** Default `'admin/sessions'`. */
  path?: string;
  /** Your own guards, asked first: what authenticates, such as `AuthGuard('jwt')`. A guard with dependencies must be a provider of one of your modules. */
  guards?: readonly (Type<CanActivate> | CanActivate)[];
  /** Whether the page at `<path>/ui` is served. Default `true`. */
  page?: boolean;
}

/** Where users see their own sessions. */
export interface SelfServiceOptions {
  /** Default `'sessions/mine'`. */
  path?: string;
  /** As in {@link AdminOptions}. */
  guards?: AdminOptions['guards'];
}

/** What shapes the module itself, and so is known before any factory runs. */
export interface SingleSessionModuleExtras {
  /** Mounts the admin REST API and its page for users with a permission. Default: not mounted. */
  admin?: AdminOptions;
  /** Mounts a user's own sessions. Default `false`. */
  selfService?: boolean | SelfServiceOptions;
  /** The name of the TypeORM data source. Default: the default one. */
  dataSource?: string;
  /** Whether the service can be injected everywhere without an import. Default `true`. */
  isGlobal?: boolean;
  /** Whether every route is guarded. `false`: write `@UseGuards(SingleSessionGuard)` where you want it, after the guard that authenticates. Default `true`. */
  enforceGlobally?: boolean;
}

/** The options with their defaults. */
export interface ResolvedOptions {
  maxSessions: number | OfUser<number | Promise<number>>;
  onLimit: 'evict' | 'reject';
  exempt: {
    usernames: readonly string[];
    roles: readonly string[];
    when?: OfUser<boolean | Promise<boolean>>;
  };
  identify: OfUser<IdentityLike>;
  logoutEverywhere: boolean;
  unregistered: 'reject' | 'adopt';
  idleTimeout: number | undefined;
  maxAge: number;
  retention: number;
  storm: StormSettings;
  findUser: ((username: string) => unknown) | undefined;
  freshness: 'strong' | { readonly maxStalenessMs: number };
}

/** What shapes the module, checked, with the defaults. */
export interface ResolvedExtras {
  dataSource: string | undefined;
  isGlobal: boolean;
  enforceGlobally: boolean;
  /** `undefined`: not mounted. */
  admin: (Mounted & { page: boolean; permissions: PermissionSettings }) | undefined;
  selfService: Mounted | undefined;
}

interface Mounted {
  path: string;
  guards: readonly (Type<CanActivate> | CanActivate)[];
}

const DAY = 86_400_000;
/** Milliseconds. */
export const DEFAULT_MAX_AGE = 14 * DAY;
const LONGEST = 100 * 365 * DAY;
const DEFAULT_STORM: StormSettings = Object.freeze({ threshold: 10, windowMs: 60_000 });
const PATH = /^[\w.~-]+(\/[\w.~-]+)*$/;
const SHORTEST_STALENESS = 100;
const LONGEST_STALENESS = 3_600_000;
const EXTRAS: readonly string[] = [
  'dataSource',
  'isGlobal',
  'enforceGlobally',
  'admin',
  'selfService',
] satisfies (keyof SingleSessionModuleExtras)[];

type Reader<Value> = (value: unknown, key: string) => Value;

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
 * Checks the options and adds the defaults, into a new object: the caller's is not changed and not kept.
 * @throws Error that says what to write instead
 */
export function resolveOptions(given: SingleSessionOptions = {}): ResolvedOptions {
  refuseUnknownKeys(given, Object.keys(READERS), '');
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

/** @throws Error for what stands beside a factory and does not belong there */
export function checkAsyncKeys(given: object): void {
  const known = [
    'imports',
    'inject',
    'useFactory',
    'useClass',
    'useExisting',
    'provideInjectionTokensFrom',
    ...EXTRAS,
  ];
  const unknown = Object.keys(given).find((key) => !known.includes(key));
  if (unknown === undefined) return;
  throw new Error(
    `SingleSessionModule.forRootAsync(): "${unknown}" does not belong beside useFactory. Return it from the factory: useFactory: () => ({ ${unknown}: ... }). Beside it: ${known.join(', ')}.`,
  );
}

/**
 * Checks what shapes the module and adds the defaults.
 * @throws Error that says what to write instead
 */
export function resolveExtras(given: SingleSessionModuleExtras): ResolvedExtras {
  const { dataSource, isGlobal = true, enforceGlobally = true, admin, selfService = false } = given;
  if (dataSource !== undefined && (typeof dataSource !== 'string' || dataSource === ''))
    throw wrong('dataSource', 'the name of a TypeORM data source, such as "sessions"', dataSource);
  return {
    dataSource,
    isGlobal: readBoolean(isGlobal, 'isGlobal'),
    enforceGlobally: readBoolean(enforceGlobally, 'enforceGlobally'),
    admin: admin === undefined ? undefined : readAdmin(admin),
    selfService: readSelfService(selfService),
  };
}

function readAdmin(value: unknown): ResolvedExtras['admin'] {
  if (!isPlainObject(value)) throw wrong('admin', "an object: { roles: ['admin'] }", value);
  const known = ['roles', 'superRoles', 'logout', 'logoutAdmins', 'path', 'guards', 'page'];
  refuseUnknownKeys(value, known, 'admin.');
  const { roles = [], superRoles = [], logout, logoutAdmins, page = true } = value;
  const permissions = {
    roles: readStrings(roles, 'admin.roles'),
    superRoles: readStrings(superRoles, 'admin.superRoles'),
    ...(logout !== undefined && { logout: readFunction(logout, 'admin.logout') as PermissionFunction }),
    ...(logoutAdmins !== undefined && {
      logoutAdmins: readFunction(logoutAdmins, 'admin.logoutAdmins') as PermissionFunction,
    }),
  };
  const mounted = readMounted(value, 'admin', 'admin/sessions');
  return { ...mounted, page: readBoolean(page, 'admin.page'), permissions };
}

function readSelfService(value: unknown): ResolvedExtras['selfService'] {
  if (value === false) return undefined;
  if (value === true) return readMounted({}, 'selfService', 'sessions/mine');
  if (!isPlainObject(value)) throw wrong('selfService', "true, false, or { path: 'sessions/mine' }", value);
  refuseUnknownKeys(value, ['path', 'guards'], 'selfService.');
  return readMounted(value, 'selfService', 'sessions/mine');
}

function readMounted(
  { path, guards = [] }: Record<string, unknown>,
  key: string,
  defaultPath: string,
): Mounted {
  if (path !== undefined && (typeof path !== 'string' || !PATH.test(path)))
    throw wrong(`${key}.path`, `a path without slashes around it: '${defaultPath}'`, path);
  if (!Array.isArray(guards) || !guards.every(isGuard))
    throw wrong(`${key}.guards`, "an array of guards: [AuthGuard('jwt')]", guards);
  return { path: path ?? defaultPath, guards: [...(guards as Mounted['guards'])] };
}

const isGuard = (value: unknown): boolean =>
  typeof value === 'function' ||
  typeof (value as Partial<CanActivate> | null | undefined)?.canActivate === 'function';

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

function readExemptions(value: unknown, key: string): ResolvedOptions['exempt'] {
  if (!isPlainObject(value))
    throw wrong(key, "an object: { usernames: ['batch-worker'], roles: ['service'] }", value);
  refuseUnknownKeys(value, ['usernames', 'roles', 'when'], 'exempt.');
  const { usernames = [], roles = [], when } = value;
  return Object.freeze({
    usernames: readStrings(usernames, 'exempt.usernames'),
    roles: readStrings(roles, 'exempt.roles'),
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

// A string would become a test for a substring of it.
function readStrings(value: unknown, key: string): readonly string[] {
  if (!Array.isArray(value) || !value.every((item) => typeof item === 'string' && item !== ''))
    throw wrong(key, "an array of strings: ['batch-worker']", value);
  return Object.freeze([...(value as string[])]);
}

function readFunction(value: unknown, key: string): unknown {
  if (typeof value !== 'function') throw wrong(key, 'a function', value);
  return value;
}

function readBoolean(value: unknown, key: string): boolean {
  if (typeof value !== 'boolean') throw wrong(key, 'exactly true or false', value);
  return value;
}

function readDuration(value: unknown, key: string): number {
  if (!Number.isInteger(value) || Number(value) < 1 || Number(value) > LONGEST)
    throw wrong(
      key,
      'a whole number of milliseconds, from 1 to those of 100 years, such as 30 * 60_000',
      value,
    );
  return Number(value);
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

function oneOf<const Choice extends string>(...choices: Choice[]): Reader<Choice> {
  return (value, key) => {
    if (!choices.includes(value as Choice))
      throw wrong(key, choices.map((choice) => `'${choice}'`).join(' or '), value);
    return value as Choice;
  };
}

function refuseUnknownKeys(given: object, known: readonly string[], prefix: string): void {
  if (!isPlainObject(given)) throw wrong('options', 'an object: forRoot({ maxSessions: 1 })', given);
  const unknown = Object.keys(given).find((key) => !known.includes(key));
  if (unknown === undefined) return;
  const hint = EXTRAS.includes(unknown)
    ? `"${unknown}" shapes the module: write it beside useFactory in forRootAsync(), not in what the factory returns.`
    : `Known: ${known.join(', ')}.`;
  throw new Error(`SingleSessionModule: unknown option "${prefix}${unknown}". ${hint}`);
}

function isPlainObject(value: unknown): value is Record<string, unknown> {
  if (typeof value !== 'object' || value === null) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  // Not by identity: a Jest environment has an Object of its own.
  return prototype === null || Object.getPrototypeOf(prototype) === null;
}

function wrong(key: string, expected: string, value: unknown): Error {
  return new Error(`SingleSessionModule: ${key} must be ${expected}; it was ${describe(value)}.`);
}

function describe(value: unknown): string {
  if (Array.isArray(value)) return 'an array';
  return typeof value === 'string'
    ? JSON.stringify(value)
    : isPlainObject(value)
      ? 'an object'
      : inspect(value);
}
