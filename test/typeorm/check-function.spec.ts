import { randomUUID } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { Logger } from '@nestjs/common';
import type { DataSource, DataSourceOptions, QueryRunner } from 'typeorm';
import { singleSessionMigrations } from '../../migrations/index.js';
import { checkStatement } from '../../src/typeorm/check-statement.js';
import { PrimaryDatabase } from '../../src/typeorm/primary-database.js';
import { checkFunctionName, quotedTableNames } from '../../src/typeorm/table-names.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { PluralSnakeNaming } from '../support/snake-naming.js';
import { CHECK, watchStatements, type StatementWatch } from '../support/statements.js';
import { dataSourceOf, someone, StoreBench, times, until } from '../support/store.js';

type Options = Partial<Extract<DataSourceOptions, { type: 'postgres' }>>;

let url: string;
let watch: StatementWatch;
let warn: jest.SpiedFunction<Logger['warn']>;
/** What closes what a test has opened. */
const open: (() => Promise<void>)[] = [];

beforeEach(async () => {
  url = await freshDatabase();
  watch = await watchStatements(url);
  warn = jest.spyOn(Logger.prototype, 'warn').mockReturnValue();
});
afterEach(async () => {
  jest.restoreAllMocks();
  for (const close of open.splice(0)) await close();
  await watch.stop();
  await dropDatabase(url);
});

async function connected(options: Options = {}): Promise<DataSource> {
  const dataSource = await dataSourceOf(url, options).initialize();
  open.push(() => dataSource.destroy());
  return dataSource;
}

/** Another process, on an address that records what it says. */
async function started(options: Options = {}): Promise<StoreBench> {
  const bench = await StoreBench.open(watch.url, {}, options);
  open.push(() => bench.close());
  watch.clear();
  return bench;
}

const WAITS = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";

const plainOf = (dataSource: DataSource): string => checkStatement(quotedTableNames(dataSource));
const inOneLine = (text: string): string => text.replace(/\s+/g, ' ');

async function bodyOf(dataSource: DataSource): Promise<string | undefined> {
  const sql = `SELECT prosrc FROM pg_proc WHERE oid = to_regprocedure($1)`;
  const signature = `${checkFunctionName(dataSource)}(uuid[], interval, interval)`;
  const [row] = (await dataSource.query(sql, [signature])) as { prosrc: string }[];
  return row?.prosrc;
}

async function undoMigrations(dataSource: DataSource): Promise<void> {
  for (const _ of singleSessionMigrations) await dataSource.undoLastMigration();
}

