import { EventEmitter, once } from 'node:events';
import { Readable } from 'node:stream';
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
  Res,
  StreamableFile,
  UseFilters,
  UseGuards,
  UseInterceptors,
  type ArgumentsHost,
  type CallHandler,
  type ExceptionFilter,
  type ExecutionContext,
  type NestInterceptor,
} from '@nestjs/common';
import { AuthGuard } from '@nestjs/passport';
import { MemoryStore, type SessionData } from 'express-session';
import passport, { Passport } from 'passport';
import { mergeMap, type Observable } from 'rxjs';
import {
  CurrentSession,
  SessionLimitReachedException,
  SingleSessionLogin,
  SingleSessionService,
  SkipSingleSession,
} from '../../src/index.js';
import {
  LocalLoginGuard,
  startApplication,
  Users,
  type TestApplication,
  type TestUser,
} from '../support/application.js';
import { currentSessionOf } from '../../src/http/request-state.js';
import { breakOff, Browser, loggedIn, TokenClient, usernameOf, type Answer } from '../support/client.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { nodeResponseOf, runBefore, type PlatformResponse } from '../support/platform.js';
import { eventually, liveSessionsOf, newUser, rowsOf } from '../support/sessions.js';
import { logIn, logOut, type UserRequest } from '../support/ways-in.js';

const users = new Users();
const USER = 'x-user';
const SECOND = 'x-second';

const userOf = ({ headers }: UserRequest, header = USER): TestUser => users.get(String(headers[header]))!;

/** Answers an error that it knows by signing in. */
@Catch(ForbiddenException)
class SigningFilter implements ExceptionFilter {
  async catch(_: unknown, host: ArgumentsHost): Promise<void> {
    const http = host.switchToHttp();
    await logIn(http.getRequest(), userOf(http.getRequest()));
    http.getResponse<PlatformResponse>().status(200).send({ from: 'the filter' });
  }
}

@Injectable()
class SigningInterceptor implements NestInterceptor {
  intercept(context: ExecutionContext, next: CallHandler): Observable<unknown> {
    const request = context.switchToHttp().getRequest<UserRequest>();
    return next.handle().pipe(mergeMap(() => logIn(request, userOf(request)).then(() => ({}))));
  }
}

const arrivals = new EventEmitter();
const errors: unknown[] = [];
let lateLogin: Promise<void> | undefined;

@Controller('odd')
class OddController {
  constructor(private readonly service: SingleSessionService) {}

  @Post('twice')
  @HttpCode(200)
  async twice(@Req() request: UserRequest) {
    await logIn(request, userOf(request));
    const first = request.session.singleSession;
    await logIn(request, userOf(request));
    return { first, second: request.session.singleSession };
  }

  @Post('two-users')
  @HttpCode(200)
  async twoUsers(@Req() request: UserRequest) {
    await logIn(request, userOf(request));
    await logIn(request, userOf(request, SECOND));
    return {};
  }

  @Get('two-users')
  async twoUsersWithoutEnd(
    @Req() request: UserRequest,
    @Res({ passthrough: true }) response: PlatformResponse,
  ): Promise<StreamableFile> {
    nodeResponseOf(response).once('close', () => arrivals.emit('left'));
    await this.twoUsers(request);
    const endless = new Readable({ read: () => undefined });
    endless.push('the first part');
    return new StreamableFile(endless);
  }

  @Post('in-out-in')
  @HttpCode(200)
  async inOutIn(@Req() request: UserRequest) {
    const user = userOf(request);
    await logIn(request, user);
    await logOut(request);
    await logIn(request, user);
    return { id: request.session.singleSession };
  }

  @Post('second-refused')
  @HttpCode(200)
  async secondRefused(@Req() request: UserRequest) {
    await logIn(request, userOf(request));
    await logIn(request, userOf(request, SECOND)).catch(() => undefined);
    return { current: currentSessionOf(request as never) ?? null };
  }

  @Post('not-regenerated')
  @HttpCode(200)
  async notRegenerated(@Req() request: UserRequest) {
    Object.assign(request.session, {
      regenerate: (done: (error: Error) => void) => done(new Error('the store is away')),
    });
    return { said: await logIn(request, userOf(request)).catch((error: Error) => error.message) };
  }

