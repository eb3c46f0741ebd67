import { randomUUID } from 'node:crypto';
import { afterAll, afterEach, beforeAll, describe, expect, it, jest } from '@jest/globals';
import { NoRoomError, NotEntitledError } from '../../src/session/admissions.js';
import { StoreUnavailableError } from '../../src/session/session-store.js';
import type { SingleSessionOptions } from '../../src/single-session.options.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { NOWHERE, someone, StoreBench, times, until, type TestSessions } from '../support/store.js';

const HOUR = 3_600_000;
const DAY = 24 * HOUR;

let url: string;
let bench: StoreBench;
/** The same tables with an idle timeout of one hour. */
let idling: StoreBench;

beforeAll(async () => {
  url = await freshDatabase();
  bench = await StoreBench.open(url);
  idling = await StoreBench.open(url, { idleTimeout: HOUR });
});

afterEach(() => {
  jest.restoreAllMocks();
});

afterAll(async () => {
  await bench?.close();
  await idling?.close();
  await dropDatabase(url);
});

async function logins(sessions: TestSessions, user: string, count: number): Promise<string[]> {
  const ids: string[] = [];
  for (let place = 0; place < count; place++) ids.push(await sessions.login(user));
  return ids;
}

const BOTH = ['evict', 'reject'] as const;

describe('a limit that is lowered', () => {
  it('refuses the surplus at its next check, the oldest first [lessons 7, 8]', async () => {
    const ids = await logins(bench.sessions({ maxSessions: 5 }), someone(), 5);
    expect(await bench.sessions({ maxSessions: 2 }).states(ids)).toEqual([
      'superseded',
      'superseded',
      'superseded',
      'live',
      'live',
    ]);
  });

  it('keeps what it refused dead when it is raised again, and only that [lesson 8; P2]', async () => {
    const ids = await logins(bench.sessions({ maxSessions: 5 }), someone(), 5);
    expect(await bench.sessions({ maxSessions: 1 }).liveOf(ids.slice(0, 2))).toEqual([]);
    const raised = bench.sessions({ maxSessions: 5 });
    expect(await raised.liveOf(ids)).toEqual(ids.slice(2));
  });

  it('never lets the surplus return after a login under the lower limit, checked or not [P2]', async () => {
    const user = someone();
    const ids = await logins(bench.sessions({ maxSessions: 5 }), user, 5);
    const last = await bench.sessions({ maxSessions: 1 }).login(user);
    expect(await bench.sessions({ maxSessions: 5 }).liveOf([...ids, last])).toEqual([last]);
  });

  it('never lets an evicted session return, although the process died before it marked it [P2; P6]', async () => {
    const user = someone();
    const admitted: string[] = [];
    for (const limit of [5, 5, 5, 2, 1]) {
      const id = randomUUID();
      const identity = { id: user, username: user, roles: [] };
      await bench.store.admit({
        id,
        loginId: randomUUID(),
        identity,
        limit,
        exempt: false,
        administrator: false,
        entitledBy: null,
        onLimit: 'evict',
        replaces: null,
        origin: NOWHERE,
      });
      admitted.unshift(id);
      expect(await bench.activeOf(user)).toEqual(admitted.slice(0, limit));
    }
    expect((await bench.rowsOf(user)).filter(({ ended_at }) => ended_at !== null)).toEqual([]);
    expect(await bench.sessions({ maxSessions: 5 }).liveOf(admitted)).toEqual([admitted[0]]);
  });

  it('evicts all of the surplus at the next login and never leaves none [lesson 2]', async () => {
    const user = someone();
    const ids = await logins(bench.sessions({ maxSessions: 5 }), user, 5);
    const lower = bench.sessions({ maxSessions: 2 });
    const last = await lower.login(user);
    expect(await lower.liveOf([...ids, last])).toEqual([ids[4], last]);
  });

  it('refuses nobody whom it could not record, since others came and went meanwhile: that is no answer, and asked again [P2, P5]', async () => {
    const user = someone();
    const sessions = bench.sessions({ maxSessions: 3 });
    const [first, , third] = await logins(sessions, user, 3);
    const mark = bench.store.markChecked.bind(bench.store);
    jest.spyOn(bench.store, 'markChecked').mockImplementationOnce(async (check) => {
      await sessions.ends({ scope: 'session', sessionId: third! });
      const marked = await mark(check);
      await sessions.login(user);
      return marked;
    });
    await expect(sessions.verify({ id: first!, limit: 2 })).rejects.toThrow(StoreUnavailableError);
    expect(await sessions.verify({ id: first!, limit: 2 })).toMatchObject({ live: false, unmarked: false });
    expect(await sessions.state(first!)).toBe('superseded');
  });

  it('does not let one refused session take the place of a new one when it is raised [lesson 5]', async () => {
    const user = someone();
    const ids = await logins(bench.sessions({ maxSessions: 5 }), user, 5);
    await bench.sessions({ maxSessions: 1 }).states(ids);
    const raised = bench.sessions({ maxSessions: 3, onLimit: 'reject' });
    const more = await logins(raised, user, 2);
    await expect(raised.login(user)).rejects.toThrow(NoRoomError);
    expect(await raised.liveOf([...ids, ...more])).toEqual([ids[4], ...more]);
  });

  it('refuses a login with reject as long as the surplus is there, and the newest stays live', async () => {
    const user = someone();
    const ids = await logins(bench.sessions({ maxSessions: 3 }), user, 3);
    const lower = bench.sessions({ maxSessions: 1, onLimit: 'reject' });
    await expect(lower.login(user)).rejects.toThrow(NoRoomError);
    expect(await lower.liveOf(ids)).toEqual([ids[2]]);
  });
});

