import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, it, jest } from '@jest/globals';
import {
  Body,
  type CanActivate,
  Controller,
  type ExecutionContext,
  HttpCode,
  Post,
  Req,
  UseGuards,
} from '@nestjs/common';
import type { Request } from 'express';
import { firstValueFrom, of } from 'rxjs';
import {
  SingleSessionLogin,
  SingleSessionLogoutInterceptor,
  SingleSessionService,
  SkipSingleSession,
} from '../../src/index.js';
import type { SessionRequest } from '../../src/http/request.js';
import { stateOf } from '../../src/http/request-state.js';
import { Admissions } from '../../src/session/admissions.js';
import {
  LocalGuard,
  LocalLoginGuard,
  startApplication,
  Users,
  type TestApplication,
  type TestUser,
} from '../support/application.js';
import { Browser, TokenClient } from '../support/client.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { runBefore } from '../support/platform.js';
import { logIn, logOut, type UserRequest } from '../support/ways-in.js';
import { countRows, eventually, liveSessionsOf, newUser, rowsOf } from '../support/sessions.js';

/** As one that asks for a second factor. */
class Refusing implements CanActivate {
  canActivate(): boolean {
    return false;
  }
}

@Controller('before')
class BeforeController {
  constructor(private readonly sessions: SingleSessionService) {}

  /** Makes the cookie session what a login made of it in the time before the module, which sees nothing of it. */
  @SkipSingleSession()
  @UseGuards(LocalGuard)
  @Post('login')
  @HttpCode(200)
  async login(@Req() request: Request & { user: TestUser }): Promise<void> {
    await new Promise<void>((resolve, reject) =>
      request.session.regenerate((error) => (error ? reject(error as Error) : resolve())),
    );
    Object.assign(request.session, { passport: { user: request.user.username } });
  }

  @UseGuards(LocalLoginGuard, Refusing)
  @SingleSessionLogin()
  @Post('refused')
  refused(): void {}

  @SkipSingleSession()
  @Post('logout')
  @HttpCode(204)
  logout(@Req() request: UserRequest): Promise<void> {
    return logOut(request);
  }

  /** A login of whoever a middleware has authenticated. */
  @SkipSingleSession()
  @Post('own')
  @HttpCode(200)
  async own(@Req() request: Request & { user: TestUser }): Promise<void> {
    await new Promise<void>((resolve, reject) =>
      request.session.regenerate((error) => (error ? reject(error as Error) : resolve())),
    );
    await this.sessions.admit(request.user, request);
  }

  @Post('visit')
  visit(@Req() request: Request, @Body() content: object): void {
    Object.assign(request.session, { cart: 'a book' }, content);
  }
}

const users = new Users();
const shared = { users, controllers: [BeforeController] };
let databaseUrl: string;
let application: TestApplication;

beforeAll(async () => {
  databaseUrl = await freshDatabase();
  application = await startApplication(databaseUrl, { ...shared, options: { unregistered: 'adopt' } });
});

afterAll(async () => {
  await application?.close();
  await dropDatabase(databaseUrl);
});

async function loggedInBefore({ url }: TestApplication, { username }: TestUser): Promise<Browser> {
  const browser = new Browser(url);
  expect((await browser.login(username, '/before/login')).status).toBe(200);
  return browser;
}

const sidless = (user: TestUser, claims: object = {}): TokenClient =>
  new TokenClient(application.url, application.sign(user, { jti: randomUUID(), ...claims }));

let user: TestUser;
beforeEach(() => {
  user = newUser({ users });
});

