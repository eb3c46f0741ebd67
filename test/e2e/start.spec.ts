import { afterAll, afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import pg from 'pg';
import { Browser } from '../support/client.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { HttpClient, login } from '../support/http-client.js';
import {
  endAllProcesses,
  runToEnd,
  startCluster,
  startProcess,
  type RunningProcess,
} from '../support/processes.js';

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

describe('a wrong environment variable', () => {
  const wrong: [name: string, value: string, says: RegExp][] = [
    ['MAX_SESSIONS', '0', /MAX_SESSIONS is "0".* whole number/],
    ['MAX_SESSIONS', '1.5', /MAX_SESSIONS is "1.5"/],
    ['MAX_SESSIONS', '-1', /MAX_SESSIONS is "-1"/],
    ['MAX_SESSIONS', 'one', /MAX_SESSIONS is "one"/],
    ['MAX_SESSIONS', '1001', /1,?000/],
    ['ON_LIMIT', 'refuse', /ON_LIMIT is "refuse".*evict or reject/],
    ['FRESHNESS', 'weak', /FRESHNESS is "weak".*strong, or milliseconds from 100/],
    ['FRESHNESS', '99', /FRESHNESS is "99"/],
    ['LOGOUT_EVERYWHERE', 'yes', /LOGOUT_EVERYWHERE is "yes".*true or false/],
    ['UNREGISTERED', 'ignore', /UNREGISTERED is "ignore".*reject or adopt/],
    ['PLATFORM', 'koa', /PLATFORM is "koa"/],
    ['PORT', '99999', /PORT is "99999"/],
    ['DATABASE_URL', 'mysql://u:hidden@h/d', /DATABASE_URL must look like postgres:/],
  ];

  it('stops the start with code 1 and says what to write instead [S26]', async () => {
    for (let i = 0; i < wrong.length; i += 4) {
      await Promise.all(
        wrong.slice(i, i + 4).map(async ([name, value, says]) => {
          const { code, stdout, stderr } = await runToEnd(settings({ [name]: value }));
          expect({ name, value, code, stdout, stderr }).toEqual({
            name,
            value,
            code: 1,
            stdout: '',
            stderr: expect.stringMatching(says),
          });
          expect(stderr).not.toMatch(/hidden|\n\s+at /);
        }),
      );
    }
  });

  it('is not one that is empty or absent: the defaults of the contract hold', async () => {
    const empty = Object.fromEntries(
      ['MAX_SESSIONS', 'ON_LIMIT', 'FRESHNESS', 'LOGOUT_EVERYWHERE', 'UNREGISTERED', 'PLATFORM'].map(
        (name) => [name, ''],
      ),
    );
    const server = await startProcess(settings(empty));
    expect(server.stdout()).toMatch(/1 per user, onLimit: evict/);
    expect(server.stdout()).toMatch(/exempt +users: xqueue-watcher; roles: service/);
  });
});

describe('without DATABASE_URL', () => {
  it('brings a PostgreSQL of its own, which ends with it', async () => {
    const server = await startProcess({ env: {} });
    expect((await new Browser(server.url).login('alice')).status).toBe(200);
    expect(await server.stop()).toEqual({ code: 0, signal: null });
    expect(server.stderr()).toBe('');
  });
});

/** Starts processes that meet the empty database in the same moment: their first statements wait until all have come. */
async function startTogether(size: number): Promise<RunningProcess[]> {
  const gate = new pg.Client({ connectionString: databaseUrl });
  await gate.connect();
  await gate.query('BEGIN; LOCK TABLE pg_namespace');
  const starting = startCluster(size, settings());
  try {
    await Promise.race([starting, until(async () => (await waiting(gate)) === size)]);
  } finally {
    await gate.query('COMMIT');
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
