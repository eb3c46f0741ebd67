import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { SingleSessionService, type EndReason } from '../../src/index.js';
import { startApplication, Users, type TestApplication } from '../support/application.js';
import { Browser, TokenClient, type Answer } from '../support/client.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { eventually, liveSessionsOf, newUser, rowsOf } from '../support/sessions.js';

const MESSAGES = {
  superseded: 'This session ended because the account signed in elsewhere. Sign in again to continue here.',
  logout: 'This session was signed out. Sign in again to continue.',
  'logout-everywhere': 'The account was signed out of all its sessions. Sign in again to continue.',
  admin: 'An administrator ended this session. Sign in again to continue.',
  'cut-off': 'An administrator ended the sessions of all users. Sign in again to continue.',
  expired: 'This session has expired. Sign in again to continue.',
  idle: 'This session ended because it was not used. Sign in again to continue.',
  unknown: 'This session is not known. Sign in again to continue.',
} satisfies Record<EndReason, string>;

const BEARER_CHALLENGE = 'Bearer error="invalid_token"';
const ISO_TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;
const users = new Users();

let databaseUrl: string;
let application: TestApplication;
let rejecting: TestApplication;

beforeAll(async () => {
  databaseUrl = await freshDatabase();
  application = await startApplication(databaseUrl, { users });
  rejecting = await startApplication(databaseUrl, { users, options: { onLimit: 'reject', maxSessions: 2 } });
});

afterAll(async () => {
  await rejecting?.close();
  await application?.close();
  await dropDatabase(databaseUrl);
});

function ended(reason: EndReason, endedAt: unknown = expect.stringMatching(ISO_TIME)): object {
  const message = MESSAGES[reason];
  return { statusCode: 401, error: 'Unauthorized', message, code: 'SESSION_ENDED', reason, endedAt };
}

function expectEnded(answer: Answer, reason: EndReason, challenge: string | null): void {
  expect(answer.status).toBe(401);
  expect(answer.body).toEqual(ended(reason));
  expect(answer.headers.get('content-type')).toMatch(/^application\/json/);
  expect(answer.headers.get('www-authenticate')).toBe(challenge);
}

describe('a second login', () => {
  it('evicts the first cookie session, which is told why once and is anonymous after', async () => {
    const first = new Browser(application.url);
    const second = new Browser(application.url);
    await first.login('alice');
    expect((await first.get('/me')).body.user.username).toBe('alice');
    expect((await second.login('alice')).status).toBe(200);

    expectEnded(await first.get('/me'), 'superseded', null);
    expect((await first.get('/me')).body).toEqual({ user: null, session: null });
    expect((await second.get('/me')).body.user.username).toBe('alice');
  });

  it('evicts the first token, on a route with its own guard, as often as it comes', async () => {
    const first = new TokenClient(application.url);
    const second = new TokenClient(application.url);
    await first.login('bob');
    expect((await first.get()).status).toBe(200);
    await second.login('bob');
    expectEnded(await first.get(), 'superseded', BEARER_CHALLENGE);
    expectEnded(await first.get(), 'superseded', BEARER_CHALLENGE);
    expect((await second.get()).status).toBe(200);
  });

  it('says when the session ended: between the two logins and the answer', async () => {
    const user = newUser({ users });
    const first = new Browser(application.url);
    await first.login(user.username);
    const before = Date.now();
    await new Browser(application.url).login(user.username);
    const { body } = await first.get('/me');
    expect(Date.parse(body.endedAt)).toBeGreaterThanOrEqual(before - 1_000);
    expect(Date.parse(body.endedAt)).toBeLessThanOrEqual(Date.now() + 1_000);
  });
});

describe('an ended session', () => {
  const REASONS = (Object.keys(MESSAGES) as EndReason[]).filter((reason) => reason !== 'unknown');

  it.each(REASONS)('is answered with the reason "%s", to a cookie and to a bearer', async (reason) => {
    const service = application.app.get(SingleSessionService);
    const user = newUser({ users });
    const browser = new Browser(application.url);
    const { body } = await browser.login(user.username);
    expect(await service.end(body.session.id, { reason })).toEqual({ ended: 1 });
    expectEnded(await browser.get('/me'), reason, null);

    const token = new TokenClient(application.url);
    await token.login(user.username);
    expect(await service.endUser(user.id, { reason })).toEqual({ ended: 1 });
    expectEnded(await token.get(), reason, BEARER_CHALLENGE);
  });

  it('is refused as unknown, with endedAt null, when nobody knows it', async () => {
    const sid = '3b1c0f0e-8d8c-4e5e-9a29-0c37d3d8ad39';
    const answer = await new TokenClient(
      application.url,
      application.sign(newUser({ users }), { sid }),
    ).get();
    expect(answer.status).toBe(401);
    expect(answer.body).toEqual(ended('unknown', null));
    expect(answer.headers.get('www-authenticate')).toBe(BEARER_CHALLENGE);
  });
});

