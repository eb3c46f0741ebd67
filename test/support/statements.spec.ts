import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import pg from 'pg';
import { dropDatabase, freshDatabase } from './fresh-database.js';
import { type StatementWatch, watchStatements } from './statements.js';

let databaseUrl: string;
let watch: StatementWatch;
let clients: pg.Client[];

beforeAll(async () => {
  databaseUrl = await freshDatabase();
});
afterAll(() => dropDatabase(databaseUrl));

beforeEach(async () => {
  clients = [];
  watch = await watchStatements(databaseUrl);
});
afterEach(async () => {
  await watch.stop();
  await Promise.all(clients.map((client) => client.end().catch(() => {})));
});

async function connect(options: pg.ClientConfig = {}): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: watch.url, ...options });
  client.on('error', () => {});
  clients.push(client);
  await client.connect();
  return client;
}

async function untilRecorded(): Promise<void> {
  while (watch.statements.length === 0) await new Promise(setImmediate);
}

describe('counting', () => {
  it('counts nothing for connecting, and nothing for disconnecting', async () => {
    const client = await connect();
    await client.end();
    expect(watch.statements).toEqual([]);
  });

  it('counts a simple query once, with its text', async () => {
    const client = await connect();
    await client.query('SELECT 1');
    expect(watch.statements).toEqual(['SELECT 1']);
  });

  it('counts what one round trip of several statements sends as it stands', async () => {
    const client = await connect();
    await client.query('SELECT 1; SELECT 2');
    expect(watch.statements).toEqual(['SELECT 1; SELECT 2']);
  });

  it('counts a query with parameters once, not once for each of its messages', async () => {
    const client = await connect();
    const { rows } = await client.query('SELECT $1::text AS word', ['zażółć']);
    expect(rows).toEqual([{ word: 'zażółć' }]);
    expect(watch.statements).toEqual(['SELECT $1::text AS word']);
  });

  it('counts a named prepared statement each time it runs, though it is parsed once', async () => {
    const client = await connect();
    for (const n of [1, 2, 3]) await client.query({ name: 'plus', text: 'SELECT $1::int + 1', values: [n] });
    expect(watch.statements).toEqual(Array.from({ length: 3 }, () => 'SELECT $1::int + 1'));
  });

  it('counts a result that is fetched in several goes once', async () => {
    const client = await connect();
    const rows = await new Promise<number>((resolve, reject) => {
      const query = { text: 'SELECT generate_series(1, 100)', rows: 10, queryMode: 'extended' };
      client.query(query as pg.QueryConfig, (error: Error | null, result) =>
        error ? reject(error) : resolve(result.rows.length),
      );
    });
    expect(rows).toBe(100);
    expect(watch.statements).toHaveLength(1);
  });

  it('counts a statement that fails, and a statement larger than one packet', async () => {
    const client = await connect();
    await expect(client.query('SELECT 1 / $1::int', [0])).rejects.toThrow('division by zero');
    const long = `SELECT '${'x'.repeat(300_000)}'`;
    await client.query(long);
    expect(watch.statements).toEqual(['SELECT 1 / $1::int', long]);
  });

  it('counts the statements of every connection, each with its time', async () => {
    const before = performance.now();
    const [one, two] = await Promise.all([connect(), connect()]);
    await one.query('BEGIN');
    await Promise.all([one.query('SELECT 1'), two.query('SELECT $1::int', [2])]);
    await one.query('COMMIT');
    expect([...watch.statements].sort()).toEqual(['BEGIN', 'COMMIT', 'SELECT $1::int', 'SELECT 1']);
    const times = watch.entries.map(({ at }) => at);
    expect(times).toEqual([...times].sort((a, b) => a - b));
    expect(times[0]).toBeGreaterThan(before);
  });

  it('counts each query of a burst on several connections, and mixes up no answers', async () => {
    const numbers = Array.from({ length: 50 }, (_, n) => n);
    const ask = async (client: pg.Client) => {
      for (const n of numbers) {
        const { rows } = await client.query<{ n: number }>('SELECT $1::int AS n', [n]);
        expect(rows).toEqual([{ n }]);
      }
    };
    await Promise.all((await Promise.all([connect(), connect(), connect(), connect()])).map(ask));
    expect(watch.statements).toHaveLength(4 * numbers.length);
  });

  it('clear() forgets', async () => {
    const client = await connect();
    await client.query('SELECT 1');
    watch.clear();
    await client.query('SELECT 2');
    expect(watch.statements).toEqual(['SELECT 2']);
    expect(watch.entries).toHaveLength(1);
  });

  it('speaks plainly to a client that would rather encrypt', async () => {
    await expect(connect({ ssl: { rejectUnauthorized: false } })).rejects.toThrow('does not support SSL');
  });
});

describe('a link that fails', () => {
  const soon = <T>(promise: Promise<T>) =>
    Promise.race([promise, new Promise<'nothing yet'>((resolve) => setTimeout(resolve, 150, 'nothing yet'))]);

  it('freeze() holds queries, answers and new connections back, and unfreeze() delivers them', async () => {
    const client = await connect();
    watch.freeze();
    const answer = client.query('SELECT 1');
    const newcomer = connect();
    expect(await soon(Promise.race([answer, newcomer]))).toBe('nothing yet');
    expect(watch.statements).toEqual([]);
    watch.unfreeze();
    await expect(answer).resolves.toMatchObject({ rowCount: 1 });
    await newcomer;
    expect(watch.statements).toEqual(['SELECT 1']);
  });

  it('freeze() holds back the answer to a query that had come through already', async () => {
    const client = await connect();
    const answer = client.query('SELECT pg_sleep(0.05)');
    await untilRecorded();
    watch.freeze();
    expect(await soon(answer)).toBe('nothing yet');
    watch.unfreeze();
    await answer;
  });

  it('freeze() does not tell the database that the client has gone', async () => {
    const observer = new pg.Client({ connectionString: databaseUrl });
    clients.push(observer);
    await observer.connect();
    const connected = async () => {
      const text = "SELECT count(*)::int AS n FROM pg_stat_activity WHERE application_name = 'leaver'";
      return (await observer.query<{ n: number }>(text)).rows[0].n;
    };
    const leaver = await connect({ application_name: 'leaver' });
    watch.freeze();
    leaver.connection.stream.destroy();
    await new Promise((resolve) => setTimeout(resolve, 150));
    expect(await connected()).toBe(1);
    watch.unfreeze();
    while ((await connected()) > 0) await new Promise((resolve) => setTimeout(resolve, 10));
  });

  it('cut() breaks connections and refuses new ones until restore()', async () => {
    const client = await connect();
    const [lost] = await Promise.all([
      client.query('SELECT pg_sleep(0.5)').catch((error: Error) => error.message),
      untilRecorded().then(() => watch.cut()),
    ]);
    expect(lost).toMatch(/terminated|ECONNRESET/);
    await expect(connect()).rejects.toThrow('ECONNREFUSED');
    await watch.restore();
    const again = await connect();
    await again.query('SELECT 1');
    expect(watch.statements.at(-1)).toBe('SELECT 1');
  });
});
