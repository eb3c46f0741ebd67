import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { LateEnds } from '../../src/typeorm/late-ends.js';
import { PrimaryDatabase } from '../../src/typeorm/primary-database.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { someone, times } from '../support/store.js';
import { person, Process, waiting, whileSlotsAreHeld, type Person } from './administrators.js';

let url: string;
let one: Process;
let other: Process;

beforeAll(async () => {
  url = await freshDatabase();
  one = await Process.open(url);
  other = await Process.open(url);
});

afterAll(async () => {
  await one?.close();
  await other?.close();
  await dropDatabase(url);
});

const dice = (sides: number): number => Math.floor(Math.random() * sides);
const pause = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, dice(4)));

/** Of what is asked on both processes, the answer; they must agree. */
async function statesOf(ids: readonly string[]): Promise<string[]> {
  const [here, there] = await Promise.all([one.states(ids), other.states(ids)]);
  expect(there).toEqual(here);
  return here!;
}

interface Login {
  id: string;
  from: number;
  to: number;
}

const ALLOWED = { before: ['cut-off'], during: ['cut-off', 'live'], after: ['live'] };

describe('a login at the same moment as a cut-off', () => {
  async function timed(act: () => Promise<string>): Promise<Login> {
    await pause();
    const from = performance.now();
    const id = await act();
    return { id, from, to: performance.now() };
  }

  /** Logins of many users on both processes, with a cut-off somewhere among them. */
  async function race(users: Person[], maxSessions: number): Promise<{ logins: Login[]; cutOff: Login }> {
    const processes = [one, other].map((process) => process.logins({ maxSessions }));
    const logins = users.map((user, place) => timed(() => processes[place % 2]!(user)));
    const [cutOff, ...done] = await Promise.all([timed(async () => (await other.cutOff()).id), ...logins]);
    return { logins: done, cutOff: cutOff! };
  }

  /** With one login before them all and one after, wherever in between the cut-off falls. */
  async function raceBetweenTwo(): Promise<Awaited<ReturnType<typeof race>>> {
    const login = (): Promise<Login> => timed(() => one.logins()(person(someone())));
    const before = await login();
    const { logins, cutOff } = await race(
      times(13, () => person(someone())),
      1,
    );
    return { logins: [before, ...logins, await login()], cutOff };
  }

  it('is dead everywhere and for ever, or live everywhere and for ever, and is counted when it is dead: 600 logins', async () => {
    const seen = { before: 0, after: 0, during: 0 };
    let survivors: string[] = [];
    for (let round = 0; round < 40; round++) {
      const { logins, cutOff } = await raceBetweenTwo();
      const ids = logins.map(({ id }) => id);
      const states = await statesOf(ids);
      const dead = [...survivors, ...ids.filter((_, place) => states[place] === 'cut-off')];
      expect(await statesOf(survivors)).toEqual(survivors.map(() => 'cut-off'));
      survivors = ids.filter((_, place) => states[place] === 'live');
      if (round % 3 === 0) await one.sweepAll();
      if (round % 3 === 1) await other.bench.store.markUsers([(await one.bench.row(ids[0]!))!.user_id]);
      const counts = await one.count({ id: cutOff.id, at: new Date(), actionId: '0' });
      expect(counts).toEqual({ ended: dead.length, users: dead.length, spared: 0 });
      for (const [place, { from, to }] of logins.entries()) {
        const when = to < cutOff.from ? 'before' : from > cutOff.to ? 'after' : 'during';
        seen[when]++;
        expect(ALLOWED[when]).toContain(states[place]);
      }
      expect(await statesOf(ids)).toEqual(states);
    }
    for (const count of Object.values(seen)) expect(count).toBeGreaterThan(0);
  });

  it.each([1, 2])(
    'leaves a user who goes on logging in with exactly %i, never with more and never with none [P1]',
    async (limit) => {
      for (let round = 0; round < 20; round++) {
        const user = person(someone());
        const { logins } = await race(
          times(16, () => user),
          limit,
        );
        expect((await one.liveOf(logins.map(({ id }) => id))).length).toBeLessThanOrEqual(limit);
        const { logins: later } = await race(
          times(2, () => user),
          limit,
        );
        const last = await Promise.all(times(limit, () => one.logins({ maxSessions: limit })(user)));
        const all = [...logins, ...later].map(({ id }) => id);
        expect((await one.liveOf([...all, ...last])).toSorted()).toEqual(last.toSorted());
      }
    },
  );

  it('that has seen the cut-off is not evicted by one that has not: that would be neither before nor after [P1]', async () => {
    const user = person(someone());
    await one.logins()(user);
    await one.bench.query(`CREATE FUNCTION linger() RETURNS trigger LANGUAGE plpgsql AS $$
      BEGIN IF current_setting('application_name') = 'slow' THEN PERFORM pg_advisory_xact_lock_shared(42); END IF; RETURN NEW; END $$`);
    await one.bench.query(
      'CREATE TRIGGER linger BEFORE INSERT ON user_session_slots FOR EACH ROW EXECUTE FUNCTION linger()',
    );
    const holder = one.bench.dataSource.createQueryRunner();
    const slow = await Process.open(`${url}?application_name=slow`);
    try {
      await holder.startTransaction();
      await holder.query('SELECT pg_advisory_xact_lock(42)');
      const early = slow.logins()(user);
      await waiting(one.bench, 1);
      await one.cutOff();
      const late = await one.logins()(user);
      await holder.commitTransaction();
      expect(await one.liveOf([await early, late])).toHaveLength(1);
    } finally {
      await holder.release();
      await slow.close();
      await one.bench.query('DROP TRIGGER linger ON user_session_slots');
      await one.bench.query('DROP FUNCTION linger');
    }
  });
});

