import { createHmac, randomBytes } from 'node:crypto';
import { request as httpRequest, type ClientRequest } from 'node:http';
import {
  Body,
  Controller,
  Get,
  HttpCode,
  Injectable,
  Post,
  Redirect,
  Req,
  Res,
  UseGuards,
  type CanActivate,
  type ExecutionContext,
  type INestApplication,
} from '@nestjs/common';
import { AuthGuard, PassportStrategy } from '@nestjs/passport';
import type { Request } from 'express';
import { MemoryStore, type SessionData } from 'express-session';
import passport, { Strategy } from 'passport';
import { Strategy as OAuth2StrategyBase } from 'passport-oauth2';
import { SingleSessionService } from '../../src/index.js';
import {
  LocalLoginGuard,
  startApplication,
  Users,
  type TestApplication,
  type TestApplicationSettings,
  type TestUser,
} from './application.js';
import { Browser, type Answer } from './client.js';
import { throughProvider, type OAuthProvider } from './oauth-provider.js';
import { runBefore, type PlatformResponse } from './platform.js';

export type UserRequest = Request & {
  user?: TestUser;
  session: Request['session'] & { singleSession?: string };
};

/** A way in that no decorator of ours marks. */
export interface WayIn {
  name: string;
  signIn(browser: Browser, username: string): Promise<Answer>;
  /** Whether code of the application runs in the same request, which then says in `X-Live` whether the session is live. */
  sees: boolean;
  /** Whether it signs in who is signed in already. */
  again: boolean;
}

export const WAYS_IN: WayIn[] = [
  { name: 'a handler that calls request.logIn', signIn: byForm('/ways/handler'), sees: true, again: true },
  { name: 'a custom guard that calls request.logIn', signIn: byForm('/ways/guard'), sees: true, again: true },
  { name: 'a @Res() handler that redirects', signIn: byForm('/ways/res'), sees: true, again: true },
  {
    name: 'an OAuth 2.0 callback behind AuthGuard',
    signIn: byProvider('/oauth/guard'),
    sees: true,
    again: true,
  },
  {
    name: 'an OAuth 2.0 callback in a middleware',
    signIn: byProvider('/oauth/middleware'),
    sees: false,
    again: true,
  },
  { name: 'remember-me on any request', signIn: byMemory, sees: true, again: false },
];

function byForm(path: string): WayIn['signIn'] {
  return (browser, username) => browser.login(username, path);
}

function byProvider(path: string): WayIn['signIn'] {
  return (browser, username) => throughProvider(browser, path, username);
}

/** Brings a token as if the browser had been remembered some other day. */
function byMemory(browser: Browser, username: string): Promise<Answer> {
  remember(browser, username);
  return browser.get('/ways/page');
}

const REMEMBER_ME = 'remember_me';

/** A copy of the browser that holds nothing but the cookie of its cookie session. */
export const withoutMemory = (browser: Browser): Browser => browser.copy().forget(REMEMBER_ME);

/** Single-use tokens, as passport-remember-me has them. */
class RememberTokens {
  private readonly known = new Map<string, string>();

  issue(username: string): string {
    const token = randomBytes(16).toString('hex');
    this.known.set(token, username);
    return `${token}.${signatureOf(token)}`;
  }

  consume(signed: string): string | undefined {
    const [token = '', signature] = signed.split('.');
    if (signature !== signatureOf(token)) return undefined;
    const username = this.known.get(token);
    this.known.delete(token);
    return username;
  }
}

const signatureOf = (token: string): string => createHmac('sha256', 'a secret').update(token).digest('hex');
const rememberTokens = new RememberTokens();

export function remember(browser: Browser, username: string): void {
  browser.forget(REMEMBER_ME);
  browser.cookie = [browser.cookie, `${REMEMBER_ME}=${rememberTokens.issue(username)}`]
    .filter(Boolean)
    .join('; ');
}

/** Signs in who comes with a token and is not signed in. Its token is spent, and the next one is on its way. */
class RememberMeStrategy extends Strategy {
  override readonly name = 'remember-me';

  constructor(private readonly users: Users) {
    super();
  }

  override authenticate(request: Request): void {
    const [, token] = /(?:^|; )remember_me=([^;]+)/.exec(request.headers.cookie ?? '') ?? [];
    const username = request.user || token === undefined ? undefined : rememberTokens.consume(token);
    const user = username && this.users.get(username);
    if (!user) return this.pass();
    (request as { nextToken?: string }).nextToken = rememberTokens.issue(user.username);
    this.success(user);
  }
}

