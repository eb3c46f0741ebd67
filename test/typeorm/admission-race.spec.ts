import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { NoRoomError } from '../../src/session/admissions.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { NaiveStore } from '../support/naive-store.js';
import { someone, StoreBench, times, type TestSessions } from '../support/store.js';

const ROUNDS = 20;
const AT_ONCE = 32;

let url: string;
let one: StoreBench;
let other: StoreBench;

beforeAll(async () => {
  url = await freshDatabase();
  one = await StoreBench.open(url);
  other = await StoreBench.open(url);
});

afterAll(async () => {
  await one?.close();
  await other?.close();
  await dropDatabase(url);
});

interface Round {
  user: string;
  admitted: string[];
  refused: unknown[];
  live: string[];
}

/** Parallel logins of one user, taking turns on the processes given. */
async function round(processes: TestSessions[], user = someone()): Promise<Round> {
  const logins = times(AT_ONCE, (place) => processes[place % processes.length]!.login(user));
  const outcomes = await Promise.allSettled(logins);
  const admitted = outcomes.flatMap((outcome) => (outcome.status === 'fulfilled' ? [outcome.value] : []));
  const refused = outcomes.flatMap((outcome) =>
    outcome.status === 'rejected' ? [outcome.reason as unknown] : [],
  );
  return { user, admitted, refused, live: await processes[0]!.liveOf(admitted) };
}

async function newest(user: string, count: number): Promise<string[]> {
  const rows = await one.rowsOf(user);
  return rows.slice(-count).map(({ id }) => id);
}

describe.each([1, 2, 3])('32 parallel logins of one user with a limit of %i', (maxSessions) => {
  it('end with exactly that many live, the newest, when the newest win [lessons 1, 2, 7; S25]', async () => {
    const processes = [one, other].map((bench) => bench.sessions({ maxSessions }));
    for (let count = 0; count < ROUNDS; count++) {
      const { user, admitted, refused, live } = await round(processes);
      expect(refused).toEqual([]);
      expect(admitted).toHaveLength(AT_ONCE);
      expect(live.toSorted()).toEqual((await newest(user, maxSessions)).toSorted());
      expect(live).toHaveLength(maxSessions);
    }
  });

  it('admit exactly that many, all of them live, when the oldest win, and refuse the rest [lessons 1, 7; S25]', async () => {
    const processes = [one, other].map((bench) => bench.sessions({ maxSessions, onLimit: 'reject' }));
    for (let count = 0; count < ROUNDS; count++) {
      const { user, admitted, refused, live } = await round(processes);
      expect(admitted).toHaveLength(maxSessions);
      expect(live).toEqual(admitted);
      expect(refused.filter((error) => error instanceof NoRoomError)).toHaveLength(AT_ONCE - maxSessions);
      expect(await one.rowsOf(user)).toHaveLength(maxSessions);
    }
  });

  it('give every session of the user a generation of its own', async () => {
    const { user } = await round([one.sessions({ maxSessions }), other.sessions({ maxSessions })]);
    const generations = (await one.rowsOf(user)).map(({ generation }) => BigInt(generation));
    expect(new Set(generations).size).toBe(AT_ONCE);
    expect(generations.at(-1)! - generations[0]!).toBe(BigInt(AT_ONCE - 1));
  });
});

describe('the check itself', () => {
  it.each(['evict', 'reject'] as const)(
    'fails for a store that reads and then writes, with %s [lesson 1]',
    async (onLimit) => {
      const processes = [one, other].map((bench) =>
        bench.sessions({ onLimit }, new NaiveStore(bench.dataSource)),
      );
      const live = [];
      for (let count = 0; count < 5; count++) live.push((await round(processes)).live.length);
      expect(live.some((count) => count !== 1)).toBe(true);
    },
  );
});

describe('parallel logins', () => {
  it('of many users leave each of them exactly one session', async () => {
    const sessions = one.sessions();
    const users = times(16, () => someone());
    const ids = await Promise.all(users.flatMap((user) => times(8, () => sessions.login(user))));
    const live = await sessions.liveOf(ids);
    const owners = await Promise.all(live.map(async (id) => (await one.row(id))!.user_id));
    expect(owners.toSorted()).toEqual(users.toSorted());
  });

  it('of a user with sessions already evict all of the surplus, not one each [lesson 2]', async () => {
    const user = someone();
    const before = one.sessions({ maxSessions: 50 });
    const old = [];
    for (let count = 0; count < 12; count++) old.push(await before.login(user));
    const { live } = await round(
      [one.sessions({ maxSessions: 2 }), other.sessions({ maxSessions: 2 })],
      user,
    );
    expect(live).toHaveLength(2);
    expect(await before.liveOf(old)).toEqual([]);
  });

  it('of a user who is exempt on one process and not on the other never leave more than the limit [P1]', async () => {
    for (let count = 0; count < 10; count++) {
      const user = someone();
      const enforcing = one.sessions({ maxSessions: 2 });
      const processes = [enforcing, other.sessions({ exempt: { usernames: [user] } })];
      const { admitted } = await round(processes, user);
      const enforced = await enforcing.login(user);
      const live = await enforcing.liveOf([...admitted, enforced]);
      expect(live).toHaveLength(2);
      expect(live).toContain(enforced);
    }
  });

  it('are all refused or answered, never left half done: each admitted session has a row, each refused one none [P6]', async () => {
    const { user, admitted } = await round([one.sessions({ onLimit: 'reject' }), other.sessions()]);
    expect((await one.rowsOf(user)).map(({ id }) => id).toSorted()).toEqual(admitted.toSorted());
  });
});