describe('two cut-offs at the same moment', () => {
  it('are committed in the order in which they are counted, so that no login slips through between them', async () => {
    const user = person(someone());
    const runner = one.bench.dataSource.createQueryRunner();
    await runner.startTransaction();
    try {
      await one.bench.query(`CREATE FUNCTION linger() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN IF NEW.usernames = '{slow}' THEN PERFORM pg_advisory_xact_lock_shared(42); END IF; RETURN NEW; END $$`);
      await one.bench.query(
        'CREATE TRIGGER linger AFTER INSERT ON user_session_cutoff FOR EACH ROW EXECUTE FUNCTION linger()',
      );
      await runner.query('SELECT pg_advisory_xact_lock(42)');
      const first = one.cutOff({ usernames: ['slow'] });
      await waiting(one.bench, 1);
      const second = other.cutOff({ userIds: [user.id] });
      await Promise.race([second, waiting(one.bench, 2)]);
      const id = await one.logins()(user);
      await runner.commitTransaction();
      await Promise.all([first, second]);
      expect(await statesOf([id])).toEqual(['cut-off']);
    } finally {
      await runner.release();
      await one.bench.query('DROP FUNCTION linger CASCADE');
    }
  });

  it('count each session once, whichever is counted first', async () => {
    await one.cutOff();
    await Promise.all(times(5, () => one.logins()(person(someone()))));
    const [first, second] = [await one.cutOff(), await other.cutOff()];
    expect((await one.count(second)).ended + (await one.count(first)).ended).toBe(5);
  });
});

