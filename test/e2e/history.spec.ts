import { describe, expect, it } from '@jest/globals';
import { contradictions, type Promised, type Recorded } from './history.js';

const STRONG: Promised = { limit: 1, maxStalenessMs: 0 };
const BOUNDED: Promised = { limit: 1, maxStalenessMs: 100 };
const ROUND_TRIP_MS = 2;

const at = (sentAt: number, session: string, process: number) => ({
  process,
  session,
  user: session.split('-', 1)[0]!,
  sentAt,
  answeredAt: sentAt + ROUND_TRIP_MS,
});
const login = (sentAt: number, session: string, process = 0): Recorded => ({
  kind: 'login',
  ...at(sentAt, session, process),
});
const end = (sentAt: number, session: string, process = 0): Recorded => ({
  kind: 'end',
  ...at(sentAt, session, process),
});
const asks =
  (outcome: 'accepted' | 'ended' | 'unavailable') =>
  (sentAt: number, session: string, process = 0): Recorded => ({
    kind: 'request',
    outcome,
    ...at(sentAt, session, process),
  });
const accepted = asks('accepted');
const ended = asks('ended');
const unavailable = asks('unavailable');

const promisesBroken = (history: Recorded[], promised: Promised): string[] => [
  ...new Set(contradictions(history, promised).map(({ promise }) => promise)),
];

describe('a history that can be true', () => {
  it.each<[string, Recorded[], Promised]>([
    ['nothing', [], STRONG],
    ['a session in use', [login(0, 'a-1'), accepted(5, 'a-1'), accepted(1_000, 'a-1', 1)], STRONG],
    [
      'an eviction that is heeded at once',
      [login(0, 'a-1'), accepted(5, 'a-1'), login(10, 'a-2'), ended(12, 'a-1'), accepted(12, 'a-2')],
      STRONG,
    ],
    [
      'a request under way during the eviction: it may have been first',
      [login(0, 'a-1'), login(10, 'a-2'), accepted(11.9, 'a-1'), ended(13, 'a-1')],
      STRONG,
    ],
    [
      'an eviction that is heeded within the lease',
      [
        login(0, 'a-1'),
        login(10, 'a-2'),
        accepted(111, 'a-1', 1),
        ended(112, 'a-1', 1),
        accepted(112, 'a-2', 1),
      ],
      BOUNDED,
    ],
    [
      'processes that learn it at different moments within the lease',
      [login(0, 'a-1'), login(10, 'a-2'), ended(13, 'a-1', 1), accepted(90, 'a-1', 2)],
      BOUNDED,
    ],
    [
      'two logins at once of which either won',
      [login(0, 'a-1'), login(0, 'a-2'), ended(5, 'a-1'), accepted(5, 'a-2'), accepted(500, 'a-2')],
      STRONG,
    ],
    [
      'two sessions where two are allowed, the third evicts the oldest',
      [
        login(0, 'a-1'),
        login(5, 'a-2'),
        accepted(9, 'a-1'),
        login(10, 'a-3'),
        ended(13, 'a-1'),
        accepted(13, 'a-2'),
      ],
      { limit: 2, maxStalenessMs: 0 },
    ],
    [
      'a database that was away: neither yes nor no',
      [login(0, 'a-1'), end(5, 'a-1'), unavailable(200, 'a-1'), ended(300, 'a-1')],
      BOUNDED,
    ],
    ['other users', [login(0, 'a-1'), login(10, 'b-1'), accepted(500, 'a-1'), accepted(500, 'b-1')], STRONG],
  ])('is let pass: %s', (_, history, promised) => {
    expect(contradictions(history, promised)).toEqual([]);
  });
});

describe('a history that breaks a promise', () => {
  it.each<[string, string[], Recorded[], Promised]>([
    [
      'P1: two parallel logins, and both are accepted afterwards',
      ['P1'],
      [login(0, 'a-1'), login(1, 'a-2'), accepted(10, 'a-1'), accepted(10, 'a-2')],
      STRONG,
    ],
    [
      'P1: the same, for longer than the lease explains',
      ['P1'],
      [login(0, 'a-1'), login(1, 'a-2'), accepted(104, 'a-1', 1), accepted(104, 'a-2', 2)],
      BOUNDED,
    ],
    [
      'P1: three parallel logins where two are allowed',
      ['P1'],
      [1, 2, 3].flatMap((n) => [login(n / 10, `a-${n}`), accepted(50, `a-${n}`)]),
      { limit: 2, maxStalenessMs: 0 },
    ],
    [
      'P2: a process that accepts what it has refused, within the lease',
      ['P2'],
      [login(0, 'a-1'), end(5, 'a-1'), ended(10, 'a-1', 1), accepted(13, 'a-1', 1)],
      BOUNDED,
    ],
    [
      'P4: accepted by a request that was sent when the end was answered',
      ['P4'],
      [login(0, 'a-1'), end(5, 'a-1'), accepted(7, 'a-1', 1)],
      STRONG,
    ],
    [
      'P4: accepted by a request that was sent exactly at the end of the lease',
      ['P4'],
      [login(0, 'a-1'), end(5, 'a-1'), accepted(107, 'a-1', 1)],
      BOUNDED,
    ],
    [
      'P4: an evicted session, accepted after the lease',
      ['P1', 'P4'],
      [login(0, 'a-1'), login(10, 'a-2'), accepted(300, 'a-1', 1), accepted(301, 'a-2', 1)],
      BOUNDED,
    ],
    [
      'P4: refused by one process, accepted by another after the lease',
      ['P4'],
      [login(0, 'a-1'), ended(10, 'a-1', 1), accepted(112, 'a-1', 2)],
      BOUNDED,
    ],
    [
      'P4: a strong process that follows another one late',
      ['P4'],
      [login(0, 'a-1'), ended(10, 'a-1', 1), accepted(12, 'a-1', 2)],
      STRONG,
    ],
    [
      'P4: the oldest of three where two are allowed',
      ['P1', 'P4'],
      [
        login(0, 'a-1'),
        login(5, 'a-2'),
        login(10, 'a-3'),
        accepted(20, 'a-1'),
        accepted(20, 'a-2'),
        accepted(20, 'a-3'),
      ],
      { limit: 2, maxStalenessMs: 0 },
    ],
  ])('is rejected: %s', (_, promises, history, promised) => {
    expect(promisesBroken(history, promised)).toEqual(promises);
    // The order in which it was written down says nothing.
    expect(promisesBroken([...history].reverse(), promised)).toEqual(promises);
  });
});
