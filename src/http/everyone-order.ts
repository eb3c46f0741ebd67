import { inspect } from 'node:util';
import type { LogoutEveryoneOrder } from '../session/administration.js';

interface Kind {
  is: (value: unknown) => boolean;
  what: string;
}

const TEXT: Kind = { is: (value: unknown) => typeof value === 'string', what: 'a string' };
const YES_OR_NO: Kind = { is: (value: unknown) => typeof value === 'boolean', what: 'true or false' };
const TEXTS: Kind = {
  is: (value: unknown) => Array.isArray(value) && value.every(TEXT.is),
  what: 'an array of strings',
};

const ORDER: Record<string, Kind> = {
  by: TEXT,
  note: TEXT,
  dryRun: YES_OR_NO,
  except: { is: isObject, what: "an object: { usernames: ['alice'] }" },
};
const EXCEPT: Record<string, Kind> = {
  administrators: YES_OR_NO,
  me: YES_OR_NO,
  roles: TEXTS,
  usernames: TEXTS,
  userIds: TEXTS,
};

/**
 * A key that is misspelled, a string in place of an array or a Set in place of an object would end the sessions of those
 * who were to be spared.
 * @throws TypeError that says what to write
 */
export function checkEveryoneOrder(order: LogoutEveryoneOrder & { by?: string }): void {
  if (!isObject(order))
    throw new TypeError(
      `endEveryone() takes an object, such as { except: { usernames: ['alice'] } }, and nobody was logged out; it was ${inspect(order)}.`,
    );
  checkKeys(order, ORDER, '');
  checkKeys(order.except ?? {}, EXCEPT, 'except.');
}

function checkKeys(given: object, known: Record<string, Kind>, prefix: string): void {
  for (const [key, value] of Object.entries(given)) {
    const kind = Object.hasOwn(known, key) ? known[key] : undefined;
    const name = `endEveryone: ${prefix}${key}`;
    if (kind === undefined)
      throw new TypeError(
        `${name} is unknown, and nobody was logged out. Known: ${Object.keys(known).join(', ')}.`,
      );
    if (value !== undefined && !kind.is(value))
      throw new TypeError(
        `${name} must be ${kind.what}, and nobody was logged out; it was ${inspect(value)}.`,
      );
  }
}

/** No list, Set or Map, whose members are no keys. */
function isObject(value: unknown): boolean {
  return Object.prototype.toString.call(value) === '[object Object]';
}
