import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import {
  BadRequestException,
  Catch,
  Controller,
  Injectable,
  Post,
  Redirect,
  Req,
  Res,
  UseFilters,
  UseGuards,
  UseInterceptors,
  type ArgumentsHost,
  type CallHandler,
  type ExceptionFilter,
  type ExecutionContext,
  type NestInterceptor,
} from '@nestjs/common';
import type { Request } from 'express';
import { MemoryStore, type SessionData } from 'express-session';
import { map, of, type Observable } from 'rxjs';
import {
  CurrentSession,
  SingleSessionLogin,
  SingleSessionService,
  SkipSingleSession,
} from '../../src/index.js';
import {
  LocalGuard,
  LocalLoginGuard,
  startApplication,
  Users,
  type TestApplication,
  type TestUser,
} from '../support/application.js';
import { Browser, TokenClient, type Answer } from '../support/client.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { nodeResponseOf, type PlatformResponse } from '../support/platform.js';
import { eventually, liveSessionsOf, newUser, rowsOf } from '../support/sessions.js';

type LoginRequest = Request & { user: TestUser };
type Current = { id: string };

const FAIL_IN_MAP = 'fail-in-map';

/** Stands outside of everything of ours, as one given to app.useGlobalInterceptors() does. */
class OutermostInterceptor implements NestInterceptor {
  intercept(context: ExecutionContext, next: CallHandler): Observable<unknown> {
    const { headers } = context.switchToHttp().getRequest<Request>();
    return next.handle().pipe(
      map((value: unknown) => {
        if (headers[FAIL_IN_MAP]) throw new Error('the answer cannot be wrapped');
        return value;
      }),
    );
  }
}

/** As applications have it for browsers: whatever fails goes to a page that says so. */
@Catch()
class RedirectFilter implements ExceptionFilter {
  catch(_: unknown, host: ArgumentsHost): void {
    host.switchToHttp().getResponse<PlatformResponse>().status(302).redirect('/sorry');
  }
}

@Injectable()
class FailingInterceptor implements NestInterceptor {
  intercept(_: ExecutionContext, next: CallHandler): Observable<unknown> {
    return next.handle().pipe(
      map(() => {
        throw new Error('an interceptor of the route fails');
      }),
    );
  }
}

@Controller('login')
@UseGuards(LocalLoginGuard)
class LoginController {
  @SingleSessionLogin()
  @Post('throws')
  throws(): void {
    throw new Error('after the login');
  }

  @SingleSessionLogin()
  @Post('rejects')
  async rejects(): Promise<void> {
    await Promise.resolve();
    throw new BadRequestException('accept the terms first');
  }

  @SingleSessionLogin()
  @Post('res')
  res(@Res() response: PlatformResponse): void {
    response.status(403).send({ message: 'not today' });
  }

  @SingleSessionLogin()
  @Post('res-end')
  resEnd(@Res() response: PlatformResponse): void {
    nodeResponseOf(response).writeHead(418).end();
  }

  @SingleSessionLogin()
  @Post('res-later')
  resLater(@Res() response: PlatformResponse): void {
    setImmediate(() => response.status(500).send());
  }

  @SingleSessionLogin()
  @Post('passthrough')
  passthrough(@Res({ passthrough: true }) response: PlatformResponse): object {
    response.status(402);
    return { message: 'pay first' };
  }

  @SingleSessionLogin()
  @Post('circular')
  circular(): object {
    const body: Record<string, unknown> = {};
    return Object.assign(body, { body });
  }

  @SingleSessionLogin()
  @Post('bigint')
  bigint(): object {
    return of({ n: 1n });
  }

  @UseFilters(RedirectFilter)
  @SingleSessionLogin()
  @Post('throws-to-redirect')
  throwsToRedirect(): void {
    throw new Error('after the login');
  }

  @UseInterceptors(FailingInterceptor)
  @SingleSessionLogin()
  @Post('interceptor-outside')
  interceptorOutside(): object {
    return {};
  }

  @SingleSessionLogin()
  @UseInterceptors(FailingInterceptor)
  @Post('interceptor-inside')
  interceptorInside(): object {
    return {};
  }
}

/** Logins of pages: all is well, and the browser is sent on. */
@Controller('page')
@UseGuards(LocalLoginGuard)
class PageController {
  @SingleSessionLogin()
  @Redirect('/welcome')
  @Post('decorated')
  decorated(): void {}

  @SingleSessionLogin()
  @Redirect('/welcome')
  @Post('dynamic')
  dynamic(): object {
    return { url: '/elsewhere', statusCode: 303 };
  }

  @SingleSessionLogin()
  @Post('at-once')
  atOnce(@Res() response: PlatformResponse): void {
    response.status(302).redirect('/welcome');
  }