  @Post('login-alias')
  @HttpCode(200)
  alias(@Req() request: UserRequest): Promise<object> {
    return new Promise((resolve, reject) =>
      request.login(userOf(request), (error: unknown) => (error ? reject(error) : resolve({}))),
    );
  }

  @Post('without-session')
  @HttpCode(200)
  async withoutSession(@Req() request: UserRequest) {
    await logIn(request, userOf(request), { session: false });
    return { user: request.user };
  }

  @SkipSingleSession()
  @Post('public')
  @HttpCode(200)
  async public(@Req() request: UserRequest) {
    await logIn(request, userOf(request), { keepSessionInfo: true });
    return { id: request.session.singleSession };
  }

  @Post('by-hand')
  @HttpCode(200)
  byHand(@Req() request: UserRequest) {
    const { singleSession } = request.headers as { singleSession?: string };
    Object.assign(request.session, {
      passport: { user: userOf(request).username },
      singleSession: request.headers['x-stamp'] ?? singleSession,
    });
    return {};
  }

  @UseFilters(SigningFilter)
  @Post('filter')
  filter(): never {
    throw new ForbiddenException();
  }

  @UseInterceptors(SigningInterceptor)
  @Post('interceptor')
  @HttpCode(200)
  interceptor(): object {
    return {};
  }

  @Post('late')
  async late(@Req() request: UserRequest, @Res() response: PlatformResponse): Promise<void> {
    const before = request.headers['x-before'];
    if (before === 'cookie') await logIn(request, userOf(request, SECOND));
    if (before === 'token')
      await this.service.admit(userOf(request, SECOND), request, { credential: 'token' });
    const node = nodeResponseOf(response);
    const sent = request.headers['x-when'] === 'close' ? once(node, 'close') : once(node, 'finish');
    response.status(200).send({});
    lateLogin = sent.then(() => logIn(request, userOf(request)));
    lateLogin.catch(() => undefined);
  }

  @Post('caught')
  @HttpCode(200)
  async caught(@Req() request: UserRequest) {
    const error = await logIn(request, userOf(request)).catch((reason: unknown) => reason);
    errors.push(error);
    return { user: request.user ?? null };
  }

  @UseGuards(AuthGuard('jwt'))
  @Post('by-token')
  @HttpCode(200)
  async byToken(@Req() request: UserRequest) {
    await logIn(request, userOf(request));
    return { id: request.session.singleSession };
  }

  @Post('hand-and-service')
  @HttpCode(200)
  async handAndService(@Req() request: UserRequest) {
    await logIn(request, userOf(request));
    const { id } = await this.service.admit(userOf(request), request);
    return { id };
  }

  @UseGuards(LocalLoginGuard)
  @SingleSessionLogin({ credential: 'token' })
  @Post('token')
  @HttpCode(200)
  token(@CurrentSession() current: CurrentSession): object {
    return { id: current.id };
  }
}

class RefusingStore extends MemoryStore {
  refuses = false;

  override set(
    sid: string,
    session: SessionData & { singleSession?: unknown },
    done?: (e?: unknown) => void,
  ): void {
    if (this.refuses && session.singleSession !== undefined)
      return void setImmediate(() => done?.(new Error('the cookie store is full')));
    super.set(sid, session, done);
  }
}

const ownPassport = new Passport();
ownPassport.serializeUser((user, done) => done(null, (user as TestUser).username));

/** The same with a Passport of the application's own. */
function signInThroughOwnPassport(
  request: UserRequest,
  response: never,
  next: (error?: unknown) => void,
): void {
  const username = request.headers['x-own'];
  if (username === undefined) return next();
  const strategy = new (class extends passport.Strategy {
    override authenticate(): void {
      this.success(users.get(String(username))!);
    }
  })();
  (ownPassport.authenticate(strategy) as (...parts: unknown[]) => void)(request, response, next);
}

const store = new RefusingStore();
let databaseUrl: string;
let one: TestApplication;
let two: TestApplication;
let rejecting: TestApplication;

beforeAll(async () => {
  databaseUrl = await freshDatabase();
  const shared = {
    users,
    controllers: [OddController],
    configure: (app: TestApplication['app']) => runBefore(app, signInThroughOwnPassport),
  };
  one = await startApplication(databaseUrl, { ...shared, session: { store } });
  two = await startApplication(databaseUrl, { ...shared, options: { maxSessions: 2 } });
  rejecting = await startApplication(databaseUrl, {
    ...shared,
    options: { onLimit: 'reject', idleTimeout: 60_000 },
  });
});