describe("with unregistered: 'adopt'", () => {
  it('a cookie session of before becomes one session, whatever the number of first requests at once', async () => {
    const browser = await loggedInBefore(application, user);
    const answers = await Promise.all(Array.from({ length: 6 }, () => browser.copy().get('/me')));
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 200, 200, 200, 200]);
    for (const { body } of answers) expect(body.session.userId).toBe(String(user.id));
    const ids = new Set(answers.map(({ body }) => body.session.id));
    expect(ids.size).toBe(1);
    expect(await rowsOf(application, user)).toHaveLength(1);
    expect((await browser.get('/me')).body.session.id).toBe([...ids][0]);
  });

  it('an adopted session counts: it evicts older ones and is evicted by a login, for good', async () => {
    const older = new TokenClient(application.url);
    await older.login(user.username);
    const cookie = await loggedInBefore(application, user);
    const copy = cookie.copy();
    expect((await cookie.get('/me')).status).toBe(200);
    expect((await older.get()).body.reason).toBe('superseded');

    const winner = new Browser(application.url);
    await winner.login(user.username);
    expect((await cookie.get('/me')).body.reason).toBe('superseded');
    expect((await copy.get('/me')).body).toEqual({ user: null, session: null });
    expect((await winner.get('/me')).status).toBe(200);
    expect(await liveSessionsOf(application, user)).toHaveLength(1);
  });

  it('a cookie session of before that begins with a logout is anonymous from then on', async () => {
    const browser = await loggedInBefore(application, user);
    const copy = browser.copy();
    expect((await browser.post('/logout')).status).toBe(204);
    for (const one of [browser, copy])
      expect((await one.get('/me')).body).toEqual({ user: null, session: null });
    expect(await rowsOf(application, user)).toMatchObject([{ endReason: 'logout' }]);
  });

  it.each(['/logout', '/before/logout'])(
    'a cookie session of before that begins with a logout by %s is not adopted later, by a request that had read it or that saves it as it was [P2]',
    async (path) => {
      const browser = await loggedInBefore(application, user);
      const [copy, asItWas] = [browser.copy(), await cookieSessionOf(application, browser)];
      expect((await browser.post(path)).status).toBe(204);
      await putCookieSession(application, copy, asItWas);
      expect((await copy.get('/me')).body).toMatchObject({ code: 'SESSION_ENDED', reason: 'logout' });
      expect(await liveSessionsOf(application, user)).toEqual([]);
    },
  );

  it('a logout by something in place of a request, without headers, ends nothing and is answered', async () => {
    const session = {
      passport: { user: user.username },
      save: jest.fn(),
      destroy: (done: () => void) => done(),
    };
    const request = { user, session, sessionID: randomUUID() } as unknown as SessionRequest;
    stateOf(request);
    const context = {
      getType: () => 'graphql',
      getArgByIndex: (index: number) => [{}, {}, { req: request }][index],
    } as unknown as ExecutionContext;
    const interceptor = application.app.get(SingleSessionLogoutInterceptor);
    const answer = await interceptor.intercept(context, { handle: () => of('signed out') });
    expect(await firstValueFrom(answer)).toBe('signed out');
    expect(await rowsOf(application, user)).toEqual([]);
  });

  it.each(['/logout', '/before/logout'])(
    'a logout by %s with a cookie session of before ends what that was adopted as meanwhile',
    async (path) => {
      const browser = await loggedInBefore(application, user);
      const asItWas = await cookieSessionOf(application, browser);
      await browser.copy().get('/me');
      // What the logout finds when it has come before the stamp is saved.
      await putCookieSession(application, browser, asItWas);
      expect((await browser.post(path)).status).toBe(204);
      expect(await rowsOf(application, user)).toMatchObject([{ endReason: 'logout' }]);
      expect(await liveSessionsOf(application, user)).toEqual([]);
    },
  );

  it('a logout by a cookie session of before ends no other session: it has never been one itself [P3]', async () => {
    const winner = new Browser(application.url);
    await winner.login(user.username);
    const browser = await loggedInBefore(application, user);
    expect((await browser.post('/logout')).status).toBe(204);
    expect((await winner.get('/me')).body.user?.username).toBe(user.username);
  });

  it('a login keeps its place when another request of its browser is adopted by the cookie session of before, which it read in time [P1, P2]', async () => {
    const browser = await loggedInBefore(application, user);
    const [slow, asItWas] = [browser.copy(), await cookieSessionOf(application, browser)];
    expect((await browser.login(user.username)).status).toBe(200);
    await putCookieSession(application, slow, asItWas);
    expect((await slow.get('/me')).body).toMatchObject({ code: 'SESSION_ENDED', reason: 'superseded' });
    expect((await browser.get('/me')).body.user?.username).toBe(user.username);
  });

  describe('where a middleware logs in and out, before any guard has seen who came', () => {
    let middled: TestApplication;
    beforeAll(async () => {
      middled = await startApplication(databaseUrl, {
        ...shared,
        options: { unregistered: 'adopt' },
        configure: (app) =>
          runBefore(app, (request: UserRequest, _: unknown, next: (error?: unknown) => void) => {
            const { 'x-log-in': username, 'x-log-out': isLogout } = request.headers;
            if (username) return void logIn(request, users.get(String(username))!).then(() => next(), next);
            if (isLogout) return void logOut(request).then(() => next(), next);
            next();
          }),
      });
    });
    afterAll(() => middled?.close());

    it('a login keeps its place in the same way [P1, P2]', async () => {
      const browser = await loggedInBefore(middled, user);
      const [slow, asItWas] = [browser.copy(), await cookieSessionOf(middled, browser)];
      const login = await browser.get('/me', { 'x-log-in': user.username });
      expect(login.body.user?.username).toBe(user.username);
      await putCookieSession(middled, slow, asItWas);
      expect((await slow.get('/me')).body).toMatchObject({ code: 'SESSION_ENDED', reason: 'superseded' });
      expect((await browser.get('/me')).body.user?.username).toBe(user.username);
    });

    it.each(['a logout', 'a login as somebody else'])(
      '%s ends what the cookie session of before was adopted as meanwhile [P2]',
      async (how) => {
        const browser = await loggedInBefore(middled, user);
        const asItWas = await cookieSessionOf(middled, browser);
        await browser.copy().get('/me');
        await putCookieSession(middled, browser, asItWas);
        const header: Record<string, string> =
          how === 'a logout' ? { 'x-log-out': 'yes' } : { 'x-log-in': newUser({ users }).username };
        expect((await browser.get('/me', header)).status).toBe(200);
        await eventually(
          () => liveSessionsOf(middled, user),
          ({ length }) => length === 0,
        );
      },
    );
  });

  it('a cookie session of before is not adopted later where a login has taken it away and was then refused', async () => {
    const browser = await loggedInBefore(application, user);
    const [slow, asItWas] = [browser.copy(), await cookieSessionOf(application, browser)];
    expect((await browser.login(user.username, '/before/refused')).status).toBe(403);
    await eventually(
      () => rowsOf(application, user),
      ({ length }) => length === 1,
    );
    await putCookieSession(application, slow, asItWas);
    expect((await slow.get('/me')).body).toMatchObject({ code: 'SESSION_ENDED', reason: 'superseded' });
  });

  it('an adopted session that was ended is not adopted again, even when a slow request saves it as it was [P2]', async () => {
    const service = application.app.get(SingleSessionService);
    const browser = await loggedInBefore(application, user);
    const asItWas = await cookieSessionOf(application, browser);
    const { body } = await browser.get('/me');
    await service.end(body.session.id);
    for (let n = 0; n < 2; n++) {
      await putCookieSession(application, browser, asItWas);
      expect((await browser.copy().get('/me')).body).toMatchObject({
        code: 'SESSION_ENDED',
        reason: 'admin',
      });
    }
    expect(await liveSessionsOf(application, user)).toEqual([]);
    expect(await rowsOf(application, user)).toHaveLength(1);
  });

  it('a token without sid is refused as unknown and no row is made: what is not surely its own name could come back under another [P2, S15]', async () => {
    for (const path of ['/token/me', '/token/me']) {
      const answer = await sidless(user).get(path);
      expect(answer.status).toBe(401);
      expect(answer.body.code).toBe('SESSION_UNKNOWN');
    }
    expect(await rowsOf(application, user)).toEqual([]);
  });

  it('a user who was logged in by neither, as with an API key, gets 401 and no row, also beside an anonymous cookie; nor does a logout or a login of theirs leave a row of something ended', async () => {
    const keyed = await startApplication(databaseUrl, {
      ...shared,
      options: { unregistered: 'adopt' },
      configure: (app) =>
        runBefore(app, (request: Request & { user?: object }, _: unknown, next: () => void) => {
          if (request.headers['x-api-key']) request.user = { ...user };
          if (request.headers['x-api-key'] === 'of a cookie session for each request')
            Object.assign(request.session, { passport: { user: user.username } });
          next();
        }),
    });
    try {
      const visitor = new Browser(keyed.url);
      await visitor.post('/before/visit');
      // As Passport leaves it where somebody has logged out and keeps the cart.
      const loggedOut = new Browser(keyed.url);
      await loggedOut.post('/before/visit', { passport: {} });
      const before = await countRows(keyed);
      const callers: [Browser, string][] = [
        [new Browser(keyed.url), 'k'],
        [new Browser(keyed.url), 'k'],
        [visitor, 'k'],
        [loggedOut, 'k'],
        [new Browser(keyed.url), 'of a cookie session for each request'],
      ];
      for (const [caller, key] of callers) {
        const answer = await caller.get('/me', { 'x-api-key': key });
        expect(answer.status).toBe(401);
        expect(answer.body.code).toBe('SESSION_UNKNOWN');
      }
      expect(await countRows(keyed)).toEqual(before);
      // Nor does a logout or a login of theirs end anything that would have to be known for good.
      for (const [caller, key] of callers)
        for (const [path, status] of [
          ['/logout', 204],
          ['/before/logout', 204],
          ['/before/own', 200],
        ] as const) {
          const browser = caller.copy();
          // The refusal has destroyed what they had.
          if (caller === visitor) await browser.post('/before/visit');
          if (caller === loggedOut) await browser.post('/before/visit', { passport: {} });
          expect((await browser.post(path, {}, { 'x-api-key': key })).status).toBe(status);
        }
      const recorded = await rowsOf(keyed, user);
      expect(recorded.map(({ generation }) => generation)).not.toContain('0');
      expect(recorded).toHaveLength(callers.length);
    } finally {
      await keyed.close();
    }
  });

  it('a cookie session does not come back, or count again, by bringing any bearer token along [P2, P3]', async () => {
    const loser = await loggedInBefore(application, user);
    // The cookie is what authenticates; whoever holds it chooses the rest of the headers.
    await loser.copy().get('/me', { authorization: 'Bearer one' });
    const winner = new Browser(application.url);
    await winner.login(user.username);
    expect((await loser.copy().get('/me', { authorization: 'Bearer two' })).status).toBe(401);
    expect((await winner.get('/me')).body.user?.username).toBe(user.username);
  });

  it('a token does not come back, or count again, by bringing any cookie along [P2, P3]', async () => {
    const token = sidless(user).token;
    const winner = new Browser(application.url);
    await winner.login(user.username);
    const stranger = newUser({ users });
    for (const cookie of [
      await loggedInBefore(application, stranger),
      await loggedInBefore(application, user),
    ])
      expect((await cookie.get('/token/me', { authorization: `Bearer ${token}` })).status).toBe(401);
    expect((await winner.get('/me')).body.user?.username).toBe(user.username);
    expect(await rowsOf(application, user)).toHaveLength(1);
  });
});

