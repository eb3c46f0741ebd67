import { EventEmitter, once } from 'node:events';
import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import { Users, type TestApplication, type TestUser } from '../support/application.js';
import { Browser } from '../support/client.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { startProvider, type OAuthProvider } from '../support/oauth-provider.js';
import { nodeResponseOf, runBefore, type PlatformResponse } from '../support/platform.js';
import { eventually, liveSessionsOf, newUser, rowsOf } from '../support/sessions.js';
import { watchStatements, type StatementWatch } from '../support/statements.js';
import {
  beforeAnswer,
  GatedStore,
  ImpatientBrowser,
  startWays,
  WAYS_IN,
  withoutMemory,
  type Gate,
  type WayIn,
} from '../support/ways-in.js';

const users = new Users();
const store = new GatedStore();
const closes = new EventEmitter();
let databaseUrl: string;
let watch: StatementWatch;
let provider: OAuthProvider;
let one: TestApplication;
let two: TestApplication;
let rejecting: TestApplication;

beforeAll(async () => {
  databaseUrl = await freshDatabase();
  [watch, provider] = await Promise.all([watchStatements(databaseUrl), startProvider()]);
  one = await startWays(watch.url, { users, provider });
  two = await startWays(databaseUrl, { users, provider, options: { maxSessions: 2 } });
  rejecting = await startWays(databaseUrl, {
    users,
    provider,
    options: { onLimit: 'reject', idleTimeout: 60_000 },
    session: { store },
    configure: (app) => runBefore(app, noteClose),
  });
});

afterEach(async () => {
  beforeAnswer.open();
  store.gate.open();
  await watch.restore();
});

afterAll(async () => {
  for (const application of [rejecting, two, one]) await application?.close();
  await Promise.all([provider?.stop(), watch?.stop()]);
  await dropDatabase(databaseUrl);
});

function noteClose(request: { user?: TestUser }, response: PlatformResponse, next: () => void): void {
  nodeResponseOf(response).once('close', () => closes.emit(`of ${request.user?.username}`));
  next();
}

const SIGNED_IN = [200, 302, 303];

async function signedIn({ url }: TestApplication, way: WayIn, { username }: TestUser): Promise<Browser> {
  const browser = new Browser(url);
  const { status } = await way.signIn(browser, username);
  expect(SIGNED_IN).toContain(status);
  return browser;
}

/** Whom the cookie session of the browser speaks for, whatever else the browser remembers. */
const usernameOf = async (browser: Browser): Promise<string | undefined> =>
  (await withoutMemory(browser).get('/me')).body.user?.username;

