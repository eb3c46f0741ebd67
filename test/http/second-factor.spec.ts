import { EventEmitter, once } from 'node:events';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import {
  Catch,
  Controller,
  ForbiddenException,
  Get,
  HttpCode,
  Injectable,
  Post,
  Req,
  UseFilters,
  UseGuards,
  UseInterceptors,
  type ArgumentsHost,
  type CallHandler,
  type CanActivate,
  type ExceptionFilter,
  type ExecutionContext,
  type NestInterceptor,
} from '@nestjs/common';
import { AuthGuard } from '@nestjs/passport';
import { MemoryStore } from 'express-session';
import { finalize, type Observable } from 'rxjs';
import { CurrentSession, SingleSessionLogin, SkipSingleSession } from '../../src/index.js';
import {
  LocalLoginGuard,
  startApplication,
  Users,
  type TestApplication,
  type TestUser,
} from '../support/application.js';
import { breakOff, Browser, loggedIn, usernameOf, type Answer } from '../support/client.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { nodeResponseOf, runBefore, type PlatformResponse } from '../support/platform.js';
import { eventually, liveSessionsOf, newUser, rowsOf } from '../support/sessions.js';
import { Gate, ImpatientBrowser, logIn, logOut, type UserRequest } from '../support/ways-in.js';

// A login route with the decorator, and guards behind the one that has established the login.

const users = new Users();
const USER = 'x-user';
const SECOND = 'x-second';

const userOf = ({ headers }: UserRequest, header = USER): TestUser => users.get(String(headers[header]))!;

/** Answers whoever is refused with the way back to the form. */
@Catch(ForbiddenException)
class RedirectingFilter implements ExceptionFilter {
  static lastRequest: UserRequest;

  catch(_: unknown, host: ArgumentsHost): void {
    RedirectingFilter.lastRequest = host.switchToHttp().getRequest();
    host.switchToHttp().getResponse<PlatformResponse>().redirect('/');
  }
}

/** Answers whoever is refused with a page in parts, of which the last never comes. */
@Catch(ForbiddenException)
class StreamingFilter implements ExceptionFilter {
  catch(_: unknown, host: ArgumentsHost): void {
    const node = nodeResponseOf(host.switchToHttp().getResponse<PlatformResponse>());
    node.statusCode = 403;
    node.write('the first part');
  }
}

/** Lets the head of the answer leave before the login is admitted: on Fastify past its reply, which must know of it. */
@Injectable()
class HastyInterceptor implements NestInterceptor {
  intercept(context: ExecutionContext, next: CallHandler): Observable<unknown> {
    const response = context.switchToHttp().getResponse<PlatformResponse & { hijack?(): void }>();
    response.hijack?.();
    nodeResponseOf(response).flushHeaders();
    return next.handle();
  }
}

/** Destroys nothing while it holds; what was asked for meanwhile, when it lets go. */
class HoldingStore extends MemoryStore {
  private held: (() => void)[] | undefined;

  hold(): void {
    this.held = [];
  }

  letGo(): void {
    for (const destroy of this.held ?? []) destroy();
    this.held = undefined;
  }

  override destroy(sid: string, done?: (e?: unknown) => void): void {
    const destroy = (): void => super.destroy(sid, done);
    if (this.held) this.held.push(destroy);
    else destroy();
  }
}

const store = new HoldingStore();

/** Lets the store of the cookie sessions go on when the login has come to its end, whatever that is. */
@Injectable()
class LettingGoInterceptor implements NestInterceptor {
  intercept(_: ExecutionContext, next: CallHandler): Observable<unknown> {
    return next.handle().pipe(finalize(() => store.letGo()));
  }
}

/** Answers as a time limit would, while the store of the cookie sessions is slow, and lets pass after that. */
@Injectable()
class AnsweringGuard implements CanActivate {
  async canActivate(context: ExecutionContext): Promise<boolean> {
    store.hold();
    context.switchToHttp().getResponse<PlatformResponse>().status(503).send({ from: 'the guard' });
    await new Promise((resolve) => setImmediate(resolve));
    return true;
  }
}

/** A second factor that is wrong where a header says so. */
@Injectable()
class SecondFactorGuard implements CanActivate {
  canActivate(context: ExecutionContext): boolean {
    return context.switchToHttp().getRequest<UserRequest>().headers['x-code'] !== 'wrong';
  }
}

