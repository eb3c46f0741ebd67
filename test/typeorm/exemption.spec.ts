import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { NoRoomError } from '../../src/session/admissions.js';
import type { SingleSessionOptions } from '../../src/single-session.options.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { LOOK_ALIKES } from '../support/look-alikes.js';
import { NOWHERE, someone, StoreBench, times, until, type TestSessions } from '../support/store.js';

let url: string;
let bench: StoreBench;

beforeAll(async () => {
  url = await freshDatabase();
  bench = await StoreBench.open(url);
});

afterAll(async () => {
  await bench?.close();
  await dropDatabase(url);
});

const exempting = (username: string, more: SingleSessionOptions = {}): TestSessions =>
  bench.sessions({ exempt: { usernames: [username] }, ...more });

describe('an exempt user', () => {
  it('may have 200 sessions at once, recorded and not in the slots row [lesson 10]', async () => {
    const worker = someone('worker');
    const sessions = exempting(worker);
    const ids = await Promise.all(times(200, () => sessions.login(worker)));
    expect(await sessions.liveOf(ids)).toHaveLength(200);
    expect((await bench.rowsOf(worker)).map(({ exempt }) => exempt)).toEqual(times(200, () => true));
    expect(await bench.activeOf(worker)).toEqual([]);
  });

  it('is never refused for want of room', async () => {
    const worker = someone('worker');
    const sessions = exempting(worker, { onLimit: 'reject' });
    const ids = await Promise.all(times(5, () => sessions.login(worker)));
    expect(await sessions.liveOf(ids)).toEqual(ids);
  });

  it('evicts neither other users nor the own sessions of the time before [lesson 10]', async () => {
    const worker = someone('worker');
    const before = await bench.sessions().login(worker);
    const bystander = await bench.sessions().login(someone());
    const sessions = exempting(worker);
    const during = await sessions.login(worker);
    expect(await sessions.liveOf([before, bystander, during])).toEqual([before, bystander, during]);
  });

  it('whose browser carried a session of the time before gives that up, and it is recorded at once', async () => {
    const worker = someone('worker');
    const before = await bench.sessions().login(worker);
    await exempting(worker).login(worker, { replaces: before });
    await bench.settled();
    expect((await bench.row(before))?.end_reason).toBe('superseded');
  });

  it('whose browser carried a session of the time before has that replaced by the new one, not by an older one of the user', async () => {
    const worker = someone('worker');
    const enforced = bench.sessions({ maxSessions: 2 });
    const [, before] = [await enforced.login(worker), await enforced.login(worker)];
    const next = await exempting(worker).login(worker, { replaces: before });
    await bench.settled();
    expect(await bench.row(before)).toMatchObject({ end_reason: 'superseded', replaced_by: next });
  });

  it('is not enforced with a limit of Infinity, as a number or from a function', async () => {
    for (const maxSessions of [Infinity, () => Infinity, async () => Infinity]) {
      const user = someone();
      const sessions = bench.sessions({ maxSessions });
      const ids = await Promise.all(times(8, () => sessions.login(user)));
      expect(await sessions.liveOf(ids)).toEqual(ids);
    }
  });

  it('is who the list says and nobody who looks like it, in the database too [lesson 14; S10]', async () => {
    const sessions = bench.sessions({ exempt: { usernames: LOOK_ALIKES.map(({ looksLike }) => looksLike) } });
    const byName = new Map<string, boolean>();
    for (const { name, looksLike } of LOOK_ALIKES)
      for (const username of [name, looksLike]) {
        const { id } = await sessions.admissions.admit({
          user: { id: someone(), username },
          origin: NOWHERE,
        });
        byName.set(username, (await bench.row(id))!.exempt);
      }
    const exempt = [...byName].filter(([, is]) => is).map(([name]) => name);
    expect(exempt.toSorted()).toEqual([...new Set(LOOK_ALIKES.map(({ looksLike }) => looksLike))].toSorted());
  });
});

