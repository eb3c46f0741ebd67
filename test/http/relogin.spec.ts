import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { startApplication, Users, type TestApplication } from '../support/application.js';
import { Browser } from '../support/client.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { eventually, liveSessionsOf, newUser, rowsOf } from '../support/sessions.js';

const users = new Users();
let databaseUrl: string;
let one: TestApplication;
let two: TestApplication;
let rejecting: TestApplication;

beforeAll(async () => {
  databaseUrl = await freshDatabase();
  one = await startApplication(databaseUrl, { users });
  two = await startApplication(databaseUrl, { users, options: { maxSessions: 2 } });
  rejecting = await startApplication(databaseUrl, { users, options: { maxSessions: 2, onLimit: 'reject' } });
});

afterAll(async () => {
  for (const application of [rejecting, two, one]) await application?.close();
  await dropDatabase(databaseUrl);
});

async function loggedIn({ url }: TestApplication, username: string): Promise<Browser> {
  const browser = new Browser(url);
  expect((await browser.login(username)).status).toBe(200);
  return browser;
}

const usernameOf = async (browser: Browser): Promise<string | undefined> =>
  (await browser.get('/me')).body.user?.username;

describe('a login in a browser that is already logged in', () => {
  it('replaces its own session: no 500, and one is left [lesson 3]', async () => {
    const user = newUser({ users });
    const browser = await loggedIn(one, user.username);
    const before = browser.copy();
    for (let n = 0; n < 3; n++) expect((await browser.login(user.username)).status).toBe(200);
    expect(await usernameOf(browser)).toBe(user.username);
    expect(await usernameOf(before)).toBeUndefined();
    expect(await liveSessionsOf(one, user)).toHaveLength(1);
  });

  it('displaces nobody else when two are allowed, however often it is done [lesson 3, lesson 4]', async () => {
    const user = newUser({ users });
    const other = await loggedIn(two, user.username);
    const browser = await loggedIn(two, user.username);
    for (let n = 0; n < 3; n++) expect((await browser.login(user.username)).status).toBe(200);
    expect(await usernameOf(other)).toBe(user.username);
    expect(await usernameOf(browser)).toBe(user.username);
    expect(await liveSessionsOf(two, user)).toHaveLength(2);
  });

  it("has room for itself under 'reject', however often it is done [lesson 3]", async () => {
    const user = newUser({ users });
    const other = await loggedIn(rejecting, user.username);
    const browser = await loggedIn(rejecting, user.username);
    for (let n = 0; n < 3; n++) expect((await browser.login(user.username)).status).toBe(200);
    expect(await usernameOf(other)).toBe(user.username);
    expect(await liveSessionsOf(rejecting, user)).toHaveLength(2);
  });

  it('keeps the session when the password is wrong', async () => {
    const user = newUser({ users });
    const browser = await loggedIn(one, user.username);
    expect((await browser.post('/login', { username: user.username, password: 'wrong' })).status).toBe(401);
    expect(await usernameOf(browser)).toBe(user.username);
  });

  it('says of the replaced session what took its place', async () => {
    const user = newUser({ users });
    const browser = await loggedIn(one, user.username);
    await browser.login(user.username);
    const isMarked = (rows: { endedAt: Date | null }[]): boolean => rows[0]!.endedAt !== null;
    const [first, second] = await eventually(() => rowsOf(one, user), isMarked);
    expect(first).toMatchObject({ endReason: 'superseded', replacedBy: second!.id });
    expect(second).toMatchObject({ endReason: null, endedAt: null, replacedBy: null });
  });
});

describe('a login as another user in the same browser', () => {
  it('ends what the browser gave up and leaves the sessions of both users elsewhere alone [lesson 3]', async () => {
    const [first, second] = [newUser({ users }), newUser({ users })];
    const elsewhere = [await loggedIn(two, first.username), await loggedIn(two, second.username)];
    const browser = await loggedIn(two, first.username);
    expect((await browser.login(second.username)).status).toBe(200);

    expect(await usernameOf(browser)).toBe(second.username);
    expect(await usernameOf(elsewhere[0]!)).toBe(first.username);
    expect(await usernameOf(elsewhere[1]!)).toBe(second.username);
    await eventually(
      () => liveSessionsOf(two, first),
      (live) => live.length === 1,
    );
    expect(await liveSessionsOf(two, second)).toHaveLength(2);
  });

  it('does not end the winner of a session that was evicted in this browser [lesson 16]', async () => {
    const [first, second] = [newUser({ users }), newUser({ users })];
    const loser = await loggedIn(one, first.username);
    const winner = await loggedIn(one, first.username);
    expect((await loser.login(second.username)).status).toBe(200);
    expect(await usernameOf(winner)).toBe(first.username);
    expect(await usernameOf(loser)).toBe(second.username);
  });
});

describe('a double click on "Log in"', () => {
  it('answers both, leaves exactly one session, and that one works [lesson 4]', async () => {
    const user = newUser({ users });
    const browser = await loggedIn(one, user.username);
    for (let round = 0; round < 10; round++) {
      const clicks = [browser.copy(), browser.copy()];
      const answers = await Promise.all(clicks.map((click) => click.login(user.username)));
      expect(answers.map(({ status }) => status)).toEqual([200, 200]);
      expect(await liveSessionsOf(one, user)).toHaveLength(1);
      const names = await Promise.all(clicks.map((click) => usernameOf(click)));
      expect(names.filter((name) => name === user.username)).toHaveLength(1);
      browser.cookie = clicks[names.indexOf(user.username)]!.cookie;
    }
  });

  it('in a browser that came without a cookie leaves exactly one session [lesson 4]', async () => {
    const user = newUser({ users });
    const clicks = [new Browser(one.url), new Browser(one.url)];
    await Promise.all(clicks.map((click) => click.login(user.username)));
    expect(await liveSessionsOf(one, user)).toHaveLength(1);
  });

  it('never leaves more than two sessions when two are allowed [lesson 4]', async () => {
    const user = newUser({ users });
    await loggedIn(two, user.username);
    const browser = await loggedIn(two, user.username);
    const clicks = Array.from({ length: 4 }, () => browser.copy());
    await Promise.all(clicks.map((click) => click.login(user.username)));
    expect(await liveSessionsOf(two, user)).toHaveLength(2);
  });

  it('does not throw out the other browser when two are allowed [lesson 4]', async () => {
    const user = newUser({ users });
    const other = await loggedIn(two, user.username);
    const browser = await loggedIn(two, user.username);
    const clicks = [browser.copy(), browser.copy()];
    await Promise.all(clicks.map((click) => click.login(user.username)));
    expect(await usernameOf(other)).toBe(user.username);
  });
});