const arrivals = new EventEmitter();
const secondFactor = new Gate();

/** A second factor that takes its time, and is wrong. */
@Injectable()
class SlowSecondFactorGuard implements CanActivate {
  async canActivate(context: ExecutionContext): Promise<boolean> {
    await secondFactor.pass(context.switchToHttp().getRequest<UserRequest>().user!.username);
    return false;
  }
}

/** Lets nobody pass before the client has gone. */
@Injectable()
class WhenGoneGuard implements CanActivate {
  async canActivate(context: ExecutionContext): Promise<boolean> {
    const closed = once(nodeResponseOf(context.switchToHttp().getResponse<PlatformResponse>()), 'close');
    arrivals.emit('arrived');
    await closed;
    return true;
  }
}

/** Signs in with all that the cookie session knows of the time before. */
@Injectable()
class KeepingLoginGuard implements CanActivate {
  async canActivate(context: ExecutionContext): Promise<boolean> {
    const request = context.switchToHttp().getRequest<UserRequest>();
    await logIn(request, userOf(request), { keepSessionInfo: true });
    return true;
  }
}

/** Lets nobody pass. */
@Injectable()
class NobodyGuard implements CanActivate {
  canActivate(): boolean {
    return false;
  }
}

@Controller('odd')
class OddController {
  @SkipSingleSession()
  @Post('public')
  @HttpCode(200)
  async public(@Req() request: UserRequest): Promise<void> {
    await logIn(request, userOf(request));
  }

  @UseGuards(LocalLoginGuard, SecondFactorGuard)
  @SingleSessionLogin()
  @Post('two-factors')
  @HttpCode(200)
  twoFactors(@CurrentSession() current: CurrentSession): object {
    return { id: current.id };
  }

  @UseFilters(RedirectingFilter)
  @UseGuards(LocalLoginGuard, SecondFactorGuard)
  @SingleSessionLogin()
  @Post('two-factors-or-back')
  twoFactorsOrBack(): void {}

  @UseGuards(LocalLoginGuard, SecondFactorGuard)
  @SingleSessionLogin({ credential: 'token' })
  @Post('two-factors-for-token')
  twoFactorsForToken(): void {}

  @UseGuards(KeepingLoginGuard, SecondFactorGuard)
  @SingleSessionLogin()
  @Post('two-factors-and-keep')
  twoFactorsAndKeep(): void {}

  @UseFilters(StreamingFilter)
  @UseGuards(KeepingLoginGuard, NobodyGuard)
  @SingleSessionLogin()
  @Get('refused-in-parts')
  refusedInParts(): void {}

  @UseGuards(LocalLoginGuard, AnsweringGuard)
  @SingleSessionLogin()
  @UseInterceptors(LettingGoInterceptor)
  @Post('answered')
  answered(): void {}

  @UseGuards(LocalLoginGuard)
  @SingleSessionLogin()
  @UseInterceptors(HastyInterceptor)
  @Post('hasty')
  hasty(): void {}

  @UseGuards(KeepingLoginGuard, SecondFactorGuard)
  @SingleSessionLogin({ credential: 'token' })
  @Post('token-and-keep')
  tokenAndKeep(): void {}

  @UseGuards(LocalLoginGuard)
  @SingleSessionLogin()
  @Post('in-and-out')
  async inAndOut(@Req() request: UserRequest): Promise<void> {
    await logOut(request);
    Object.assign(request.session, { note: 'seen' });
  }

  @SkipSingleSession()
  @Get('note')
  note(@Req() request: { session: { note?: string } }): object {
    return { note: request.session.note ?? null };
  }

  @SkipSingleSession()
  @UseGuards(AuthGuard('local'))
  @Post('password-page')
  @HttpCode(200)
  passwordPage(@Req() request: UserRequest): void {
    Object.assign(request.session, { passwordGivenBy: request.user!.username });
  }

  @SkipSingleSession()
  @Post('code-page')
  @HttpCode(200)
  async codePage(@Req() request: UserRequest & { session: { passwordGivenBy?: string } }): Promise<void> {
    const user = users.get(request.session.passwordGivenBy ?? '');
    if (user === undefined || request.headers['x-code'] === 'wrong') throw new ForbiddenException();
    await logIn(request, user);
  }

  @UseGuards(LocalLoginGuard, SlowSecondFactorGuard)
  @SingleSessionLogin()
  @Post('slow-factors')
  slowFactors(): void {}