type Next = (error?: unknown) => void;

function rememberMe(request: Request & { nextToken?: string }, response: PlatformResponse, next: Next): void {
  const authenticate = passport.authenticate('remember-me') as (...parts: unknown[]) => void;
  authenticate(request, response, (error: unknown) => {
    if (request.nextToken)
      response.header('set-cookie', `${REMEMBER_ME}=${request.nextToken}; Path=/; HttpOnly`);
    next(error);
  });
}

/** As applications of Express have it, which know nothing of Nest. */
function oauthMiddleware(request: Request, response: PlatformResponse, next: Next): void {
  if (!request.url.startsWith('/oauth/middleware')) return next();
  const options = { successRedirect: '/me', callbackURL: callbackUrl(request, '/oauth/middleware') };
  (passport.authenticate('oauth2', options) as (...parts: unknown[]) => void)(request, response, next);
}

const callbackUrl = ({ headers }: Request, path: string): string => `http://${headers.host}${path}/callback`;

/** What the providers of the strategies need. */
abstract class Provider {
  abstract readonly url: string;
}

@Injectable()
class OAuth2Strategy extends PassportStrategy(OAuth2StrategyBase) {
  constructor(
    private readonly provider: Provider,
    private readonly users: Users,
  ) {
    super({
      authorizationURL: `${provider.url}/authorize`,
      tokenURL: `${provider.url}/token`,
      clientID: 'the application',
      clientSecret: 'its secret',
      state: true,
      pkce: true,
    });
  }

  override userProfile(token: string, done: (error: unknown, profile?: { sub: string }) => void): void {
    fetch(`${this.provider.url}/userinfo`, { headers: { authorization: `Bearer ${token}` } })
      .then(async (answer) => done(null, (await answer.json()) as { sub: string }))
      .catch(done);
  }

  validate(_accessToken: string, _refreshToken: string, { sub }: { sub: string }): TestUser | null {
    return this.users.get(sub) ?? null;
  }
}

@Injectable()
class OAuth2Guard extends AuthGuard('oauth2') {
  override getAuthenticateOptions(context: ExecutionContext): { callbackURL: string } {
    return { callbackURL: callbackUrl(context.switchToHttp().getRequest<Request>(), '/oauth/guard') };
  }
}

@Injectable()
class OAuth2LoginGuard extends OAuth2Guard {
  override async canActivate(context: ExecutionContext): Promise<boolean> {
    const passed = (await super.canActivate(context)) as boolean;
    await super.logIn(context.switchToHttp().getRequest());
    return passed;
  }
}

/** Compares the password by itself. */
@Injectable()
class CustomGuard implements CanActivate {
  constructor(private readonly users: Users) {}

  async canActivate(context: ExecutionContext): Promise<boolean> {
    const request = context.switchToHttp().getRequest<UserRequest>();
    await logIn(request, this.users.checked(request.body as Form));
    return true;
  }
}

export interface Form {
  username: string;
  password: string;
}

/** `request.logIn()`, awaited. */
export function logIn(request: Request, user: TestUser, options: object = {}): Promise<void> {
  return new Promise((resolve, reject) =>
    request.logIn(user, options as { session: boolean }, (error: unknown) =>
      error ? reject(error) : resolve(),
    ),
  );
}

/** `request.logout()`, awaited. */
export function logOut(request: Request): Promise<void> {
  return new Promise((resolve, reject) =>
    request.logout((error: unknown) => (error ? reject(error) : resolve())),
  );
}

/** A door that the requests of a user wait at, while it is shut to them. */
export class Gate {
  private opened = Promise.resolve();
  private username?: string;
  private arrived?: () => void;
  private letThrough?: () => void;

  /** Resolves when a request of the user has arrived. What another test has left on its way passes. */
  shut(username: string): Promise<void> {
    this.username = username;
    this.opened = new Promise((resolve) => (this.letThrough = resolve));
    return new Promise((resolve) => (this.arrived = resolve));
  }

  open(): void {
    this.letThrough?.();
  }

  async pass(username: unknown): Promise<void> {
    if (username !== this.username) return;
    this.arrived?.();
    await this.opened;
  }
}

