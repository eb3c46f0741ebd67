import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { EndTarget } from '../../src/session/session.js';
import { LateEnds } from '../../src/typeorm/late-ends.js';
import { PrimaryDatabase } from '../../src/typeorm/primary-database.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { NOWHERE, someone, StoreBench, times, until, type TestSessions } from '../support/store.js';

const DAY = 86_400_000;

let url: string;
let bench: StoreBench;
let three: TestSessions;

beforeAll(async () => {
  url = await freshDatabase();
  bench = await StoreBench.open(url, { idleTimeout: DAY, retention: 20 * DAY });
  three = bench.sessions({ maxSessions: 3 });
});

afterAll(async () => {
  await bench?.close();
  await dropDatabase(url);
});

async function loggedIn(
  count: number,
  sessions = three,
  user = someone(),
): Promise<{ user: string; ids: string[] }> {
  const ids: string[] = [];
  for (let place = 0; place < count; place++) ids.push(await sessions.login(user));
  return { user, ids };
}

const everything = async (): Promise<unknown> => [
  await bench.query('SELECT * FROM user_session ORDER BY id'),
  await bench.query('SELECT * FROM user_session_slots ORDER BY user_id'),
];

describe('ending', () => {
  it('one session ends that one, says so, and leaves the others of its user and all other users alone', async () => {
    const { ids } = await loggedIn(3);
    const bystander = await loggedIn(1);
    expect(await three.ends({ scope: 'session', sessionId: ids[1]! }, 'admin', 'root')).toEqual([ids[1]]);
    expect(await three.states([...ids, ...bystander.ids])).toEqual(['live', 'admin', 'live', 'live']);
    expect(await bench.row(ids[1]!)).toMatchObject({
      end_reason: 'admin',
      ended_by: 'root',
      replaced_by: null,
    });
  });

  it('everywhere ends all of the user of an enforced session, and nobody else', async () => {
    const { ids } = await loggedIn(3);
    const bystander = await loggedIn(2);
    const ended = await three.ends({ scope: 'everywhere', sessionId: ids[1]! }, 'logout');
    expect(ended).toEqual(ids.toSorted());
    expect(await three.states([...ids, ...bystander.ids])).toEqual([
      'logout-everywhere',
      'logout',
      'logout-everywhere',
      'live',
      'live',
    ]);
  });

  it('everywhere ends what was opened under an exemption too, unless it was asked by such a session [lesson 12]', async () => {
    const { user, ids } = await loggedIn(1);
    const exempt = await loggedIn(2, bench.sessions({ exempt: { usernames: [user] } }), user);
    expect(await three.ends({ scope: 'everywhere', sessionId: exempt.ids[0]! })).toEqual([exempt.ids[0]]);
    expect(await three.liveOf([...ids, ...exempt.ids])).toEqual([ids[0], exempt.ids[1]]);
    expect(await three.ends({ scope: 'everywhere', sessionId: ids[0]! })).toEqual(
      [ids[0]!, exempt.ids[1]!].toSorted(),
    );
  });

  it('by a logout ends only its own where the options exempt the user by now [lesson 12]', async () => {
    const { user, ids } = await loggedIn(3);
    const exempting = bench.sessions({ maxSessions: 3, exempt: { usernames: [user] } });
    await exempting.logsOut(ids[0]!, { id: user, username: user });
    expect(await three.states(ids)).toEqual(['logout', 'live', 'live']);
  });

  it.each([
    ['has by now', true, ['logout', 'live', 'live']],
    ['has no more', false, ['logout', 'logout-everywhere', 'logout-everywhere']],
  ])(
    'by a logout goes by an exemption at run time for a role that the user %s, whatever the session says [lesson 12]',
    async (_, has, states) => {
      const [user, role] = [someone(), someone('role')];
      const userWith = (roles: string[]) => ({ id: user, username: user, roles });
      const ids = await Promise.all(times(3, () => three.login(userWith(has ? [] : [role]))));
      await bench.query(
        `INSERT INTO user_session_exemption (kind, value, added_at) VALUES ('role', $1, now())`,
        [role],
      );
      await three.logsOut(ids[0]!, userWith(has ? [role] : []));
      expect(await three.states(ids)).toEqual(states);
    },
  );

  it('by a logout ends only its own where the user cannot be judged, and all where the user is not at hand', async () => {
    const { user, ids } = await loggedIn(3);
    const maxSessions = (): never => {
      throw new Error('of the application');
    };
    await bench.sessions({ maxSessions }).logsOut(ids[0]!, { id: user, username: user });
    expect(await three.states(ids)).toEqual(['logout', 'live', 'live']);
    await three.logsOut(ids[1]!);
    expect(await three.states(ids)).toEqual(['logout', 'logout', 'logout-everywhere']);
  });

  it('others ends all but the one, and nobody else', async () => {
    const { user, ids } = await loggedIn(3);
    const bystander = await loggedIn(2);
    const ended = await three.ends({ scope: 'others', sessionId: ids[1]!, userId: user });
    expect(ended).toEqual([ids[0]!, ids[2]!].toSorted());
    expect(await three.states([...ids, ...bystander.ids])).toEqual([
      'admin',
      'live',
      'admin',
      'live',
      'live',
    ]);
  });

  it('others works for and among sessions that were opened under an exemption', async () => {
    const { user, ids } = await loggedIn(1);
    const exempt = await loggedIn(3, bench.sessions({ exempt: { usernames: [user] } }), user);
    const kept = exempt.ids[1]!;
    const ended = await three.ends({ scope: 'others', sessionId: kept, userId: user });
    expect(ended).toEqual([ids[0]!, exempt.ids[0]!, exempt.ids[2]!].toSorted());
    expect(await three.liveOf([...ids, ...exempt.ids])).toEqual([kept]);
    // What is exempt takes no place.
    expect(await bench.activeOf(user)).toEqual([]);
  });

  it('others with the session of another user changes nothing [P3]', async () => {
    const { ids } = await loggedIn(3);
    const caller = await loggedIn(2);
    const before = await everything();
    expect(await three.ends({ scope: 'others', sessionId: ids[1]!, userId: caller.user })).toEqual([]);
    expect(await everything()).toEqual(before);
    expect(await three.liveOf([...ids, ...caller.ids])).toEqual([...ids, ...caller.ids]);
  });

  it('a user ends all of that user, exempt or not, and nobody else', async () => {
    const { user, ids } = await loggedIn(2);
    const exempt = await loggedIn(2, bench.sessions({ exempt: { usernames: [user] } }), user);
    const bystander = await loggedIn(1);
    expect(await three.ends({ scope: 'user', userId: user })).toEqual([...ids, ...exempt.ids].toSorted());
    expect(await three.liveOf([...ids, ...exempt.ids, ...bystander.ids])).toEqual(bystander.ids);
  });

  it('tells only what was live, and says superseded of what a login evicted and nobody has marked yet', async () => {
    for (const scope of ['user', 'everywhere', 'others'] as const) {
      const user = someone();
      const identity = { id: user, username: user, roles: [] };
      const [evicted, other, own] = times(3, () => randomUUID()) as [string, string, string];
      for (const id of [evicted, other, own])
        await bench.store.admit({
          id,
          loginId: randomUUID(),
          identity,
          limit: 2,
          exempt: false,
          administrator: false,
          entitledBy: null,
          onLimit: 'evict',
          replaces: null,
          origin: NOWHERE,
        });
      const ended = await three.ends({ scope, sessionId: own, userId: user });
      expect(ended).toEqual((scope === 'others' ? [other] : [other, own]).toSorted());
      expect(await three.state(evicted)).toBe('superseded');
    }
  });

  it('tells each session once, with its user and reason', async () => {
    const { user, ids } = await loggedIn(1);
    const order = { target: { scope: 'user', userId: user }, reason: 'admin', by: 'root' } as const;
    expect(await three.end(order)).toEqual([
      {
        id: ids[0],
        userId: user,
        username: user,
        reason: 'admin',
        endedAt: expect.any(Date),
        by: 'root',
        replacedBy: null,
      },
    ]);
    expect(await three.end(order)).toEqual([]);
  });

  it('tells each session once when many end it at the same moment', async () => {
    for (let round = 0; round < 20; round++) {
      const { user, ids } = await loggedIn(3);
      const targets: EndTarget[] = ids.flatMap((sessionId): EndTarget[] => [
        { scope: 'session', sessionId },
        { scope: 'everywhere', sessionId },
        { scope: 'user', userId: user },
      ]);
      const ended = await Promise.all(targets.map((target) => three.ends(target)));
      expect(ended.flat().toSorted()).toEqual(ids.toSorted());
    }
  });
});

