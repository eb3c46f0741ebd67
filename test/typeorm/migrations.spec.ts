import { randomUUID } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';
import type { DataSource, DataSourceOptions } from 'typeorm';
import { runMigrationsOnce, singleSessionMigrations } from '../../migrations/index.js';
import { LARGEST_LIMIT } from '../../src/session/policy.js';
import { TypeOrmSessionStore } from '../../src/typeorm/typeorm-session-store.js';
import { tableNames } from '../../src/typeorm/table-names.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { PluralSnakeNaming, SnakeNaming } from '../support/snake-naming.js';
import { dataSourceOf, NOWHERE, readable, STORE_SETTINGS, times } from '../support/store.js';

type Options = Partial<Extract<DataSourceOptions, { type: 'postgres' }>>;

let url: string;
let open: DataSource[];

beforeEach(async () => {
  url = await freshDatabase();
  open = [];
  // TypeORM prints each migration that fails.
  jest.spyOn(console, 'log').mockImplementation(() => undefined);
});

afterEach(async () => {
  jest.restoreAllMocks();
  await Promise.all(open.map((dataSource) => dataSource.destroy()));
  await dropDatabase(url);
});

async function connected(options: Options = {}): Promise<DataSource> {
  const dataSource = await dataSourceOf(url, options).initialize();
  open.push(dataSource);
  return dataSource;
}

async function drift(dataSource: DataSource): Promise<string[]> {
  const { upQueries } = await dataSource.driver.createSchemaBuilder().log();
  return upQueries.map(({ query }) => query);
}

/** Columns, indices and constraints as PostgreSQL knows them, schema and names included. */
async function shape(dataSource: DataSource): Promise<unknown> {
  const columns = `SELECT table_schema, table_name, column_name, udt_name, is_nullable, column_default
    FROM information_schema.columns WHERE table_name LIKE '%user_session%' ORDER BY 1, 2, 3`;
  const indices = `SELECT indexdef FROM pg_indexes WHERE tablename LIKE '%user_session%' ORDER BY 1`;
  const constraints = `SELECT conrelid::regclass::text AS on, conname, pg_get_constraintdef(oid) AS says FROM pg_constraint
    WHERE conrelid::regclass::text LIKE '%user_session%' ORDER BY 1, 2`;
  return Promise.all([columns, indices, constraints].map((sql) => dataSource.query(sql)));
}

const SETTINGS = { ...STORE_SETTINGS, idleTimeout: 60_000, retention: 1 };

/** Everything that the store can say to the database, once. */
async function useAll(dataSource: DataSource): Promise<void> {
  const store = new TypeOrmSessionStore(dataSource, SETTINGS);
  await store.prepare();
  const ids = times(4, () => randomUUID());
  const identity = { id: 'u', username: 'u', roles: ['r'] };
  for (const id of ids)
    for (const onLimit of ['evict', 'reject'] as const)
      await store.admit({
        id,
        loginId: randomUUID(),
        identity,
        limit: 3,
        exempt: false,
        administrator: false,
        entitledBy: null,
        onLimit,
        replaces: null,
        origin: NOWHERE,
      });
  await store.markUsers(['u']);
  await store.seen(ids);
  expect((await readable(store.verify(ids.map((id) => ({ id, limit: 3 }))))).map(({ live }) => live)).toEqual(
    [false, true, true, true],
  );
  const as = { reason: 'admin', by: null, limit: LARGEST_LIMIT } as const;
  await store.end({ target: { scope: 'session', sessionId: ids[1]! }, ...as });
  await store.end({ target: { scope: 'others', sessionId: ids[3]!, userId: 'u' }, ...as });
  expect((await readable(store.verify(ids.map((id) => ({ id, limit: 3 }))))).map(({ live }) => live)).toEqual(
    [false, false, false, true],
  );
  await store.end({ target: { scope: 'everywhere', sessionId: ids[3]! }, ...as });
  await store.end({ target: { scope: 'user', userId: 'u' }, ...as });
  await new Promise((resolve) => setTimeout(resolve, 5));
  await store.sweep();
  expect(
    (await readable(store.verify(ids.map((id) => ({ id, limit: 3 }))))).map(
      (answer) => !answer.live && answer.reason,
    ),
  ).toEqual(times(4, () => 'unknown'));
}

