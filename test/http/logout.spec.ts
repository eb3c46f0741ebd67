import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it, jest } from '@jest/globals';
import {
  Controller,
  HttpCode,
  Post,
  Req,
  UseGuards,
  type CanActivate,
  type ExecutionContext,
} from '@nestjs/common';
import { AuthGuard } from '@nestjs/passport';
import type { Request } from 'express';
import { firstValueFrom, of } from 'rxjs';
import type { CookieSession } from '../../src/http/request.js';
import {
  SingleSessionLogout,
  SingleSessionLogoutInterceptor,
  SingleSessionService,
} from '../../src/index.js';
import { startApplication, Users, type TestApplication, type TestUser } from '../support/application.js';
import { Browser, loggedIn, TokenClient, usernameOf } from '../support/client.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { nodeResponseOf, runBefore, type PlatformResponse } from '../support/platform.js';
import { liveSessionsOf, newUser, rowsOf } from '../support/sessions.js';
import { logOut } from '../support/ways-in.js';

/** What takes the user off a request, as Passport's own logout does. */
class UserlessGuard implements CanActivate {
  canActivate(context: ExecutionContext): boolean {
    context.switchToHttp().getRequest<{ user: unknown }>().user = null;
    return true;
  }
}

@Controller('logout')
class LogoutController {
  /** As Passport's documentation has it: leaves the browser with a fresh, anonymous session. */
  @SingleSessionLogout()
  @Post('passport')
  @HttpCode(204)
  async passport(@Req() request: Request & { session: { notice?: string } }): Promise<void> {
    await logOut(request);
    request.session.notice = 'You are signed out.';
  }

  @Post('notice')
  @HttpCode(200)
  notice(@Req() request: Request & { session: { notice?: string } }): object {
    return { notice: request.session.notice ?? null };
  }

  @SingleSessionLogout()
  @Post('throws')
  throws(): void {
    throw new Error('after the logout');
  }

  @UseGuards(UserlessGuard)
  @SingleSessionLogout()
  @Post('userless')
  @HttpCode(204)
  userless(): void {}

  @UseGuards(AuthGuard('jwt'))
  @SingleSessionLogout()
  @Post('nobody')
  @HttpCode(204)
  nobody(): void {}
}

/** As a middleware that compresses: those that stand before it see the end of an answer later than its head. */
function compress(_: unknown, response: PlatformResponse, next: () => void): void {
  const node = nodeResponseOf(response);
  const end = node.end.bind(node) as (...parts: unknown[]) => unknown;
  node.end = ((...parts: unknown[]) => {
    node.flushHeaders();
    setImmediate(() => end(...parts));
    return node;
  }) as typeof node.end;
  next();
}

const users = new Users();
const controllers = [LogoutController];
let databaseUrl: string;
/** Three sessions a user, so that a logout has others to end or to spare. */
let everywhere: TestApplication;
let alone: TestApplication;
let single: TestApplication;
let compressing: TestApplication;

beforeAll(async () => {
  databaseUrl = await freshDatabase();
  const exempt = { roles: ['service'] };
  everywhere = await startApplication(databaseUrl, {
    users,
    controllers,
    options: { maxSessions: 3, exempt },
  });
  alone = await startApplication(databaseUrl, {
    users,
    controllers,
    options: { maxSessions: 3, exempt, logoutEverywhere: false },
  });
  single = await startApplication(databaseUrl, { users, controllers });
  compressing = await startApplication(databaseUrl, {
    users,
    controllers,
    session: { resave: true },
    configure: (app) => runBefore(app, compress),
  });
});

afterAll(async () => {
  for (const application of [compressing, single, alone, everywhere]) await application?.close();
  await dropDatabase(databaseUrl);
});

async function withToken({ url }: TestApplication, { username }: TestUser): Promise<TokenClient> {
  const token = new TokenClient(url);
  expect((await token.login(username)).status).toBe(200);
  return token;
}

