import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { EndTarget } from '../../src/session/session.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { someone, StoreBench, times, until } from '../support/store.js';

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

describe('200 races of a logout everywhere', () => {
  it('of the loser against the login of the winner: the winner always lives [lesson 16; P3]', async () => {
    const here = one.sessions();
    const there = other.sessions();
    for (let round = 0; round < 200; round++) {
      const user = someone();
      const loser = await here.login(user);
      const [, winner] = await Promise.all([
        here.logsOut(loser, { id: user, username: user }),
        there.login(user),
      ]);
      expect(await here.states([loser, winner])).toEqual([
        expect.stringMatching('logout|superseded'),
        'live',
      ]);
    }
  });

  it('of the oldest against a login that evicts it: it ends all others, or nothing [P3]', async () => {
    const here = one.sessions({ maxSessions: 3 });
    for (let round = 0; round < 50; round++) {
      const user = someone();
      const ids: string[] = [];
      for (let place = 0; place < 3; place++) ids.push(await here.login(user));
      const [ended, next] = await Promise.all([
        here.ends({ scope: 'everywhere', sessionId: ids[0]! }),
        other.sessions({ maxSessions: 3 }).login(user),
      ]);
      expect([[], ids.toSorted()]).toContainEqual(ended);
      expect(await here.liveOf([...ids, next])).toEqual(ended.length === 0 ? [ids[1], ids[2], next] : [next]);
    }
  });
});

const WAITING = `SELECT count(*)::int AS count FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`;

/** Holds the slots row of a user, so that everything else that decides about the user queues behind it. */
async function whileHeld(
  user: string,
  act: (queued: (count: number) => Promise<void>) => Promise<void>,
): Promise<void> {
  const runner = one.dataSource.createQueryRunner();
  await runner.startTransaction();
  await runner.query('SELECT FROM user_session_slots WHERE user_id = $1 FOR UPDATE', [user]);
  const queued = (count: number): Promise<void> =>
    until(async () => (await other.query<{ count: number }>(WAITING))[0]!.count >= count);
  try {
    await act(queued);
  } finally {
    await runner.rollbackTransaction();
    await runner.release();
  }
}