/** A store at whose gate each stamp waits: the login is admitted then, and nothing is answered. */
export class GatedStore extends MemoryStore {
  readonly gate = new Gate();

  override set(
    sid: string,
    session: SessionData & { singleSession?: string; passport?: { user?: unknown } },
    done?: Next,
  ): void {
    if (session.singleSession === undefined) return super.set(sid, session, done);
    void this.gate.pass(session.passport?.user).then(() => super.set(sid, session, done));
  }
}

/** A browser whose user can leave before the answer is there, and which then has no connection any more. */
export class ImpatientBrowser extends Browser {
  private asking?: ClientRequest;

  leave(): void {
    this.asking?.destroy();
  }

  override send(method: string, path: string, body?: object): Promise<Answer> {
    const headers = {
      ...(body && { 'content-type': 'application/json' }),
      ...(this.cookie && { cookie: this.cookie }),
    };
    return new Promise((resolve, reject) => {
      this.asking = httpRequest(this.url + path, { method, headers, agent: false }, (answer) => {
        const found = new Headers();
        for (const [name, value] of Object.entries(answer.headers)) found.set(name, String(value));
        this.keep(answer.headers['set-cookie'] ?? []);
        answer
          .resume()
          .once('end', () => resolve({ status: answer.statusCode!, body: undefined, headers: found }));
      });
      this.asking.on('error', reject).end(body && JSON.stringify(body));
    });
  }
}

/** Where the pages of {@link WaysController} wait when they have signed in, before they answer. */
export const beforeAnswer = new Gate();

@Controller()
export class WaysController {
  constructor(
    private readonly users: Users,
    private readonly service: SingleSessionService,
  ) {}

  @Post('ways/handler')
  @HttpCode(200)
  async handler(
    @Req() request: UserRequest,
    @Body() form: Form,
    @Res({ passthrough: true }) response: PlatformResponse,
  ) {
    await logIn(request, this.users.checked(form));
    await this.sayWhetherLive(request, response);
    return {};
  }

  @UseGuards(CustomGuard)
  @Post('ways/guard')
  @HttpCode(200)
  async guard(@Req() request: UserRequest, @Res({ passthrough: true }) response: PlatformResponse) {
    await this.sayWhetherLive(request, response);
    return {};
  }

  @UseGuards(LocalLoginGuard)
  @Post('ways/res')
  async redirects(@Req() request: UserRequest, @Res() response: PlatformResponse) {
    await this.sayWhetherLive(request, response);
    response.status(302).redirect('/me');
  }

  @UseGuards(OAuth2Guard)
  @Get('oauth/guard')
  goToProvider(): void {}

  @UseGuards(OAuth2LoginGuard)
  @Get('oauth/guard/callback')
  @Redirect('/me')
  async comeFromProvider(
    @Req() request: UserRequest,
    @Res({ passthrough: true }) response: PlatformResponse,
  ) {
    await this.sayWhetherLive(request, response);
  }

  /** The middleware has answered. */
  @Get(['oauth/middleware', 'oauth/middleware/callback'])
  neverReached(): string {
    return 'the middleware let it through';
  }

  @Get('ways/page')
  async page(@Req() request: UserRequest, @Res({ passthrough: true }) response: PlatformResponse) {
    await this.sayWhetherLive(request, response);
    return { user: request.user ?? null };
  }

  private async sayWhetherLive({ session, user }: UserRequest, response: PlatformResponse): Promise<void> {
    const verdict = session.singleSession && (await this.service.verify(session.singleSession));
    response.header('x-live', String(Boolean(verdict && verdict.live)));
    await beforeAnswer.pass(user?.username);
  }
}

export interface WaysSettings extends TestApplicationSettings {
  users: Users;
  provider: OAuthProvider;
}

/** The test application, into which one can come in all {@link WAYS_IN}. */
export function startWays(databaseUrl: string, settings: WaysSettings): Promise<TestApplication> {
  const { provider, users, configure } = settings;
  passport.use(new RememberMeStrategy(users));
  return startApplication(databaseUrl, {
    ...settings,
    controllers: [WaysController, ...(settings.controllers ?? [])],
    providers: [OAuth2Strategy, { provide: Provider, useValue: provider }, ...(settings.providers ?? [])],
    configure: async (app: INestApplication) => {
      await configure?.(app);
      runBefore(app, oauthMiddleware);
      runBefore(app, rememberMe);
    },
  });
}