afterAll(async () => {
  for (const application of [rejecting, two, one]) await application?.close();
  await dropDatabase(databaseUrl);
});

const post = (browser: Browser, path: string, user: TestUser, headers = {}): Promise<Answer> =>
  browser.post(path, {}, { [USER]: user.username, ...headers });

describe('request.logIn()', () => {
  it('twice in one request is one session, and displaces nobody when two are allowed', async () => {
    const user = newUser({ users });
    const elsewhere = await loggedIn(two, user);
    const browser = new Browser(two.url);
    const { body } = await post(browser, '/odd/twice', user);
    expect(body.second).toBe(body.first);
    expect(await usernameOf(browser)).toBe(user.username);
    expect(await usernameOf(elsewhere)).toBe(user.username);
    expect(await rowsOf(two, user)).toHaveLength(2);
  });

  it('after a login and a logout in one request is a login, with a session that is live', async () => {
    const user = newUser({ users });
    const browser = new Browser(one.url);
    const { body } = await post(browser, '/odd/in-out-in', user);
    expect((await browser.get('/me')).body.session?.id).toBe(body.id);
    expect(await liveSessionsOf(one, user)).toEqual([body.id]);
  });

  it('as two users in one request, of whom the second is refused, leaves it a request of nobody', async () => {
    const [user, other] = [newUser({ users }), newUser({ users })];
    const settled = await loggedIn(rejecting, other);
    const browser = new Browser(rejecting.url);
    const { body } = await post(browser, '/odd/second-refused', user, { [SECOND]: other.username });
    expect(body).toEqual({ current: null });
    expect(await usernameOf(settled)).toBe(other.username);
    expect(await liveSessionsOf(rejecting, user)).toEqual([]);
  });

  it('that fails before the cookie session has a new id leaves the browser signed in as it was', async () => {
    const user = newUser({ users });
    const browser = await loggedIn(one, user);
    expect((await post(browser, '/odd/not-regenerated', user)).body).toEqual({ said: 'the store is away' });
    expect(await usernameOf(browser)).toBe(user.username);
  });

  it('and SingleSessionService.admit() in one request are one session', async () => {
    const user = newUser({ users });
    const browser = new Browser(two.url);
    const { body } = await post(browser, '/odd/hand-and-service', user);
    expect((await browser.get('/me')).body.session.id).toBe(body.id);
    expect(await rowsOf(two, user)).toHaveLength(1);
  });

  it('on a request that came with a token is no new login: its cookie session carries on the session of the token', async () => {
    const user = newUser({ users });
    const client = new TokenClient(one.url);
    await client.login(user.username);
    const browser = new Browser(one.url);
    const { body } = await post(browser, '/odd/by-token', user, { authorization: `Bearer ${client.token}` });
    expect(body.id).toBe(client.sid);
    expect((await client.get()).status).toBe(200);
    expect(await usernameOf(browser)).toBe(user.username);
  });

  it('as two users in one request leaves the last one signed in, and nothing of the first', async () => {
    const [first, second] = [newUser({ users }), newUser({ users })];
    const browser = new Browser(two.url);
    await post(browser, '/odd/two-users', first, { [SECOND]: second.username });
    expect(await usernameOf(browser)).toBe(second.username);
    expect(await liveSessionsOf(two, first)).toEqual([]);
    expect(await liveSessionsOf(two, second)).toHaveLength(1);
  });

  it('as two users in one request leaves the last one signed in when the browser breaks off what came with its cookie', async () => {
    const [first, second] = [newUser({ users }), newUser({ users })];
    const headers = { [USER]: first.username, [SECOND]: second.username };
    const left = once(arrivals, 'left');
    const browser = new Browser(two.url, await breakOff(`${two.url}/odd/two-users`, headers));
    await left;
    await eventually(
      () => liveSessionsOf(two, first),
      (live) => live.length === 0,
    );
    expect(await liveSessionsOf(two, second)).toHaveLength(1);
    expect(await usernameOf(browser)).toBe(second.username);
  });

  it('is admitted by its other name, too', async () => {
    const user = newUser({ users });
    const browser = new Browser(one.url);
    expect((await post(browser, '/odd/login-alias', user)).status).toBe(200);
    expect(await usernameOf(browser)).toBe(user.username);
    expect(await liveSessionsOf(one, user)).toHaveLength(1);
  });

  it('without a session admits nothing and evicts nobody', async () => {
    const user = newUser({ users });
    const settled = await loggedIn(one, user);
    const browser = new Browser(one.url);
    expect((await post(browser, '/odd/without-session', user)).body.user).toEqual(user);
    expect(await usernameOf(settled)).toBe(user.username);
    expect((await browser.get('/me')).body).toEqual({ user: null, session: null });
    expect(await rowsOf(one, user)).toHaveLength(1);
  });

  it.each(['filter', 'interceptor'])(
    'in an exception filter or an interceptor is admitted before the answer (%s)',
    async (path) => {
      const user = newUser({ users });
      const settled = await loggedIn(one, user);
      const browser = new Browser(one.url);
      expect((await post(browser, `/odd/${path}`, user)).status).toBe(200);
      expect(await usernameOf(browser)).toBe(user.username);
      expect((await settled.get('/me')).body.reason).toBe('superseded');
    },
  );

  it('where the stamp cannot be saved calls back with the error, and the session is not live [lesson 19]', async () => {
    const user = newUser({ users });
    const browser = new Browser(one.url);
    store.refuses = true;
    const answer = await post(browser, '/odd/public', user).finally(() => (store.refuses = false));
    expect(answer.status).toBe(500);
    expect(await usernameOf(browser)).toBeUndefined();
    expect(await liveSessionsOf(one, user)).toEqual([]);
  });

  it('that is refused leaves nobody signed in when the handler catches the error and goes on', async () => {
    const user = newUser({ users });
    const settled = await loggedIn(rejecting, user);
    const browser = new Browser(rejecting.url);
    const answer = await post(browser, '/odd/caught', user);
    expect([answer.status, answer.body]).toEqual([200, { user: null }]);
    expect(errors.pop()).toBeInstanceOf(SessionLimitReachedException);
    expect(await usernameOf(browser)).toBeUndefined();
    expect(await usernameOf(settled)).toBe(user.username);
  });

  it.each(['finish', 'close'])(
    "after the answer (at its '%s') is refused: nobody could hold its cookie, so it evicts nobody",
    async (when) => {
      const user = newUser({ users });
      const settled = await loggedIn(one, user);
      const browser = new Browser(one.url);
      await post(browser, '/odd/late', user, { 'x-when': when });
      await expect(lateLogin).rejects.toThrow('the answer has been sent');
      expect(await usernameOf(settled)).toBe(user.username);
      expect(await rowsOf(one, user)).toHaveLength(1);
    },
  );

  it.each(['finish', 'close'])(
    "after the answer (at its '%s') leaves nothing of the session that the browser came with: its cookie session is gone",
    async (when) => {
      const [user, other] = [newUser({ users }), newUser({ users })];
      const browser = await loggedIn(one, user);
      await post(browser, '/odd/late', other, { 'x-when': when });
      await expect(lateLogin).rejects.toThrow('the answer has been sent');
      expect(await liveSessionsOf(one, user)).toEqual([]);
    },
  );

  it.each([
    ['cookie', 'nothing'],
    ['token', 'the session'],
  ])(
    'after the answer, on a request that was a login with a %s, leaves %s of that: its cookie session is gone, and no token',
    async (before, left) => {
      const [user, first] = [newUser({ users }), newUser({ users })];
      const browser = new Browser(one.url);
      await post(browser, '/odd/late', user, { 'x-before': before, [SECOND]: first.username });
      await expect(lateLogin).rejects.toThrow('the answer has been sent');
      expect(await usernameOf(browser)).toBeUndefined();
      expect(await liveSessionsOf(one, first)).toHaveLength(left === 'nothing' ? 0 : 1);
    },
  );

  it('through a Passport of one’s own is admitted, on the same request and on the next', async () => {
    const user = newUser({ users });
    const settled = await loggedIn(one, user);
    const browser = new Browser(one.url);
    const { body } = await browser.get('/me', { 'x-own': user.username });
    expect(body).toEqual({ user, session: { id: expect.any(String), userId: String(user.id) } });
    expect((await settled.get('/me')).body.reason).toBe('superseded');
    expect(await usernameOf(browser)).toBe(user.username);
  });
});