describe('what queues behind a lock of the user', () => {
  it.each(['enforced', 'exempt'] as const)(
    'two %s sessions that end all others of their user: one ends the other, which ends nothing any more [P3]',
    async (kind) => {
      const user = someone();
      const options = kind === 'exempt' ? { exempt: { usernames: [user] } } : { maxSessions: 2 };
      const sessions = one.sessions(options);
      const ids = [await sessions.login(user), await sessions.login(user)];
      const ending: Promise<string[]>[] = [];
      await whileHeld(user, async (queued) => {
        for (const sessionId of ids) ending.push(sessions.ends({ scope: 'others', sessionId, userId: user }));
        await queued(2);
      });
      const ended = (await Promise.all(ending)).flat();
      expect(ended).toHaveLength(1);
      expect(await sessions.liveOf(ids)).toEqual(ids.filter((id) => id !== ended[0]));
    },
  );

  it('a session that ends all others locks no row before its turn, so that nothing that goes through them waits for it in a circle', async () => {
    const user = someone();
    const sessions = one.sessions({ exempt: { usernames: [user] } });
    const ids = [await sessions.login(user), await sessions.login(user)].toSorted() as [string, string];
    const row = 'SELECT FROM user_session WHERE id = $1 FOR UPDATE';
    const runner = other.dataSource.createQueryRunner();
    await runner.startTransaction();
    await runner.query(row, [ids[0]]);
    const ending = sessions.ends({ scope: 'others', sessionId: ids[1], userId: user });
    await until(async () => (await other.query<{ count: number }>(WAITING))[0]!.count === 1);
    await runner.query(`${row} NOWAIT`, [ids[1]]);
    await runner.rollbackTransaction();
    await runner.release();
    expect(await ending).toEqual([ids[0]]);
  });

  it('in the order login of the winner, logout everywhere of the loser: the winner lives [P3]', async () => {
    const sessions = one.sessions();
    const user = someone();
    const loser = await sessions.login(user);
    let winner: Promise<string>;
    let ended: Promise<string[]>;
    await whileHeld(user, async (queued) => {
      winner = sessions.login(user);
      await queued(1);
      ended = sessions.ends({ scope: 'everywhere', sessionId: loser });
      await queued(2);
    });
    expect(await ended!).toEqual([]);
    expect(await sessions.isLive(await winner!)).toBe(true);
  });

  describe('in the order login, end of the user', () => {
    async function race(): Promise<{ both: string[]; told: string[] }> {
      const sessions = one.sessions({ maxSessions: 2 });
      const user = someone();
      const first = await sessions.login(user);
      let second: Promise<string>;
      let ended: Promise<string[]>;
      await whileHeld(user, async (queued) => {
        second = sessions.login(user);
        await queued(1);
        ended = sessions.ends({ scope: 'user', userId: user });
        await queued(2);
      });
      return { both: [first, await second!], told: await ended! };
    }

    it('both sessions are dead [P2]', async () => {
      const { both } = await race();
      expect(await one.sessions({ maxSessions: 1_000 }).liveOf(both)).toEqual([]);
    });

    it('what was live when it began is told with its reason, and nothing of anybody else', async () => {
      const { both, told } = await race();
      expect(told).toContain(both[0]);
      expect(both).toEqual(expect.arrayContaining(told));
      // The record of the login in between may say either: both happened at once.
      const [first, second] = await one.sessions({ maxSessions: 2 }).states(both);
      expect(first).toBe('admin');
      expect(['admin', 'superseded']).toContain(second);
    });
  });

  it('in the order exempt login, end of the user: the login is dead [P2]', async () => {
    const user = someone();
    const sessions = one.sessions({ exempt: { usernames: [user] } });
    const first = await sessions.login(user);
    let second: Promise<string>;
    let ended: Promise<string[]>;
    await whileHeld(user, async (queued) => {
      second = sessions.login(user);
      await queued(1);
      ended = sessions.ends({ scope: 'user', userId: user });
      await queued(2);
    });
    expect(await ended!).toContain(first);
    expect(await sessions.liveOf([first, await second!])).toEqual([]);
  });

  it.each([
    ['others', 'live', 'admin'],
    ['everywhere', 'admin', 'logout-everywhere'],
    ['user', 'admin', 'admin'],
  ] as const)(
    'in the order login, end of scope %s: the login is told with its reason, and is dead without that [P2]',
    async (scope, ...states) => {
      const sessions = one.sessions({ maxSessions: 2 });
      const user = someone();
      const own = await sessions.login(user);
      let next: Promise<string>;
      let ended: Promise<string[]>;
      await whileHeld(user, async (queued) => {
        next = sessions.login(user);
        await queued(1);
        ended = sessions.ends({ scope, sessionId: own, userId: user });
        await queued(2);
      });
      const both = [own, await next!];
      const dead = both.filter((_, place) => states[place] !== 'live');
      expect(await ended!).toEqual(dead.toSorted());
      expect(await sessions.states(both)).toEqual(states);
      // Not by its mark alone, which a crash could lose.
      expect(await one.activeOf(user)).toEqual(both.filter((id) => !dead.includes(id)));
    },
  );

  it.each(['others', 'everywhere'] as const)(
    'in the order exempt login, end of %s by an enforced session: the login is dead [P2]',
    async (scope) => {
      const user = someone();
      const sessions = one.sessions();
      const own = await sessions.login(user);
      let next: Promise<string>;
      let ended: Promise<string[]>;
      await whileHeld(user, async (queued) => {
        next = one.sessions({ exempt: { usernames: [user] } }).login(user);
        await queued(1);
        ended = sessions.ends({ scope, sessionId: own, userId: user });
        await queued(2);
      });
      expect(await ended!).toEqual(scope === 'others' ? [] : [own]);
      expect(await sessions.states([own, await next!])).toEqual([
        scope === 'others' ? 'live' : 'admin',
        'superseded',
      ]);
    },
  );

  it('in the order end of one session, login with reject: there is room', async () => {
    const sessions = one.sessions({ onLimit: 'reject' });
    const user = someone();
    const first = await sessions.login(user);
    let ended: Promise<string[]>;
    let second: Promise<string>;
    await whileHeld(user, async (queued) => {
      ended = sessions.ends({ scope: 'session', sessionId: first });
      await queued(1);
      second = sessions.login(user);
      await queued(2);
    });
    expect(await ended!).toEqual([first]);
    expect(await sessions.isLive(await second!)).toBe(true);
  });

  it('in the order login, login with reject: a session whose row the second cannot see yet is not pruned [P1]', async () => {
    const sessions = one.sessions({ onLimit: 'reject' });
    const user = someone();
    const gone = await sessions.login(user);
    await sessions.ends({ scope: 'session', sessionId: gone });
    let logins: Promise<PromiseSettledResult<string>[]>;
    await whileHeld(user, async (queued) => {
      logins = Promise.allSettled(times(6, () => sessions.login(user)));
      await queued(6);
    });
    const admitted = (await logins!).filter(({ status }) => status === 'fulfilled');
    expect(admitted).toHaveLength(1);
  });

  it('in the order exempt login, end of the others by an exempt session: the kept one lives', async () => {
    const user = someone();
    const sessions = one.sessions({ exempt: { usernames: [user] } });
    const kept = await sessions.login(user);
    const old = await sessions.login(user);
    let next: Promise<string>;
    let ended: Promise<string[]>;
    await whileHeld(user, async (queued) => {
      next = sessions.login(user);
      await queued(1);
      ended = sessions.ends({ scope: 'others', sessionId: kept, userId: user });
      await queued(2);
    });
    expect(await ended!).toContain(old);
    const live = await sessions.liveOf([kept, old, await next!]);
    expect(live).toEqual([kept, ...((await ended!).includes(await next!) ? [] : [await next!])]);
  });
});