describe('the function of the check', () => {
  it.each<[string, Options]>([
    ['by itself', {}],
    ['in a schema', { schema: 'My-Schema', entityPrefix: 'App$function$' }],
    ['beside tables that are renamed', { entityPrefix: 'app_', namingStrategy: new PluralSnakeNaming() }],
  ])(
    'has the text of the statement, %s; whoever changes the statement adds another function',
    async (_, options) => {
      const dataSource = await connected(options);
      if (options.schema) await dataSource.query(`CREATE SCHEMA "${options.schema}"`);
      await dataSource.runMigrations();
      const body = inOneLine(`BEGIN RETURN (${plainOf(dataSource)}); END`);
      expect(inOneLine((await bodyOf(dataSource))!)).toBe(body);
      await undoMigrations(dataSource);
      expect(await bodyOf(dataSource)).toBeUndefined();
    },
  );

  it('answers every check, without a name', async () => {
    const bench = await started();
    const sessions = bench.sessions();
    const id = await sessions.login(someone());
    watch.clear();
    expect(await sessions.isLive(id)).toBe(true);
    expect(watch.statements).toEqual([expect.stringMatching(CHECK)]);
    expect(await bench.query('SELECT FROM pg_prepared_statements')).toEqual([]);
    expect(warn).not.toHaveBeenCalled();
  });

  // A function keeps the plans of its statements as a connection does those of prepared ones, and only these can be looked at.
  const asked = (...ids: string[]): string => `EXECUTE check_of('{${ids.join()}}', NULL, '1 minute')`;
  const prepare = (dataSource: DataSource): Promise<unknown> =>
    dataSource.query(`PREPARE check_of (uuid[], interval, interval) AS ${plainOf(dataSource)}`);

  it.each([1, 40])('is planned once for each connection when %d are asked for at a time', async (count) => {
    const dataSource = await connected({ migrationsRun: true, poolSize: 1 });
    await prepare(dataSource);
    // PostgreSQL tries five plans for single values before it keeps one for all.
    for (let time = 0; time < 8; time++) await dataSource.query(asked(...times(count, () => randomUUID())));
    const plans = "SELECT generic_plans::int AS kept FROM pg_prepared_statements WHERE name = 'check_of'";
    expect(await dataSource.query(plans)).toEqual([{ kept: 3 }]);
  });

  /** So far, by this connection: whole tables and look-ups of sessions, then of slots. */
  async function scans(runner: QueryRunner): Promise<number[]> {
    const rows = (await runner.query(
      `SELECT seq_scan::int AS whole, idx_scan::int AS "lookUps" FROM pg_stat_xact_user_tables
        WHERE relname IN ('user_session', 'user_session_slots') ORDER BY relname`,
    )) as { whole: number; lookUps: number }[];
    return rows.flatMap(({ whole, lookUps }) => [whole, lookUps]);
  }

  it.each([0, 20])(
    'keeps a plan that is good for a table of any size, also when it was made while there were %d sessions',
    async (count) => {
      const bench = await started({ poolSize: 1 });
      const sessions = bench.sessions();
      for (const id of await Promise.all(times(count, () => sessions.login(someone()))))
        await sessions.isLive(id);
      for (const table of ['', '_slots', '_cutoff']) await bench.query(`VACUUM ANALYZE user_session${table}`);
      for (let time = 0; time < 8; time++) await sessions.isLive(randomUUID());
      const id = await sessions.login(someone());

      const runner = bench.dataSource.createQueryRunner();
      await runner.startTransaction();
      const before = await scans(runner);
      await runner.query("SELECT user_session_check_1($1, NULL, '1 minute')", [[id]]);
      const after = await scans(runner);
      await runner.rollbackTransaction();
      await runner.release();
      expect(after.map((count, place) => count - before[place]!)).toEqual([0, 1, 0, 1]);
    },
  );

  // PostgreSQL writes such a table anew, and to a statement that began before it looks empty.
  it.each([
    ['user_session', 'live'],
    ['user_session_slots', 'live'],
    ['user_session_cutoff', 'cut-off'],
  ])('decides the same when it has waited for %s to be rewritten', async (table, state) => {
    const bench = await started();
    const id = await bench.sessions().login(someone());
    if (state === 'cut-off')
      await bench.query(
        "INSERT INTO user_session_cutoff (created_at, administrators, roles, usernames, user_ids) VALUES (now(), false, '{}', '{}', '{}')",
      );
    const runner = bench.dataSource.createQueryRunner();
    await runner.startTransaction();
    await runner.query(`ALTER TABLE ${table} ADD COLUMN theirs uuid DEFAULT gen_random_uuid()`);
    // The store itself: what says that it is dead would be asked again.
    const answer = bench.store.verify([{ id, limit: 1 }]);
    await until(async () => (await bench.query(WAITS)).length > 0);
    await runner.commitTransaction();
    await runner.release();
    expect(await answer).toMatchObject([state === 'live' ? { live: true } : { live: false, reason: state }]);
  });

  it('is made anew in a schema that was emptied and kept its functions', async () => {
    const first = await connected({ migrationsRun: true });
    await first.query('DROP FUNCTION user_session_check_1');
    await first.query(
      "CREATE FUNCTION user_session_check_1 (uuid[], interval, interval) RETURNS json LANGUAGE sql AS 'SELECT NULL::json'",
    );
    const second = await connected({ dropSchema: true, migrationsRun: true });
    expect(inOneLine((await bodyOf(second))!)).toContain(inOneLine(plainOf(second)));
  });
});

/** The last of several logins is live; the first was evicted. */
async function expectToDecide(bench: StoreBench): Promise<void> {
  const sessions = bench.sessions();
  const user = someone();
  const [first, second] = [await sessions.login(user), await sessions.login(user)];
  expect(await sessions.states([first, second, randomUUID()])).toEqual(['superseded', 'live', 'unknown']);
}

