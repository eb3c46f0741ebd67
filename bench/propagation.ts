import http from 'node:http';
import { setTimeout as pause } from 'node:timers/promises';
import pg from 'pg';
import { MAX_STALENESS_MS, type Variant } from './application.js';
import { quantile } from './figures.js';
import type { Effort } from './load.js';
import type { Table } from './report.js';
import { startServers, stopServers } from './servers.js';

const PROCESSES = 4;
const EVICTIONS_PER_ROUND = 100;
const WARM_UP = 50;
const BETWEEN_LOOKS_MS = 1;

/** How long after an eviction the last of the other processes refuses the evicted session. */
export async function benchPropagation(databaseUrl: string, { rounds }: Effort): Promise<Table> {
  const evictions = rounds * EVICTIONS_PER_ROUND;
  const rows = [
    ['a NOTIFY between two connections', await rawNotifications(databaseUrl, evictions)],
    [
      `this module, strong: ${PROCESSES} processes that ask the database`,
      await evictionsOf('module', databaseUrl, evictions),
    ],
    [
      `this module, bounded to ${MAX_STALENESS_MS.toLocaleString('en-US')} ms: ${PROCESSES} processes that remember`,
      await evictionsOf('bounded', databaseUrl, evictions),
    ],
  ] as const;
  return {
    title: `bench/propagation: milliseconds until an ended session is refused everywhere, ${evictions} evictions`,
    columns: ['what', 'median', 'p99', 'maximum'],
    rows: rows.map(([name, lags]) => [
      name,
      ...[0.5, 0.99, 1].map((part) => quantile(lags, part).toFixed(1)),
    ]),
  };
}

/** What PostgreSQL and two sockets need for it: from the answer to the sender until the receiver has it. */
async function rawNotifications(databaseUrl: string, count: number): Promise<number[]> {
  const [sender, receiver] = [0, 1].map(() => new pg.Client({ connectionString: databaseUrl }));
  await Promise.all([sender!.connect(), receiver!.connect()]);
  await receiver!.query('LISTEN bench');
  const lags: number[] = [];
  for (let n = 0; n < count; n++) {
    const heard = new Promise<number>((resolve) =>
      receiver!.once('notification', () => resolve(performance.now())),
    );
    const sentAt = performance.now();
    await sender!.query("SELECT pg_notify('bench', '')");
    lags.push((await heard) - sentAt);
  }
  await Promise.all([sender!.end(), receiver!.end()]);
  return lags;
}

async function evictionsOf(variant: Variant, databaseUrl: string, count: number): Promise<number[]> {
  const servers = await startServers(Array<Variant>(PROCESSES).fill(variant), 'jwt', databaseUrl);
  const agent = new http.Agent({ keepAlive: true });
  try {
    const urls = servers.map(({ url }) => url);
    await evict(agent, urls, WARM_UP);
    return await evict(agent, urls, count);
  } finally {
    agent.destroy();
    await stopServers(servers);
  }
}

/** Signs one user in again and again, each time at another process. */
async function evict(agent: http.Agent, urls: string[], count: number): Promise<number[]> {
  const lags: number[] = [];
  let token = await signIn(agent, urls[0]!);
  for (let eviction = 0; eviction < count; eviction++) {
    // Every process has just found it live.
    await Promise.all(urls.map((url) => untilStatus(agent, url, token, 200)));
    const ender = urls[eviction % urls.length]!;
    const winner = await signIn(agent, ender);
    const committedAt = performance.now();
    const refused = urls.filter((url) => url !== ender).map((url) => untilStatus(agent, url, token, 401));
    lags.push(Math.max(...(await Promise.all(refused))) - committedAt);
    token = winner;
  }
  return lags;
}

/** When it was answered so. */
async function untilStatus(agent: http.Agent, url: string, token: string, wanted: number): Promise<number> {
  for (;;) {
    const { status } = await send(agent, `${url}/me`, { headers: { authorization: `Bearer ${token}` } });
    if (status === wanted) return performance.now();
    // All processes share the machine: asking without pause would be most of what is measured.
    await pause(BETWEEN_LOOKS_MS);
  }
}

async function signIn(agent: http.Agent, url: string): Promise<string> {
  const body = JSON.stringify({ username: 'user1', password: 'user1' });
  const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) };
  const { status, text } = await send(agent, `${url}/login`, { method: 'POST', headers }, body);
  if (status !== 200) throw new Error(`A login was answered ${status}.`);
  return (JSON.parse(text) as { accessToken: string }).accessToken;
}

function send(
  agent: http.Agent,
  url: string,
  options: http.RequestOptions,
  body?: string,
): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    const request = http.request(url, { ...options, agent }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
      response.on('end', () => resolve({ status: response.statusCode!, text })).on('error', reject);
    });
    request.on('error', reject).end(body);
  });
}
