import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { DataSource } from 'typeorm';
import { startApplication, Users, type TestApplication, type TestUser } from '../support/application.js';
import { TokenClient } from '../support/client.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { eventually, newUser, rowsOf } from '../support/sessions.js';
import { watchStatements, type StatementWatch } from '../support/statements.js';

const IDLE_MS = 60_000;
/** A quarter of it. */
const DUE_MS = 15_000;

const users = new Users();
let databaseUrl: string;
let watch: StatementWatch;
let application: TestApplication;
let user: TestUser;
let token: TokenClient;

beforeAll(async () => {
  databaseUrl = await freshDatabase();
  watch = await watchStatements(databaseUrl);
  application = await startApplication(watch.url, { users, options: { idleTimeout: IDLE_MS } });
});

beforeEach(async () => {
  user = newUser({ users });
  token = await signedIn(user);
});

afterAll(async () => {
  await application?.close();
  await watch?.stop();
  await dropDatabase(databaseUrl);
});

async function signedIn({ username }: TestUser, { url } = application): Promise<TokenClient> {
  const client = new TokenClient(url);
  expect((await client.login(username)).status).toBe(200);
  return client;
}

/** Time passes for the sessions of these users. */
async function pass(ms: number, ...whose: TestUser[]): Promise<void> {
  await application.app
    .get(DataSource)
    .query(
      `UPDATE user_session SET last_seen_at = last_seen_at - $1::int * interval '1 ms', created_at = created_at - $1::int * interval '1 ms' WHERE user_id = ANY($2)`,
      [ms, whose.map(({ id }) => String(id))],
    );
  watch.clear();
}

const seenWrites = (): string[] => watch.statements.filter((text) => /SET last_seen_at = now\(\)/.test(text));
const lastSeen = async (who: TestUser): Promise<number> =>
  (await rowsOf(application, who))[0]!.lastSeenAt.getTime();

describe('the last-seen time', () => {
  it('is written after the answer and once, however many requests there were', async () => {
    await pass(DUE_MS + 1_000, user);
    const before = await lastSeen(user);
    for (let n = 0; n < 10; n++) expect((await token.get()).status).toBe(200);
    expect(seenWrites()).toEqual([]);
    await eventually(
      () => lastSeen(user),
      (at) => at > before + DUE_MS,
    );
    for (let n = 0; n < 10; n++) await token.get();
    await new Promise((resolve) => setTimeout(resolve, 1_300));
    expect(seenWrites()).toHaveLength(1);
  });

  it('of many sessions is written in one statement', async () => {
    const all = Array.from({ length: 5 }, () => newUser({ users }));
    const clients = await Promise.all(all.map((each) => signedIn(each)));
    await pass(DUE_MS + 1_000, ...all);
    const before = await Promise.all(all.map(lastSeen));
    await Promise.all(clients.map((client) => client.get()));
    await eventually(
      () => Promise.all(all.map(lastSeen)),
      (now) => now.every((at, index) => at > before[index]! + DUE_MS),
    );
    expect(seenWrites()).toHaveLength(1);
  });

  it('is not written before it is due', async () => {
    await pass(DUE_MS - 2_000, user);
    for (let n = 0; n < 10; n++) await token.get();
    await new Promise((resolve) => setTimeout(resolve, 1_300));
    expect(seenWrites()).toEqual([]);
  });

  it('does not keep an evicted session, which is refused, and is not written for it', async () => {
    await signedIn(user);
    await pass(DUE_MS + 1_000, user);
    expect((await token.get()).status).toBe(401);
    await new Promise((resolve) => setTimeout(resolve, 1_300));
    expect(seenWrites()).toEqual([]);
  });

  it('is written at most once a minute where there is no idle timeout', async () => {
    const patient = await startApplication(watch.url, { users });
    try {
      const client = await signedIn(user, patient);
      await pass(58_000, user);
      for (let n = 0; n < 5; n++) await client.get();
      await pass(3_000, user);
      expect(seenWrites()).toEqual([]);
      for (let n = 0; n < 5; n++) await client.get();
      await eventually(seenWrites, (writes) => writes.length === 1);
    } finally {
      await patient.close();
    }
  });
});

describe('an idle timeout', () => {
  it('refuses a session that was not used for so long with the reason idle, for good', async () => {
    await pass(IDLE_MS + 500, user);
    for (let n = 0; n < 2; n++) {
      const answer = await token.get();
      expect(answer.status).toBe(401);
      expect(answer.body).toMatchObject({ code: 'SESSION_ENDED', reason: 'idle' });
    }
  });

  it('leaves one alone that was used a moment less ago', async () => {
    await pass(IDLE_MS - 3_000, user);
    expect((await token.get()).status).toBe(200);
  });

  it('of a second keeps a session in steady use', async () => {
    const idleTimeout = 1_000;
    const hasty = await startApplication(watch.url, { users, options: { idleTimeout } });
    try {
      const client = await signedIn(user, hasty);
      const until = performance.now() + idleTimeout + 1_200;
      while (performance.now() < until) {
        expect((await client.get()).status).toBe(200);
        await new Promise((resolve) => setTimeout(resolve, 40));
      }
    } finally {
      await hasty.close();
    }
  });
});
