import { inspect } from 'node:util';

/** Reads the value of an option, or throws an Error that says what to write. */
export type Reader<Value> = (value: unknown, key: string) => Value;

const DAY = 86_400_000;
const LONGEST = 100 * 365 * DAY;

// A string would become a test for a substring of it. A list is copied first, since `every()` passes over its holes.
export function readStrings(value: unknown, key: string, example: string): readonly string[] {
  if (
    !Array.isArray(value) ||
    ![...(value as unknown[])].every((item) => typeof item === 'string' && item !== '')
  )
    throw wrong(key, `an array of strings: ['${example}'], none of them empty`, value);
  return Object.freeze([...(value as string[])]);
}

export function readFunction(value: unknown, key: string): unknown {
  if (typeof value !== 'function') throw wrong(key, 'a function', value);
  return value;
}

export function readBoolean(value: unknown, key: string): boolean {
  if (typeof value !== 'boolean') throw wrong(key, 'exactly true or false', value);
  return value;
}

export function readDuration(value: unknown, key: string): number {
  if (!Number.isInteger(value) || Number(value) < 1 || Number(value) > LONGEST)
    throw wrong(
      key,
      'a whole number of milliseconds, from 1 to those of 100 years, such as 30 * 60_000',
      value,
    );
  return Number(value);
}

export function oneOf<const Choice extends string>(...choices: Choice[]): Reader<Choice> {
  return (value, key) => {
    if (!choices.includes(value as Choice))
      throw wrong(key, choices.map((choice) => `'${choice}'`).join(' or '), value);
    return value as Choice;
  };
}

/** `hint` may say more of a key than which ones are known. */
export function refuseUnknownKeys(
  given: object,
  known: readonly string[],
  prefix = '',
  hint: (unknown: string) => string | undefined = () => undefined,
): void {
  if (!isPlainObject(given)) throw wrong('options', 'an object: forRoot({ maxSessions: 1 })', given);
  const unknown = Object.keys(given).find((key) => !known.includes(key));
  if (unknown === undefined) return;
  const more = hint(unknown) ?? `Known: ${known.join(', ')}.`;
  throw new Error(`SingleSessionModule: unknown option "${prefix}${unknown}". ${more}`);
}

export function isPlainObject(value: unknown): value is Record<string, unknown> {
  if (typeof value !== 'object' || value === null) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  // Not by identity: a Jest environment has an Object of its own.
  return prototype === null || Object.getPrototypeOf(prototype) === null;
}

export function wrong(key: string, expected: string, value: unknown): Error {
  return new Error(`SingleSessionModule: ${key} must be ${expected}; it was ${describe(value)}.`);
}

function describe(value: unknown): string {
  if (Array.isArray(value)) return inspect(value, { depth: 0, maxArrayLength: 5, breakLength: Infinity });
  return typeof value === 'string'
    ? JSON.stringify(value)
    : isPlainObject(value)
      ? 'an object'
      : inspect(value);
}