describe('ending a user unless administrator, against the login of an administrator [S6]', () => {
  /** An order to end the sessions of a user that waits for the slots row behind `act`, which it cannot see. */
  async function endedBehind<Result>(
    { id }: Person,
    act: () => Promise<Result>,
    order: Parameters<Process['endUsers']>[0],
  ): Promise<[Result, Awaited<ReturnType<Process['endUsers']>>]> {
    let acting: Promise<Result>;
    let end: ReturnType<Process['endUsers']>;
    await whileSlotsAreHeld(one, [id], async (queued) => {
      acting = act();
      await queued(1);
      end = other.endUsers(order);
      await queued(2);
    });
    return [await acting!, await end!];
  }

  const user = (): Person => person(someone());
  const asAdministrator = ({ id }: Person): Person => person(id, 'user', 'admin');

  it('leaves the administrator logged in: 3,000 races', async () => {
    const [here, there] = [one, other].map((process) => process.logins({ maxSessions: 2 })) as [
      ReturnType<Process['logins']>,
      ReturnType<Process['logins']>,
    ];
    const outcomes = { ended: 0, protected: 0 };
    for (let batch = 0; batch < 100; batch++) {
      const users = times(30, user);
      await Promise.all(users.map(here));
      const raced = await Promise.all(
        users.map(async (someone, place) => {
          const end = () => (place % 2 ? one : other).endUsers({ userIds: [someone.id] });
          const login = () => there(asAdministrator(someone));
          const [id, result] =
            place % 3 ? await Promise.all([login(), end()]) : (await Promise.all([end(), login()])).reverse();
          return { id: id as string, result: result as Awaited<ReturnType<typeof end>> };
        }),
      );
      expect(await other.states(raced.map(({ id }) => id))).toEqual(raced.map(() => 'live'));
      for (const { result } of raced) outcomes[result.found[0]!.protected ? 'protected' : 'ended']++;
    }
    expect(outcomes.ended).toBeGreaterThan(0);
    expect(outcomes.protected).toBeGreaterThan(0);
  }, 60_000);

  it.each(['userIds', 'usernames', 'sessionId'] as const)(
    'leaves both sessions alone when the login came first and nobody can see it yet, by %s',
    async (by) => {
      const someone = user();
      const first = await one.logins({ maxSessions: 2 })(someone);
      const whom = {
        userIds: { userIds: [someone.id] },
        usernames: { usernames: [someone.id] },
        sessionId: { sessionId: first },
      };
      const act = () => one.logins({ maxSessions: 2 })(asAdministrator(someone));
      const [login, end] = await endedBehind(someone, act, whom[by]);
      expect(end).toMatchObject({ ended: [], found: [{ protected: true, ended: false }] });
      expect(await statesOf([first, login])).toEqual(['live', 'live']);
    },
  );

  it('leaves the session of an exempt administrator alone, too', async () => {
    const someone = user();
    const first = await one.logins()(someone);
    const [login, end] = await endedBehind(
      someone,
      () => one.logins({ exempt: { roles: ['admin'] } })(asAdministrator(someone)),
      { userIds: [someone.id] },
    );
    expect(end.ended).toEqual([]);
    expect(await statesOf([first, login])).toEqual(['live', 'live']);
  });

  it.each(['userIds', 'usernames', 'sessionId'] as const)(
    'ends nobody who was told meanwhile to be live, and an administrator now, by %s',
    async (by) => {
      const someone = user();
      const id = await one.logins()(someone);
      const whom = {
        userIds: { userIds: [someone.id] },
        usernames: { usernames: [someone.id] },
        sessionId: { sessionId: id },
      };
      let told: Promise<string[]>;
      let end: ReturnType<Process['endUsers']>;
      await whileSlotsAreHeld(one, [someone.id], async (queued) => {
        end = other.endUsers(whom[by]);
        await queued(1);
        told = one.become(id, ['admin']).then(() => statesOf([id]));
        await Promise.race([told, queued(2)]);
      });
      await end!;
      expect(await statesOf([id])).toEqual(await told!);
    },
  );

  it('leaves the sessions of somebody alone who has become one before it, which it cannot see', async () => {
    const someone = user();
    const login = one.logins({ maxSessions: 2 });
    const [first, second] = [await login(someone), await login(someone)];
    const [, end] = await endedBehind(someone, () => one.become(second, ['user', 'admin']), {
      userIds: [someone.id],
    });
    expect(end).toMatchObject({ ended: [], found: [{ protected: true, ended: false }] });
    expect(await statesOf([first, second])).toEqual(['live', 'live']);
  });

  it('ends the sessions of somebody who was an administrator once, and is none any more', async () => {
    const someone = user();
    const id = await one.logins()(someone);
    await one.become(id, ['admin']);
    expect((await other.endUsers({ userIds: [someone.id] })).found).toMatchObject([{ protected: true }]);
    await one.become(id, ['user']);
    expect((await other.endUsers({ userIds: [someone.id] })).found).toMatchObject([{ ended: true }]);
    expect(await statesOf([id])).toEqual(['admin']);
  });

  it('ends somebody whose session as an administrator has ended', async () => {
    const someone = user();
    const former = await one.logins()(asAdministrator(someone));
    await one.endUsers({ sessionId: former, protect: false });
    const id = await one.logins()(someone);
    expect(await other.endUsers({ userIds: [someone.id] })).toMatchObject({
      ended: [{ id }],
      found: [{ protected: false, ended: true }],
    });
  });

  it('is told nothing by a session that has ended, whatever its user comes to be', async () => {
    const someone = user();
    const id = await one.logins()(someone);
    await one.endUsers({ sessionId: id });
    const slots = (): Promise<unknown> =>
      one.bench.query('SELECT * FROM user_session_slots WHERE user_id = $1', [someone.id]);
    const before = await slots();
    await other.become(id, ['admin']);
    expect(await slots()).toEqual(before);
  });

  it('ends a session that is admitted while it waits, when it is nobody of note', async () => {
    const someone = user();
    const first = await one.logins({ maxSessions: 2 })(someone);
    const [login, end] = await endedBehind(someone, () => one.logins({ maxSessions: 2 })(someone), {
      userIds: [someone.id],
    });
    const both = [first, login];
    expect(end.ended.map(({ id }) => id).toSorted()).toEqual(both.toSorted());
    expect(end.count).toBe(2);
    expect(await statesOf(both)).toEqual(['admin', 'admin']);
    // Not by its mark alone, which a crash could lose.
    expect(await one.bench.activeOf(someone.id)).toEqual([]);
  });

  it('ends one session alone, and not another that is admitted while it waits', async () => {
    const someone = user();
    const first = await one.logins({ maxSessions: 2 })(someone);
    const [login, end] = await endedBehind(someone, () => one.logins({ maxSessions: 2 })(someone), {
      sessionId: first,
    });
    expect(end.ended.map(({ id }) => id)).toEqual([first]);
    expect(await statesOf([first, login])).toEqual(['admin', 'live']);
    expect(await one.bench.activeOf(someone.id)).toEqual([login]);
  });

  it('ends an exempt session that is admitted while it waits, which it cannot see', async () => {
    const someone = user();
    const login = one.logins({ exempt: { usernames: [someone.id] } });
    const first = await login(someone);
    const [second, end] = await endedBehind(someone, () => login(someone), { userIds: [someone.id] });
    expect(end.found).toMatchObject([{ ended: true, protected: false }]);
    expect(await one.liveOf([first, second])).toEqual([]);
  });

  it('never touches a live administrator by any route or mix, with demotions, promotions, cut-offs and sweeps beside it', async () => {
    const login = one.logins({ maxSessions: 3 });
    const administrators = times(4, () => person(someone(), 'admin'));
    const demoted = times(4, () => person(someone(), 'admin'));
    const plain = times(4, user);
    const everybody = [...administrators, ...demoted, ...plain];
    const theirs = await Promise.all(administrators.map(login));
    const ids = await Promise.all([...demoted, ...plain].map(login));
    const lesser = async (): Promise<unknown> => {
      const process = [one, other][dice(2)]!;
      const some = everybody.filter(() => dice(2)).map(({ id }) => id);
      const acts = [
        () => process.endUsers({ userIds: some }),
        () => process.endUsers({ usernames: some.toReversed(), userIds: some.slice(0, 2) }),
        () => process.endUsers({ sessionId: [...theirs, ...ids][dice(theirs.length + ids.length)]! }),
        () => process.cutOff({ administrators: true }),
        () => process.bench.store.sweep(),
        () => process.bench.store.markUsers(some),
        () => process.become(ids[dice(ids.length)]!, dice(2) ? ['user'] : ['admin']),
        () => process.bench.store.seen([...theirs, ...ids]),
        async () => ids.push(await login([...demoted, ...plain][dice(8)]!)),
      ];
      return acts[dice(acts.length)]!();
    };
    for (let round = 0; round < 25; round++) await Promise.all(times(16, lesser));
    expect(await statesOf(theirs)).toEqual(theirs.map(() => 'live'));
    expect((await one.liveOf(ids)).length).toBeLessThan(ids.length);
  });
});

