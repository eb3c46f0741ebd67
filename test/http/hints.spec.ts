import { randomUUID } from 'node:crypto';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, jest } from '@jest/globals';
import {
  Controller,
  Get,
  HttpCode,
  Injectable,
  Logger,
  Post,
  Req,
  UseGuards,
  UseInterceptors,
  type CallHandler,
  type CanActivate,
  type ExecutionContext,
  type NestInterceptor,
} from '@nestjs/common';
import { JwtService } from '@nestjs/jwt';
import type { Observable } from 'rxjs';
import { SingleSessionLogout } from '../../src/index.js';
import type { CookieSession } from '../../src/http/request.js';
import {
  startApplication,
  Users,
  type TestApplication,
  type TestApplicationSettings,
} from '../support/application.js';
import { Browser, loggedIn, TokenClient } from '../support/client.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { liveSessionsOf, newUser } from '../support/sessions.js';

/** Without the guard that reads the token. */
@Controller('forgotten')
class ForgottenController {
  @SingleSessionLogout()
  @Post('logout')
  @HttpCode(204)
  logout(): void {}
}

/** Reads a token where it is not in the `Authorization` header. */
@Injectable()
class TokenInCookieGuard implements CanActivate {
  constructor(private readonly jwt: JwtService) {}

  canActivate(context: ExecutionContext): boolean {
    const request = context.switchToHttp().getRequest<{ headers: { cookie: string }; user: object }>();
    const claims = this.jwt.verify<{ sub: string }>(request.headers.cookie.replace('token=', ''));
    request.user = { ...claims, id: claims.sub };
    return true;
  }
}

@UseGuards(TokenInCookieGuard)
@Controller('in-cookie')
class TokenInCookieController {
  @Get('me')
  me(): void {}

  @SingleSessionLogout()
  @Post('logout')
  @HttpCode(204)
  logout(): void {}
}

const userOf = (jwt: JwtService, request: { headers: { authorization?: string } }): object => {
  const { sub, ...claims } = jwt.decode<{ sub: string }>(request.headers.authorization?.slice(7) ?? '') ?? {};
  return { ...claims, id: sub };
};

/** Too late for any guard. */
@Injectable()
class UserInterceptor implements NestInterceptor {
  constructor(private readonly jwt: JwtService) {}

  intercept(context: ExecutionContext, next: CallHandler): Observable<unknown> {
    const request = context.switchToHttp().getRequest<{ headers: object; user: object }>();
    request.user = userOf(this.jwt, request);
    return next.handle();
  }
}

/** Where nobody but the application looks for it. */
@Injectable()
class CurrentUserGuard implements CanActivate {
  constructor(private readonly jwt: JwtService) {}

  canActivate(context: ExecutionContext): boolean {
    const request = context.switchToHttp().getRequest<{ headers: object; currentUser: object }>();
    request.currentUser = userOf(this.jwt, request);
    return true;
  }
}

@Controller('unread')
class UnreadController {
  @UseInterceptors(UserInterceptor)
  @Get('interceptor')
  late(): void {}

  @UseGuards(CurrentUserGuard)
  @Get('property')
  elsewhere(): void {}
}

interface Regenerated extends CookieSession {
  regenerate(done: (error?: unknown) => void): unknown;
}

/** As a change of password does that knows nothing of this module. */
@Controller('password')
class PasswordController {
  @Post()
  @HttpCode(204)
  async change(@Req() request: { session: Regenerated }): Promise<void> {
    const { passport } = request.session;
    await new Promise<void>((resolve) => request.session.regenerate(() => resolve()));
    Object.assign(request.session, { passport });
  }
}

const users = new Users();
let databaseUrl: string;
let application: TestApplication;
let warn: jest.SpiedFunction<Logger['warn']>;

beforeAll(async () => {
  databaseUrl = await freshDatabase();
});

const start = (options: object = {}, settings: TestApplicationSettings = {}): Promise<TestApplication> =>
  startApplication(databaseUrl, {
    users,
    controllers: [ForgottenController, TokenInCookieController, PasswordController, UnreadController],
    options: { storm: { threshold: 1 }, ...options },
    ...settings,
  });

beforeEach(async () => {
  application = await start();
  warn = jest.spyOn(Logger.prototype, 'warn').mockReturnValue();
});

afterEach(async () => {
  jest.restoreAllMocks();
  await application.close();
});

afterAll(() => dropDatabase(databaseUrl));

const warnings = (): string[] => warn.mock.calls.map(([text]) => String(text));

