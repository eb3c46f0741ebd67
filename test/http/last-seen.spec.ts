import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { DataSource } from 'typeorm';
import { startApplication, Users, type TestApplication, type TestUser } from '../support/application.js';
import { TokenClient } from '../support/client.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { eventually, newUser, rowsOf } from '../support/sessions.js';
import { watchStatements, type StatementWatch } from '../support/statements.js';

// So long that no pause of a busy machine makes a moment of it.
const IDLE_MS = 200_000;
/** A quarter of it. */
const DUE_MS = 50_000;
const MOMENT_MS = 5_000;
/** What was used is written a second later at most. */
const WRITTEN_MS = 1_000;

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

/** As many as there may be since then: one, but where the machine made a second and more of the requests. */
const mostWrites = (since: number): number =>
  Math.max(1, Math.ceil((performance.now() - since) / WRITTEN_MS));
/** No event tells that nothing is written. */
const writesWouldHaveCome = (): Promise<void> =>
  new Promise((resolve) => setTimeout(resolve, WRITTEN_MS + 300));

describe('the last-seen time', () => {
  it('is written once, however many requests there were, and none waits for it', async () => {
    await pass(DUE_MS + MOMENT_MS, user);
    const before = await lastSeen(user);
    const nobodyWrites = application.app.get(DataSource).createQueryRunner();
    try {
      await nobodyWrites.startTransaction();
      await nobodyWrites.query('LOCK TABLE user_session IN SHARE MODE');
      const start = performance.now();
      for (let n = 0; n < 10; n++) expect((await token.get()).status).toBe(200);
      const most = mostWrites(start);
      await eventually(seenWrites, (writes) => writes.length > 0);
      expect((await token.get()).status).toBe(200);
      expect(await lastSeen(user)).toBe(before);
      expect(seenWrites().length).toBeLessThanOrEqual(most);
    } finally {
      await nobodyWrites.rollbackTransaction();
      await nobodyWrites.release();
    }
    await eventually(
      () => lastSeen(user),
      (at) => at > before + DUE_MS,
    );
    await writesWouldHaveCome();
    watch.clear();
    for (let n = 0; n < 10; n++) await token.get();
    await writesWouldHaveCome();
    expect(seenWrites()).toEqual([]);
  });

  it('of many sessions is written in one statement', async () => {
    const all = Array.from({ length: 5 }, () => newUser({ users }));
    const clients = await Promise.all(all.map((each) => signedIn(each)));
    await pass(DUE_MS + MOMENT_MS, ...all);
    const before = await Promise.all(all.map(lastSeen));
    const start = performance.now();
    await Promise.all(clients.map((client) => client.get()));
    const most = mostWrites(start);
    await eventually(
      () => Promise.all(all.map(lastSeen)),
      (now) => now.every((at, index) => at > before[index]! + DUE_MS),
    );
    expect(seenWrites().length).toBeLessThanOrEqual(most);
  });

  it('is not written before it is due', async () => {
    await pass(DUE_MS - MOMENT_MS, user);
    for (let n = 0; n < 10; n++) await token.get();
    await writesWouldHaveCome();
    expect(seenWrites()).toEqual([]);
  });

  it('does not keep an evicted session, which is refused, and is not written for it', async () => {
    await signedIn(user);
    await pass(DUE_MS + MOMENT_MS, user);
    expect((await token.get()).status).toBe(401);
    await writesWouldHaveCome();
    expect(seenWrites()).toEqual([]);
  });

  it('is written at most once a minute where there is no idle timeout', async () => {
    const patient = await startApplication(watch.url, { users });
    try {
      const client = await signedIn(user, patient);
      await pass(60_000 - MOMENT_MS, user);
      for (let n = 0; n < 5; n++) await client.get();
      await writesWouldHaveCome();
      expect(seenWrites()).toEqual([]);
      await pass(MOMENT_MS, user);
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
    await pass(IDLE_MS - MOMENT_MS, user);
    expect((await token.get()).status).toBe(200);
  });

  it('of a second keeps a session in steady use', async () => {
    const hasty = await startApplication(watch.url, { users, options: { idleTimeout: 1_000 } });
    try {
      let use: Awaited<ReturnType<typeof useFor>>;
      // Where the machine itself paused, the use was not steady.
      do use = await useFor(2_200, await signedIn(user, hasty));
      while (use.longestPause > 300);
      expect(new Set(use.statuses)).toEqual(new Set([200]));
    } finally {
      await hasty.close();
    }
  });
});

/** The pauses between requests are what a person makes: no event is waited for. */
async function useFor(
  ms: number,
  client: TokenClient,
): Promise<{ statuses: number[]; longestPause: number }> {
  const statuses: number[] = [];
  let longestPause = 0;
  const until = performance.now() + ms;
  for (let last = performance.now(); last < until;) {
    statuses.push((await client.get()).status);
    await new Promise((resolve) => setTimeout(resolve, 40));
    const now = performance.now();
    longestPause = Math.max(longestPause, now - last);
    last = now;
  }
  return { statuses, longestPause };
}