const sidOf = ({ cookie }: Browser): string =>
  decodeURIComponent(cookie!)
    .replace(/^[^=]+=(s:)?/, '')
    .split('.', 1)[0]!;

const cookieSessionOf = ({ cookieSessions }: TestApplication, browser: Browser): Promise<object> =>
  new Promise((resolve) => cookieSessions.get(sidOf(browser), (_, found) => resolve(found!)));

const putCookieSession = (
  { cookieSessions }: TestApplication,
  browser: Browser,
  content: object,
): Promise<void> =>
  new Promise((resolve) => cookieSessions.set(sidOf(browser), content as never, () => resolve()));

describe("with unregistered: 'adopt' and onLimit: 'reject'", () => {
  let rejecting: TestApplication;
  beforeAll(async () => {
    rejecting = await startApplication(databaseUrl, {
      ...shared,
      options: { unregistered: 'adopt', onLimit: 'reject' },
    });
  });
  afterAll(() => rejecting?.close());

  it('parallel first requests of one cookie session are all answered 200', async () => {
    const browser = await loggedInBefore(rejecting, user);
    const answers = await Promise.all(Array.from({ length: 6 }, () => browser.copy().get('/me')));
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 200, 200, 200, 200]);
    expect(await rowsOf(rejecting, user)).toHaveLength(1);
  });

  it('a login takes the place of a session that its own cookie session was adopted as while it was on its way', async () => {
    const browser = await loggedInBefore(rejecting, user);
    const asItWas = await cookieSessionOf(rejecting, browser);
    const { body } = await browser.copy().get('/me');
    // What the login finds when it has come before the stamp is saved.
    await putCookieSession(rejecting, browser, asItWas);
    const login = await browser.login(user.username);
    expect(login.status).toBe(200);
    expect(await liveSessionsOf(rejecting, user)).toEqual([login.body.session.id]);
    expect(login.body.session.id).not.toBe(body.session.id);
  });

  it('a login keeps its place when another request of its browser is adopted by the cookie session of before, which it read in time', async () => {
    const service = rejecting.app.get(SingleSessionService);
    await new TokenClient(rejecting.url).login(user.username);
    await service.end((await liveSessionsOf(rejecting, user))[0]!);
    const browser = await loggedInBefore(rejecting, user);
    const asItWas = await cookieSessionOf(rejecting, browser);
    const slow = browser.copy();
    expect((await browser.login(user.username)).status).toBe(200);
    // What the other request has read before.
    await putCookieSession(rejecting, slow, asItWas);
    await slow.get('/me');
    expect((await browser.get('/me')).body.user?.username).toBe(user.username);
  });

  it('an adopted session that was ended says so, also when there is no room for it any more', async () => {
    const browser = await loggedInBefore(rejecting, user);
    const asItWas = await cookieSessionOf(rejecting, browser);
    const { body } = await browser.copy().get('/me');
    await rejecting.app.get(SingleSessionService).end(body.session.id);
    await new TokenClient(rejecting.url).login(user.username);
    await putCookieSession(rejecting, browser, asItWas);
    expect((await browser.get('/me')).body).toMatchObject({ code: 'SESSION_ENDED', reason: 'admin' });
  });

  it('such a session ends, too, where the login is refused: its cookie session is gone', async () => {
    await new TokenClient(rejecting.url).login(user.username);
    const second = newUser({ users });
    const browser = await loggedInBefore(rejecting, second);
    const asItWas = await cookieSessionOf(rejecting, browser);
    await browser.copy().get('/me');
    await putCookieSession(rejecting, browser, asItWas);
    expect((await browser.login(user.username)).status).toBe(409);
    await eventually(
      () => liveSessionsOf(rejecting, second),
      ({ length }) => length === 0,
    );
  });

  it('such a session ends, too, where the login is that of somebody else', async () => {
    const other = newUser({ users });
    const browser = await loggedInBefore(rejecting, user);
    const asItWas = await cookieSessionOf(rejecting, browser);
    await browser.copy().get('/me');
    await putCookieSession(rejecting, browser, asItWas);
    expect((await browser.login(other.username)).status).toBe(200);
    await eventually(
      () => liveSessionsOf(rejecting, user),
      ({ length }) => length === 0,
    );
  });
});

