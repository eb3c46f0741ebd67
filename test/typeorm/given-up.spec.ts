import { randomUUID } from 'node:crypto';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { Logger } from '@nestjs/common';
import type { QueryRunner } from 'typeorm';
import { LARGEST_LIMIT } from '../../src/session/policy.js';
import type { EndTarget } from '../../src/session/session.js';
import { StoreUnavailableError } from '../../src/session/session-store.js';
import { PrimaryDatabase } from '../../src/typeorm/primary-database.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { NOWHERE, someone, StoreBench, times, until } from '../support/store.js';
import { watchStatements, type StatementWatch } from '../support/statements.js';
import { person, Process, SIGNATURE } from './administrators.js';

let url: string;
let watch: StatementWatch;
let one: Process;
/** One whose requests to cancel are lost: what it gives up goes on waiting for its lock. */
let uncancelled: Process;

beforeAll(async () => {
  url = await freshDatabase();
  watch = await watchStatements(url);
  watch.loseCancels();
  one = await Process.open(url);
  uncancelled = await Process.open(watch.url);
});

afterEach(() => {
  jest.restoreAllMocks();
});

afterAll(async () => {
  await uncancelled?.close();
  await one?.close();
  await watch?.stop();
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

/** Takes locks, for as long as `act` takes; what has been given up by then must do nothing afterwards. */
async function whileLocked(
  locks: [sql: string, parameters?: unknown[]][],
  act: (holder: QueryRunner) => Promise<void>,
): Promise<void> {
  const holder = one.bench.dataSource.createQueryRunner();
  await holder.startTransaction();
  try {
    for (const [sql, parameters] of locks) await holder.query(sql, parameters);
    await act(holder);
  } finally {
    if (holder.isTransactionActive) await holder.rollbackTransaction();
    await holder.release();
  }
  await until(async () => !(await underWay()));
}

const TABLES = ['', '_slots', '_cutoff', '_exemption', '_action'].map((end) => `user_session${end}`);
// As an index is made, or a table altered. PostgreSQL waits for these while it parses a statement.
const NOBODY_WRITES: [string][] = [[`LOCK TABLE ${TABLES.join(', ')} IN SHARE MODE`]];

const ROWS = (user: string): [string, unknown[]?][] => [
  [
    `SELECT pg_advisory_xact_lock(hashtext('nestjs-single-session:cut-off'), hashtext('"user_session_cutoff"'))`,
  ],
  ['SELECT FROM user_session_slots WHERE user_id = $1 FOR UPDATE', [user]],
  [`SELECT FROM user_session_exemption WHERE value = 'there' FOR UPDATE`],
];

describe('what an administrator ordered and was answered with an error, since others held a lock for too long', () => {
  const exemption = (value: string) => ({ kind: 'username' as const, value, expiresAt: null });

  it.each([
    ['of rows', ROWS],
    ['of tables', () => NOBODY_WRITES],
  ])(
    'is not carried out later: no cut-off, no logout of a user, no exemption (%s) [S17]',
    async (_, locks) => {
      const user = someone();
      const before = await one.logins()(person(user));
      await one.store.addExemption(exemption('there'), SIGNATURE);
      await whileLocked(locks(user), async () => {
        const orders = [
          uncancelled.cutOff(),
          uncancelled.endUsers({ userIds: [user] }),
          endUser(user),
          uncancelled.store.addExemption({ ...exemption('there'), expiresAt: new Date(2_100, 1) }, SIGNATURE),
          uncancelled.store.removeExemption({ kind: 'username', value: 'there' }, SIGNATURE),
        ];
        const outcomes = await Promise.allSettled(orders);
        expect(outcomes.map(({ status }) => status)).toEqual(times(5, () => 'rejected'));
      });
      expect(await one.bench.query('SELECT FROM user_session_cutoff')).toEqual([]);
      expect(await one.states([before])).toEqual(['live']);
      expect(await one.store.exemptions()).toMatchObject([exemption('there')]);
    },
  );
});

const logout = (process: Process, target: EndTarget): Promise<unknown> =>
  process.bench.store.end({ target, reason: 'logout', by: null, limit: LARGEST_LIMIT });
const endOthers = (sessionId: string, userId: string) =>
  logout(uncancelled, { scope: 'others', sessionId, userId });
const endEverywhere = (sessionId: string) => logout(uncancelled, { scope: 'everywhere', sessionId });
const endUser = (userId: string) => logout(uncancelled, { scope: 'user', userId });

/** What the login of someone exempt does, in the transaction that holds the lock. */
async function admitExempt(holder: QueryRunner, id: string, like: string): Promise<void> {
  await holder.query(
    `WITH slot AS (
       UPDATE user_session_slots u SET generation = u.generation + 1 FROM user_session s
       WHERE s.id = $2 AND u.user_id = s.user_id RETURNING u.generation),
     changed AS (
       SELECT jsonb_build_object('id', $1::uuid, 'logins', ARRAY[$1::uuid], 'exempt', true, 'generation', generation,
         'ended_at', NULL, 'end_reason', NULL) AS columns FROM slot)
     INSERT INTO user_session SELECT (jsonb_populate_record(s, columns)).* FROM user_session s, changed WHERE s.id = $2`,
    [id, like],
  );
}

describe('a logout of all of a user that was answered with an error, since others held a lock for too long', () => {
  it.each([
    ['of rows', ROWS],
    ['of tables', () => NOBODY_WRITES],
  ])('is not carried out later, on what the user has signed in since (%s)', async (_, locks) => {
    const user = someone();
    const sessions = one.bench.sessions({ maxSessions: 2 });
    const [own, other] = [await sessions.login(user), await sessions.login(user)];
    await whileLocked(locks(user), async () => {
      const orders = [endOthers(own, user), endEverywhere(own)];
      const outcomes = await Promise.allSettled(orders);
      expect(outcomes.map(({ status }) => status)).toEqual(['rejected', 'rejected']);
    });
    expect(await sessions.states([own, other])).toEqual(['live', 'live']);
  });

  // An exempt session has no place, which would tell the statement that it has ended something.
  it.each([
    ['others', (own: string, user: string) => endOthers(own, user), true],
    ['user', (_: string, user: string) => endUser(user), false],
  ])(
    'is not carried out later, on an exempt session that nothing else tells of (scope %s)',
    async (_, order, signedIn) => {
      const user = someone();
      const sessions = one.bench.sessions();
      const own = await sessions.login(user);
      if (!signedIn) await logout(one, { scope: 'session', sessionId: own });
      const exempt = randomUUID();
      await whileLocked(ROWS(user), async (holder) => {
        await expect(order(own, user)).rejects.toThrow('did not answer in time');
        await admitExempt(holder, exempt, own);
        await holder.commitTransaction();
      });
      expect(await sessions.states([exempt])).toEqual(['live']);
    },
  );
});

describe('a login that was answered with an error, since others held a lock for too long', () => {
  let slow: StoreBench;
  beforeEach(async () => {
    slow = await StoreBench.open(watch.url, {}, { poolSize: 1 });
  });
  afterEach(() => slow.close());

  it.each([
    ['of a row', ROWS, 0],
    ['of a row, also when it had waited for a connection before', ROWS, 3],
    ['of tables', () => NOBODY_WRITES, 0],
  ])(
    'is not carried out later, when it would end the session that the user has (%s) [P5]',
    async (_, locks, seconds) => {
      const user = someone();
      const sessions = one.bench.sessions();
      const before = await sessions.login(user);
      await whileLocked(locks(user), async () => {
        // The only connection is in use for longer than the way back takes: it is time that the statement must count.
        const busy = slow.query('SELECT pg_sleep($1)', [seconds]);
        await expect(slow.sessions().login(user)).rejects.toThrow(StoreUnavailableError);
        await busy;
      });
      expect(await sessions.states([before])).toEqual(['live']);
      expect(await one.bench.rowsOf(user)).toHaveLength(1);
    },
  );

  it('is not carried out later, when it would find no room, and end what an exemption has left behind [P5]', async () => {
    const user = someone();
    const sessions = one.bench.sessions();
    const before = await sessions.login(user);
    const left = await one.bench.sessions({ exempt: { usernames: [user] } }).login(user);
    await whileLocked(ROWS(user), async () => {
      const rejecting = slow.sessions({ onLimit: 'reject' });
      await expect(rejecting.login(user)).rejects.toThrow(StoreUnavailableError);
    });
    expect(await sessions.states([before, left])).toEqual(['live', 'live']);
  });

  it('waits no longer: it would keep a connection of the server as long as they hold the lock', async () => {
    const user = someone();
    await one.bench.sessions().login(user);
    await whileLocked(ROWS(user), async () => {
      await expect(one.bench.sessions().login(user)).rejects.toThrow(StoreUnavailableError);
      await until(async () => (await waiting()) === 0);
    });
  });

  it('is not carried out later, when it would take the place of a user who has none [P5]', async () => {
    const user = someone();
    await whileLocked(NOBODY_WRITES, async () => {
      await expect(slow.sessions().login(user)).rejects.toThrow(StoreUnavailableError);
    });
    expect(await one.bench.rowsOf(user)).toEqual([]);
  });
});

describe('an admission that is carried out, and whose answer is lost', () => {
  /** The same for the next one only. */
  function loseAnswer({ store }: StoreBench): void {
    const admit = store.admit.bind(store);
    jest.spyOn(store, 'admit').mockImplementationOnce(async (admission) => {
      await admit(admission);
      throw new Error('the connection is gone');
    });
  }

  it('is taken back when it is a login, and not when it adopts a credential, which was good before and cannot be adopted again', async () => {
    const { bench } = one;
    const sessions = bench.sessions();
    const ends = jest.spyOn(bench.store, 'end');
    const [user, other] = [person(someone()), person(someone())];
    const adopt = () => sessions.admissions.adopt(`cookie session of ${user.id}`, user, NOWHERE);
    loseAnswer(bench);
    await expect(adopt()).rejects.toThrow(StoreUnavailableError);
    loseAnswer(bench);
    await expect(sessions.login(other)).rejects.toThrow(StoreUnavailableError);
    const [login] = (await bench.rowsOf(other.id)).map(({ id }) => id);
    // Whatever else is taken back began before.
    await until(async () => (await sessions.state(login!)) === 'logout');
    expect(ends.mock.calls.map(([{ target }]) => target)).toMatchObject([{ sessionId: login }]);
    expect((await adopt()).live).toBe(true);
    expect(await bench.rowsOf(user.id)).toHaveLength(1);
  });
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
    const target = { scope: 'user', userId: user } as const;
    const end = bench.store.end({ target, reason: 'admin', by: 'root', limit: LARGEST_LIMIT });
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
        one.bench.store.end({
          target: { scope: 'user', userId: user },
          reason: 'admin',
          by: null,
          limit: LARGEST_LIMIT,
        }),
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
