import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import pg from 'pg';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { HttpClient } from '../support/http-client.js';
import { platform } from '../support/platform.js';
import { endAllProcesses, startCluster } from '../support/processes.js';
import { LOGINS, playRound, type Round } from './round.js';

// Real processes on one database. The password check of the demo is cheap: a slow one spreads the logins and hides the race.

const PROCESSES = 3;
// What decides is the same statement on both platforms.
const ROUNDS = platform === 'fastify' ? 10 : 50;
const TEST_TIMEOUT_MS = 90_000;

const limits = platform === 'fastify' ? [1, 2] : [1, 2, 3];
const client = new HttpClient();
let databaseUrl: string;

beforeAll(async () => {
  databaseUrl = await freshDatabase();
});

afterEach(endAllProcesses);

afterAll(async () => {
  client.close();
  await endAllProcesses();
  await dropDatabase(databaseUrl);
});

async function startProcesses(limit: number, onLimit: string, program?: string): Promise<string[]> {
  const env = {
    DATABASE_URL: databaseUrl,
    SESSION_SECRET: 'shared by the processes of this test',
    MAX_SESSIONS: String(limit),
    ON_LIMIT: onLimit,
  };
  const processes = await startCluster(PROCESSES, { env, ...(program && { program }) });
  return processes.map(({ url }) => url);
}

/** Each round has a user of its own, so that "reject" finds nobody signed in. */
const userOf = (limit: number, onLimit: string, round: number) =>
  `user${(onLimit === 'reject' ? 1000 : 0) + limit * 100 + round}`;

/** Every process accepts the same sessions, and exactly so many. */
const isExact = ({ accepted }: Round, limit: number) =>
  accepted.every((numbers) => numbers.length === limit && String(numbers) === String(accepted[0]));

async function playRounds(urls: string[], limit: number, onLimit: string): Promise<Round[]> {
  const rounds: Round[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    // An ended cookie session is destroyed by the process that meets it first; a token is judged by each for itself.
    const kind = round % 2 === 0 ? 'cookie' : 'token';
    const turned = urls.map((_, i) => urls[(i + round) % urls.length]!);
    rounds.push(await playRound(client, turned, { username: userOf(limit, onLimit, round), kind }));
  }
  return rounds;
}

describe(`${LOGINS} logins of one account at the same time on ${PROCESSES} processes, in each of ${ROUNDS} rounds`, () => {
  it.each(limits)(
    'leave exactly %i sessions that every process accepts, the same ones, when logins evict [lesson 1, S25]',
    async (limit) => {
      const rounds = await playRounds(await startProcesses(limit, 'evict'), limit, 'evict');
      expect(rounds.filter((round) => !isExact(round, limit))).toEqual([]);
      expect(rounds.map(({ statuses }) => statuses)).toEqual(Array(ROUNDS).fill({ 200: LOGINS }));
    },
    TEST_TIMEOUT_MS,
  );

  it.each(limits)(
    'let exactly %i in and answer 409 to the others, whose cookies open nothing, when logins are rejected [lesson 1, S25]',
    async (limit) => {
      const rounds = await playRounds(await startProcesses(limit, 'reject'), limit, 'reject');
      expect(rounds.filter((round) => !isExact(round, limit))).toEqual([]);
      expect(rounds.map(({ statuses }) => statuses)).toEqual(
        Array(ROUNDS).fill({ 200: limit, 409: LOGINS - limit }),
      );
    },
    TEST_TIMEOUT_MS,
  );
});

// It is no application of ours, and runs on no other platform.
if (platform === 'express')
  describe('the same rounds against the limit that people write by hand', () => {
    const ENOUGH_ROUNDS = Number(process.env['NAIVE_ROUNDS'] ?? 10);

    it.each(['evict', 'reject'])(
      'exceed it, so the rounds above can fail (%s) [lesson 1, S25]',
      async (onLimit) => {
        await createNaiveTable();
        const urls = await startProcesses(1, onLimit, 'test/e2e/fixture/naive.mjs');
        let exceeded = 0;
        for (let round = 0; round < ENOUGH_ROUNDS; round++) {
          const { accepted } = await playRound(client, urls, {
            username: userOf(1, onLimit, round),
            kind: 'token',
          });
          if (accepted.some((numbers) => numbers.length > 1)) exceeded++;
        }
        if (process.env['NAIVE_ROUNDS'])
          process.stdout.write(`${onLimit}: exceeded in ${exceeded} of ${ENOUGH_ROUNDS} rounds\n`);
        expect(exceeded).toBeGreaterThan(0);
      },
    );
  });

async function createNaiveTable(): Promise<void> {
  const database = new pg.Client({ connectionString: databaseUrl });
  await database.connect();
  await database.query(
    'CREATE TABLE IF NOT EXISTS naive_session (id uuid PRIMARY KEY, "userId" text, "createdAt" timestamptz DEFAULT now())',
  );
  await database.end();
}