  @SingleSessionLogin()
  @Post('passthrough')
  passthrough(@Res({ passthrough: true }) response: PlatformResponse): void {
    response.status(303).header('location', '/welcome');
  }

  /** As Passport's documentation has it: the redirect waits for the cookie session. */
  @SingleSessionLogin()
  @Post('when-saved')
  whenSaved(@Req() request: LoginRequest, @Res() response: PlatformResponse): void {
    request.session.save(() => response.status(302).redirect('/welcome'));
  }
}

@SkipSingleSession()
@UseGuards(LocalGuard)
@Controller('by-hand')
class ByHandController {
  constructor(private readonly service: SingleSessionService) {}

  @Post('throws')
  async throws(@Req() request: LoginRequest): Promise<void> {
    await this.admit(request);
    throw new Error('after the login');
  }

  private async admit(request: LoginRequest): Promise<void> {
    const { user } = request;
    await new Promise<void>((resolve, reject) =>
      request.logIn(user, (error) => (error ? reject(error) : resolve())),
    );
    await this.service.admit(user, request);
  }
}

@Controller('token')
@UseGuards(LocalGuard)
class TokenController {
  /** The token is out although the answer is a failure: it must be worthless. */
  @SingleSessionLogin({ credential: 'token' })
  @Post('res')
  res(@CurrentSession() { id }: Current, @Res() response: PlatformResponse): void {
    response.status(500).send({ sid: id });
  }
}

/** Fails to save what `refuses` says. */
class RefusingStore extends MemoryStore {
  refuses: (session: SessionData & { singleSession?: string }) => boolean = () => false;

  override set(sid: string, session: SessionData, callback?: (error?: unknown) => void): void {
    if (this.refuses(session))
      return void setImmediate(() => callback?.(new Error('the cookie store is full')));
    super.set(sid, session, callback);
  }
}

const users = new Users();
const store = new RefusingStore();
let databaseUrl: string;
let application: TestApplication;

beforeAll(async () => {
  databaseUrl = await freshDatabase();
  application = await startApplication(databaseUrl, {
    users,
    session: { store },
    controllers: [PageController, LoginController, ByHandController, TokenController],
    configure: (app) => app.useGlobalInterceptors(new OutermostInterceptor()),
  });
});

afterAll(async () => {
  await application?.close();
  await dropDatabase(databaseUrl);
});

async function expectNobodyIsLoggedIn(browser: Browser, user: TestUser): Promise<void> {
  expect(await liveSessionsOf(application, user)).toEqual([]);
  const next = await browser.get('/me');
  expect(next.body.user ?? null).toBeNull();
}

/** Signs in and returns the answer, after seeing that no cookie came with it that can be used. */
async function failToLogIn(path: string, headers: Record<string, string> = {}): Promise<Answer> {
  const user = newUser({ users });
  const browser = new Browser(application.url);
  const { username } = user;
  const answer = await browser.post(path, { username, password: username }, headers);
  await expectNobodyIsLoggedIn(browser, user);
  return answer;
}

describe('a login that fails after its admission ends its session and gives no usable cookie', () => {
  const FAILURES: [string, string, number][] = [
    ['the handler throws', '/login/throws', 500],
    ['the handler rejects with a 400', '/login/rejects', 400],
    ['the handler answers 403 through @Res()', '/login/res', 403],
    ['the handler answers 500 through @Res() later', '/login/res-later', 500],
    ['the handler sets 402 through a passthrough @Res()', '/login/passthrough', 402],
    ['the body is circular', '/login/circular', 500],
    ['the body holds what JSON cannot', '/login/bigint', 500],
    ['an exception filter turns the error into a redirect', '/login/throws-to-redirect', 302],
    ['an interceptor of the route outside ours fails', '/login/interceptor-outside', 500],
    ['an interceptor of the route inside ours fails', '/login/interceptor-inside', 500],
    ['the handler throws after SingleSessionService.admit()', '/by-hand/throws', 500],
  ];

  it.each(FAILURES)('when %s [lesson 19]', async (_, path, status) => {
    const answer = await failToLogIn(path);
    expect(answer.status).toBe(status);
    expect(answer.headers.getSetCookie()).toEqual([]);
  });

  it('when a global interceptor outside of ours fails [lesson 19]', async () => {
    const answer = await failToLogIn('/login', { [FAIL_IN_MAP]: '1' });
    expect(answer.status).toBe(500);
    expect(answer.headers.getSetCookie()).toEqual([]);
  });

  it('when the handler has sent its headers before it answers the failure [lesson 19]', async () => {
    expect((await failToLogIn('/login/res-end')).status).toBe(418);
  });

  it('when the login is carried by a token: what was signed is worthless [lesson 19]', async () => {
    const user = newUser({ users });
    const answer = await new Browser(application.url).login(user.username, '/token/res');
    expect(answer.status).toBe(500);
    const token = application.sign(user, { sid: answer.body.sid });
    const next = await new TokenClient(application.url, token).get();
    expect(next.body).toMatchObject({ code: 'SESSION_ENDED', reason: 'logout' });
  });

  it('when it is carried by a token in a browser where somebody else is signed in, who stays it', async () => {
    const [settled, user] = [newUser({ users }), newUser({ users })];
    const browser = new Browser(application.url);
    await browser.login(settled.username);
    expect((await browser.login(user.username, '/token/res')).status).toBe(500);
    expect(await liveSessionsOf(application, user)).toEqual([]);
    expect((await browser.get('/me')).body.user?.username).toBe(settled.username);
  });
});