// Whom the limit leaves is a question of order, and PostgreSQL keeps one unasked only as long as its plan happens to.
it('the newest stay in the order of their logins, however PostgreSQL plans it', async () => {
  const merging = await StoreBench.open(
    url,
    {},
    { extra: { options: '-c enable_nestloop=off -c enable_hashjoin=off' } },
  );
  try {
    const user = someone();
    const ids = await logins(merging.sessions({ maxSessions: 5 }), user, 8);
    expect(await bench.activeOf(user)).toEqual(ids.slice(-5).toReversed());
  } finally {
    await merging.close();
  }
});

describe.each(BOTH)('a login from a browser that carries a session of its own, with %s', (onLimit) => {
  it.each([1, 2, 3])(
    'replaces that one and displaces nobody, with a limit of %i [lessons 3, 4]',
    async (maxSessions) => {
      const sessions = bench.sessions({ maxSessions, onLimit });
      for (let place = 0; place < maxSessions; place++) {
        const user = someone();
        const ids = await logins(sessions, user, maxSessions);
        const own = ids[place]!;
        const next = await sessions.login(user, { replaces: own });
        const kept = ids.filter((id) => id !== own);
        expect(await sessions.liveOf([...ids, next])).toEqual([...kept, next]);
        await until(async () => (await bench.row(own))!.end_reason === 'superseded');
      }
    },
  );

  it('can do so again and again without locking itself out [lesson 3]', async () => {
    const sessions = bench.sessions({ maxSessions: 2, onLimit });
    const user = someone();
    const elsewhere = await sessions.login(user);
    let own = await sessions.login(user);
    for (let count = 0; count < 5; count++) own = await sessions.login(user, { replaces: own });
    expect(await sessions.liveOf([elsewhere, own])).toEqual([elsewhere, own]);
  });

  it.each([2, 3, 8])(
    'counts as one after %i clicks at once, and displaces nobody [lesson 4]',
    async (clicks) => {
      const sessions = bench.sessions({ maxSessions: 2, onLimit });
      const user = someone();
      const elsewhere = await sessions.login(user);
      const own = await sessions.login(user);
      const admitted = await Promise.all(times(clicks, () => sessions.login(user, { replaces: own })));
      const live = await sessions.liveOf([elsewhere, own, ...admitted]);
      expect(live).toHaveLength(2);
      expect(live).toContain(elsewhere);
      expect(live).not.toContain(own);
    },
  );

  it('leaves alone what took the place of another session in another browser [P3]', async () => {
    const sessions = bench.sessions({ maxSessions: 2, onLimit });
    const user = someone();
    const [first, second] = await logins(sessions, user, 2);
    const elsewhere = await sessions.login(user, { replaces: first });
    const own = await sessions.login(user, { replaces: second });
    expect(await sessions.liveOf([elsewhere, own])).toEqual([elsewhere, own]);
  });

  it('displaces nobody when its second click comes after other logins of the user [lesson 4; P1]', async () => {
    const sessions = bench.sessions({ maxSessions: 3, onLimit });
    const user = someone();
    const own = await sessions.login(user);
    const first = await sessions.login(user, { replaces: own });
    const elsewhere = await logins(sessions, user, 2);
    const second = await sessions.login(user, { replaces: own });
    expect(await sessions.liveOf([own, first, ...elsewhere, second])).toEqual([...elsewhere, second]);
  });
});