  @UseGuards(WhenGoneGuard, LocalLoginGuard, NobodyGuard)
  @SingleSessionLogin()
  @Post('gone')
  gone(): void {}

  @UseGuards(LocalLoginGuard)
  @SingleSessionLogin()
  @Post('marked-and-again')
  @HttpCode(200)
  async markedAndAgain(@Req() request: UserRequest, @CurrentSession() current: CurrentSession) {
    const other = request.headers[SECOND] ? userOf(request, SECOND) : request.user!;
    await logIn(request, other);
    if (request.headers['x-then'] === 'fails') throw new ForbiddenException();
    return { first: current.id, second: request.session.singleSession };
  }
}

/** Signs in on any request that says whom, as a strategy in a middleware would. */
async function signInEarly(request: UserRequest, _: unknown, next: (error?: unknown) => void): Promise<void> {
  const username = request.headers['x-early'];
  if (username === undefined) return next();
  await logIn(request, users.get(String(username))!).then(() => next(), next);
}

let databaseUrl: string;
let one: TestApplication;
let two: TestApplication;
let rejecting: TestApplication;
let adopting: TestApplication;

beforeAll(async () => {
  databaseUrl = await freshDatabase();
  const shared = {
    users,
    controllers: [OddController],
    configure: (app: TestApplication['app']) => runBefore(app, signInEarly),
  };
  one = await startApplication(databaseUrl, { ...shared, session: { store } });
  two = await startApplication(databaseUrl, { ...shared, options: { maxSessions: 2 } });
  rejecting = await startApplication(databaseUrl, {
    ...shared,
    options: { onLimit: 'reject', idleTimeout: 60_000 },
  });
  adopting = await startApplication(databaseUrl, { ...shared, options: { unregistered: 'adopt' } });
});

afterAll(async () => {
  for (const application of [adopting, rejecting, two, one]) await application?.close();
  await dropDatabase(databaseUrl);
});

const post = (browser: Browser, path: string, user: TestUser, headers = {}): Promise<Answer> =>
  browser.post(path, {}, { [USER]: user.username, ...headers });

const wrong = { 'x-code': 'wrong' };
const password = ({ username }: TestUser) => ({ username, password: username });

