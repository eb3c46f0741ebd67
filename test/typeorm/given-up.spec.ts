import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { Logger } from '@nestjs/common';
import { StoreUnavailableError } from '../../src/session/session-store.js';
import { PrimaryDatabase } from '../../src/typeorm/primary-database.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { someone, StoreBench, until } from '../support/store.js';
import { person, Process } from './administrators.js';

let url: string;
let one: Process;

beforeAll(async () => {
  url = await freshDatabase();
  one = await Process.open(url);
});

afterEach(() => {
  jest.restoreAllMocks();
});

afterAll(async () => {
  await one?.close();
  await dropDatabase(url);
});

/** Whether a statement of ours is still under way in PostgreSQL, whoever waits for it. */
const underWay = async (): Promise<boolean> => {
  const [row] = await one.bench.query<{ busy: boolean }>(
    `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND state = 'active'
       AND pid <> pg_backend_pid() AND query LIKE '%user_session%') AS busy`,
  );
  return row!.busy;
};

async function waiting(): Promise<number> {
  const [row] = await one.bench.query<{ count: number }>(
    "SELECT count(*)::int FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'",
  );
  return row!.count;
}

describe('what an administrator ordered and was answered with an error, since others held a lock for too long', () => {
  it('is not carried out later: no cut-off, no logout of a user [S17]', async () => {
    const login = one.logins();
    const user = someone();
    const before = await login(person(user));
    const holder = one.bench.dataSource.createQueryRunner();
    await holder.startTransaction();
    try {
      await holder.query(
        `SELECT pg_advisory_xact_lock(hashtext('nestjs-single-session:cut-off'), hashtext('"user_session_cutoff"'))`,
      );
      await holder.query('SELECT FROM user_session_slots WHERE user_id = $1 FOR UPDATE', [user]);
      const orders = [
        one.cutOff(),
        one.endUsers({ userIds: [user] }),
        one.bench.store.end({ target: { scope: 'user', userId: user }, reason: 'admin', by: null }),
      ];
      const outcomes = await Promise.allSettled(orders);
      expect(outcomes.map(({ status }) => status)).toEqual(['rejected', 'rejected', 'rejected']);
    } finally {
      await holder.rollbackTransaction();
      await holder.release();
    }
    await until(async () => !(await underWay()));
    expect(await one.bench.query('SELECT FROM user_session_cutoff')).toEqual([]);
    expect(await one.states([before])).toEqual(['live']);
  });
});

describe('a login that was answered with an error, since others held a lock for too long', () => {
  let slow: StoreBench;
  beforeEach(async () => {
    slow = await StoreBench.open(url, {}, { poolSize: 1 });
  });
  afterEach(() => slow.close());

  it.each([
    ['', 0],
    [', also when it had waited for a connection before', 3],
  ])(
    'is not carried out later, when it would end the session that the user has%s [P5]',
    async (_, seconds) => {
      const user = someone();
      const sessions = one.bench.sessions();
      const before = await sessions.login(user);
      const holder = one.bench.dataSource.createQueryRunner();
      await holder.startTransaction();
      try {
        await holder.query('SELECT FROM user_session_slots WHERE user_id = $1 FOR UPDATE', [user]);
        // The only connection is in use for longer than the way back takes: it is time that the statement must count.
        const busy = slow.query('SELECT pg_sleep($1)', [seconds]);
        await expect(slow.sessions().login(user)).rejects.toThrow(StoreUnavailableError);
        await busy;
      } finally {
        await holder.rollbackTransaction();
        await holder.release();
      }
      await until(async () => !(await underWay()));
      expect(await sessions.states([before])).toEqual(['live']);
      expect(await one.bench.rowsOf(user)).toHaveLength(1);
    },
  );
});

describe('a session that was admitted while an order to end its user waited', () => {
  it('is ended by that order, also when the admission has its displaced sessions marked before', async () => {
    const user = someone();
    const { bench } = one;
    const sessions = bench.sessions({ maxSessions: 2 });
    const first = await sessions.login(user);
    const holder = bench.dataSource.createQueryRunner();
    await holder.startTransaction();
    await holder.query('SELECT FROM user_session_slots WHERE user_id = $1 FOR UPDATE', [user]);
    const login = sessions.login(user);
    await until(async () => (await waiting()) === 1);
    // eslint-disable-next-line -- the method of before
    const run = PrimaryDatabase.prototype.run;
    jest.spyOn(PrimaryDatabase.prototype, 'run').mockImplementation(async function (
      this: PrimaryDatabase,
      sql,
      ...rest
    ) {
      if (sql.includes('s.id = ANY($1::uuid[]) AND s.ended_at IS NULL')) await bench.store.markUsers([user]);
      return run.call(this, sql, ...rest);
    } as typeof run);
    const end = bench.store.end({ target: { scope: 'user', userId: user }, reason: 'admin', by: 'root' });
    await until(async () => (await waiting()) === 2);
    await holder.rollbackTransaction();
    await holder.release();
    const second = await login;
    expect((await end).map(({ id }) => id).sort()).toEqual([first, second].sort());
    const rows = (await bench.rowsOf(user)).map((row) => [row.end_reason, row.ended_by]);
    expect(rows).toEqual([
      ['admin', 'root'],
      ['admin', 'root'],
    ]);
  });
});

describe('what was ended although the row of a session was out of sight', () => {
  it.each([
    ['by an administrator', async (user: string) => (await one.endUsers({ userIds: [user] })).ended],
    [
      'by the application',
      (user: string) =>
        one.bench.store.end({ target: { scope: 'user', userId: user }, reason: 'admin', by: null }),
    ],
  ])('%s is told also when the second statement fails, which only writes down', async (_, end) => {
    const user = someone();
    const id = await one.logins({ maxSessions: 2 })(person(user));
    await one.bench.query(
      'UPDATE user_session_slots SET active = active || gen_random_uuid() WHERE user_id = $1',
      [user],
    );
    // eslint-disable-next-line -- the method of before
    const run = PrimaryDatabase.prototype.run;
    jest.spyOn(PrimaryDatabase.prototype, 'run').mockImplementation(function (
      this: PrimaryDatabase,
      sql,
      ...rest
    ) {
      return sql.includes('WITH due AS') ? Promise.reject(new Error('gone')) : run.call(this, sql, ...rest);
    } as typeof run);
    const warned = jest.spyOn(Logger.prototype, 'warn').mockReturnValue();
    expect((await end(user)).map((session) => session.id)).toEqual([id]);
    expect(await one.states([id])).toEqual(['admin']);
    expect(warned.mock.calls).toEqual([[expect.stringContaining('could not be written down')]]);
  });
});
