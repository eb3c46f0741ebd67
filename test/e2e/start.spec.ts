import { afterAll, afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import pg from 'pg';
import { Browser } from '../support/client.js';
import { EventStream } from '../support/event-stream.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { HttpClient, login } from '../support/http-client.js';
import { endAllProcesses, startCluster, startProcess, type RunningProcess } from '../support/processes.js';

let databaseUrl: string;

beforeEach(async () => {
  databaseUrl = await freshDatabase();
});

afterEach(async () => {
  await endAllProcesses();
  await dropDatabase(databaseUrl);
});

afterAll(endAllProcesses);

const settings = (env: Record<string, string> = {}) => ({
  env: { DATABASE_URL: databaseUrl, SESSION_SECRET: 'shared by the processes of this test', ...env },
});

describe('processes that start at the same moment on an empty database', () => {
  it('all come up, as one cluster, and say nothing of an error [S26]', async () => {
    const cluster = await startTogether(3);
    const healths = await Promise.all(cluster.map(({ url }) => fetch(`${url}/health`)));
    expect(healths.map(({ status }) => status)).toEqual([200, 200, 200]);

    const browser = new Browser(cluster[0]!.url);
    await browser.login('alice');
    for (const { url } of cluster) expect((await browser.copy(url).get('/me')).status).toBe(200);
    expect(cluster.map((server) => server.stderr())).toEqual(['', '', '']);
  });
});

describe('SIGTERM', () => {
  it('answers the login that is under way, then ends with code 0', async () => {
    const server = await startProcess(settings());
    const database = new pg.Client({ connectionString: databaseUrl });
    await database.connect();
    await database.query('BEGIN; LOCK TABLE user_session_slots');
    const browser = new Browser(server.url);
    const underWay = browser.login('alice');
    await until(async () => (await waiting(database)) > 0);

    const ended = server.stop();
    await until(async () => !(await accepts(server.url)));
    await database.query('COMMIT');
    await database.end();
    expect((await underWay).status).toBe(200);
    expect(await ended).toEqual({ code: 0, signal: null });
    expect(server.stderr()).toBe('');

    const next = await startProcess(settings());
    expect((await browser.copy(next.url).get('/me')).status).toBe(200);
  });

  it.each([
    ['takes other types too', 'text/event-stream, */*'],
    ['does not say what it takes, as curl does', '*/*'],
  ])('closes open streams at once, of a client that %s, and waits for answers', async (_, accept) => {
    const server = await startProcess(settings());
    const browser = new Browser(server.url);
    await browser.login('bob');
    const stream = await EventStream.open(`${server.url}/sessions/mine/events`, {
      accept,
      cookie: browser.cookie!,
    });
    await stream.beat();
    const database = new pg.Client({ connectionString: databaseUrl });
    await database.connect();
    await database.query('BEGIN; LOCK TABLE user_session_slots');
    const underWay = new Browser(server.url).login('alice');
    await until(async () => (await waiting(database)) > 0);

    const ended = server.stop();
    await stream.ended;
    await database.query('COMMIT');
    await database.end();
    expect((await underWay).status).toBe(200);
    expect(await ended).toEqual({ code: 0, signal: null });
  });

  it('ends each of three processes with code 0 while clients keep their connections busy', async () => {
    const cluster = await startCluster(3, settings());
    const client = new HttpClient();
    let answered = 0;
    const statuses = new Set<number>();
    const keepAsking = async (url: string, headers: Record<string, string>): Promise<void> => {
      for (;;) {
        // A connection that is refused or closed between two requests ends the loop, as it does when a server leaves.
        const reply = await client.send(`${url}/me`, { headers }).catch(() => undefined);
        if (reply === undefined) return;
        statuses.add(reply.status);
        answered++;
      }
    };
    const { credential } = await login(client, cluster[0]!.url, 'alice');
    const loops = cluster.flatMap(({ url }) =>
      Array.from({ length: 8 }, () => keepAsking(url, { ...credential! })),
    );
    await until(async () => answered > 50);

    const exits = await Promise.all(cluster.map((server) => server.stop()));
    await Promise.all(loops);
    client.close();
    expect(exits).toEqual(Array(3).fill({ code: 0, signal: null }));
    expect([...statuses]).toEqual([200]);
    expect(cluster.map((server) => server.stderr())).toEqual(['', '', '']);
  });
});

/** Starts processes that meet the empty database in the same moment: they wait for the lock of the migrations until all have come. */
async function startTogether(size: number): Promise<RunningProcess[]> {
  const gate = new pg.Client({ connectionString: databaseUrl });
  await gate.connect();
  await gate.query(`SELECT pg_advisory_lock(hashtext('nestjs-single-session:run-migrations'))`);
  const starting = startCluster(size, settings());
  const asking = async (): Promise<number | null> =>
    (
      await gate.query(
        "SELECT FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%pg_try_advisory_lock(%' AND pid <> pg_backend_pid()",
      )
    ).rowCount;
  try {
    await Promise.race([starting, until(async () => (await asking()) === size)]);
  } finally {
    await gate.end();
  }
  return starting;
}

/** Waits for a condition that no event announces. */
async function until(condition: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + 10_000;
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(`It did not come true: ${condition.toString()}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** How many backends of the database wait for a lock. */
async function waiting(database: pg.Client): Promise<number> {
  // A transaction goes on seeing what it saw first.
  await database.query('SELECT pg_stat_clear_snapshot()');
  const { rows } = await database.query(
    "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'",
  );
  return rows.length;
}

/** Whether a new connection is taken. */
async function accepts(url: string): Promise<boolean> {
  const client = new HttpClient();
  const taken = await client.send(`${url}/demo.css`).then(
    () => true,
    () => false,
  );
  client.close();
  return taken;
}