describe('without the function', () => {
  const expectPlain = async (bench: StoreBench, detail: RegExp): Promise<void> => {
    await expectToDecide(bench);
    expect(watch.statements.filter((text) => CHECK.test(text))).toEqual([]);
    expect(watch.statements).toContain(plainOf(bench.dataSource));
    expect(warn.mock.calls.map(([text]) => String(text))).toEqual([expect.stringMatching(detail)]);
  };

  it('in tables that were synchronized, the statement is plain and decides the same, with a warning', async () => {
    const bench = await started({ migrationsRun: false, synchronize: true });
    await expectPlain(bench, /user_session_check_1.*does not exist.*Run the migrations.*GRANT EXECUTE/s);
  });

  /** `work` of another process, whose role has the rights on the tables that it needs. */
  async function withRole(
    owner: DataSource,
    work: (bench: StoreBench, role: string) => Promise<void>,
  ): Promise<void> {
    const role = `role_${randomUUID().slice(0, 8)}`;
    await owner.query(`CREATE ROLE ${role} LOGIN PASSWORD 'for tests only'`);
    await owner.query(`GRANT USAGE ON SCHEMA public TO ${role}`);
    await owner.query(`GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO ${role}`);
    try {
      const extra = { options: `-c role=${role}` };
      await work(await started({ migrationsRun: false, migrations: [], extra }), role);
      await open.pop()!();
    } finally {
      await owner.query(`DROP OWNED BY ${role}`);
      await owner.query(`DROP ROLE ${role}`);
    }
  }

  it('for a role that may not call it, the statement is plain and decides the same, with a warning', async () => {
    const owner = await connected({ migrationsRun: true });
    await owner.query('REVOKE EXECUTE ON FUNCTION user_session_check_1 FROM PUBLIC');
    await withRole(owner, (bench) => expectPlain(bench, /permission denied for function.*GRANT EXECUTE/s));
  });

  it.each([
    ['table', 'SELECT ON user_session_cutoff', 'permission denied for table user_session_cutoff'],
    ['schema', 'USAGE ON SCHEMA public', 'relation "user_session" does not exist'],
  ])('for want of a right on its %s, it is called again when that is there', async (_, right, message) => {
    const owner = await connected({ migrationsRun: true });
    await owner.query('REVOKE USAGE ON SCHEMA public FROM PUBLIC');
    await withRole(owner, async (bench, role) => {
      const id = await bench.sessions().login(someone());
      await owner.query(`REVOKE ${right} FROM ${role}`);
      await expect(bench.store.verify([{ id, limit: 1 }])).rejects.toThrow(message);
      await owner.query(`GRANT ${right} TO ${role}`);
      watch.clear();
      expect(await bench.sessions().isLive(id)).toBe(true);
      expect(watch.statements).toEqual([expect.stringMatching(CHECK)]);
      expect(warn).not.toHaveBeenCalled();
    });
  });

  it('for want of a right on its table that is there again a moment later, it is not blamed either', async () => {
    const owner = await connected({ migrationsRun: true });
    await withRole(owner, async (bench, role) => {
      // eslint-disable-next-line -- the method of before
      const run = PrimaryDatabase.prototype.run;
      await owner.query(`REVOKE SELECT ON user_session_cutoff FROM ${role}`);
      jest.spyOn(PrimaryDatabase.prototype, 'run').mockImplementationOnce(async function (
        this: PrimaryDatabase,
        ...given
      ) {
        return run
          .apply(this, given)
          .finally(() => owner.query(`GRANT SELECT ON user_session_cutoff TO ${role}`));
      });
      await expect(bench.store.verify([{ id: randomUUID(), limit: 1 }])).rejects.toThrow(
        'permission denied for table',
      );
      expect(warn).not.toHaveBeenCalled();
    });
  });

  it('any more, the checks that are under way are answered all the same, with one warning', async () => {
    const bench = await started();
    const sessions = bench.sessions();
    const ids = await Promise.all(times(8, () => sessions.login(someone())));
    await bench.query('DROP FUNCTION user_session_check_1');
    const answers = await Promise.all(ids.map((id) => bench.store.verify([{ id, limit: 1 }])));
    expect(answers).toEqual(times(8, () => [expect.objectContaining({ live: true })]));
    watch.clear();
    await expectPlain(bench, /user_session_check_1.*does not exist/s);
  });

  it('that works, the start stops and says why', async () => {
    const { dataSource, store } = await started();
    await dataSource.query('DROP FUNCTION user_session_check_1');
    await dataSource.query(
      `CREATE FUNCTION user_session_check_1 (uuid[], interval, interval) RETURNS int
        LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''not ours''; END'`,
    );
    await expect(store.prepare()).rejects.toThrow('not ours');
  });
});

it('a column of another type with the same values changes no answer', async () => {
  const bench = await started();
  await bench.query(
    'ALTER TABLE user_session ALTER COLUMN user_id TYPE varchar(300), ALTER COLUMN end_reason TYPE varchar(30)',
  );
  await expectToDecide(bench);
});