describe('when an exemption ends', () => {
  it('the next login ends all that was opened under it, and exactly that [lesson 11]', async () => {
    const worker = someone('worker');
    const colleague = someone('worker');
    const exempted = bench.sessions({ exempt: { usernames: [worker, colleague] } });
    const ids = await Promise.all(times(20, () => exempted.login(worker)));
    const others = await Promise.all(times(3, () => exempted.login(colleague)));
    const enforcing = bench.sessions();
    const next = await enforcing.login(worker);
    expect(await enforcing.liveOf([...ids, ...others, next])).toEqual([...others, next]);
    expect(await exempted.liveOf(ids)).toEqual([]);
    await until(
      async () => (await bench.rowsOf(worker)).filter(({ ended_at }) => ended_at === null).length === 1,
    );
    const rows = (await bench.rowsOf(worker)).filter(({ id }) => id !== next);
    for (const row of rows) expect(row).toMatchObject({ end_reason: 'superseded', replaced_by: next });
  });

  it('the next login keeps enforced sessions from before it, up to the limit', async () => {
    const worker = someone('worker');
    const enforcing = bench.sessions({ maxSessions: 2 });
    const before = await enforcing.login(worker);
    const during = await exempting(worker).login(worker);
    const next = await enforcing.login(worker);
    expect(await enforcing.liveOf([before, during, next])).toEqual([before, next]);
  });

  it('what was ended does not come back when it begins again [P2]', async () => {
    const worker = someone('worker');
    const exempted = exempting(worker);
    const ids = await Promise.all(times(3, () => exempted.login(worker)));
    await bench.sessions().login(worker);
    const again = await exempted.login(worker);
    expect(await exempted.liveOf([...ids, again])).toEqual([again]);
  });

  it('a login with reject is admitted: what was opened under it takes no room', async () => {
    const worker = someone('worker');
    const ids = await Promise.all(times(3, () => exempting(worker).login(worker)));
    const rejecting = bench.sessions({ onLimit: 'reject' });
    const next = await rejecting.login(worker);
    expect(await rejecting.liveOf([...ids, next])).toEqual([next]);
    await expect(rejecting.login(worker)).rejects.toThrow(NoRoomError);
  });

  it.each(['', ', after the others were ended'])(
    'a login that finds no room is refused, and ends what was opened under it all the same%s [lesson 11; P1]',
    async (afterOthers) => {
      const worker = someone('worker');
      const rejecting = bench.sessions({ onLimit: 'reject' });
      const before = await rejecting.login(worker);
      if (afterOthers) await rejecting.ends({ scope: 'others', sessionId: before, userId: worker });
      const during = await exempting(worker).login(worker);
      await expect(rejecting.login(worker)).rejects.toThrow(NoRoomError);
      await until(async () => (await bench.row(during))!.end_reason === 'superseded');
      expect(await rejecting.states([before, during])).toEqual(['live', 'superseded']);
      const version = (): Promise<unknown> =>
        bench.query('SELECT xmin::text FROM user_session_slots WHERE user_id = $1', [worker]);
      const settled = await version();
      await expect(rejecting.login(worker)).rejects.toThrow(NoRoomError);
      expect(await version()).toEqual(settled);
    },
  );

  it('racing logins of both kinds leave the limit and what was opened after the last enforced one [P1]', async () => {
    for (let round = 0; round < 20; round++) {
      const worker = someone('worker');
      const enforcing = bench.sessions();
      const exempted = exempting(worker);
      const ids = await Promise.all(times(16, (n) => (n % 2 ? enforcing : exempted).login(worker)));
      const rows = await bench.rowsOf(worker);
      const lastEnforced = rows.findLastIndex(({ exempt }) => !exempt);
      const expected = rows.slice(lastEnforced).map(({ id }) => id);
      expect((await enforcing.liveOf(ids)).toSorted()).toEqual(expected.toSorted());
    }
  });
});

