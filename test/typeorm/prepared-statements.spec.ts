import { randomUUID } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { Logger } from '@nestjs/common';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { CHECK, watchStatements } from '../support/statements.js';
import { NOWHERE, someone, StoreBench, times, until, type TestSessions } from '../support/store.js';

interface Prepared {
  name: string;
  statement: string;
  planned_once: boolean;
}

let url: string;
let bench: StoreBench;
let sessions: TestSessions;
let warn: jest.SpiedFunction<Logger['warn']>;

/** One connection, whose statements can be looked at. */
async function open(preparedStatements?: boolean, poolSize = 1): Promise<void> {
  bench = await StoreBench.open(url, { preparedStatements }, { poolSize });
  sessions = bench.sessions();
}

beforeEach(async () => {
  url = await freshDatabase();
  warn = jest.spyOn(Logger.prototype, 'warn').mockReturnValue();
});
afterEach(async () => {
  jest.restoreAllMocks();
  await bench.close();
  await dropDatabase(url);
});

const prepared = (): Promise<Prepared[]> =>
  bench.query<Prepared>(
    'SELECT name, statement, generic_plans > 0 AS planned_once FROM pg_prepared_statements ORDER BY 1',
  );

/** More often than PostgreSQL tries plans for single values, which is five times. */
async function often(action: () => Promise<unknown>): Promise<void> {
  for (let count = 0; count < 8; count++) await action();
}

const namedLike = (list: Prepared[], text: RegExp): Prepared | undefined =>
  list.find(({ statement }) => text.test(statement));

describe('without the option', () => {
  it('nothing is prepared: names fail behind poolers', async () => {
    await open();
    const id = await sessions.login(someone());
    await often(() => sessions.isLive(id));
    expect(await prepared()).toEqual([]);
  });
});

describe('with preparedStatements', () => {
  it('a check and a login are planned once for each connection', async () => {
    await open(true);
    const user = someone();
    const id = await sessions.login(someone());
    await often(() => sessions.isLive(id));
    await often(() => sessions.login(user));
    const list = await prepared();
    expect(namedLike(list, CHECK)).toMatchObject({ planned_once: true });
    expect(namedLike(list, /INSERT INTO "user_session_slots"/)).toMatchObject({ planned_once: true });
    for (const { name } of list) expect(name).toMatch(/^nestjs-single-session:[0-9a-f]{16}$/);
  });

  it('answers what it answers without: live, superseded, unknown, taken id', async () => {
    await open(true);
    const [user, id] = [someone(), randomUUID()];
    expect(await sessions.login(user, { id })).toBe(id);
    expect(await sessions.state(id)).toBe('live');
    expect(await sessions.state(randomUUID())).toBe('unknown');
    // The id is taken, as by a second click.
    const identity = { id: user, username: user, roles: [] };
    const second = { id, loginId: randomUUID(), identity, limit: 1, replaces: null, origin: NOWHERE };
    expect(
      await bench.store.admit({ ...second, exempt: false, administrator: false, onLimit: 'evict' }),
    ).toEqual({ outcome: 'exists' });
    await sessions.login(user);
    expect(await sessions.state(id)).toBe('superseded');
    expect(warn).not.toHaveBeenCalled();
  });

  it("is in TypeORM's log, with what failed", async () => {
    await open(true);
    const { logger } = bench.dataSource;
    const [logQuery, logQueryError] = [jest.spyOn(logger, 'logQuery'), jest.spyOn(logger, 'logQueryError')];
    const id = await sessions.login(someone());
    expect(await sessions.isLive(id)).toBe(true);
    expect(logQuery.mock.calls.map(([sql]) => sql).join()).toMatch(
      /INSERT INTO.*SELECT \* FROM "user_session_check_1"/s,
    );
    await expect(bench.store.verify([{ id: 'no uuid', limit: 1 }])).rejects.toThrow(/uuid/);
    expect(logQueryError).toHaveBeenCalledTimes(1);
    expect(warn).not.toHaveBeenCalled();
  });
});

describe('on a link that is silently dead', () => {
  it('a prepared check is hung up on in time, and the next one runs on a new connection [S26]', async () => {
    const watch = await watchStatements(url);
    try {
      bench = await StoreBench.open(watch.url, { preparedStatements: true }, { poolSize: 1 });
      sessions = bench.sessions();
      const id = await sessions.login(someone());
      expect(await sessions.isLive(id)).toBe(true);
      watch.freeze();
      await expect(bench.store.verify([{ id, limit: 1 }])).rejects.toThrow('did not answer in time');
      watch.unfreeze();
      expect(await sessions.isLive(id)).toBe(true);
      await bench.close();
    } finally {
      await watch.stop();
      await open();
    }
  });
});

/** What a pooler in transaction mode does: the next transaction runs on a connection where the names are unknown, or taken. */
const POOLERS: [string, () => Promise<void>][] = [
  ['does not know the name', async () => void (await bench.query('DEALLOCATE ALL'))],
  [
    'has the name for something else',
    async () => {
      const list = await prepared();
      await bench.query('SELECT pg_terminate_backend(pg_backend_pid())').catch(() => undefined);
      await until(() => bench.query('SELECT 1').then(Boolean, () => false));
      for (const { name } of list) await bench.query(`PREPARE "${name}" AS SELECT 1`);
    },
  ],
  [
    'has a plan for tables of before',
    async () =>
      void (await bench.query('ALTER TABLE user_session_slots ALTER COLUMN storm_logins TYPE bigint')),
  ],
];

describe.each(POOLERS)('a connection that %s', (_, happens) => {
  it('fails no check and no login; it is said once, and unnamed statements go on', async () => {
    await open(true);
    const user = someone();
    const first = await sessions.login(user);
    await sessions.isLive(first);
    await happens();

    expect(await sessions.state(first)).toBe('live');
    const second = await sessions.login(user);
    expect(await sessions.states([first, second])).toEqual(['superseded', 'live']);
    expect(warn.mock.calls.map(([text]) => String(text))).toEqual([
      expect.stringMatching(/refused a prepared statement.*PgBouncer.*leave preparedStatements out/s),
    ]);
    const names = await prepared();
    await often(() => sessions.login(someone()));
    expect(await prepared()).toEqual(names);
  });
});

/** On every connection of the pool: all of them are taken before the first is given back. */
async function forgetAllNames(connections: number): Promise<void> {
  const runners = times(connections, () => bench.dataSource.createQueryRunner());
  await Promise.all(runners.map((runner) => runner.connect()));
  await Promise.all(runners.map((runner) => runner.query('DEALLOCATE ALL')));
  await Promise.all(runners.map((runner) => runner.release()));
}

describe('32 parallel logins of one user, prepared', () => {
  it.each([
    [1, 'while the connections keep the names', false],
    [2, 'while the connections keep the names', false],
    [1, 'while they lose them', true],
    [2, 'while they lose them', true],
  ])('leave exactly %i live, %s', async (maxSessions, _, lose) => {
    await open(true, 8);
    const limited = bench.sessions({ maxSessions });
    // Each connection has prepared the login before.
    await Promise.all(times(64, () => limited.login(someone())));
    const user = someone();
    if (lose) await forgetAllNames(8);
    const ids = await Promise.all(times(32, () => limited.login(user)));
    expect(await limited.liveOf(ids)).toHaveLength(maxSessions);
    expect(await bench.rowsOf(user)).toHaveLength(32);
    expect(warn).toHaveBeenCalledTimes(lose ? 1 : 0);
    await until(async () => (await bench.activeOf(user)).length === maxSessions);
  });
});