const LAYOUTS: [string, Options, string][] = [
  ['nothing', {}, '"user_session"'],
  ['a schema', { schema: 'auth' }, '"auth"."user_session"'],
  ['capitals and signs', { schema: 'My-Schema', entityPrefix: 'App$' }, '"My-Schema"."App$user_session"'],
  [
    'a prefix and a snake naming strategy',
    { entityPrefix: 'app_', namingStrategy: new SnakeNaming() },
    '"app_user_session"',
  ],
  [
    'a schema, a prefix and a naming strategy that renames',
    { schema: 'auth', entityPrefix: 'app_', namingStrategy: new PluralSnakeNaming() },
    '"auth"."app_user_sessions"',
  ],
];

describe.each(LAYOUTS)('with %s', (_, options, table) => {
  it('every statement finds its tables; migration and entities do not drift, in either direction; down removes what up made', async () => {
    const dataSource = await connected(options);
    if (options.schema) await dataSource.query(`CREATE SCHEMA "${options.schema}"`);
    await dataSource.runMigrations();
    expect(await drift(dataSource)).toEqual([]);
    expect(tableNames(dataSource).sessions.sql).toBe(table);
    await useAll(dataSource);
    expect(
      await dataSource.query(`SELECT count(*)::int AS rows FROM ${tableNames(dataSource).slots.sql}`),
    ).toEqual([{ rows: 1 }]);
    const byMigration = await shape(dataSource);
    for (const _ of singleSessionMigrations) await dataSource.undoLastMigration();
    expect(await shape(dataSource)).toEqual([[], [], []]);
    await dataSource.synchronize();
    expect(await shape(dataSource)).toEqual(byMigration);
    expect(await drift(dataSource)).toEqual([]);
  });
});

describe('the drift check itself', () => {
  it('sees a column, a type or an index that differs', async () => {
    const dataSource = await connected({ migrationsRun: true });
    for (const change of [
      'ALTER TABLE user_session ALTER COLUMN ended_by TYPE varchar',
      'ALTER TABLE user_session DROP COLUMN replaced_by',
      'ALTER TABLE user_session_slots ALTER COLUMN floor DROP NOT NULL',
    ]) {
      await dataSource.query(change);
      expect(await drift(dataSource)).not.toEqual([]);
      await dataSource.synchronize();
    }
    const [index] = (await dataSource.query(
      `SELECT indexname FROM pg_indexes WHERE indexdef LIKE '%expires_at%'`,
    )) as [{ indexname: string }];
    await dataSource.query(`DROP INDEX "${index.indexname}"`);
    expect(await drift(dataSource)).toHaveLength(1);
  });
});

it('another application in the search path keeps its function, and stays with it', async () => {
  const ours = await connected();
  await ours.query('CREATE SCHEMA other');
  const theirs = await connected({ extra: { options: '-c search_path=other,public' } });
  const functions = (): Promise<unknown> =>
    ours.query(
      `SELECT pronamespace::regnamespace::text AS schema FROM pg_proc WHERE proname = 'user_session_check_1' ORDER BY 1`,
    );
  await ours.runMigrations();
  await theirs.query('CREATE TABLE other.migrations (LIKE public.migrations INCLUDING ALL)');
  await theirs.runMigrations();
  expect(await functions()).toEqual([{ schema: 'other' }, { schema: 'public' }]);
  for (const _ of singleSessionMigrations) await theirs.undoLastMigration();
  expect(await functions()).toEqual([{ schema: 'public' }]);
});