describe('what is dead', () => {
  const DEATHS: [string, (id: string, user: string) => Promise<unknown>][] = [
    ['evicted', (_, user) => bench.sessions({ maxSessions: 2 }).login(user)],
    ['logged out', (id) => three.ends({ scope: 'session', sessionId: id }, 'logout')],
    // It has its place still: the limit that refused it may be raised again.
    ['refused by a lower limit', (id) => bench.sessions({ maxSessions: 1 }).state(id)],
    ['expired', (id) => bench.age(id, 15 * DAY)],
    ['idle', (id) => bench.age(id, DAY)],
  ];

  it.each(DEATHS)('because it was %s ends nothing, by no scope [lesson 16; P3]', async (_, die) => {
    const { user, ids } = await loggedIn(2);
    const [dead, winner] = ids as [string, string];
    // Else what the second login has to mark might be marked after the death, which then is written down.
    await bench.settled();
    await die(dead, user);
    await bench.settled();
    const before = await everything();
    for (const scope of ['session', 'everywhere', 'others'] as const)
      expect(await three.ends({ scope, sessionId: dead, userId: user })).toEqual([]);
    expect(await three.logsOut(dead, { id: user, username: user })).toEqual([]);
    expect(await everything()).toEqual(before);
    expect(await three.isLive(winner)).toBe(true);
  });

  it('because it was logged out under an exemption ends nothing, by no scope [lesson 16; P3]', async () => {
    const { user, ids } = await loggedIn(1);
    const exempt = await loggedIn(2, bench.sessions({ exempt: { usernames: [user] } }), user);
    const dead = exempt.ids[0]!;
    await three.ends({ scope: 'session', sessionId: dead }, 'logout');
    const before = await everything();
    for (const scope of ['session', 'everywhere', 'others'] as const)
      expect(await three.ends({ scope, sessionId: dead, userId: user })).toEqual([]);
    expect(await everything()).toEqual(before);
    expect(await three.liveOf([...ids, ...exempt.ids])).toEqual([ids[0], exempt.ids[1]]);
  });

  it.each([true, false])(
    'because the limit was lowered ends no other by its logout, and itself for good, although nobody has checked it yet: logoutEverywhere %s [lessons 8, 16; P2, P3]',
    async (logoutEverywhere) => {
      const { user, ids } = await loggedIn(2);
      const lowered = bench.sessions({ maxSessions: 1, logoutEverywhere });
      const [surplus, winner] = ids as [string, string];
      await lowered.logsOut(surplus, { id: user, username: user });
      expect(await lowered.states([winner, surplus])).toEqual(['live', 'logout']);
      expect(await three.states([winner, surplus])).toEqual(['live', 'logout']);
    },
  );

  it('because the limit was lowered is ended for good by an order, too [P2]', async () => {
    const { ids } = await loggedIn(2);
    const sessionId = ids[0]!;
    expect(await bench.sessions({ maxSessions: 1 }).ends({ scope: 'session', sessionId })).toEqual([
      sessionId,
    ]);
    expect(await three.state(sessionId)).toBe('admin');
  });

  it.each([
    randomUUID(),
    '',
    'x',
    '\0',
    "' OR true --",
    '../..',
    'a'.repeat(36),
    null,
    undefined,
    7,
    {},
    [randomUUID()],
  ])('or never was, as %p, ends nothing', async (sessionId) => {
    const { user, ids } = await loggedIn(1);
    for (const scope of ['session', 'everywhere', 'others'] as const)
      expect(await three.ends({ scope, sessionId: sessionId as string, userId: user })).toEqual([]);
    expect(await three.state(sessionId as string)).toBe('unknown');
    expect(await three.liveOf(ids)).toEqual(ids);
  });

  it('stays dead after its row was swept: unknown [P2]', async () => {
    const { user, ids } = await loggedIn(2);
    await three.ends({ scope: 'session', sessionId: ids[0]! }, 'logout');
    const exempted = await loggedIn(2, bench.sessions({ exempt: { usernames: [user] } }), user);
    await three.ends({ scope: 'session', sessionId: exempted.ids[0]! }, 'logout');
    for (const id of [ids[0]!, exempted.ids[0]!]) await bench.age(id, 21 * DAY);
    while ((await bench.store.sweep()).more);
    expect(await three.states([...ids, ...exempted.ids])).toEqual(['unknown', 'live', 'unknown', 'live']);
  });

  it('stays dead after the slots row of its user was deleted and made anew [P2]', async () => {
    const { user, ids } = await loggedIn(4);
    const exempted = await loggedIn(3, bench.sessions({ exempt: { usernames: [user] } }), user);
    await three.ends({ scope: 'session', sessionId: ids[2]! }, 'logout');
    await three.ends({ scope: 'session', sessionId: exempted.ids[2]! }, 'logout');
    await bench.query('UPDATE user_session SET generation = generation - 10000 WHERE user_id = $1', [user]);
    await bench.query('DELETE FROM user_session_slots WHERE user_id = $1', [user]);
    expect(await three.liveOf([...ids, ...exempted.ids])).toEqual([]);
    const next = await three.login(user);
    expect(await bench.sessions({ maxSessions: 1_000 }).liveOf([...ids, ...exempted.ids, next])).toEqual([
      next,
    ]);
  });

  it('stays dead after the winner logged out [P2]', async () => {
    const { user, ids } = await loggedIn(5);
    for (const id of ids.slice(2)) await three.ends({ scope: 'session', sessionId: id }, 'logout');
    expect(await bench.sessions({ maxSessions: 1_000 }).liveOf(ids)).toEqual([]);
    const next = await three.login(user);
    expect(await three.liveOf([...ids, next])).toEqual([next]);
  });

  it('stays dead although its row says it did not end: the slots row alone decides [P2]', async () => {
    const { ids } = await loggedIn(4);
    await until(async () => (await bench.row(ids[0]!))!.ended_at !== null);
    await bench.query('UPDATE user_session SET ended_at = NULL, end_reason = NULL WHERE id = ANY($1)', [ids]);
    expect(await three.liveOf(ids)).toEqual(ids.slice(1));
  });
});