describe('many users ended at once', () => {
  it('never deadlock with each other in opposite orders, with logins, with marks and with sweeps', async () => {
    const users = times(40, () => person(someone()));
    const ids = users.map(({ id }) => id);
    const login = one.logins({ maxSessions: 2 });
    await Promise.all([...users, ...users].map(login));
    const errors: unknown[] = [];
    const deadline = performance.now() + 2_000;
    const worker = (act: () => Promise<unknown>) => async (): Promise<void> => {
      while (performance.now() < deadline) await act().catch((error: unknown) => errors.push(error));
    };
    await Promise.all([
      worker(() => one.endUsers({ userIds: ids }))(),
      worker(() => other.endUsers({ userIds: ids.toReversed() }))(),
      worker(() => other.endUsers({ usernames: ids.toReversed(), protect: false }))(),
      worker(() => one.bench.store.markUsers(ids.toReversed()))(),
      worker(() => one.bench.store.sweep())(),
      worker(() => other.cutOff({ usernames: ids.slice(0, 20) }))(),
      ...times(10, () => worker(() => login(users[dice(users.length)]!))()),
    ]);
    expect(errors).toEqual([]);
  });

  it('take the rows of the users in the order in which a sweep does that removes what ended long ago, so that none waits for the other for ever', async () => {
    const users = times(200, () => person(someone()));
    const ids = users.map(({ id }) => id);
    const rows = (await Promise.all(users.map(one.logins({ maxSessions: 2 })))).toSorted();
    // Ended by the clock, so that the slots rows still have them.
    await one.bench.query(
      `UPDATE user_session SET ended_at = now() - interval '40 days', end_reason = 'expired' WHERE id = ANY($1)`,
      [rows],
    );
    const [low, ...higher] = ids.toSorted();
    const runner = other.bench.dataSource.createQueryRunner();
    await runner.startTransaction();
    try {
      // The order in which many users are ended: by user id. What the sweep holds of them must come in the same order.
      await runner.query('SELECT FROM user_session_slots WHERE user_id = $1 FOR UPDATE', [low]);
      const sweep = one.bench.store.sweep();
      await waiting(other.bench, 1);
      await runner.query('SELECT FROM user_session_slots WHERE user_id = ANY($1) FOR UPDATE NOWAIT', [
        higher,
      ]);
      await runner.commitTransaction();
      await sweep;
    } finally {
      if (runner.isTransactionActive) await runner.rollbackTransaction();
      await runner.release();
    }
    expect(await one.bench.query('SELECT FROM user_session WHERE id = ANY($1)', [rows])).toEqual([]);
  });
});

