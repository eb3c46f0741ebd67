import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { HttpClient, login, type Credential } from '../support/http-client.js';
import { platform } from '../support/platform.js';
import { endAllProcesses, startCluster, startProcess, type RunningProcess } from '../support/processes.js';
import { acceptedBy } from './round.js';

const PROCESSES = 3;
// What a dead process leaves behind is in the database, the same on both platforms.
const KILLS = platform === 'fastify' ? 3 : 15;
const LIMIT = 2;
const USERS = 4;
const LOGINS_OF_EACH = 12;
/** A login that waits for a lock of a dead process would wait far longer than a busy machine makes it. */
const LOGIN_WITHIN_MS = 4_000;

const client = new HttpClient();
let databaseUrl: string;
let fleet: RunningProcess[];

const settings = () => ({
  env: {
    DATABASE_URL: databaseUrl,
    SESSION_SECRET: 'shared by the processes of this test',
    MAX_SESSIONS: String(LIMIT),
  },
});

beforeAll(async () => {
  databaseUrl = await freshDatabase();
  fleet = await startCluster(PROCESSES, settings());
});

afterAll(async () => {
  client.close();
  await endAllProcesses();
  await dropDatabase(databaseUrl);
});

/** A login that was answered, or whose connection broke. */
interface Attempt {
  username: string;
  status: number | 'cut';
  ms: number;
  credential: Credential | undefined;
}

async function attempt(process: RunningProcess, username: string): Promise<Attempt> {
  const began = performance.now();
  const reply = await login(client, process.url, username).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ECONNRESET' || error.code === 'ECONNREFUSED') return undefined;
    throw error;
  });
  const ms = performance.now() - began;
  return { username, status: reply?.status ?? 'cut', ms, credential: reply?.credential };
}

/** Sends logins of some accounts to all processes at once, and kills one process when so many have been answered. */
async function loginsWithKill(
  usernames: string[],
  victim: RunningProcess,
  killAfter: number,
): Promise<Attempt[]> {
  let answered = 0;
  const attempts = Array.from({ length: LOGINS_OF_EACH }, (_, i) =>
    usernames.map(async (username, j) => {
      const result = await attempt(fleet[(i + j) % PROCESSES]!, username);
      if (++answered === killAfter) await victim.killHard();
      return result;
    }),
  );
  return Promise.all(attempts.flat());
}

describe(`kill -9 of a process during logins, ${KILLS} times`, () => {
  const attempts: Attempt[] = [];
  const tooMany: string[] = [];
  const nextLogins: { status: number | 'cut'; accepted: boolean }[] = [];

  beforeAll(async () => {
    for (let kill = 0; kill < KILLS; kill++) {
      const victim = fleet[kill % PROCESSES]!;
      const usernames = Array.from({ length: USERS }, (_, i) => `user${1 + ((kill * 3 + i) % 20)}`);
      const burst = await loginsWithKill(usernames, victim, 1 + kill * 2);
      attempts.push(...burst);
      const survivors = fleet.filter((process) => process !== victim);
      const replaced = startProcess(settings());
      await judge(usernames, burst, survivors);
      fleet[kill % PROCESSES] = await replaced;
    }
  }, 120_000);

  /** Counts what the survivors accept, before and after one more login of each user. */
  async function judge(usernames: string[], burst: Attempt[], survivors: RunningProcess[]): Promise<void> {
    const judgeOne = async (username: string): Promise<void> => {
      const credentials = burst.filter((one) => one.username === username).map((one) => one.credential);
      for (const { url } of survivors) await count(username, url, credentials);
      const next = await attempt(survivors[0]!, username);
      attempts.push(next);
      const accepted = await count(username, survivors[1]!.url, [next.credential, ...credentials]);
      nextLogins.push({ status: next.status, accepted: accepted.includes(0) });
    };
    await Promise.all(usernames.map(judgeOne));
  }

  async function count(
    username: string,
    url: string,
    credentials: Attempt['credential'][],
  ): Promise<number[]> {
    const accepted = await acceptedBy(client, url, credentials);
    if (accepted.length > LIMIT) tooMany.push(`${username}: ${accepted.length}`);
    return accepted;
  }

  it('leaves no account above the limit, on any process that is left [lesson 1, S25]', () => {
    expect(tooMany).toEqual([]);
  });

  it('blocks no login: each is answered 200, or refused by the process that died [P6]', () => {
    const slow = attempts.filter(({ ms }) => ms > LOGIN_WITHIN_MS);
    expect(slow).toEqual([]);
    expect(new Set(attempts.map(({ status }) => status))).toEqual(new Set([200, 'cut']));
  });

  it('cut logins short, so the above was no idle time', () => {
    expect(attempts.filter(({ status }) => status === 'cut').length).toBeGreaterThan(KILLS);
  });

  it('lets the next login of each account in, and its session is accepted elsewhere [P6]', () => {
    expect(nextLogins).toHaveLength(KILLS * USERS);
    expect(nextLogins.filter(({ status, accepted }) => status !== 200 || !accepted)).toEqual([]);
  });
});

describe('a process that is stopped during logins and holds on to its connections', () => {
  it('blocks no login on the others, and adds no session above the limit when it goes on [lesson 1, P6]', async () => {
    const [stopped, ...others] = fleet as [RunningProcess, RunningProcess, RunningProcess];
    const username = 'user100';
    const toStopped = Array.from({ length: 10 }, () => attempt(stopped, username));
    await Promise.race(toStopped);
    process.kill(stopped.pid, 'SIGSTOP');
    const meanwhile = await Promise.all(
      Array.from({ length: 20 }, (_, i) => attempt(others[i % others.length]!, username)),
    );
    process.kill(stopped.pid, 'SIGCONT');
    expect(meanwhile.filter(({ ms, status }) => ms > LOGIN_WITHIN_MS || status !== 200)).toEqual([]);

    const all = [...(await Promise.all(toStopped)), ...meanwhile];
    expect(all.map(({ status }) => status)).toEqual(Array(30).fill(200));
    for (const { url } of fleet) {
      expect(
        await acceptedBy(
          client,
          url,
          all.map(({ credential }) => credential),
        ),
      ).toHaveLength(LIMIT);
    }
  });
});
