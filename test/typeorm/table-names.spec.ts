import { afterAll, afterEach, beforeAll, describe, expect, it, jest } from '@jest/globals';
import { DefaultNamingStrategy, type DataSourceOptions } from 'typeorm';
import { tableNames } from '../../src/typeorm/table-names.js';
import { TypeOrmSessionStore } from '../../src/typeorm/typeorm-session-store.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { watchStatements, type StatementWatch } from '../support/statements.js';
import { dataSourceOf } from '../support/store.js';

type Options = Partial<Extract<DataSourceOptions, { type: 'postgres' }>>;

let url: string;
let watch: StatementWatch;

beforeAll(async () => {
  url = await freshDatabase();
  watch = await watchStatements(url);
});

afterEach(() => watch.clear());

afterAll(async () => {
  await watch?.stop();
  await dropDatabase(url);
});

const SETTINGS = {
  idleTimeout: undefined,
  maxAge: 1_000,
  retention: 1_000,
  seenInterval: 1_000,
  stormWindow: 1,
};
const PARTS = [
  '"',
  "'",
  ';--',
  '";--',
  "';--",
  '\0',
  '.',
  ' ',
  '\n',
  '\\',
  '/*',
  '*/',
  '(',
  ')',
  ',',
  '`',
  '$1;',
  '%',
  '\u{1F600}',
  '\u200b',
  '\u2019',
  '\ud800',
  '\u037e',
];

/** Around, in and after a harmless name, and in pairs. */
const HOSTILE = [
  ...PARTS.flatMap((part) => [part, `a${part}`, `${part}a`, `a${part}b`, `a${part}${part}b`]),
  ...PARTS.flatMap((first) => ['"', ';', '\0', '.'].map((second) => `a${first}${second}b`)),
  'a"; DROP TABLE user_session; --',
  'auth"."pg_class',
  'a" CASCADE; --',
  'pg_catalog"."pg_user',
  '$$;SELECT 1;$$',
  '1a',
  '-a',
  '$a',
  'a ',
  ...[64, 65, 100, 10_000].map((length) => 'a'.repeat(length)),
  ...[32, 63].map((length) => 'ü'.repeat(length)),
];

const storeWith = (options: Options): TypeOrmSessionStore =>
  new TypeOrmSessionStore(dataSourceOf(watch.url, options), SETTINGS);

describe('a hostile name', () => {
  it.each(['schema', 'entityPrefix'] as const)(
    `as %s is refused before any SQL, in ${HOSTILE.length} forms [S19]`,
    (key) => {
      for (const name of HOSTILE)
        expect(() => storeWith({ [key]: name })).toThrow(/cannot use the schema or table name/);
      expect(watch.statements).toEqual([]);
    },
  );

  it('from a naming strategy is refused as well [S19]', () => {
    class Hostile extends DefaultNamingStrategy {
      override tableName(): string {
        return 'x"; DROP TABLE y; --';
      }
    }
    expect(() => storeWith({ namingStrategy: new Hostile() })).toThrow(/cannot use/);
  });

  it('is cut short in the message that refuses it', () => {
    expect(() => storeWith({ schema: `"${'x'.repeat(100_000)}` })).toThrow(
      expect.objectContaining({ message: expect.stringMatching(/^.{1,400}$/s) }),
    );
  });

  it('stops the migration before any of its statements too [S19]', async () => {
    const dataSource = await dataSourceOf(watch.url, { entityPrefix: 'x";--' }).initialize();
    watch.clear();
    const print = jest.spyOn(console, 'log').mockImplementation(() => undefined);
    await expect(dataSource.runMigrations()).rejects.toThrow(/cannot use/);
    expect(watch.statements.filter((text) => /create table.*(session|--)|";--/i.test(text))).toEqual([]);
    print.mockRestore();
    await dataSource.destroy();
  });
});

describe('a plain name', () => {
  it.each(['a', '_', 'Auth', 'my_schema', 'a-b', 'a$b', 'größe', 'schéma_1', '模式', 'a'.repeat(63)])(
    'as schema is taken: %s',
    (schema) => {
      expect(tableNames(dataSourceOf(url, { schema })).sessions).toEqual({
        path: `${schema}.user_session`,
        sql: `"${schema}"."user_session"`,
      });
    },
  );

  it('as prefix is taken up to 63 bytes in all, and not one more', () => {
    const room = 63 - 'user_session_exemption'.length;
    expect(() => tableNames(dataSourceOf(url, { entityPrefix: 'a'.repeat(room) }))).not.toThrow();
    expect(() => tableNames(dataSourceOf(url, { entityPrefix: 'a'.repeat(room + 1) }))).toThrow(/63 bytes/);
    expect(() =>
      tableNames(dataSourceOf(url, { entityPrefix: 'ü'.repeat(Math.floor(room / 2) + 1) })),
    ).toThrow(/63 bytes/);
  });
});