describe.each(WAYS_IN)('signing in through $name', (way) => {
  it('evicts the older session, and the new one is live on the next request [lesson 18]', async () => {
    const user = newUser({ users });
    const older = await signedIn(one, way, user);
    const newer = await signedIn(one, way, user);
    expect((await withoutMemory(newer).get('/me')).body).toEqual({
      user,
      session: { id: expect.any(String), userId: String(user.id) },
    });
    const refused = await withoutMemory(older).get('/me');
    expect([refused.status, refused.body.reason]).toEqual([401, 'superseded']);
    expect(await rowsOf(one, user)).toHaveLength(2);
  });

  if (way.sees)
    it('is a live session in the request itself already', async () => {
      const user = newUser({ users });
      const answer = await way.signIn(new Browser(one.url), user.username);
      expect(answer.headers.get('x-live')).toBe('true');
    });

  it('leaves exactly two sessions after twelve logins at once when two are allowed [lesson 1]', async () => {
    const user = newUser({ users });
    const browsers = await Promise.all(Array.from({ length: 12 }, () => signedIn(two, way, user)));
    const names = await Promise.all(browsers.map(usernameOf));
    expect(names.filter((name) => name === user.username)).toHaveLength(2);
    expect(await liveSessionsOf(two, user)).toHaveLength(2);
  });

  it("answers 409 when there is no room under 'reject': no session, no cookie that opens anything, and the other stays [lesson 34]", async () => {
    const user = newUser({ users });
    const settled = await signedIn(rejecting, way, user);
    const browser = new Browser(rejecting.url);
    const answer = await way.signIn(browser, user.username);
    expect([answer.status, answer.body.code]).toEqual([409, 'SESSION_LIMIT_REACHED']);
    expect(sessionCookiesIn(answer.headers)).toEqual([]);
    expect((await withoutMemory(browser).get('/me')).body).toEqual({ user: null, session: null });
    expect(await usernameOf(settled)).toBe(user.username);
    expect(await rowsOf(rejecting, user)).toHaveLength(1);
  });

  it('answers 503 while the store is away, and nobody is signed in, then or later [lesson 19, S26]', async () => {
    const user = newUser({ users });
    const settled = await signedIn(one, way, user);
    await watch.cut();
    const browser = new Browser(one.url);
    const answer = await way.signIn(browser, user.username);
    expect([answer.status, answer.body.code]).toEqual([503, 'SESSION_STORE_UNAVAILABLE']);
    expect(answer.headers.get('retry-after')).toBe('1');
    expect(sessionCookiesIn(answer.headers)).toEqual([]);
    await watch.restore();
    expect((await withoutMemory(browser).get('/me')).body).toEqual({ user: null, session: null });
    const back = await eventually(
      () => withoutMemory(settled).get('/me'),
      ({ status }) => status !== 503,
    );
    expect(back.body.user?.username).toBe(user.username);
    expect(await rowsOf(one, user)).toHaveLength(1);
  });

  const MOMENTS: [string, Gate][] = [['while its session is saved', store.gate]];
  if (way.sees) MOMENTS.push(['before the answer', beforeAnswer]);

  it.each(MOMENTS)(
    "leaves nothing behind when the client hangs up %s: there is room for the next under 'reject' [lesson 19]",
    async (_, gate) => {
      const user = newUser({ users });
      await hangUpAt(gate, way, user);
      await eventually(
        () => liveSessionsOf(rejecting, user),
        (live) => live.length === 0,
      );
      expect(await rowsOf(rejecting, user)).toHaveLength(1);
      await signedIn(rejecting, way, user);
    },
  );

  // Remember-me signs nobody in who is signed in.
  if (!way.again) return;

  it('as somebody else in the same browser gives up the session that the browser had, and no other [lesson 3]', async () => {
    const [first, second] = [newUser({ users }), newUser({ users })];
    const elsewhere = await signedIn(two, way, first);
    const browser = await signedIn(two, way, first);
    const before = browser.copy();
    expect(SIGNED_IN).toContain((await way.signIn(browser, second.username)).status);
    expect(await usernameOf(browser)).toBe(second.username);
    expect(await usernameOf(before)).toBeUndefined();
    await eventually(
      () => liveSessionsOf(two, first),
      (live) => live.length === 1,
    );
    expect(await usernameOf(elsewhere)).toBe(first.username);
    expect(await liveSessionsOf(two, second)).toHaveLength(1);
  });

  it('again in the same browser takes one place, and the other browser stays [lesson 3, lesson 4]', async () => {
    const user = newUser({ users });
    const elsewhere = await signedIn(two, way, user);
    const browser = await signedIn(two, way, user);
    for (let n = 0; n < 3; n++)
      expect(SIGNED_IN).toContain((await way.signIn(browser, user.username)).status);
    expect(await usernameOf(browser)).toBe(user.username);
    expect(await usernameOf(elsewhere)).toBe(user.username);
    expect(await liveSessionsOf(two, user)).toHaveLength(2);
  });
});

async function hangUpAt(gate: Gate, way: WayIn, user: TestUser): Promise<void> {
  const browser = new ImpatientBrowser(rejecting.url);
  const arrived = gate.shut(user.username);
  const answer = way.signIn(browser, user.username).catch(() => undefined);
  await arrived;
  const closed = once(closes, `of ${user.username}`);
  browser.leave();
  await Promise.all([answer, closed]);
  gate.open();
}

/** A remembered browser may keep its token: it is tried again later. */
const sessionCookiesIn = (headers: Headers): string[] =>
  headers.getSetCookie().filter((cookie) => !cookie.startsWith('remember_me='));
