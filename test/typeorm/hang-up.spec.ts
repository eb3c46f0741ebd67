import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { setImmediate as turn } from 'node:timers/promises';
import pg from 'pg';
import { answered } from '../../src/session/answered.js';
import { hangingUpAt } from '../../src/typeorm/hang-up.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { watchStatements, type StatementWatch } from '../support/statements.js';

let databaseUrl: string;
let watch: StatementWatch;
let pool: pg.Pool;

beforeAll(async () => {
  databaseUrl = await freshDatabase();
});
afterAll(() => dropDatabase(databaseUrl));

beforeEach(async () => {
  watch = await watchStatements(databaseUrl);
  pool = new pg.Pool({ connectionString: watch.url, max: 1 });
  pool.on('error', () => undefined);
});
afterEach(async () => {
  await pool.end();
  await watch.stop();
});

const soon = (): number => performance.now() + 100;

/** Does nothing else meanwhile, as a process in the middle of a long computation. */
function busyFor(ms: number): void {
  const until = performance.now() + ms;
  while (performance.now() < until);
}

describe('a process that was busy when the deadline passed', () => {
  it('reads the answer that has come before it judges, and keeps the connection', async () => {
    const client = new pg.Client({ connectionString: databaseUrl });
    client.on('error', () => undefined);
    await client.connect();
    try {
      const answer = hangingUpAt(soon(), client, () => client.query('SELECT 2 AS two'));
      const limited = answered(answer, 100);
      await turn();
      busyFor(400);
      expect((await limited).rows).toEqual([{ two: 2 }]);
      expect((await client.query('SELECT 3 AS three')).rows).toEqual([{ three: 3 }]);
    } finally {
      await client.end();
    }
  });
});

describe('a query with a deadline', () => {
  it('answers when it is in time, and hangs up on nobody', async () => {
    const client = await pool.connect();
    const { rows } = await hangingUpAt(performance.now() + 5_000, client, () =>
      client.query('SELECT 1 AS one'),
    );
    expect(rows).toEqual([{ one: 1 }]);
    expect((await client.query('SELECT 2 AS two')).rows).toEqual([{ two: 2 }]);
    client.release();
  });

  it('is not sent at all when its turn comes too late: it would evict somebody for a login that was refused', async () => {
    const query = jest.fn(async () => 'sent');
    await expect(hangingUpAt(performance.now() - 1, {}, query)).rejects.toThrow(/pool/);
    expect(query).not.toHaveBeenCalled();
  });

  it('fails on a link that is silently dead, and the pool has room for a new connection', async () => {
    const client = await pool.connect();
    client.on('error', () => undefined);
    await client.query('SELECT 1');
    watch.freeze();
    const late = await hangingUpAt(soon(), client, () => client.query('SELECT 2')).catch(
      (error: Error) => error,
    );
    expect(late).toBeInstanceOf(Error);
    client.release(late as Error);
    watch.unfreeze();
    expect((await pool.query('SELECT 3 AS three')).rows).toEqual([{ three: 3 }]);
  });

  it('fails also where PostgreSQL cannot be told to give it up, which ends no process', async () => {
    const client = await pool.connect();
    client.on('error', () => undefined);
    Object.assign(client, { host: undefined });
    const holder = new pg.Client({ connectionString: databaseUrl });
    await holder.connect();
    try {
      await holder.query('SELECT pg_advisory_lock(1)');
      const waits = hangingUpAt(soon(), client, () => client.query('SELECT pg_advisory_lock_shared(1)'));
      await expect(waits).rejects.toThrow(/did not answer in time/);
      client.release(true);
    } finally {
      await holder.end();
    }
  });
});
