import { afterAll, afterEach, beforeAll, expect, it, jest } from '@jest/globals';
import { Logger } from '@nestjs/common';
import { DefaultNamingStrategy } from 'typeorm';
import { tableNames } from '../../src/typeorm/table-names.js';
import { TypeOrmSessionStore } from '../../src/typeorm/typeorm-session-store.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { dataSourceOf, STORE_SETTINGS, StoreBench } from '../support/store.js';

// What the start finds out about the database.

let url: string;
let migrated: StoreBench;

beforeAll(async () => {
  url = await freshDatabase();
  migrated = await StoreBench.open(url);
});

afterEach(() => {
  jest.restoreAllMocks();
});

afterAll(async () => {
  await migrated?.close();
  await dropDatabase(url);
});

/** Prepares a store whose connections have these settings. */
async function prepare(settings: string, options: Parameters<typeof dataSourceOf>[1] = {}): Promise<void> {
  const dataSource = await dataSourceOf(url, { extra: { options: settings }, ...options }).initialize();
  const store = new TypeOrmSessionStore(dataSource, STORE_SETTINGS);
  await store.prepare().finally(() => dataSource.destroy());
}

it('a database that is read-only, as a replica is, stops the start: it may show what was ended [P4, P8]', async () => {
  await expect(prepare('-c default_transaction_read_only=on')).rejects.toThrow(
    /needs the primary.*`master` of `replication`/,
  );
});

/** Runs it with a role that has no rights yet, and the settings of connections that have it. */
async function withRole(act: (role: string, settings: string) => Promise<void>): Promise<void> {
  const { dataSource } = migrated;
  const role = `"${new URL(url).pathname.slice(1)} other"`;
  await dataSource.query(`CREATE ROLE ${role}`);
  try {
    await act(role, `-c role=${role.slice(1, -1).replaceAll(' ', '\\ ')}`);
  } finally {
    await dataSource.query(`DROP OWNED BY ${role}; DROP ROLE ${role}`);
  }
}

it.each([
  ['', 'SELECT, INSERT, UPDATE, DELETE'],
  ['SELECT', 'INSERT, UPDATE, DELETE'],
])('a role whose rights are "%s" stops the start, which says what to grant [P8]', (rights, missing) =>
  withRole(async (role, settings) => {
    const { dataSource } = migrated;
    if (rights) await dataSource.query(`GRANT ${rights} ON ALL TABLES IN SCHEMA public TO ${role}`);
    const refused = await prepare(settings).catch(({ message }: Error) => message);
    expect(refused).toMatch(
      new RegExp(`^The role ${role} .* no right to ${missing} on the table "user_session" `),
    );
    await dataSource.query(/GRANT .* TO "[^"]*"/.exec(String(refused))![0]);
    await prepare(settings);
    for (const { sql } of Object.values(tableNames(dataSource))) {
      await dataSource.query(`REVOKE DELETE ON ${sql} FROM ${role}`);
      await expect(prepare(settings)).rejects.toThrow(`no right to DELETE on the table ${sql} `);
      await dataSource.query(`GRANT DELETE ON ${sql} TO ${role}`);
    }
  }),
);

it('row-level security that applies to the role stops the start: what it hides is not ended [P2, P8]', () =>
  withRole(async (role, settings) => {
    const { dataSource } = migrated;
    await dataSource.query(`GRANT ALL ON ALL TABLES IN SCHEMA public TO ${role}`);
    for (const { sql } of Object.values(tableNames(dataSource))) {
      await dataSource.query(`ALTER TABLE ${sql} ENABLE ROW LEVEL SECURITY`);
      const refused = await prepare(settings).catch(({ message }: Error) => message);
      expect(refused).toMatch(new RegExp(`${sql}.* row-level security .*${role}`));
      // Its owner sees all rows.
      await prepare('');
      await dataSource.query(/ALTER TABLE .* ROW LEVEL SECURITY/.exec(String(refused))![0]);
    }
    await prepare(settings);
  }));

it('a naming strategy that renames columns, too, stops no start: the statements name them as the migrations do', async () => {
  class Renaming extends DefaultNamingStrategy {
    override columnName(property: string, given: string | undefined): string {
      return `a_${given ?? property}`;
    }
  }
  await prepare('', { namingStrategy: new Renaming() });
});

it.each([
  ['LATIN1', 1],
  ['SQL_ASCII', 0],
])('a database in %s draws %i warnings', async (encoding, count) => {
  const encoded = await freshDatabase(`ENCODING '${encoding}' LOCALE 'C' TEMPLATE template0`);
  const warn = jest.spyOn(Logger.prototype, 'warn').mockReturnValue();
  try {
    await (await StoreBench.open(encoded)).close();
  } finally {
    await dropDatabase(encoded);
  }
  expect(warn.mock.calls).toEqual(
    Array(count).fill([expect.stringMatching(/encoded in LATIN1.*gets 503.*UTF8/)]),
  );
});

it('times that the driver does not read stop the start, which names the setting', async () => {
  await expect(prepare('-c DateStyle=German')).rejects.toThrow(/set DateStyle to 'ISO, MDY'/);
});

it.each(['serializable', 'repeatable read'])('%s draws a warning', async (isolation) => {
  const warn = jest.spyOn(Logger.prototype, 'warn').mockReturnValue();
  await prepare(`-c default_transaction_isolation=${isolation.replace(' ', '\\ ')}`);
  expect(warn.mock.calls).toEqual([
    [expect.stringMatching(new RegExp(`"${isolation}".*may fail with 503.*read committed`))],
  ]);
});

it('a driver whose connections cannot be broken, as the one in C, draws a warning', async () => {
  const warn = jest.spyOn(Logger.prototype, 'warn').mockReturnValue();
  const dataSource = await dataSourceOf(url).initialize();
  const store = new TypeOrmSessionStore(dataSource, STORE_SETTINGS);
  await store.prepare();
  expect(warn.mock.calls).toEqual([]);
  const { master } = dataSource.driver as unknown as { master: { Client: unknown } };
  // What is asked goes over the connection that the pool has already.
  master.Client = class WithoutConnection {};
  await store.prepare().finally(() => dataSource.destroy());
  expect(warn.mock.calls).toEqual([[expect.stringMatching(/pg-native.*Uninstall.*nativeDriver: false/)]]);
});

it('a table that others hold does not hold up the start for ever', async () => {
  const holder = migrated.dataSource.createQueryRunner();
  await holder.startTransaction();
  try {
    await holder.query('LOCK TABLE user_session');
    await expect(migrated.store.prepare()).rejects.toThrow(/did not answer in time/);
  } finally {
    await holder.rollbackTransaction();
    await holder.release();
  }
  await migrated.store.prepare();
});