describe('a login that answers with a redirect of its own is no failure', () => {
  it.each(['decorated', 'dynamic', 'at-once', 'passthrough', 'when-saved'])('(%s)', async (path) => {
    const user = newUser({ users });
    const browser = new Browser(application.url);
    const answer = await browser.login(user.username, `/page/${path}`);
    expect([302, 303]).toContain(answer.status);
    expect((await browser.get('/me')).body.user?.username).toBe(user.username);
    expect(await liveSessionsOf(application, user)).toHaveLength(1);
  });
});

describe('when the cookie store cannot save', () => {
  it('the stamp, the login answers 500 and the session is not live [lesson 19]', async () => {
    store.refuses = ({ singleSession }) => singleSession !== undefined;
    const answer = await failToLogIn('/login').finally(() => (store.refuses = () => false));
    expect(answer.status).toBe(500);
    expect(answer.headers.getSetCookie()).toEqual([]);
  });

  it('the login itself, it answers 500 and nothing was admitted or evicted [lesson 19]', async () => {
    const user = newUser({ users });
    const settled = new Browser(application.url);
    await settled.login(user.username);
    store.refuses = () => true;
    const answer = await new Browser(application.url)
      .login(user.username)
      .finally(() => (store.refuses = () => false));
    expect(answer.status).toBe(500);
    expect((await settled.get('/me')).body.user.username).toBe(user.username);
    expect(await rowsOf(application, user)).toHaveLength(1);
  });
});

describe('a login that fails before its admission', () => {
  it('with a wrong password records nothing and evicts nobody [S12]', async () => {
    const user = newUser({ users });
    const settled = new Browser(application.url);
    await settled.login(user.username);
    const wrong = { username: user.username, password: 'wrong' };
    const answers = await Promise.all(
      ['/login', '/token', '/login', '/token'].map((path) => new Browser(application.url).post(path, wrong)),
    );
    expect(answers.map(({ status }) => status)).toEqual([401, 401, 401, 401]);
    expect((await settled.get('/me')).body.user.username).toBe(user.username);
    expect(await rowsOf(application, user)).toHaveLength(1);
  });

  it.each(['/login', '/token'])(
    'at %s in a policy that throws answers 500, and the old session lives and no row leaks [lesson 13]',
    async (path) => {
      let broken = false;
      const fails = (): number => {
        if (broken) throw new Error('the policy is down');
        return 1;
      };
      const picky = await startApplication(databaseUrl, {
        users,
        options: { exempt: { when: () => fails() !== 1 } },
      });
      try {
        const user = newUser({ users });
        const settled = new Browser(picky.url);
        await settled.login(user.username);
        broken = true;
        const browser = new Browser(picky.url);
        const answer = await browser.login(user.username, path);
        expect(answer.status).toBe(500);
        expect(answer.headers.getSetCookie()).toEqual([]);
        expect((await browser.get('/me')).body).toEqual({ user: null, session: null });
        expect((await settled.get('/me')).body.user.username).toBe(user.username);
        expect(await rowsOf(picky, user)).toHaveLength(1);
      } finally {
        await picky.close();
      }
    },
  );

  it('in a policy that throws ends what the browser gave up: nobody holds a credential for it any more', async () => {
    let broken = false;
    const when = (): boolean => {
      if (broken) throw new Error('the policy is down');
      return false;
    };
    const picky = await startApplication(databaseUrl, { users, options: { exempt: { when } } });
    try {
      const user = newUser({ users });
      const browser = new Browser(picky.url);
      await browser.login(user.username);
      broken = true;
      expect((await browser.login(user.username)).status).toBe(500);
      expect((await browser.get('/me')).body.user ?? null).toBeNull();
      await eventually(
        () => liveSessionsOf(picky, user),
        (live) => live.length === 0,
        2_000,
      );
    } finally {
      await picky.close();
    }
  });
});