describe('everything at once on few users', () => {
  it('never fails, never deadlocks, never exceeds the limit', async () => {
    const errors: unknown[] = [];
    const users = times(4, () => someone());
    const known: string[] = [];
    const processes = [one, other].map((bench) => bench.sessions({ maxSessions: 2 }));
    const any = <Item>(items: readonly Item[]): Item => items[Math.floor(Math.random() * items.length)]!;
    const deadline = performance.now() + 3_000;
    const act = async (): Promise<unknown> => {
      const sessions = any(processes);
      const userId = any(users);
      const sessionId = known.length > 0 ? any(known.slice(-50)) : '';
      const target = any<EndTarget>([
        { scope: 'session', sessionId },
        { scope: 'everywhere', sessionId },
        { scope: 'others', sessionId, userId },
        { scope: 'user', userId },
      ]);
      const dice = Math.random();
      if (dice < 0.4) return known.push(await sessions.login(userId, { replaces: any(known) }));
      if (dice < 0.6) return sessions.end({ target, reason: 'admin', by: null });
      if (dice < 0.7) return any([one, other]).store.markUsers(users.toReversed());
      if (dice < 0.8) return any([one, other]).store.seen(known.slice(-50).toReversed());
      if (dice < 0.85) return any([one, other]).store.sweep();
      return sessions.states(known.slice(-20));
    };
    const worker = async (): Promise<void> => {
      while (performance.now() < deadline) await act().catch((error: unknown) => errors.push(error));
    };
    await Promise.all(times(32, worker));
    expect(errors).toEqual([]);
    expect(known.length).toBeGreaterThan(100);
    const live = await processes[0]!.liveOf(known);
    const owners = await Promise.all(live.map(async (id) => (await one.row(id))!.user_id));
    for (const user of users) expect(owners.filter((owner) => owner === user).length).toBeLessThanOrEqual(2);
  });
});