describe("without it, as 'reject' is the default", () => {
  it.each(['/logout', '/before/logout', '/before/refused'])(
    'a cookie session that a process with it has just adopted takes that session with it, at %s',
    async (path) => {
      const rejecting = await startApplication(databaseUrl, shared);
      try {
        const browser = await loggedInBefore(rejecting, user);
        const origin = { ip: null, userAgent: null };
        await rejecting.app.get(Admissions).adopt(sidOf(browser), user, origin);
        expect(await liveSessionsOf(rejecting, user)).toHaveLength(1);
        await browser.login(user.username, path);
        await eventually(
          () => liveSessionsOf(rejecting, user),
          ({ length }) => length === 0,
        );
      } finally {
        await rejecting.close();
      }
    },
  );

  it('a cookie session and a token of before are refused as unknown, and nothing is recorded', async () => {
    const rejecting = await startApplication(databaseUrl, shared);
    try {
      const browser = await loggedInBefore(rejecting, user);
      expect((await browser.get('/me')).body.code).toBe('SESSION_UNKNOWN');
      const token = new TokenClient(rejecting.url, rejecting.sign(user, {}));
      expect((await token.get()).body.code).toBe('SESSION_UNKNOWN');
      for (const path of ['/logout', '/before/logout'])
        expect((await (await loggedInBefore(rejecting, user)).post(path)).status).toBe(204);
      expect(await rowsOf(rejecting, user)).toEqual([]);
    } finally {
      await rejecting.close();
    }
  });
});
