import { randomBytes } from 'node:crypto';

/** What the demo was told by its environment variables, checked. */
export interface Environment {
  platform: 'express' | 'fastify';
  maxSessions: number;
  onLimit: 'evict' | 'reject';
  exemptUsernames: string[];
  exemptRoles: string[];
  logoutEverywhere: boolean;
  unregistered: 'reject' | 'adopt';
  freshness: 'strong' | { maxStalenessMs: number };
  /** `undefined`: the demo starts a PostgreSQL of its own. */
  databaseUrl: string | undefined;
  sessionSecret: string;
  /** Nobody chose the secret, so no other process knows it. */
  sessionSecretIsRandom: boolean;
  port: number;
}

/** A variable has a value that the demo cannot use; the message says what to write. */
export class EnvironmentError extends Error {}

type Variables = Readonly<Record<string, string | undefined>>;

/** Reads every variable of the demo, or throws an {@link EnvironmentError} for the first wrong one. */
export function readEnvironment(variables: Variables): Environment {
  return {
    platform: oneOf(variables, 'PLATFORM', ['express', 'fastify']),
    ...limit(variables),
    exemptUsernames: list(variables, 'EXEMPT_USERNAMES', ['xqueue-watcher']),
    exemptRoles: list(variables, 'EXEMPT_ROLES', ['service']),
    logoutEverywhere: oneOf(variables, 'LOGOUT_EVERYWHERE', ['true', 'false']) === 'true',
    unregistered: oneOf(variables, 'UNREGISTERED', ['reject', 'adopt']),
    freshness: freshness(variables),
    databaseUrl: databaseUrl(variables),
    sessionSecret: given(variables, 'SESSION_SECRET') ?? randomBytes(32).toString('base64url'),
    sessionSecretIsRandom: given(variables, 'SESSION_SECRET') === undefined,
    port: port(variables),
  };
}

/** An empty variable counts as absent: that is what compose files pass for one that nobody set. */
function given(variables: Variables, name: string): string | undefined {
  return variables[name]?.trim() || undefined;
}

/** The value of a variable with a closed set of values; the first of them is the default. */
function oneOf<const T extends string>(variables: Variables, name: string, values: readonly [T, ...T[]]): T {
  const value = given(variables, name);
  if (value === undefined) return values[0];
  const known = values.find((candidate) => candidate === value);
  if (known === undefined) throw wrong(name, value, values.join(' or '));
  return known;
}

/** Here an empty variable does mean something: nobody is exempt. */
function list(variables: Variables, name: string, absent: string[]): string[] {
  const value = variables[name];
  if (value === undefined) return absent;
  return value
    .split(',')
    .map((item) => item.trim())
    .filter((item) => item !== '');
}

function limit(variables: Variables): Pick<Environment, 'maxSessions' | 'onLimit'> {
  const onLimit = oneOf(variables, 'ON_LIMIT', ['evict', 'reject']);
  const value = given(variables, 'MAX_SESSIONS') ?? '1';
  if (value === 'Infinity' && onLimit === 'evict') return { maxSessions: Infinity, onLimit };
  if (/^[1-9]\d*$/.test(value) && Number(value) <= 1000) return { maxSessions: Number(value), onLimit };
  throw wrong(
    'MAX_SESSIONS',
    value,
    'a whole number from 1 to 1000 (with ON_LIMIT=evict also Infinity, for no limit)',
  );
}

function freshness(variables: Variables): Environment['freshness'] {
  const value = given(variables, 'FRESHNESS') ?? 'strong';
  if (value === 'strong') return value;
  if (/^[1-9]\d*$/.test(value) && Number(value) >= 100 && Number(value) <= 3_600_000)
    return { maxStalenessMs: Number(value) };
  throw wrong('FRESHNESS', value, 'strong, or milliseconds from 100 to 3600000');
}

function port(variables: Variables): number {
  const value = given(variables, 'PORT') ?? '3000';
  if (/^\d{1,5}$/.test(value) && Number(value) <= 65535) return Number(value);
  throw wrong('PORT', value, 'a whole number from 0 to 65535; 0 takes a free port');
}

function databaseUrl(variables: Variables): string | undefined {
  const value = given(variables, 'DATABASE_URL');
  if (value === undefined || /^postgres(ql)?:\/\//.test(value)) return value;
  // The value may hold a password, so the message does not repeat it.
  throw new EnvironmentError(
    'DATABASE_URL must look like postgres://user:password@host:5432/database. ' +
      'Leave it out and the demo starts a PostgreSQL of its own.',
  );
}

function wrong(name: string, value: string, expected: string): EnvironmentError {
  return new EnvironmentError(`${name} is ${JSON.stringify(value)}. Write ${expected}, or leave it out.`);
}