describe('request.logIn() once more in a browser that is signed in', () => {
  it.each([
    ['', []],
    [' after a request that signed in twice', ['/odd/twice']],
  ])(
    "that fails with the limit%s leaves nothing of the session that the browser came with: under 'reject', the next has room",
    async (_, before) => {
      let broken = false;
      const maxSessions = (): number => {
        if (broken) throw new Error('the policy is down');
        return 1;
      };
      const picky = await startApplication(databaseUrl, {
        users,
        controllers: [OddController],
        options: { maxSessions, onLimit: 'reject' },
      });
      try {
        const user = newUser({ users });
        const browser = await loggedIn(picky, user);
        for (const path of before) expect((await post(browser, path, user)).status).toBe(200);
        broken = true;
        expect((await post(browser, '/odd/public', user)).status).toBe(500);
        broken = false;
        await eventually(
          () => liveSessionsOf(picky, user),
          (live) => live.length === 0,
          2_000,
        );
        await loggedIn(picky, user);
      } finally {
        await picky.close();
      }
    },
  );

  it('leaves nothing of its session either when the same request then fails to sign in somebody else', async () => {
    const [user, nameless] = [newUser({ users }), newUser({ users }, { id: Number.NaN })];
    const browser = await loggedIn(rejecting, user);
    const answer = await post(browser, '/odd/two-users', user, { [SECOND]: nameless.username });
    expect(answer.status).toBe(500);
    expect(await usernameOf(browser)).toBeUndefined();
    await eventually(
      () => liveSessionsOf(rejecting, user),
      (live) => live.length === 0,
      2_000,
    );
  });
});

