import { createHmac, randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import pg from 'pg';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { cookieOf, HttpClient, login, type Credential, type Reply } from '../support/http-client.js';
import { startProvider, type OAuthProvider } from '../support/oauth-provider.js';
import { platform } from '../support/platform.js';
import { endAllProcesses, startCluster } from '../support/processes.js';
import { LOGINS, playRoundOf, type Round } from './round.js';

// The exactly-N test for each way in that creates sessions, on real processes and one database.

const PROCESSES = 3;
// What decides is the same statement on both platforms and for each way.
const ROUNDS = platform === 'fastify' ? 1 : 2;
const TEST_TIMEOUT_MS = 90_000;
const SESSION_SECRET = 'a secret that the processes of this test share';

interface Login {
  status: number;
  credential: Credential | undefined;
}

const client = new HttpClient();
let databaseUrl: string;
let provider: OAuthProvider;

beforeAll(async () => {
  [databaseUrl, provider] = await Promise.all([freshDatabase(), startProvider()]);
  const database = new pg.Client({ connectionString: databaseUrl });
  await database.connect();
  await database.query(
    readFileSync(createRequire(import.meta.url).resolve('connect-pg-simple/table.sql'), 'utf8'),
  );
  await database.end();
});

afterEach(endAllProcesses);

afterAll(async () => {
  client.close();
  await endAllProcesses();
  await provider?.stop();
  await dropDatabase(databaseUrl);
});

const reached = (reply: Reply): Login => ({
  // A redirect after a login is as good as any answer.
  status: reply.status === 302 ? 200 : reply.status,
  credential: cookieOf(reply),
});

const byForm =
  (path: string) =>
  async (url: string, username: string): Promise<Login> =>
    reached(await client.send(url + path, { method: 'POST', body: { username, password: username } }));

async function byProvider(url: string, username: string): Promise<Login> {
  const start = await client.send(`${url}/oauth`);
  const atProvider = await client.send(`${start.headers.location}&login_hint=${username}`);
  const headers = cookieOf(start) as { cookie: string };
  return reached(await client.send(atProvider.headers.location!, { headers }));
}

async function byMemory(url: string, username: string): Promise<Login> {
  const text = `${username}.${randomUUID()}`;
  const signature = createHmac('sha256', SESSION_SECRET).update(text).digest('hex');
  return reached(await client.send(`${url}/me`, { headers: { cookie: `remember_me=${text}.${signature}` } }));
}

const WAYS: [string, (url: string, username: string) => Promise<Login>][] = [
  ['a marked login route', byForm('/login')],
  ['a token', (url, username) => login(client, url, username, 'token')],
  ['a handler', byForm('/handler')],
  ['a guard', byForm('/guard')],
  ['OAuth 2.0', byProvider],
  ['remember-me', byMemory],
];

async function startProcesses(limit: number, onLimit: string): Promise<string[]> {
  const env = {
    DATABASE_URL: databaseUrl,
    OAUTH_URL: provider.url,
    SESSION_SECRET,
    MAX_SESSIONS: String(limit),
    ON_LIMIT: onLimit,
  };
  const program = 'test/e2e/fixture/ways-in.mjs';
  return (await startCluster(PROCESSES, { env, program })).map(({ url }) => url);
}

/** Rounds of each way in, and what is wrong with any of them. */
async function faults(limit: number, onLimit: 'evict' | 'reject'): Promise<object[]> {
  const urls = await startProcesses(limit, onLimit);
  const found: object[] = [];
  for (const [way, signIn] of WAYS)
    for (let n = 0; n < ROUNDS; n++) {
      const username = `user-${onLimit}-${limit}-${n}-${way.replaceAll(/\W/g, '')}`;
      const turned = urls.map((_, i) => urls[(i + n) % urls.length]!);
      const round = await playRoundOf(client, turned, (url) => signIn(url, username));
      if (!isExact(round, limit, onLimit)) found.push({ way, ...round });
    }
  return found;
}

function isExact({ accepted, statuses }: Round, limit: number, onLimit: 'evict' | 'reject'): boolean {
  const expected = onLimit === 'evict' ? { 200: LOGINS } : { 200: limit, 409: LOGINS - limit };
  return (
    JSON.stringify(statuses) === JSON.stringify(expected) &&
    accepted.every((numbers) => numbers.length === limit && String(numbers) === String(accepted[0]))
  );
}

describe(`${LOGINS} logins of one account at the same time on ${PROCESSES} processes, in ${ROUNDS} round(s) of each way in`, () => {
  it(
    'leave exactly one session, which every process accepts, when logins evict [lesson 1, S25]',
    async () => expect(await faults(1, 'evict')).toEqual([]),
    TEST_TIMEOUT_MS,
  );

  it(
    'let exactly 2 in and answer 409 to the others, whose cookies open nothing, when logins are rejected [lesson 1, S25]',
    async () => expect(await faults(2, 'reject')).toEqual([]),
    TEST_TIMEOUT_MS,
  );
});