describe('locks of many rows', () => {
  const COUNT = 20;
  /** The later, the lower. */
  const descending = (): string[] =>
    times(COUNT, () => randomUUID())
      .toSorted()
      .toReversed();
  /** Finds rows in the order in which they were written, unless it is asked for another. */
  let reading: Process;

  beforeAll(async () => {
    reading = await Process.open(`${url}?options=${encodeURIComponent('-c enable_indexscan=off')}`);
  });

  afterAll(async () => {
    await reading?.close();
  });

  /** Runs `act` while the lowest of these rows is held, and looks whether it holds any other when it comes to wait. */
  async function expectLowestFirst(
    table: string,
    column: string,
    keys: readonly string[],
    act: () => Promise<unknown>,
  ): Promise<void> {
    const [lowest, ...higher] = keys.toSorted();
    const lock = `SELECT FROM ${table} WHERE ${column} = ANY($1) FOR NO KEY UPDATE`;
    const holder = other.bench.dataSource.createQueryRunner();
    await holder.startTransaction();
    const acts: Promise<unknown>[] = [];
    try {
      await holder.query(lock, [[lowest]]);
      acts.push(act());
      await waiting(other.bench, 1);
      await holder.query(`${lock} NOWAIT`, [higher]);
    } finally {
      await holder.rollbackTransaction();
      await holder.release();
      await Promise.all(acts);
    }
  }

  it.each<[string, (ids: string[]) => Promise<unknown>]>([
    ['user ids', (userIds) => reading.endUsers({ userIds })],
    ['usernames', (usernames) => reading.endUsers({ usernames })],
  ])('are taken of the users in the order of their ids, by an order with %s', async (_, act) => {
    const ids = descending();
    for (const id of ids) await one.logins()(person(id));
    await expectLowestFirst('user_session_slots', 'user_id', ids, () => act(ids));
  });

  /** What locks sessions of a user, who has logged in again since if they are to be dead. */
  const SESSIONS: [string, boolean, (user: string, ids: readonly string[]) => Promise<unknown>][] = [
    ['an end of their user', false, (userId) => reading.bench.sessions().ends({ scope: 'user', userId })],
    [
      'a logout everywhere',
      false,
      (_, ids) =>
        reading.bench.sessions({ maxSessions: COUNT }).ends({ scope: 'everywhere', sessionId: ids[0]! }),
    ],
    ['an order of an administrator', false, (userId) => reading.endUsers({ userIds: [userId] })],
    ['marks', true, (userId) => reading.bench.store.markUsers([userId])],
    [
      'what writes down late ends',
      false,
      (_, ids) =>
        new LateEnds(new PrimaryDatabase(reading.bench.dataSource), 'user_session').write(ids, 'admin', null),
    ],
  ];
  async function sessionsOf(user: string, dead: boolean): Promise<string[]> {
    const ids = descending();
    const sessions = one.bench.sessions({ maxSessions: COUNT });
    for (const id of ids) await sessions.login(user, { id });
    await sessions.keeper.close();
    if (dead) await one.logins()(person(user));
    return ids;
  }

  it.each(SESSIONS)('are taken of the sessions in the order of their ids, by %s', async (_, dead, act) => {
    const user = someone();
    const ids = await sessionsOf(user, dead);
    await expectLowestFirst('user_session', 'id', ids, () => act(user, ids));
  });

  it.each(SESSIONS)('are taken of nothing that has ended during the wait, by %s', async (_, dead, act) => {
    const user = someone();
    const ids = await sessionsOf(user, dead);
    const [first, ...others] = ids.toSorted();
    const holder = other.bench.dataSource.createQueryRunner();
    await holder.startTransaction();
    const end = `UPDATE user_session SET ended_at = now(), end_reason = 'logout' WHERE id = $1`;
    await holder.query(end, [first]);
    const told = act(user, ids);
    await waiting(other.bench, 1);
    await holder.commitTransaction();
    await holder.release();
    const text = JSON.stringify(await told);
    expect(ids.filter((id) => text.includes(id)).toSorted()).toEqual(others);
    expect(await one.bench.row(first!)).toMatchObject({ end_reason: 'logout' });
  });
});