describe('a marked login route with a second factor', () => {
  it('that is wrong evicts nobody and signs nobody in', async () => {
    const user = newUser({ users });
    const settled = await loggedIn(one, user);
    const browser = new Browser(one.url);
    expect((await browser.post('/odd/two-factors', password(user), wrong)).status).toBe(403);
    expect((await browser.get('/me')).body.user ?? null).toBeNull();
    expect(await usernameOf(settled)).toBe(user.username);
    expect(await rowsOf(one, user)).toHaveLength(1);
  });

  it.each([
    ['refuses', '/odd/two-factors', 403],
    ['redirects', '/odd/two-factors-or-back', 302],
    ['of a login by token refuses', '/odd/two-factors-for-token', 403],
  ])('that %s sends no cookie: the browser is as anonymous as it was', async (_, path, status) => {
    for (const application of [one, adopting]) {
      const user = newUser({ users });
      const browser = new Browser(application.url);
      const answer = await browser.post(path, password(user), wrong);
      expect([answer.status, answer.headers.getSetCookie()]).toEqual([status, []]);
      expect(await rowsOf(application, user)).toEqual([]);
    }
  });

  it('that is wrong sends no cookie either with the first part of an answer whose browser leaves before the last', async () => {
    for (const application of [one, adopting]) {
      const user = newUser({ users });
      const cookies = await breakOff(`${application.url}/odd/refused-in-parts`, { [USER]: user.username });
      expect(cookies).toBe('');
    }
  });

  it.each([['wrong'], ['right']])(
    'of a login by token that keeps what the cookie session knew, and is %s, leaves nobody in it',
    async (code) => {
      const [user, other] = [newUser({ users }), newUser({ users })];
      const remembered = { browser: new Browser(two.url), headers: { 'x-early': user.username } };
      for (const { browser, headers } of [{ browser: await loggedIn(two, user), headers: {} }, remembered]) {
        await post(browser, '/odd/token-and-keep', other, { 'x-code': code, ...headers });
        expect((await browser.get('/skipped')).body.user).toBeNull();
        const { status, body } = await browser.get('/me');
        expect([status, body.user]).toEqual([200, null]);
      }
    },
  );

  it('that is wrong leaves the cookie session with the request when its answer has left, for callbacks that come late', async () => {
    await new Browser(one.url).post('/odd/two-factors-or-back', password(newUser({ users })), wrong);
    expect(RedirectingFilter.lastRequest.session).toBeTruthy();
  });

  it.each([
    ['', '/odd/two-factors'],
    [', with all that its cookie session knew kept', '/odd/two-factors-and-keep'],
  ])(
    'that is wrong signs a browser out that was signed in, and refuses it no request after that%s',
    async (_, path) => {
      const user = newUser({ users });
      const browser = await loggedIn(one, user);
      const headers = { ...wrong, [USER]: user.username };
      expect((await browser.post(path, password(user), headers)).status).toBe(403);
      const { status, body } = await browser.get('/me');
      expect([status, body.user]).toEqual([200, null]);
    },
  );

  it("that is wrong signs nobody in with unregistered: 'adopt' either", async () => {
    const user = newUser({ users });
    const settled = await loggedIn(adopting, user);
    const browser = new Browser(adopting.url);
    expect((await browser.post('/odd/two-factors', password(user), wrong)).status).toBe(403);
    expect((await browser.get('/me')).body.user ?? null).toBeNull();
    expect(await usernameOf(settled)).toBe(user.username);
    expect(await rowsOf(adopting, user)).toHaveLength(1);
  });

  it('that is wrong evicts nobody of the second user when a middleware has signed in somebody else on the same request', async () => {
    const [remembered, user] = [newUser({ users }), newUser({ users })];
    const settled = await loggedIn(one, user);
    const browser = new Browser(one.url);
    const headers = { ...wrong, 'x-early': remembered.username };
    expect((await browser.post('/odd/two-factors', password(user), headers)).status).toBe(403);
    expect(await usernameOf(settled)).toBe(user.username);
    expect(await rowsOf(one, user)).toHaveLength(1);
    expect((await browser.get('/me')).body.user ?? null).toBeNull();
    await eventually(
      () => liveSessionsOf(one, remembered),
      (live) => live.length === 0,
    );
  });

  it('that is wrong leaves signed in whom a middleware has signed in on the same request, where that is the same user', async () => {
    const user = newUser({ users });
    const browser = new Browser(rejecting.url);
    const headers = { ...wrong, 'x-early': user.username };
    expect((await browser.post('/odd/two-factors', password(user), headers)).status).toBe(403);
    expect(await usernameOf(browser)).toBe(user.username);
    expect(await liveSessionsOf(rejecting, user)).toHaveLength(1);
  });

  it("that is wrong in a browser that was signed in leaves nothing of that: under 'reject', the next try has room", async () => {
    const user = newUser({ users });
    const browser = await loggedIn(rejecting, user);
    expect((await browser.post('/odd/two-factors', password(user), wrong)).status).toBe(403);
    // Passport has taken the cookie session away, so nobody holds what was in it.
    await eventually(
      () => liveSessionsOf(rejecting, user),
      (live) => live.length === 0,
      2_000,
    );
    expect((await browser.post('/odd/two-factors', password(user))).status).toBe(200);
    expect(await usernameOf(browser)).toBe(user.username);
  });

  it("that is wrong when the browser has gone already leaves nothing either: under 'reject', the next has room", async () => {
    const user = newUser({ users });
    const browser = new ImpatientBrowser(rejecting.url);
    await browser.login(user.username);
    const arrived = once(arrivals, 'arrived');
    const answer = browser.login(user.username, '/odd/gone').catch(() => 'gone');
    await arrived;
    browser.leave();
    expect(await answer).toBe('gone');
    await eventually(
      () => liveSessionsOf(rejecting, user),
      (live) => live.length === 0,
      2_000,
    );
  });

  it('that is wrong after another click by request.logIn() has carried the session on leaves it to that click, whose cookie the browser has', async () => {
    const user = newUser({ users });
    const browser = await loggedIn(rejecting, user);
    const other = browser.copy();
    const arrived = secondFactor.shut(user.username);
    const answer = browser.post('/odd/slow-factors', password(user));
    await arrived;
    expect((await post(other, '/odd/public', user)).status).toBe(200);
    secondFactor.open();
    const { status, headers } = await answer;
    expect([status, headers.getSetCookie()]).toEqual([403, []]);
    expect(await usernameOf(other)).toBe(user.username);
  });

  it('that is right leaves one session of the second user, and none of whom a middleware has signed in on the same request', async () => {
    const [remembered, user] = [newUser({ users }), newUser({ users })];
    const browser = new Browser(one.url);
    const { body } = await browser.post('/odd/two-factors', password(user), {
      'x-early': remembered.username,
    });
    expect((await browser.get('/me')).body.session).toEqual({ id: body.id, userId: String(user.id) });
    await eventually(
      () => liveSessionsOf(one, remembered),
      (live) => live.length === 0,
    );
  });

  it('leaves one session when a middleware has signed the same user in on the same request', async () => {
    const user = newUser({ users });
    const elsewhere = await loggedIn(two, user);
    const browser = new Browser(two.url);
    const { body } = await browser.post('/odd/two-factors', password(user), { 'x-early': user.username });
    expect((await browser.get('/me')).body.session.id).toBe(body.id);
    expect(await usernameOf(elsewhere)).toBe(user.username);
    expect(await rowsOf(two, user)).toHaveLength(2);
  });

  it('whose handler signs in once more keeps its session; as somebody else, it gives it up', async () => {
    const [user, other] = [newUser({ users }), newUser({ users })];
    const browser = new Browser(two.url);
    const again = await browser.post('/odd/marked-and-again', password(user));
    expect(again.body.second).toBe(again.body.first);
    const changed = await browser.post('/odd/marked-and-again', password(user), { [SECOND]: other.username });
    expect((await browser.get('/me')).body.session).toEqual({
      id: changed.body.second,
      userId: String(other.id),
    });
    await eventually(
      () => liveSessionsOf(two, user),
      (live) => live.length === 0,
    );
  });

  it('evicts nobody where a guard has answered, whose answer waits for the store of the cookie sessions', async () => {
    const user = newUser({ users });
    const settled = await loggedIn(one, user);
    const { status, body, headers } = await new Browser(one.url).post('/odd/answered', password(user));
    expect([status, body, headers.getSetCookie()]).toEqual([503, { from: 'the guard' }, []]);
    expect(await usernameOf(settled)).toBe(user.username);
    expect(await rowsOf(one, user)).toHaveLength(1);
  });

  it('evicts nobody where the head of the answer has left before, without the cookie', async () => {
    const user = newUser({ users });
    const settled = await loggedIn(one, user);
    const browser = new Browser(one.url);
    const { headers } = await browser.post('/odd/hasty', password(user));
    expect(headers.getSetCookie()).toEqual([]);
    expect(await usernameOf(settled)).toBe(user.username);
    expect(await rowsOf(one, user)).toHaveLength(1);
  });

  it('whose handler logs out again leaves what it has begun after that', async () => {
    const user = newUser({ users });
    const browser = new Browser(two.url);
    expect((await browser.post('/odd/in-and-out', password(user))).status).toBe(201);
    expect((await browser.get('/odd/note')).body).toEqual({ note: 'seen' });
    expect(await liveSessionsOf(two, user)).toEqual([]);
  });

  it('whose handler signs in as somebody else, and fails then, leaves nobody signed in and no session of either', async () => {
    const [user, other] = [newUser({ users }), newUser({ users })];
    const browser = new Browser(two.url);
    const headers = { [SECOND]: other.username, 'x-then': 'fails' };
    expect((await browser.post('/odd/marked-and-again', password(user), headers)).status).toBe(403);
    expect(await usernameOf(browser)).toBeUndefined();
    expect(await liveSessionsOf(two, user)).toEqual([]);
    expect(await liveSessionsOf(two, other)).toEqual([]);
  });
});

describe('a second factor on a page of its own, where both routes are skipped', () => {
  it.each(['that nobody has used', 'whose session has ended'])(
    'signs in on a browser %s, and evicts nobody before',
    async (which) => {
      const user = newUser({ users });
      const browser = which === 'whose session has ended' ? await loggedIn(one, user) : new Browser(one.url);
      const settled = await loggedIn(one, user);
      expect((await browser.post('/odd/password-page', password(user))).status).toBe(200);
      expect((await browser.post('/odd/code-page', {}, wrong)).status).toBe(403);
      expect(await usernameOf(settled)).toBe(user.username);
      expect((await browser.post('/odd/code-page', {})).status).toBe(200);
      expect(await usernameOf(browser)).toBe(user.username);
      expect(await usernameOf(settled)).toBeUndefined();
    },
  );
});