describe('a login from a browser that carries what is not the own session', () => {
  it.each(BOTH)('leaves the other sessions of that user alone, with %s [P3]', async (onLimit) => {
    const sessions = bench.sessions({ maxSessions: 2, onLimit });
    const neighbour = someone();
    const [carried, elsewhere] = await logins(sessions, neighbour, 2);
    const own = await sessions.login(someone(), { replaces: carried, of: neighbour });
    await until(async () => !(await sessions.isLive(carried!)));
    expect(await sessions.liveOf([elsewhere!, own])).toEqual([elsewhere, own]);
  });

  it('leaves even the carried one alone when it is refused itself [P3]', async () => {
    const sessions = bench.sessions({ onLimit: 'reject' });
    const neighbour = someone();
    const carried = await sessions.login(neighbour);
    const user = someone();
    await sessions.login(user);
    await expect(sessions.login(user, { replaces: carried, of: neighbour })).rejects.toThrow(NoRoomError);
    expect(await sessions.isLive(carried)).toBe(true);
  });

  it('is admitted when that is no id of a session at all', async () => {
    const sessions = bench.sessions();
    const id = await sessions.login(someone(), { replaces: 'not admitted' });
    expect(await sessions.isLive(id)).toBe(true);
  });

  it('gives up its own session when it is exempt, and no other [P3]', async () => {
    const worker = someone();
    const sessions = bench.sessions({ exempt: { usernames: [worker] } });
    const [carried, elsewhere] = await logins(sessions, worker, 2);
    const next = await sessions.login(worker, { replaces: carried });
    await until(async () => !(await sessions.isLive(carried!)));
    expect(await sessions.liveOf([elsewhere!, next])).toEqual([elsewhere, next]);
  });

  it('gives up its session of before the exemption in the same statement, and no other of that time [P6]', async () => {
    const worker = someone();
    const [carried, elsewhere] = await logins(bench.sessions({ maxSessions: 2 }), worker, 2);
    const exempting = bench.sessions({ exempt: { usernames: [worker] } });
    // What ends it once more, where the login ends nothing of its user.
    jest.spyOn(exempting, 'giveUp').mockResolvedValue();
    await exempting.login(worker, { replaces: carried });
    expect(await bench.activeOf(worker)).toEqual([elsewhere]);
  });

  it('displaces as any login does when that session is dead, and with reject finds no room [P3]', async () => {
    const user = someone();
    const evicting = bench.sessions({ maxSessions: 2 });
    const [dead, second, third] = await logins(evicting, user, 3);
    const rejecting = bench.sessions({ maxSessions: 2, onLimit: 'reject' });
    await expect(rejecting.login(user, { replaces: dead })).rejects.toThrow(NoRoomError);
    expect(await evicting.liveOf([second!, third!])).toEqual([second, third]);
    const next = await evicting.login(user, { replaces: dead });
    expect(await evicting.liveOf([second!, third!, next])).toEqual([third, next]);
  });

  it.each([
    '',
    'x',
    "'; DROP TABLE user_session; --",
    '\0',
    'a'.repeat(1_000_000),
    randomUUID(),
    `${randomUUID()} `,
  ])('is admitted with garbage of %#, and harms nobody', async (replaces) => {
    const sessions = bench.sessions({ maxSessions: 2 });
    const user = someone();
    const first = await sessions.login(user);
    const second = await sessions.login(user, { replaces });
    expect(await sessions.liveOf([first, second])).toEqual([first, second]);
  });

  it('is admitted with something that is no string', async () => {
    const sessions = bench.sessions();
    for (const replaces of [7, null, {}, ['x'], Symbol('x'), [randomUUID()]])
      expect(await sessions.isLive(await sessions.login(someone(), { replaces }))).toBe(true);
  });
});

