import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import { Controller, Get, Injectable, Post, Req, UseGuards, type ExecutionContext } from '@nestjs/common';
import { APP_GUARD } from '@nestjs/core';
import { AuthGuard } from '@nestjs/passport';
import type { Request } from 'express';
import { CurrentSession, SingleSessionLogin, SkipSingleSession } from '../../src/index.js';
import {
  LocalGuard,
  startApplication,
  Users,
  type TestApplication,
  type TestUser,
} from '../support/application.js';
import { Browser, TokenClient, type Answer } from '../support/client.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { liveSessionsOf, newUser } from '../support/sessions.js';
import { watchStatements, type StatementWatch } from '../support/statements.js';

type Current = { id: string; userId: string };

/** As an application has it that guards everything with JWTs and leaves public what brings none. */
@Injectable()
class GlobalJwtGuard extends AuthGuard('jwt') {
  override canActivate(
    context: ExecutionContext,
  ): ReturnType<InstanceType<ReturnType<typeof AuthGuard>>['canActivate']> {
    const { headers } = context.switchToHttp().getRequest<Request>();
    return headers.authorization === undefined ? true : super.canActivate(context);
  }
}

@UseGuards(AuthGuard('jwt'))
@Controller('class-guarded')
class ClassGuardedController {
  @Get('me')
  me(@Req() request: { user: TestUser }, @CurrentSession() session: Current): object {
    return { user: request.user, session };
  }

  @SkipSingleSession()
  @Get('skipped')
  skipped(@Req() request: { user: TestUser }, @CurrentSession() session?: Current): object {
    return { user: request.user, session: session ?? null };
  }
}

@SkipSingleSession()
@Controller('all-skipped')
class SkippedController {
  @UseGuards(AuthGuard('jwt'))
  @Get('token')
  token(@Req() request: { user: TestUser }): object {
    return { user: request.user };
  }

  @Get('cookie')
  cookie(@Req() request: { user?: TestUser }): object {
    return { user: request.user ?? null };
  }

  @UseGuards(LocalGuard)
  @SingleSessionLogin({ credential: 'token' })
  @Post('login')
  login(@CurrentSession() session: Current): object {
    return { session };
  }
}

/** Logins that take another session of ours for a password: a token renewed by a token, a token in exchange for a cookie. */
@Controller('exchange')
class ExchangeController {
  @UseGuards(AuthGuard('jwt'))
  @SingleSessionLogin({ credential: 'token' })
  @Post('token')
  token(@CurrentSession() session: Current): object {
    return { session };
  }

  @SingleSessionLogin({ credential: 'token' })
  @Post('cookie')
  cookie(@CurrentSession() session: Current): object {
    return { session };
  }
}

const CONTROLLERS = [ExchangeController, ClassGuardedController, SkippedController];
const users = new Users();
let databaseUrl: string;
let watch: StatementWatch;
let application: TestApplication;
let guarded: TestApplication;

beforeAll(async () => {
  databaseUrl = await freshDatabase();
  watch = await watchStatements(databaseUrl);
  application = await startApplication(watch.url, { users, controllers: CONTROLLERS });
  guarded = await startApplication(watch.url, {
    users,
    controllers: CONTROLLERS,
    providers: [{ provide: APP_GUARD, useClass: GlobalJwtGuard }],
  });
});

afterAll(async () => {
  await guarded?.close();
  await application?.close();
  await watch?.stop();
  await dropDatabase(databaseUrl);
});

/** The bookkeeping of a login follows its answer, at once: nothing for a while means that nothing more comes. */
async function quiet(): Promise<void> {
  for (let known = -1; known !== watch.statements.length;) {
    known = watch.statements.length;
    await new Promise((resolve) => setTimeout(resolve, 80));
  }
  watch.clear();
}

function expectEvicted(answer: Answer): void {
  expect(answer.status).toBe(401);
  expect(answer.body).toMatchObject({ code: 'SESSION_ENDED', reason: 'superseded' });
}