describe('a row says', () => {
  it('superseded, when, and by which session, for each that a login evicted', async () => {
    const { user, ids } = await loggedIn(3);
    const start = Date.now();
    const winner = await bench.sessions().login(user);
    await until(async () => (await bench.rowsOf(user)).filter(({ ended_at }) => ended_at).length === 3);
    for (const id of ids) {
      const row = (await bench.row(id))!;
      expect(row).toMatchObject({ end_reason: 'superseded', replaced_by: winner, ended_by: null });
      expect(row.ended_at!.getTime()).toBeGreaterThanOrEqual(start - 1);
      expect(await three.verify({ id, limit: 3 })).toMatchObject({
        live: false,
        reason: 'superseded',
        endedAt: row.ended_at,
        userId: user,
      });
    }
    expect(await bench.row(winner)).toMatchObject({ ended_at: null, end_reason: null, replaced_by: null });
  });

  it('why it ended at first, whatever happens to it afterwards', async () => {
    const { user, ids } = await loggedIn(1);
    await three.ends({ scope: 'session', sessionId: ids[0]! }, 'logout', 'me');
    const row = await bench.row(ids[0]!);
    await three.ends({ scope: 'user', userId: user }, 'admin', 'root');
    await bench.store.markUsers([user]);
    await bench.store.markChecked({ id: ids[0]!, limit: 3 });
    await bench.store.sweep();
    const late = new LateEnds(new PrimaryDatabase(bench.dataSource), 'user_session');
    expect(await late.write(ids, 'admin', 'root')).toEqual([]);
    expect(await bench.row(ids[0]!)).toEqual(row);
  });

  it('nothing for a session that is live, though its user was marked', async () => {
    const { user, ids } = await loggedIn(3);
    expect(await bench.store.markUsers([user])).toEqual([]);
    expect(await three.liveOf(ids)).toEqual(ids);
  });

  it('the same to the process that marked it and to no other, so that it is told once', async () => {
    const { ids } = await loggedIn(3);
    const surplus = ids.slice(0, 2).map((id) => ({ id, limit: 1 }));
    const marks = await Promise.all(
      times(8, () => surplus.map((check) => bench.store.markChecked(check))).flat(),
    );
    expect(
      marks
        .flat()
        .map(({ id }) => id)
        .toSorted(),
    ).toEqual(ids.slice(0, 2).toSorted());
  });

  it('unknown, and no time, for a session that nobody knows', async () => {
    expect(await three.verify({ id: randomUUID(), limit: 1 })).toMatchObject({
      live: false,
      reason: 'unknown',
      endedAt: null,
      userId: null,
    });
  });
});