interface Lapse {
  how: string;
  lapse: (id: string) => Promise<void>;
  reason: string;
}

describe.each(BOTH)("a login that takes another user's live session for a password, with %s", (onLimit) => {
  const exempt = { roles: ['service'] };

  // An exempt session is in nobody's slots: whose it is, its row alone says.
  it.each([
    ['an enforced', []],
    ['an exempt', exempt.roles],
  ])('is refused, whoever has signed in before, and leaves nothing: by %s one', async (_, roles) => {
    const sessions = bench.sessions({ onLimit, exempt });
    const [known, unknown, theirs] = [someone(), someone(), someone()];
    const own = await sessions.login(known);
    // Later, so that its generation is above the floor of the first.
    const entitledBy = await sessions.login({ id: theirs, username: theirs, roles });
    for (const user of [known, unknown])
      await expect(sessions.login(user, { entitledBy })).rejects.toThrow(NotEntitledError);
    expect(await sessions.states([own, entitledBy])).toEqual(['live', 'live']);
    expect([(await bench.rowsOf(known)).length, (await bench.rowsOf(unknown)).length]).toEqual([1, 0]);
    const slots = 'SELECT FROM user_session_slots WHERE user_id = $1';
    expect(await bench.query(slots, [unknown])).toEqual([]);
  });
});

const LAPSES: Lapse[] = [
  { how: 'expired', lapse: (id) => idling.age(id, 15 * DAY), reason: 'expired' },
  { how: 'idle', lapse: (id) => idling.age(id, HOUR + 1), reason: 'idle' },
];