describe("the loser's logout", () => {
  it('leaves the winner alone, for cookies [lesson 16, P3]', async () => {
    const user = newUser({ users });
    const loser = await loggedIn(single, user);
    const winner = await loggedIn(single, user);
    expect((await loser.post('/logout')).status).toBe(204);
    expect(await usernameOf(winner)).toBe(user.username);
    expect(await usernameOf(loser)).toBeUndefined();
  });

  it('leaves the winner alone, for tokens, and the loser stays superseded [lesson 16, P2, P3]', async () => {
    const user = newUser({ users });
    const loser = await withToken(single, user);
    const winner = await withToken(single, user);
    expect((await loser.post('/token/logout')).status).toBe(204);
    expect((await winner.get()).status).toBe(200);
    expect((await loser.get()).body).toMatchObject({ code: 'SESSION_ENDED', reason: 'superseded' });
  });

  it('leaves the winner alone even before the loss was written down [lesson 16, P3]', async () => {
    const user = newUser({ users });
    for (let round = 0; round < 10; round++) {
      const loser = await withToken(single, user);
      const winner = new TokenClient(single.url);
      await Promise.all([winner.login(user.username), loser.post('/token/logout')]);
      expect((await winner.get()).status).toBe(200);
    }
  });
});

describe('a logout of an enforced user', () => {
  it('ends all of their sessions, and says to each why; other users stay', async () => {
    const [user, other] = [newUser({ users }), newUser({ users })];
    const stranger = await loggedIn(everywhere, other);
    const [first, second, third] = [
      await loggedIn(everywhere, user),
      await loggedIn(everywhere, user),
      await withToken(everywhere, user),
    ];
    const copy = first.copy();
    expect((await first.post('/logout')).status).toBe(204);
    expect((await second.get('/me')).body.reason).toBe('logout-everywhere');
    expect((await third.get()).body.reason).toBe('logout-everywhere');
    expect(await usernameOf(copy)).toBeUndefined();
    expect(await usernameOf(stranger)).toBe(other.username);
    expect((await rowsOf(everywhere, user)).map(({ endReason }) => endReason)).toEqual([
      'logout',
      'logout-everywhere',
      'logout-everywhere',
    ]);
  });

  it('ends only its own where logoutEverywhere is false', async () => {
    const user = newUser({ users });
    const [first, second, third] = [
      await loggedIn(alone, user),
      await withToken(alone, user),
      await withToken(alone, user),
    ];
    await first.post('/logout');
    await second.post('/token/logout');
    expect(await usernameOf(first)).toBeUndefined();
    expect((await second.get()).body.reason).toBe('logout');
    expect((await third.get()).status).toBe(200);
  });
});

describe('a logout of an exempt user', () => {
  it.each([
    ['true', () => everywhere],
    ['false', () => alone],
  ])('ends only its own where logoutEverywhere is %s [lesson 12]', async (_, of) => {
    const worker = newUser({ users }, { roles: ['service'] });
    const workers = await Promise.all(Array.from({ length: 8 }, () => withToken(of(), worker)));
    expect((await workers[0]!.post('/token/logout')).status).toBe(204);
    expect((await workers[0]!.get()).body.reason).toBe('logout');
    for (const other of workers.slice(1)) expect((await other.get()).status).toBe(200);
  });
});

describe("a logout without a live session reaches the handler, whose 204 is the answer, and ends nobody's session", () => {
  it('when the caller is anonymous', async () => {
    expect((await new Browser(single.url).post('/logout')).status).toBe(204);
    expect((await new Browser(single.url, 'connect.sid=s%3Anonsense.nonsense').post('/logout')).status).toBe(
      204,
    );
  });

  it('when the session has ended already', async () => {
    const user = newUser({ users });
    const browser = await loggedIn(single, user);
    const again = browser.copy();
    expect((await browser.post('/logout')).status).toBe(204);
    expect((await again.post('/logout')).status).toBe(204);
    expect((await rowsOf(single, user)).map(({ endReason }) => endReason)).toEqual(['logout']);
  });

  it.each<[string, () => unknown]>([
    ['unknown', () => randomUUID()],
    ['garbage', () => 'garbage'],
    ['empty', () => ''],
    ['missing', () => undefined],
    ['an array', () => [randomUUID()]],
    ['an object', () => ({})],
    ['a number', () => 7],
  ])('when the sid of its token is %s [S15]', async (_, sid) => {
    const user = newUser({ users });
    const settled = await withToken(single, user);
    const forged = new TokenClient(single.url, single.sign(user, { sid: sid() }));
    expect((await forged.post('/token/logout')).status).toBe(204);
    expect((await settled.get()).status).toBe(200);
  });

  it.each([['garbage'], [7], [{ id: 1 }], [[]]])(
    'when its cookie session is stamped with %j [S15]',
    async (garbage) => {
      const user = newUser({ users });
      const browser = await loggedIn(single, user);
      const settled = await withToken(single, user);
      await restamp(browser, garbage);
      expect((await browser.post('/logout')).status).toBe(204);
      expect(await usernameOf(browser)).toBeUndefined();
      expect((await settled.get()).status).toBe(200);
    },
  );

  it('when its login is from the time before this module: what the handler has begun stays', async () => {
    const browser = await loggedIn(single, newUser({ users }));
    await restamp(browser, undefined);
    expect((await browser.post('/logout/passport')).status).toBe(204);
    expect((await browser.post('/logout/notice')).body).toEqual({ notice: 'You are signed out.' });
  });

  function restamp(browser: Browser, singleSession: unknown): Promise<void> {
    const sid = decodeURIComponent(browser.cookie!)
      .replace(/^connect\.sid=s:/, '')
      .split('.', 1)[0]!;
    return new Promise((resolve) => {
      single.cookieSessions.get(sid, (_, found) => {
        single.cookieSessions.set(sid, { ...found, singleSession } as never, () => resolve());
      });
    });
  }
});

