import { describe, expect, it } from '@jest/globals';
import { TOPICS } from '../../src/session/verdicts.js';
import { decode, encodeChanges, encodeHello, LARGEST_PAYLOAD } from '../../src/typeorm/notification.js';
import { times } from '../support/store.js';

const NAME = 'a1b2c3';
/** `NOTIFY_PAYLOAD_MAX_LENGTH` of PostgreSQL with its usual pages. */
const POSTGRES_TAKES_LESS_THAN = 8_000;

describe('a notification', () => {
  it.each([[new Set([0])], [new Set([1, 35, 36, TOPICS - 1])], ['everything' as const]])(
    'is read as it was written: %p',
    (changes) => {
      expect(decode(encodeChanges(NAME, changes))).toEqual({ from: NAME, isHello: false, changes });
    },
  );

  it('to oneself says that nothing has changed', () => {
    expect(decode(encodeHello(NAME))).toEqual({ from: NAME, isHello: true, changes: new Set() });
  });

  it('is never longer than PostgreSQL takes: where the users are too many, it says everything', () => {
    const lengths = [1, 500, 1_500, 2_000, TOPICS].map((count) => {
      const topics = new Set(times(count, (n) => TOPICS - 1 - n));
      const text = encodeChanges(NAME, topics);
      const { changes } = decode(text);
      return { length: text.length, whole: changes === 'everything' || changes.size === count, changes };
    });
    expect(lengths.every(({ length, whole }) => length <= LARGEST_PAYLOAD && whole)).toBe(true);
    expect(LARGEST_PAYLOAD).toBeLessThan(POSTGRES_TAKES_LESS_THAN);
    expect(lengths.map(({ changes }) => changes === 'everything')).toEqual([false, false, false, true, true]);
  });

  it.each([
    '',
    ' ',
    'x',
    '2 a1b2c3 7',
    '1',
    '1 a1b2c3',
    '1 a1b2c3 ',
    '1 a1b2c3 7,,8',
    '1 a1b2c3 -1',
    `1 a1b2c3 ${TOPICS.toString(36)}`,
    '1 a1b2c3 !',
    'alice',
    '{"v":3}',
  ])(
    'that cannot be read, such as one of a newer version, says everything, as if by a stranger: %p',
    (text) => {
      expect(decode(text).changes).toBe('everything');
      expect(decode(text).isHello).toBe(false);
    },
  );
});