describe('a logout of an exempt user', () => {
  it('ends only its own session [lesson 12]', async () => {
    const worker = { id: someone('worker'), username: 'worker' };
    const sessions = exempting('worker');
    const ids = await Promise.all(times(8, () => sessions.login(worker)));
    expect(await sessions.logsOut(ids[3]!, worker)).toMatchObject([
      { id: ids[3], userId: worker.id, reason: 'logout' },
    ]);
    expect(await sessions.liveOf(ids)).toEqual(ids.filter((id) => id !== ids[3]));
  });

  it('ends only its own session when the user is not at hand, or cannot be judged [lesson 12]', async () => {
    const worker = { id: someone('worker'), username: 'worker' };
    const ids = await Promise.all(times(4, () => exempting('worker').login(worker)));
    const when = (): never => {
      throw new Error('no');
    };
    await exempting('worker').logsOut(ids[0]!);
    await bench.sessions({ exempt: { when } }).logsOut(ids[1]!, worker);
    await bench.sessions().logsOut(ids[2]!, worker);
    expect(await bench.sessions().states(ids)).toEqual(['logout', 'logout', 'logout', 'live']);
  });

  it('ends only the own session of an enforced session whose user is exempt by now [lesson 12]', async () => {
    const worker = { id: someone('worker'), username: 'worker' };
    const before = await bench.sessions().login(worker);
    const during = await exempting('worker').login(worker);
    await exempting('worker').logsOut(before, worker);
    expect(await bench.sessions().states([before, during])).toEqual(['logout', 'live']);
  });
});

describe('a login that cannot be judged', () => {
  const boom = (): never => {
    throw new Error('of the application');
  };
  const WRONG: [string, SingleSessionOptions][] = [
    ['maxSessions throws', { maxSessions: boom }],
    ['maxSessions rejects', { maxSessions: async () => boom() }],
    ...[0, -1, 1.5, NaN, '2', null, undefined, 1_001].map((limit): [string, SingleSessionOptions] => [
      `maxSessions answers ${String(limit)}`,
      { maxSessions: () => limit as number },
    ]),
    ['exempt.when throws', { exempt: { when: boom } }],
    ['exempt.when answers 1', { exempt: { when: () => 1 as never } }],
    ['exempt.when answers nothing', { exempt: { when: () => undefined as never } }],
    ['identify throws', { identify: boom }],
    [
      'identify answers a promise',
      { identify: (async () => ({ id: 1, username: 'x', roles: [] })) as never },
    ],
    ['identify answers nothing', { identify: () => undefined as never }],
    [
      'identify answers a number as username',
      { identify: () => ({ id: 1, username: 1 as never, roles: [] }) },
    ],
    [
      'identify answers one role as a string',
      { identify: () => ({ id: 1, username: 'x', roles: 'admin' as never }) },
    ],
  ];

  it.each(WRONG)(
    'because %s is refused, leaves no row, and the old session lives [lesson 13]',
    async (_, options) => {
      const user = someone();
      const old = await bench.sessions().login(user);
      const snapshot = async (): Promise<unknown> => [
        await bench.query('SELECT * FROM user_session ORDER BY id'),
        await bench.query('SELECT * FROM user_session_slots ORDER BY user_id'),
      ];
      const before = await snapshot();
      await expect(bench.sessions(options).login(user)).rejects.toThrow(
        /of the application|maxSessions|exempt\.when|identify|undefined/,
      );
      expect(await snapshot()).toEqual(before);
      expect(await bench.sessions().isLive(old)).toBe(true);
    },
  );
});

describe('a user id', () => {
  it('as number and as string is one user to the limit [lesson 6]', async () => {
    const sessions = bench.sessions();
    const ids: string[] = [];
    for (const id of [987_654_321, '987654321', 987_654_321n])
      ids.push(await sessions.login({ id, username: 'x' }));
    expect(await sessions.liveOf(ids)).toEqual([ids[2]]);
  });

  it.each(['ü', 'u\u0308', '\u{1F600}', 'x'.repeat(255), "' OR 1=1 --", '{a,b}', '"', '\\', '\u200b'])(
    'of %p is kept exactly [lesson 6]',
    async (id) => {
      const sessions = bench.sessions();
      const session = await sessions.login({ id, username: 'x' });
      expect(await sessions.verify({ id: session, limit: 1 })).toMatchObject({ live: true, userId: id });
      expect(await sessions.ends({ scope: 'user', userId: id })).toEqual([session]);
    },
  );
});