describe.each(LAPSES)('an $how session that nobody has swept', ({ lapse, reason }) => {
  const withLimit = (maxSessions: number, onLimit: 'evict' | 'reject'): TestSessions =>
    idling.sessions({ maxSessions, onLimit } satisfies SingleSessionOptions);

  const statesBy = async (limit: number, ids: string[]): Promise<string[]> => {
    const verdicts = await Promise.all(ids.map((id) => idling.sessions().verify({ id, limit })));
    return verdicts.map((verdict) => (verdict.live ? 'live' : verdict.reason));
  };

  it('is refused when it is read, and recorded with the moment at which it ended [lesson 5]', async () => {
    const sessions = withLimit(1, 'evict');
    const id = await sessions.login(someone());
    await lapse(id);
    const verdict = await sessions.verify({ id, limit: 1 });
    const row = (await idling.row(id))!;
    const due = reason === 'expired' ? row.expires_at : new Date(row.last_seen_at.getTime() + HOUR);
    expect(verdict).toMatchObject({ live: false, reason, endedAt: row.ended_at });
    expect(row).toMatchObject({ end_reason: reason, replaced_by: null });
    expect(Math.abs(row.ended_at!.getTime() - due.getTime())).toBeLessThanOrEqual(1);
  });

  it.each([1, 2, 3])('leaves room for a login with reject and a limit of %i [lesson 5]', async (limit) => {
    const sessions = withLimit(limit, 'reject');
    const user = someone();
    const ids = await logins(sessions, user, limit);
    const [lapsed, ...rest] = ids;
    await lapse(lapsed!);
    const next = await sessions.login(user);
    await expect(sessions.login(user)).rejects.toThrow(NoRoomError);
    expect(await sessions.liveOf([...ids, next])).toEqual([...rest, next]);
  });

  it.each([2, 3])(
    'displaces no live one with evict and a limit of %i, newest or not [lesson 5]',
    async (limit) => {
      const sessions = withLimit(limit, 'evict');
      for (let place = 0; place < limit; place++) {
        const user = someone();
        const ids = await logins(sessions, user, limit);
        await lapse(ids[place]!);
        const next = await sessions.login(user);
        const rest = ids.filter((id) => id !== ids[place]);
        expect(await sessions.liveOf([...ids, next])).toEqual([...rest, next]);
      }
    },
  );

  it.each(BOTH)(
    'takes no place from one in use when the limit is lowered, with %s [lesson 5]',
    async (onLimit) => {
      const user = someone();
      const ids = await logins(withLimit(3, 'evict'), user, 3);
      for (const id of ids.slice(1)) await lapse(id);
      const lower = withLimit(2, onLimit);
      const next = await lower.login(user);
      expect(await statesBy(2, [...ids, next])).toEqual(['live', reason, reason, 'live']);
    },
  );

  it('leaves room for a login with reject when the limit is lowered: what is beyond it takes no place', async () => {
    const user = someone();
    const ids = await logins(withLimit(3, 'evict'), user, 3);
    await lapse(ids[2]!);
    const next = await withLimit(2, 'reject').login(user);
    expect(await statesBy(2, [...ids, next])).toEqual(['superseded', 'live', reason, 'live']);
  });

  it.each(['before', 'after'])(
    'brings nobody back by its place whom a check by a lowered limit refused %s it lapsed [P2]',
    async (when) => {
      const user = someone();
      const ids = await logins(withLimit(3, 'evict'), user, 3);
      const refuse = async () => expect(await statesBy(2, [ids[0]!])).toEqual(['superseded']);
      if (when === 'before') await refuse();
      for (const id of ids.slice(1)) await lapse(id);
      if (when === 'after') await refuse();
      const next = await withLimit(2, 'evict').login(user);
      expect(await statesBy(1_000, [...ids, next])).toEqual(['superseded', reason, reason, 'live']);
    },
  );

  it('brings nobody back whom a check by a lowered limit refuses at the moment of a login, in 100 races [P2]', async () => {
    const refusing = idling.sessions();
    const lower = withLimit(2, 'evict');
    const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
    let refused = 0;
    for (let round = 0; round < 100; round++) {
      const user = someone();
      const [oldest, ...rest] = await logins(withLimit(3, 'evict'), user, 3);
      await Promise.all(rest.map(lapse));
      const [verdict] = await Promise.all([
        refusing.verify({ id: oldest!, limit: 2 }),
        // Now the one is ahead, now the other.
        round % 2 === 0 ? lower.login(user) : turn().then(() => lower.login(user)),
      ]);
      if (!verdict.live) refused++;
      expect(await statesBy(1_000, [oldest!])).toEqual([verdict.live ? 'live' : 'superseded']);
    }
    expect(refused).toBeGreaterThan(0);
  });

  it('still leaves room when its row was swept away before the next login [lesson 5]', async () => {
    const retaining = await StoreBench.open(url, { idleTimeout: HOUR, retention: DAY });
    try {
      const sessions = retaining.sessions({ maxSessions: 1, onLimit: 'reject' });
      const user = someone();
      const id = await sessions.login(user);
      await lapse(id);
      await sessions.state(id);
      await retaining.age(id, 40 * DAY);
      while ((await retaining.store.sweep()).more);
      expect(await retaining.row(id)).toBeUndefined();
      expect(await sessions.isLive(await sessions.login(user))).toBe(true);
    } finally {
      await retaining.close();
    }
  });

  it('displaces no live one with evict when its row was swept away before the next login [lesson 5]', async () => {
    const retaining = await StoreBench.open(url, { idleTimeout: HOUR, retention: 1 });
    try {
      const sessions = retaining.sessions({ maxSessions: 2 });
      const user = someone();
      const [older, newer] = await logins(sessions, user, 2);
      await lapse(newer!);
      await sessions.state(newer!);
      while ((await retaining.store.sweep()).more);
      expect(await retaining.row(newer!)).toBeUndefined();
      const next = await sessions.login(user);
      expect(await sessions.liveOf([older!, next])).toEqual([older, next]);
    } finally {
      await retaining.close();
    }
  });
});