describe('what the client cannot mend is said in the log, once [lesson 32]', () => {
  it('a token without sid: where to sign it, and where to hand it on', async () => {
    const token = new TokenClient(application.url, application.sign(newUser({ users }), {}));
    for (let n = 0; n < 2; n++) expect((await token.get()).body.code).toBe('SESSION_UNKNOWN');
    expect(warnings()).toEqual([
      expect.stringMatching(/credential: 'token'.*sign `sid: session\.id`.*return `sid: payload\.sid`/),
    ]);
    expect(warnings()[0]).not.toContain('adopt');
  });

  it('a token without sid that is not in the header, where there are no cookie sessions', async () => {
    await application.close();
    application = await start({}, { session: null, serializer: false });
    warn.mockClear();
    const page = new Browser(application.url, `token=${application.sign(newUser({ users }), {})}`);
    for (let n = 0; n < 2; n++) expect((await page.get('/in-cookie/me')).body.code).toBe('SESSION_UNKNOWN');
    for (let n = 0; n < 2; n++) expect((await page.post('/in-cookie/logout')).status).toBe(204);
    expect(warnings()).toEqual([
      expect.stringMatching(/credential: 'token'.*sign `sid: session\.id`.*return `sid: payload\.sid`/),
      expect.stringMatching(/logout ended nothing.*request\.user has no `sid`/),
    ]);
    expect(warnings()[0]).not.toContain('adopt');
  });

  it('a cookie session with a new id: who carries the session over', async () => {
    const browser = await loggedIn(application, newUser({ users }));
    expect((await browser.post('/password')).status).toBe(204);
    expect((await browser.get('/me')).body.code).toBe('SESSION_UNKNOWN');
    expect(warnings()).toEqual([
      expect.stringMatching(
        /call SingleSessionService\.rebind\(request\) after a request\.session\.regenerate\(\)/,
      ),
    ]);
  });

  it('a token whose sid is no id of a session', async () => {
    const user = newUser({ users });
    const token = new TokenClient(application.url, application.sign(user, { sid: String(user.id) }));
    for (let n = 0; n < 2; n++) expect((await token.get()).body.reason).toBe('unknown');
    expect(warnings()).toEqual([
      expect.stringMatching(/`sid` is no id of a session\. Sign `sid: session\.id`/),
    ]);
  });

  it('a token that names another user than its login did', async () => {
    const [alice, bob] = [newUser({ users }), newUser({ users })];
    const login = new TokenClient(application.url);
    await login.login(alice.username);
    const [sid] = await liveSessionsOf(application, alice);
    const token = new TokenClient(application.url, application.sign(bob, { sid }));
    for (let n = 0; n < 2; n++) expect((await token.get()).body.reason).toBe('unknown');
    expect(warnings()).toEqual([expect.stringMatching(/its `sid` belongs to another user.*same id/)]);
  });

  it('a login whose user brings a sid of somebody else, as the claims of OpenID Connect may', async () => {
    const user = Object.assign(newUser({ users }), { sid: randomUUID() });
    for (let n = 0; n < 2; n++) {
      const answer = await new Browser(application.url).login(user.username);
      expect(answer.body).toMatchObject({ code: 'SESSION_ENDED', reason: 'unknown' });
    }
    expect(warnings()).toEqual([expect.stringMatching(/a login was refused.*`sid`.*another name/i)]);
  });

  const MINUTE_MS = 60_000;

  describe.each([
    ['an interceptor puts into the request', '/unread/interceptor'],
    ['a guard puts elsewhere in the request', '/unread/property'],
  ])('tokens whose user %s, so that nobody checks them', (_, path) => {
    it('after a minute, also where others have cookie sessions', async () => {
      const clock = jest.spyOn(performance, 'now').mockReturnValue(0);
      const nobody = new Browser(application.url);
      const client = new TokenClient(application.url);
      await client.login(newUser({ users }).username);
      expect((await nobody.get(path)).status).toBe(200);
      const page = await loggedIn(application, newUser({ users }));
      expect((await page.get('/me')).status).toBe(200);
      clock.mockReturnValue(MINUTE_MS);
      expect((await client.get(path)).status).toBe(200);
      clock.mockReturnValue(2 * MINUTE_MS - 1);
      expect((await client.get(path)).status).toBe(200);
      expect(warnings()).toEqual([]);
      clock.mockReturnValue(2 * MINUTE_MS);
      expect((await nobody.get(path)).status).toBe(200);
      expect(warnings()).toEqual([]);
      for (let n = 0; n < 2; n++) expect((await client.get(path)).status).toBe(200);
      expect(warnings()).toEqual([
        expect.stringMatching(
          /each request with a bearer token has passed as nobody's.*request\.user.*no interceptor/,
        ),
      ]);
    });

    it('and not where a guard reads the tokens of other routes: these may be public', async () => {
      const clock = jest.spyOn(performance, 'now').mockReturnValue(0);
      const client = new TokenClient(application.url);
      await client.login(newUser({ users }).username);
      expect((await client.get(path)).status).toBe(200);
      expect((await client.get()).status).toBe(200);
      // Who has come without a token since says nothing of tokens.
      const page = await loggedIn(application, newUser({ users }));
      expect((await page.get('/me')).status).toBe(200);
      clock.mockReturnValue(2 * MINUTE_MS);
      expect((await client.get(path)).status).toBe(200);
      expect(warnings()).toEqual([]);
    });
  });

  it('but not a bearer token that a proxy adds to each request, where the users are in cookie sessions', async () => {
    const clock = jest.spyOn(performance, 'now').mockReturnValue(0);
    const added = { authorization: 'Bearer of-the-proxy' };
    const browser = await loggedIn(application, newUser({ users }));
    const nobody = new Browser(application.url);
    expect((await nobody.get('/me', added)).status).toBe(200);
    expect((await browser.get('/me', added)).status).toBe(200);
    clock.mockReturnValue(2 * MINUTE_MS);
    expect((await nobody.get('/me', added)).status).toBe(200);
    expect(warnings()).toEqual([]);
  });

  it('a logout with a token that no guard of its route reads, and which ends nothing', async () => {
    const user = newUser({ users });
    const token = new TokenClient(application.url);
    await token.login(user.username);
    await new Browser(application.url).post('/forgotten/logout');
    expect(warnings()).toEqual([]);
    for (let n = 0; n < 2; n++) expect((await token.post('/forgotten/logout')).status).toBe(204);
    expect(await liveSessionsOf(application, user)).toHaveLength(1);
    expect(warnings()).toEqual([expect.stringMatching(/logout ended nothing.*AuthGuard\('jwt'\)/)]);
  });

  it.each([
    ['admin', '/admin/sessions', { admin: { roles: ['admin'] } }],
    ['selfService', '/sessions/mine', { selfService: true }],
  ])('a token that no guard reads on the routes of %s', async (option, path, options) => {
    await application.close();
    application = await start(options);
    warn.mockClear();
    const token = new TokenClient(application.url);
    await token.login(newUser({ users }, { roles: ['admin'] }).username);
    expect((await new Browser(application.url).get(path)).status).toBe(401);
    expect(warnings()).toEqual([]);
    for (let n = 0; n < 2; n++) expect((await token.get(path)).status).toBe(401);
    expect(warnings()).toEqual([
      expect.stringMatching(new RegExp(`Write ${option}: .*guards: \\[AuthGuard\\('jwt'\\)\\]`)),
    ]);
  });

  it.each([
    ['without `admin`', {}],
    ['with an `admin` that names nobody', { admin: {} }],
  ])('a storm, without a route that is not there, %s', async (_, options) => {
    await application.close();
    application = await start(options);
    warn.mockClear();
    const user = newUser({ users });
    for (let n = 0; n < 2; n++) await new TokenClient(application.url).login(user.username);
    expect(warnings()).toEqual([
      expect.stringContaining(`exempt it: forRoot({ exempt: { usernames: ["${user.username}"]`),
    ]);
  });
});

it('an `admin` that names somebody is nothing to warn of at the start', async () => {
  await application.close();
  warn.mockClear();
  application = await start({ admin: { roles: ['admin'] } });
  expect(warnings()).toEqual([]);
});

describe("that onLimit: 'reject' locks out whoever closes the browser is said at the start", () => {
  const DAY = 86_400_000;

  it.each([
    ['and for how long', { onLimit: 'reject' }, [expect.stringMatching(/cannot sign in again for 14 days/)]],
    [
      'and so it is of a greater age',
      { onLimit: 'reject', maxAge: 30 * DAY },
      [expect.stringMatching(/30 days/)],
    ],
    ['unless disuse ends a session', { onLimit: 'reject', idleTimeout: DAY }, []],
    ['unless its age was chosen', { onLimit: 'reject', maxAge: DAY }, []],
    ['and of no other limit', {}, []],
  ])('%s', async (_, options, said) => {
    await application.close();
    warn.mockClear();
    application = await start(options);
    expect(warnings()).toEqual(said);
  });
});