describe('an evicted JWT is refused', () => {
  const WAYS: [string, () => TestApplication, string][] = [
    ['by a route with its own AuthGuard', () => application, '/token/me'],
    ['by a controller with its own AuthGuard', () => application, '/class-guarded/me'],
    ['under a global AuthGuard that runs before ours', () => guarded, '/me'],
    ['under a global AuthGuard and one of the route', () => guarded, '/token/me'],
    ['under a global AuthGuard and one of the controller', () => guarded, '/class-guarded/me'],
  ];

  it.each(WAYS)('%s, and the winner is not [lesson 18]', async (_, of, path) => {
    const { url } = of();
    const { username } = newUser({ users });
    const [loser, winner] = [new TokenClient(url), new TokenClient(url)];
    await loser.login(username);
    expect((await loser.get(path)).status).toBe(200);
    await winner.login(username);
    expectEvicted(await loser.get(path));
    const passed = await winner.get(path);
    expect(passed.status).toBe(200);
    expect(passed.body.user.username).toBe(username);
    expect(passed.body.session.id).toBe(passed.body.user.sid);
  });

  it('on a POST before its handler can do anything [lesson 18]', async () => {
    const { username } = newUser({ users });
    const loser = new TokenClient(guarded.url);
    await loser.login(username);
    await new TokenClient(guarded.url).login(username);
    expectEvicted(await loser.post('/echo'));
  });
});

describe('a request with a cookie and a token', () => {
  let cookie: Browser;
  let token: TokenClient;

  afterEach(() => watch.clear());

  async function signInAs(cookieUser: TestUser, tokenUser: TestUser): Promise<void> {
    cookie = new Browser(application.url);
    token = new TokenClient(application.url);
    await cookie.login(cookieUser.username);
    await token.login(tokenUser.username);
  }

  const send = (path = '/token/me'): Promise<Answer> =>
    cookie.get(path, { authorization: `Bearer ${token.token}` });

  it('is refused when the cookie is dead and the token alive', async () => {
    const user = newUser({ users });
    await signInAs(user, user);
    expect((await token.get()).status).toBe(200);
    expectEvicted(await send());
    // The dead cookie session went with that answer.
    expect((await send()).status).toBe(200);
  });

  it('is refused when the cookie is dead and the token alive, under a global AuthGuard that runs before ours too', async () => {
    const { username } = newUser({ users });
    const dead = new Browser(guarded.url);
    const alive = new TokenClient(guarded.url);
    await dead.login(username);
    await alive.login(username);
    expectEvicted(await dead.get('/me', { authorization: `Bearer ${alive.token}` }));
    expect((await alive.get('/me')).status).toBe(200);
  });

  it('is refused when the cookie is alive and the token dead, and the cookie stays', async () => {
    const user = newUser({ users });
    token = new TokenClient(application.url);
    await token.login(user.username);
    cookie = new Browser(application.url);
    await cookie.login(user.username);
    const refused = await send();
    expectEvicted(refused);
    expect(refused.headers.get('www-authenticate')).toBe('Bearer error="invalid_token"');
    expect((await cookie.get('/me')).body.user.username).toBe(user.username);
  });

  it('is the user of the token where the cookie belongs to another, and both must be alive', async () => {
    const [cookieUser, tokenUser] = [newUser({ users }), newUser({ users })];
    await signInAs(cookieUser, tokenUser);
    const answer = await send();
    expect(answer.status).toBe(200);
    expect(answer.body.user.username).toBe(tokenUser.username);
    expect(answer.body.session.userId).toBe(String(tokenUser.id));

    await new TokenClient(application.url).login(tokenUser.username);
    expectEvicted(await send());
    await token.login(tokenUser.username);
    await new TokenClient(application.url).login(cookieUser.username);
    expectEvicted(await send());
  });

  it('is the user of the token, and the other stays signed in, under a global AuthGuard that runs before ours too', async () => {
    const [cookieUser, tokenUser] = [newUser({ users }), newUser({ users })];
    const [beside, alive] = [new Browser(guarded.url), new TokenClient(guarded.url)];
    await beside.login(cookieUser.username);
    await alive.login(tokenUser.username);
    const answer = await beside.get('/me', { authorization: `Bearer ${alive.token}` });
    expect(answer.status).toBe(200);
    expect(answer.body.session.userId).toBe(String(tokenUser.id));
    expect(await liveSessionsOf(guarded, cookieUser)).toHaveLength(1);
  });

  it('is refused when the token names no session of its own but borrows the cookie of another user [S15]', async () => {
    const [cookieUser, tokenUser] = [newUser({ users }), newUser({ users })];
    await signInAs(cookieUser, tokenUser);
    for (const claims of [{}, { sid: 'garbage' }, { sid: '' }, { sid: [] }]) {
      const borrowed = { authorization: `Bearer ${application.sign(tokenUser, claims)}` };
      const answer = await cookie.copy().get('/token/me', borrowed);
      expect(answer.status).toBe(401);
      await cookie.login(cookieUser.username);
    }
  });
});

