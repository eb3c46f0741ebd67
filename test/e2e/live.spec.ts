import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import pg from 'pg';
import { Browser } from '../support/client.js';
import { EventStream } from '../support/event-stream.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { openSocket, type Library, type LiveSocket } from '../support/live-sockets.js';
import { endAllProcesses, repository, startCluster, type RunningProcess } from '../support/processes.js';
import { packPackage, TemporaryApp, temporaryDirectory } from '../support/temporary-app.js';

// What is open on one real process is closed when its session ends on another, and how long that takes.

const ENDS = Number(process.env['ENDS'] ?? 48);
/** In which the ends are spread: longer than a round of looks, so that they meet it at all its moments. */
const SPREAD_MS = 2_500;
const LOOK_EVERY_MS = 1_000;
/** What a busy machine makes of some milliseconds. */
const SOON_MS = 1_000;
const LONG = '60000';

const { dir, remove } = temporaryDirectory();
let app: TemporaryApp;
let databaseUrl: string;
let database: pg.Client;

beforeAll(async () => {
  app = new TemporaryApp(join(dir, 'live'), await packPackage(dir), 'module');
  app.write('src/main.ts', readFileSync(join(repository, 'test/e2e/fixture/live.ts'), 'utf8'));
  const complaints = await app.compile();
  if (complaints !== '') throw new Error(complaints);
  databaseUrl = await freshDatabase();
  database = new pg.Client({ connectionString: databaseUrl });
  await database.connect();
}, 60_000);

afterEach(endAllProcesses);

afterAll(async () => {
  await database?.end();
  await dropDatabase(databaseUrl);
  remove();
});

const start = (adapter: Library, freshness: string): Promise<RunningProcess[]> =>
  startCluster(2, {
    program: 'dist/main.js',
    cwd: app.dir,
    env: { DATABASE_URL: databaseUrl, ADAPTER: adapter, FRESHNESS: freshness },
  });

/** Something that is open and belongs to a session. */
interface Opened {
  sessionId: string;
  /** Resolves to what was told, when it is closed. */
  closed: Promise<unknown>;
}

let lastUser = 0;

async function signIn({ url }: RunningProcess): Promise<{ id: string; headers: Record<string, string> }> {
  const name = `user${++lastUser}`;
  const { status, body } = await new Browser(url).post(`/login/${name}`);
  expect(status).toBe(200);
  return { id: body.id, headers: { 'x-session': `${name} ${body.id}` } };
}

async function open(what: Library | 'stream', process: RunningProcess): Promise<Opened> {
  const { id, headers } = await signIn(process);
  if (what === 'stream') {
    const stream = await EventStream.open(`${process.url}/stream`, headers);
    await stream.next('message');
    return { sessionId: id, closed: stream.next('session-ended') };
  }
  const socket: LiveSocket = await openSocket(what, process.url, headers);
  expect(await socket.ask('who')).toMatchObject({ id });
  return { sessionId: id, closed: socket.closed.then(({ told }) => told) };
}

/** Ends the session on this process; resolves to how many milliseconds after the commit it was closed. */
async function lagOf({ sessionId, closed }: Opened, { url }: RunningProcess): Promise<number> {
  let committedAt = Infinity;
  const closedAt = closed.then((told) => {
    expect(typeof told === 'string' ? told : (told as { reason: string }).reason).toBe('admin');
    return performance.now();
  });
  const { body } = await new Browser(url).send('DELETE', `/sessions/${sessionId}`);
  // The answer comes after the commit, so a lag can be a little too short, and never too long.
  committedAt = performance.now();
  expect(body).toEqual({ ended: 1 });
  return Math.max(0, (await closedAt) - committedAt);
}

async function lagsOf(what: Library | 'stream', [one, other]: RunningProcess[]): Promise<number[]> {
  const opened = await Promise.all(Array.from({ length: ENDS }, () => open(what, one!)));
  return Promise.all(
    opened.map(async (each, place) => {
      await pause((place * SPREAD_MS) / ENDS);
      return lagOf(each, other!);
    }),
  );
}

const quantile = (sorted: number[], part: number): string =>
  sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))]!.toFixed(0);

function report(title: string, lags: number[]): number {
  lags.sort((a, b) => a - b);
  const [median, p99, most] = [0.5, 0.99, 1].map((part) => quantile(lags, part));
  process.stderr.write(
    `${title}: closed after a median of ${median} ms, p99 ${p99} ms, at most ${most} ms (${lags.length} ends)\n`,
  );
  return lags.at(-1)!;
}

const listeners = async (): Promise<number> => {
  const { rowCount } = await database.query(
    `SELECT FROM pg_stat_activity WHERE application_name = 'nestjs-single-session:signal' AND datname = current_database()`,
  );
  return rowCount ?? 0;
};

describe.each([
  ['sockets of socket.io', 'socket.io', ['socket.io']],
  ['sockets of ws, and streams of server-sent events,', 'ws', ['ws', 'stream']],
] as [string, Library, (Library | 'stream')[]][])('%s', (_, adapter, kinds) => {
  it('are closed within a look of every second in strong mode, and nothing listens [lesson 26]', async () => {
    const cluster = await start(adapter, 'strong');
    for (const kind of kinds)
      expect(report(`${kind}, strong`, await lagsOf(kind, cluster))).toBeLessThan(LOOK_EVERY_MS + SOON_MS);
    expect(await listeners()).toBe(0);
  }, 60_000);

  it('are closed as soon as the notification comes in bounded mode, here of a minute [lesson 26]', async () => {
    const cluster = await start(adapter, LONG);
    for (const kind of kinds)
      expect(report(`${kind}, bounded`, await lagsOf(kind, cluster))).toBeLessThan(SOON_MS);
  }, 60_000);
});

it('what nobody is told of is closed within the staleness of bounded mode all the same [P4]', async () => {
  const [one] = await start('ws', '2000');
  const opened = await Promise.all(['stream', 'ws'].map((kind) => open(kind as Library | 'stream', one!)));
  await endSilently(opened.map(({ sessionId }) => sessionId));
  const committedAt = performance.now();
  await Promise.all(opened.map(({ closed }) => closed));
  expect(performance.now() - committedAt).toBeLessThan(2_000 + SOON_MS);
}, 60_000);

/** As a process would whose notification is lost. */
async function endSilently(ids: string[]): Promise<void> {
  await database.query(`UPDATE user_session SET ended_at = now(), end_reason = 'admin' WHERE id = ANY($1)`, [
    ids,
  ]);
}