describe('what expires', () => {
  it('does so exactly then, and not a moment before', async () => {
    const sessions = idling.sessions();
    const id = await sessions.login(someone());
    await idling.age(id, HOUR - 20_000);
    expect(await sessions.state(id)).toBe('live');
    await idling.age(id, 20_000);
    expect(await sessions.state(id)).toBe('idle');
  });

  it('stays dead when its clock is turned back after it was refused [P2]', async () => {
    const sessions = idling.sessions();
    const id = await sessions.login(someone());
    await idling.age(id, 15 * DAY);
    expect(await sessions.state(id)).toBe('expired');
    await idling.age(id, -15 * DAY);
    expect(await sessions.state(id)).toBe('expired');
  });

  it('does not go idle while it is used: what is recorded counts', async () => {
    const sessions = idling.sessions();
    const id = await sessions.login(someone());
    await idling.age(id, HOUR - 20_000);
    await sessions.state(id);
    await sessions.keeper.close();
    await idling.age(id, 60_000);
    expect(await sessions.state(id)).toBe('live');
  });

  it('is not brought back by a last-seen time that was written late [P2]', async () => {
    const sessions = idling.sessions();
    const id = await sessions.login(someone());
    await idling.age(id, HOUR + 1);
    expect(await sessions.state(id)).toBe('idle');
    await idling.store.seen([id]);
    expect(await sessions.state(id)).toBe('idle');
  });

  it('is not brought back by a last-seen time that was written late, also when nobody has met it meanwhile [P2]', async () => {
    const sessions = idling.sessions();
    const [used, idle] = [await sessions.login(someone()), await sessions.login(someone())];
    await idling.age(used, HOUR - 20_000);
    await idling.age(idle, HOUR + 1);
    // As a process writes it that stood still after the request.
    await idling.store.seen([used, idle]);
    await idling.age(used, 60_000);
    expect(await sessions.states([used, idle])).toEqual(['live', 'idle']);
  });
});

describe('what is recorded of a login', () => {
  it('may be as long as it may be, whatever the characters, and nothing longer comes to the database [P5]', async () => {
    const sessions = bench.sessions();
    // Of three bytes each, and in no order that could be compressed.
    const long = (length: number): string =>
      String.fromCharCode(...Array.from({ length }, () => 0x4e00 + Math.floor(Math.random() * 0x5000)));
    const user = { id: someone() + long(200), username: long(500), roles: [long(500), long(500)] };
    const id = await sessions.login(user);
    expect(await sessions.state(id)).toBe('live');
    for (const more of [{ username: long(501) }, { roles: ['a', long(501)] }])
      await expect(sessions.login({ ...user, ...more })).rejects.toThrow(/at most 500 characters/);
    expect(await sessions.state(id)).toBe('live');
  });

  it('is who, from where and until when, and nothing that opens a session [P7]', async () => {
    const sessions = bench.sessions();
    const origin = { ip: '2001:db8::1', userAgent: 'a browser' };
    const user = { id: someone(), username: 'Ärger "quoted" \'n\' more', roles: ['a,b', '{c}', '"d"', ''] };
    const { id } = await sessions.admissions.admit({ user, origin });
    const row = await bench.row(id);
    expect(row).toMatchObject({
      user_id: user.id,
      username: user.username,
      roles: user.roles,
      exempt: false,
    });
    expect(row).toMatchObject({
      ip: origin.ip,
      user_agent: origin.userAgent,
      ended_at: null,
      end_reason: null,
    });
    expect(row!.expires_at.getTime() - row!.created_at.getTime()).toBe(14 * DAY);
  });

  it('is one session when the same id is admitted many times at once', async () => {
    const sessions = bench.sessions({ maxSessions: 3 });
    const id = randomUUID();
    const user = someone();
    await Promise.all(
      times(16, () => sessions.admissions.admit({ user: { id: user, username: user }, origin: NOWHERE, id })),
    );
    expect(await bench.rowsOf(user)).toHaveLength(1);
    expect(await bench.activeOf(user)).toEqual([id]);
    expect(await sessions.isLive(id)).toBe(true);
  });
});