describe('the cookie session of a logout', () => {
  it('is destroyed: its copy is anonymous, not refused', async () => {
    const user = newUser({ users });
    const browser = await loggedIn(single, user);
    const copy = browser.copy();
    await browser.post('/logout');
    expect((await copy.get('/me')).body).toEqual({ user: null, session: null });
  });

  it('is not saved once more by a session middleware that sees the end of the answer late', async () => {
    const user = newUser({ users });
    const browser = await loggedIn(compressing, user);
    await browser.post('/logout');
    expect((await browser.get('/skipped')).body).toEqual({ user: null });
    expect((await browser.get('/me')).body).toEqual({ user: null, session: null });
  });

  it('stays where the handler has begun a fresh anonymous one', async () => {
    const browser = await loggedIn(single, newUser({ users }));
    const before = browser.copy();
    expect((await browser.post('/logout/passport')).status).toBe(204);
    expect((await browser.post('/logout/notice')).body).toEqual({ notice: 'You are signed out.' });
    expect((await browser.get('/me')).body).toEqual({ user: null, session: null });
    expect((await before.get('/me')).body).toEqual({ user: null, session: null });
  });

  it('is not live when the handler throws', async () => {
    const user = newUser({ users });
    const browser = await loggedIn(single, user);
    expect((await browser.post('/logout/throws')).status).toBe(500);
    expect(await liveSessionsOf(single, user)).toEqual([]);
    expect((await browser.get('/me')).body).toMatchObject({ code: 'SESSION_ENDED', reason: 'logout' });
  });
});

it('a logout of a request whose user is null ends all sessions of who is in its cookie session', async () => {
  const user = newUser({ users });
  const browser = await loggedIn(everywhere, user);
  await loggedIn(everywhere, user);
  expect((await browser.post('/logout/userless')).status).toBe(204);
  expect(await liveSessionsOf(everywhere, user)).toEqual([]);
});

describe('a logout with a cookie and a token', () => {
  it('ends both, of two users too', async () => {
    const [cookieUser, tokenUser] = [newUser({ users }), newUser({ users })];
    const browser = await loggedIn(single, cookieUser);
    const token = await withToken(single, tokenUser);
    const answer = await browser.post('/logout/nobody', {}, { authorization: `Bearer ${token.token}` });
    expect(answer.status).toBe(204);
    expect(await liveSessionsOf(single, cookieUser)).toEqual([]);
    expect(await liveSessionsOf(single, tokenUser)).toEqual([]);
  });
});

it('a logout without a response, as by GraphQL on a WebSocket, ends the session and destroys its cookie session before it is answered', async () => {
  const user = newUser({ users });
  const destroy = jest.fn<CookieSession['destroy']>((done) => done());
  const session: CookieSession = { save: (done) => done(), destroy };
  const req = { headers: {}, user, session, sessionID: 'a new secret' };
  const { id } = await single.app.get(SingleSessionService).admit(user, req);
  const context = {
    getType: () => 'graphql',
    getArgByIndex: (index: number) => [{}, {}, { req }][index],
  } as unknown as ExecutionContext;
  const interceptor = single.app.get(SingleSessionLogoutInterceptor);
  const answer = await interceptor.intercept(context, { handle: () => of('signed out') });
  expect(destroy).not.toHaveBeenCalled();
  expect(await firstValueFrom(answer)).toBe('signed out');
  expect(destroy).toHaveBeenCalledTimes(1);
  expect(await single.app.get(SingleSessionService).verify(id)).toMatchObject({ live: false });
});