describe('a login that is authenticated by a session of ours', () => {
  it('is refused to an evicted token, which must not come back as the winner [P2, P3]', async () => {
    const { username } = newUser({ users });
    const [loser, winner] = [new TokenClient(application.url), new TokenClient(application.url)];
    await loser.login(username);
    await winner.login(username);
    expect((await loser.post('/exchange/token')).status).toBe(401);
    expect((await winner.get()).status).toBe(200);
    expect((await winner.post('/exchange/token')).status).toBe(201);
  });

  it('is refused as unknown to a token that names the live session of somebody else, which goes on [S15]', async () => {
    const [user, other] = [newUser({ users }), newUser({ users })];
    const owner = new TokenClient(application.url);
    await owner.login(other.username);
    const { id } = (await owner.get()).body.session;
    const forger = new TokenClient(application.url, application.sign(user, { sid: id }));
    expect((await forger.post('/exchange/token')).body).toMatchObject({
      code: 'SESSION_ENDED',
      reason: 'unknown',
    });
    expect((await owner.get()).status).toBe(200);
  });

  it('is refused to an evicted cookie, which must not come back as the winner [P2, P3]', async () => {
    const { username } = newUser({ users });
    const [loser, winner] = [new Browser(application.url), new Browser(application.url)];
    await loser.login(username);
    await winner.login(username);
    expect((await loser.post('/exchange/cookie')).status).toBe(401);
    // The dead cookie session went with that answer.
    expect((await loser.get('/me')).body).toEqual({ user: null, session: null });
    expect((await winner.get('/me')).body.user?.username).toBe(username);
  });

  it('is refused to an evicted token beside the cookie of another user, which stays', async () => {
    const [cookieUser, tokenUser] = [newUser({ users }), newUser({ users })];
    const [browser, loser] = [new Browser(application.url), new TokenClient(application.url)];
    await browser.login(cookieUser.username);
    await loser.login(tokenUser.username);
    await new TokenClient(application.url).login(tokenUser.username);
    expectEvicted(await browser.post('/exchange/token', {}, { authorization: `Bearer ${loser.token}` }));
    expect((await browser.get('/me')).body.user?.username).toBe(cookieUser.username);
  });
});

describe('a public route', () => {
  it('lets anonymous callers pass without asking the database', async () => {
    await quiet();
    const answers = await Promise.all([
      new Browser(application.url).get('/me'),
      new Browser(application.url).post('/echo', { a: 1 }),
      new Browser(application.url, 'connect.sid=s%3Anonsense.nonsense').get('/me'),
      new Browser(application.url).get('/me', { authorization: 'Bearer nonsense' }),
    ]);
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 200, 200]);
    expect(watch.statements).toEqual([]);
  });
});

describe('@SkipSingleSession()', () => {
  it('lets the evicted pass on a method, without asking the database, and there only', async () => {
    const { username } = newUser({ users });
    const [browser, token] = [new Browser(application.url), new TokenClient(application.url)];
    await browser.login(username);
    await token.login(username);
    await new Browser(application.url).login(username);
    await quiet();
    expect((await browser.get('/skipped')).body.user.username).toBe(username);
    const skipped = await token.get('/class-guarded/skipped');
    expect(skipped.status).toBe(200);
    expect(skipped.body.session).toBeNull();
    expect(watch.statements).toEqual([]);
    expectEvicted(await token.get('/class-guarded/me'));
    expectEvicted(await browser.get('/me'));
  });

  it('lets the evicted pass on a whole controller', async () => {
    const { username } = newUser({ users });
    const [browser, token] = [new Browser(application.url), new TokenClient(application.url)];
    await browser.login(username);
    await token.login(username);
    await new Browser(application.url).login(username);
    expect((await browser.get('/all-skipped/cookie')).body.user.username).toBe(username);
    expect((await token.get('/all-skipped/token')).body.user.username).toBe(username);
  });

  it('on a whole controller says nothing of a method that has a decorator of its own', async () => {
    const user = newUser({ users });
    const { status, body, headers } = await new Browser(application.url).login(
      user.username,
      '/all-skipped/login',
    );
    expect([status, headers.getSetCookie()]).toEqual([201, []]);
    expect(await liveSessionsOf(application, user)).toEqual([body.session.id]);
  });
});