it('request.logIn() in a browser that is signed in as somebody who cannot be identified any more signs in', async () => {
  const [user, other] = [newUser({ users }), newUser({ users })];
  const browser = await loggedIn(one, user);
  users.set(user.username, { ...user, id: Number.NaN });
  expect((await post(browser, '/odd/public', other)).status).toBe(200);
  expect(await usernameOf(browser)).toBe(other.username);
  await eventually(
    () => liveSessionsOf(one, user),
    (live) => live.length === 0,
  );
});

describe('a browser whose session has ended', () => {
  it('signs in at once on a route with @SkipSingleSession(), and what it kept of the old cookie session brings nothing back [lesson 15]', async () => {
    const user = newUser({ users });
    const evicted = await loggedIn(one, user);
    const [old] = await liveSessionsOf(one, user);
    const winner = await loggedIn(one, user);
    const { body } = await post(evicted, '/odd/public', user);
    expect(body.id).not.toBe(old);
    expect((await evicted.get('/me')).body.session.id).toBe(body.id);
    expect((await winner.get('/me')).body.reason).toBe('superseded');
    expect(await liveSessionsOf(one, user)).toEqual([body.id]);
  });

  it.each([
    ['no stamp', undefined, 'SESSION_UNKNOWN'],
    ['the stamp of an ended session', 'ended', 'SESSION_ENDED'],
    ['an invented stamp', 'invented', 'SESSION_ENDED'],
  ])('gets nowhere with session data that is copied by hand with %s', async (_, kind, code) => {
    const user = newUser({ users });
    await loggedIn(one, user);
    const [ended] = await liveSessionsOf(one, user);
    const winner = await loggedIn(one, user);
    const stamp = kind === 'ended' ? ended : kind;
    const browser = new Browser(one.url);
    await post(browser, '/odd/by-hand', user, stamp && { 'x-stamp': stamp });
    const answer = await browser.get('/me');
    expect([answer.status, answer.body.code]).toEqual([401, code]);
    expect(await usernameOf(winner)).toBe(user.username);
  });
});

it('a login with a token whose guard establishes one in the cookie session, too, ends the session that the browser came with: its cookie is gone', async () => {
  const user = newUser({ users });
  const browser = await loggedIn(two, user);
  const { status, body } = await browser.login(user.username, '/odd/token');
  expect(status).toBe(200);
  await eventually(
    () => liveSessionsOf(two, user),
    (live) => live.length === 1,
    2_000,
  );
  expect(await liveSessionsOf(two, user)).toEqual([body.id]);
});
