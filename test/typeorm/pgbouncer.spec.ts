import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { Logger } from '@nestjs/common';
import type pg from 'pg';
import { startApplication } from '../support/application.js';
import { TokenClient } from '../support/client.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { findPgBouncer, startPgBouncer, type PgBouncer } from '../support/pgbouncer.js';
import { newUser } from '../support/sessions.js';
import { dataSourceOf, someone, StoreBench, times, type TestSessions } from '../support/store.js';

const executablePath = findPgBouncer();
const [behindPgBouncer, title] =
  executablePath === undefined
    ? [describe.skip, 'skipped: no PgBouncer on this machine; apt-get install pgbouncer']
    : [describe, 'behind PgBouncer in transaction mode'];
// Jest prints no title of a file of which it ran nothing.
if (executablePath === undefined) process.stderr.write(`test/typeorm/pgbouncer.spec.ts ${title}\n`);

behindPgBouncer(title, () => {
  let direct: string;
  let pgBouncer: PgBouncer | undefined;
  let bench: StoreBench | undefined;
  let warn: jest.SpiedFunction<Logger['warn']>;

  beforeEach(async () => {
    direct = await freshDatabase();
    const migrating = await dataSourceOf(direct, { migrationsRun: true }).initialize();
    await migrating.destroy();
    pgBouncer = await startPgBouncer(executablePath!, direct);
    warn = jest.spyOn(Logger.prototype, 'warn').mockReturnValue();
  });
  afterEach(async () => {
    jest.restoreAllMocks();
    await bench?.close();
    bench = undefined;
    await pgBouncer?.stop();
    pgBouncer = undefined;
    await dropDatabase(direct);
  });

  async function open(): Promise<TestSessions> {
    bench = await StoreBench.open(pgBouncer!.url, {}, { migrationsRun: false });
    return bench.sessions();
  }

  /** Logins of many users, and of one at once; then each session again and again. */
  async function expectTheLimit(sessions: TestSessions): Promise<void> {
    const others = await Promise.all(times(40, () => sessions.login(someone())));
    const user = someone();
    const ids = await Promise.all(times(32, () => sessions.login(user)));
    for (let round = 0; round < 10; round++) {
      expect(await sessions.liveOf(ids)).toHaveLength(1);
      expect(await sessions.liveOf(others)).toHaveLength(40);
    }
  }

  it('a name that one transaction has given is not known to the next: it is a pooler that breaks names', async () => {
    await open();
    const [busy, other] = times(2, () => bench!.dataSource.createQueryRunner());
    // While a transaction holds one connection to PostgreSQL, a second one is made.
    await busy!.startTransaction();
    const client = (await other!.connect()) as pg.ClientBase;
    const named = { name: 'given', text: 'SELECT 1' };
    await client.query(named);
    await busy!.commitTransaction();
    const twice = async (): Promise<void> => {
      for (let time = 0; time < 2; time++) await client.query(named);
    };
    await expect(twice()).rejects.toThrow('prepared statement "given" does not exist');
    await Promise.all([busy!.release(), other!.release()]);
  });

  it('32 parallel logins leave exactly one live, and checks and logins go on, without a warning', async () => {
    await expectTheLimit(await open());
    expect(warn).not.toHaveBeenCalled();
  });

  it('bounded freshness is given up for strong checks at the start, with one warning; the loser is refused at once', async () => {
    const options = { freshness: { maxStalenessMs: 60_000 } };
    const application = await startApplication(pgBouncer!.url, {
      options,
      typeorm: { migrationsRun: false },
    });
    try {
      expect(warn.mock.calls.map(([text]) => String(text))).toEqual([expect.stringMatching(/PgBouncer/)]);
      const { username } = newUser(application);
      const clients = times(2, () => new TokenClient(application.url));
      for (const client of clients) {
        await client.login(username);
        expect((await client.get()).status).toBe(200);
      }
      expect((await clients[0]!.get()).status).toBe(401);
    } finally {
      await application.close();
    }
  });
});