describe('an authenticated request whose login was not recorded', () => {
  const UNKNOWN = {
    statusCode: 401,
    error: 'Unauthorized',
    message: 'This sign-in was not recorded as a session. Sign in again to continue.',
    code: 'SESSION_UNKNOWN',
  };

  it('is answered with SESSION_UNKNOWN and a challenge to a bearer without sid [S15]', async () => {
    const answer = await new TokenClient(application.url, application.sign(newUser({ users }), {})).get();
    expect(answer.status).toBe(401);
    expect(answer.body).toEqual(UNKNOWN);
    expect(answer.headers.get('www-authenticate')).toBe(BEARER_CHALLENGE);
  });

  it('is answered with SESSION_UNKNOWN to a cookie session without stamp, and is anonymous after', async () => {
    const browser = new Browser(application.url);
    await browser.login(newUser({ users }).username);
    await withoutStamp(application);
    const answer = await browser.get('/me');
    expect(answer.status).toBe(401);
    expect(answer.body).toEqual(UNKNOWN);
    expect(answer.headers.get('www-authenticate')).toBeNull();
    expect((await browser.get('/me')).body).toEqual({ user: null, session: null });
  });

  /** Makes every cookie session one that an application kept before it had the module. */
  async function withoutStamp({ cookieSessions }: TestApplication): Promise<void> {
    const all = await new Promise<Record<string, { singleSession?: unknown }>>((resolve, reject) => {
      cookieSessions.all!((error, found) => (error ? reject(error) : resolve(found as never)));
    });
    for (const [id, { singleSession: _, ...rest }] of Object.entries(all))
      await new Promise<void>((resolve) => cookieSessions.set(id, rest as never, () => resolve()));
  }
});

describe("a login without room, where onLimit is 'reject'", () => {
  const NO_ROOM = {
    statusCode: 409,
    error: 'Conflict',
    message: 'The account already has 2 active session(s). Sign out elsewhere first.',
    code: 'SESSION_LIMIT_REACHED',
    maxSessions: 2,
  };

  it.each(['/login', '/token'])(
    'answers %s with 409 and the limit, and leaves the others alone [lesson 34]',
    async (path) => {
      const user = newUser({ users });
      const browsers = [new Browser(rejecting.url), new Browser(rejecting.url)];
      for (const browser of browsers) expect((await browser.login(user.username)).status).toBe(200);

      const third = new Browser(rejecting.url);
      const refused = await third.login(user.username, path);
      expect(refused.status).toBe(409);
      expect(refused.body).toEqual(NO_ROOM);
      expect(refused.headers.getSetCookie()).toEqual([]);
      expect(refused.headers.get('www-authenticate')).toBeNull();
      for (const browser of browsers)
        expect((await browser.get('/me')).body.user.username).toBe(user.username);
      expect(await rowsOf(rejecting, user)).toHaveLength(2);
    },
  );

  it('answers a wrong password with 401, not with 409', async () => {
    const user = newUser({ users });
    for (let n = 0; n < 2; n++) await new Browser(rejecting.url).login(user.username);
    const answer = await new Browser(rejecting.url).post('/login', {
      username: user.username,
      password: 'wrong',
    });
    expect(answer.status).toBe(401);
    expect(answer.body).not.toHaveProperty('code');
  });

  it('keeps nothing of a browser whose change of user had no room: the first user may sign in elsewhere', async () => {
    const [full, user] = [newUser({ users }), newUser({ users })];
    for (let n = 0; n < 2; n++) await new Browser(rejecting.url).login(full.username);
    await new Browser(rejecting.url).login(user.username);
    const browser = new Browser(rejecting.url);
    await browser.login(user.username);

    expect((await browser.login(full.username)).status).toBe(409);
    // Passport has destroyed the browser's cookie session: nobody holds a credential for what was in it.
    expect((await browser.get('/me')).body).toEqual({ user: null, session: null });
    await eventually(
      () => liveSessionsOf(rejecting, user),
      (live) => live.length === 1,
      2_000,
    );
    expect((await new Browser(rejecting.url).login(user.username)).status).toBe(200);
  });
});

describe('a client of the API that was evicted', () => {
  const ACCEPTS = ['application/json', '*/*', 'text/html,application/xhtml+xml'];

  it.each(ACCEPTS)(
    'gets 401 with JSON, never a redirect or HTML, when it accepts %s [lesson 21]',
    async (accept) => {
      const user = newUser({ users });
      const browser = new Browser(application.url);
      await browser.login(user.username);
      await new Browser(application.url).login(user.username);
      const answer = await browser.get('/me', { accept });
      expectEnded(answer, 'superseded', null);
      expect(answer.headers.get('location')).toBeNull();
    },
  );
});