describe('sweeping after a cut-off', () => {
  const swept = async (): Promise<boolean> =>
    (
      await one.bench.query<{ swept: boolean }>('SELECT bool_and(swept) AS swept FROM user_session_cutoff')
    )[0]!.swept;
  const marked = async (ids: string[]): Promise<number> =>
    (await one.bench.query('SELECT FROM user_session WHERE id = ANY($1) AND ended_at IS NOT NULL', [ids]))
      .length;

  it('is not done because another process sweeps at this moment', async () => {
    await one.sweepAll();
    const ids = await Promise.all(times(3, () => one.logins()(person(someone()))));
    await one.cutOff();
    const rival = other.bench.dataSource.createQueryRunner();
    await rival.startTransaction();
    try {
      await rival.query(
        `SELECT pg_advisory_xact_lock(hashtext('nestjs-single-session:sweep'), hashtext('"user_session"'))`,
      );
      // It comes back: the other may be at something else.
      expect((await one.bench.store.sweep()).more).toBe(true);
      expect(await swept()).toBe(false);
    } finally {
      await rival.rollbackTransaction();
      await rival.release();
    }
    await one.sweepAll();
    expect([await swept(), await marked(ids)]).toEqual([true, 3]);
  });

  it('is not done while a row that it covers is held by somebody', async () => {
    await one.sweepAll();
    const ids = await Promise.all(times(3, () => one.logins()(person(someone()))));
    await one.cutOff();
    const holder = other.bench.dataSource.createQueryRunner();
    await holder.startTransaction();
    try {
      await holder.query('SELECT FROM user_session WHERE id = $1 FOR UPDATE', [ids[0]]);
      // It would come back at once, again and again.
      expect((await one.bench.store.sweep()).more).toBe(false);
      expect([await swept(), await marked(ids)]).toEqual([false, 2]);
    } finally {
      await holder.rollbackTransaction();
      await holder.release();
    }
    await one.sweepAll();
    expect([await swept(), await marked(ids)]).toEqual([true, 3]);
  });

  it('goes on with a cut-off that was made meanwhile', async () => {
    await one.sweepAll();
    const login = one.logins();
    const first = await Promise.all(times(1_005, () => person(someone())).map(login));
    await one.cutOff();
    expect((await one.bench.store.sweep()).more).toBe(true);
    const second = await Promise.all(times(3, () => login(person(someone()))));
    await one.cutOff();
    await one.sweepAll();
    expect([await swept(), await marked([...first, ...second])]).toEqual([true, 1_008]);
  });

  it('tells of each session that a cut-off ended once, however many sweep, check and log in', async () => {
    await one.sweepAll();
    const users = times(30, () => person(someone()));
    const ids = await Promise.all(users.map(one.logins()));
    await one.cutOff();
    const told = await Promise.all([
      ...[one, other, one].map(async ({ bench }) => (await bench.store.sweep()).ended),
      ...ids.slice(0, 20).map((id) => other.bench.store.markChecked({ id, limit: 1 })),
      other.bench.store.markUsers(users.map(({ id }) => id).toReversed()),
    ]);
    await one.sweepAll();
    const mine = told.flat().filter(({ id }) => ids.includes(id));
    expect(mine.map(({ id }) => id).toSorted()).toEqual(ids.toSorted());
    expect(new Set(mine.map(({ reason, by }) => `${reason} ${by}`))).toEqual(new Set(['cut-off root']));
  });
});