describe('processes that start at the same moment', () => {
  it('all come up on an empty database with runMigrationsOnce', async () => {
    const processes = await Promise.all(times(4, () => connected()));
    await Promise.all(processes.map((process) => runMigrationsOnce(process)));
    expect(await drift(processes[0]!)).toEqual([]);
    expect(await processes[0]!.query('SELECT name FROM migrations')).toHaveLength(
      singleSessionMigrations.length,
    );
    await Promise.all(processes.map((process) => new TypeOrmSessionStore(process, SETTINGS).prepare()));
  });

  it("all come up with TypeORM's own runMigrations where its table exists", async () => {
    const first = await connected({ migrations: [] });
    await first.runMigrations();
    const processes = await Promise.all(times(4, () => connected()));
    await Promise.all(processes.map((process) => process.runMigrations()));
    expect(await drift(processes[0]!)).toEqual([]);
  });

  it('fail without a lock, so that this test can', async () => {
    class Unlocked {
      readonly name = 'Unlocked1763700000001';
      async up(runner: { query: (sql: string) => Promise<unknown> }): Promise<void> {
        await runner.query('SELECT pg_sleep(0.05)');
        await runner.query('CREATE TABLE naive (id int)');
      }
      async down(): Promise<void> {}
    }
    const processes = await Promise.all(times(4, () => connected({ migrations: [Unlocked] })));
    const outcomes = await Promise.allSettled(processes.map((process) => process.runMigrations()));
    expect(outcomes.some(({ status }) => status === 'rejected')).toBe(true);
  });
});

describe('runMigrationsOnce', () => {
  it('does nothing the second time, and lets go of its lock', async () => {
    const [first, second] = (await Promise.all(times(2, () => connected()))) as [DataSource, DataSource];
    await runMigrationsOnce(first);
    await runMigrationsOnce(second);
    const locks = `SELECT FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`;
    expect(await second.query(locks)).toEqual([]);
  });

  it.each(['each', 'none'] as const)(
    'runs what needs no transaction, as the mode %s of the data source allows, also on processes at once',
    async (migrationsTransactionMode) => {
      class Filled {
        readonly name = 'Filled1763700000004';
        async up(runner: { query: (sql: string) => Promise<unknown> }): Promise<void> {
          await runner.query('CREATE TABLE filled AS SELECT generate_series(1, 10000) AS id');
        }
        async down(): Promise<void> {}
      }
      class Concurrently {
        readonly name = 'Concurrently1763700000005';
        readonly transaction = false;
        async up(runner: { query: (sql: string) => Promise<unknown> }): Promise<void> {
          await runner.query('CREATE INDEX CONCURRENTLY ON filled (id)');
        }
        async down(): Promise<void> {}
      }
      const migrations = [...singleSessionMigrations, Filled, Concurrently];
      const processes = await Promise.all(
        times(3, () => connected({ migrations, migrationsTransactionMode })),
      );
      await Promise.all(processes.map((process) => runMigrationsOnce(process)));
      expect(await processes[0]!.query('SELECT FROM migrations')).toHaveLength(migrations.length);
    },
  );

  it('lets go of its lock when a migration fails, and throws what failed', async () => {
    class Failing {
      readonly name = 'Failing1763700000002';
      async up(): Promise<void> {
        throw new Error('of the application');
      }
      async down(): Promise<void> {}
    }
    const failing = await connected({ migrations: [Failing] });
    await expect(runMigrationsOnce(failing)).rejects.toThrow('of the application');
    await runMigrationsOnce(await connected());
  });

  it('throws what failed also when the connection is gone with it, and its lock', async () => {
    class Cut {
      readonly name = 'Cut1763700000003';
      async up(runner: { query: (sql: string) => Promise<unknown> }): Promise<void> {
        await runner.query('SELECT pg_terminate_backend(pg_backend_pid())');
      }
      async down(): Promise<void> {}
    }
    await expect(runMigrationsOnce(await connected({ migrations: [Cut] }))).rejects.toThrow(
      'terminating connection',
    );
    await runMigrationsOnce(await connected());
  });

  it('comes up with a pool of one connection', async () => {
    const dataSource = await connected({ poolSize: 1, connectTimeoutMS: 1_000 });
    await runMigrationsOnce(dataSource);
    expect(await drift(dataSource)).toEqual([]);
  });
});
