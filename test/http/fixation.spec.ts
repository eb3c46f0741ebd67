import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import {
  Controller,
  HttpCode,
  Injectable,
  Post,
  Req,
  UseGuards,
  type ExecutionContext,
  type LoggerService,
} from '@nestjs/common';
import { AuthModuleOptions } from '@nestjs/passport';
import type { Request } from 'express';
import { SingleSessionLogin, SingleSessionService } from '../../src/index.js';
import { LocalGuard, startApplication, Users, type TestApplication } from '../support/application.js';
import { Browser, TokenClient } from '../support/client.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { runBefore } from '../support/platform.js';
import { liveSessionsOf, newUser, rowsOf } from '../support/sessions.js';

type LoginRequest = Request & {
  user: { username: string };
  session: Request['session'] & { passport?: object };
};

/** As Passport before 0.6 did: the user is written into the session that the browser came with. */
@Injectable()
class KeepingGuard extends LocalGuard {
  override async canActivate(context: ExecutionContext): Promise<boolean> {
    const passed = (await super.canActivate(context)) as boolean;
    const request = context.switchToHttp().getRequest<LoginRequest>();
    request.session.passport = { user: request.user.username };
    return passed;
  }
}

/** Without Passport's logIn, but right. */
@Injectable()
class RegeneratingGuard extends LocalGuard {
  override async canActivate(context: ExecutionContext): Promise<boolean> {
    const passed = (await super.canActivate(context)) as boolean;
    const request = context.switchToHttp().getRequest<LoginRequest>();
    await new Promise<void>((resolve) => request.session.regenerate(() => resolve()));
    request.session.passport = { user: request.user.username };
    return passed;
  }
}

@Controller()
class FixationController {
  @Post('visit')
  @HttpCode(204)
  visit(@Req() request: Request & { session: { cart?: string } }): void {
    request.session.cart = 'a book';
  }

  @UseGuards(KeepingGuard)
  @SingleSessionLogin()
  @Post('login/keeping')
  @HttpCode(200)
  keeping(): void {}

  @UseGuards(RegeneratingGuard)
  @SingleSessionLogin()
  @Post('login/regenerating')
  @HttpCode(200)
  regenerating(): void {}
}

const nothing = (): void => {};
const SILENT: LoggerService = { log: nothing, warn: nothing, error: nothing };
const users = new Users();
let databaseUrl: string;
let application: TestApplication;

beforeAll(async () => {
  databaseUrl = await freshDatabase();
  application = await startApplication(databaseUrl, { users, controllers: [FixationController] });
});

afterAll(async () => {
  await application?.close();
  await dropDatabase(databaseUrl);
});

async function visitor(): Promise<Browser> {
  const browser = new Browser(application.url);
  await browser.post('/visit');
  expect(browser.cookie).toBeDefined();
  return browser;
}

describe('a login in a browser whose cookie somebody else knows', () => {
  it.each(['/login', '/login/regenerating'])(
    'gets a new cookie at %s, and the old one is not logged in [S1]',
    async (path) => {
      const { username } = newUser({ users });
      const victim = await visitor();
      const attacker = victim.copy();
      expect((await victim.login(username, path)).status).toBe(200);
      expect(victim.cookie).not.toBe(attacker.cookie);
      expect((await victim.get('/me')).body.user.username).toBe(username);
      expect((await attacker.get('/me')).body).toEqual({ user: null, session: null });
    },
  );

  it('answers 500 when the login kept the id, and neither of them is logged in [S1]', async () => {
    const user = newUser({ users });
    const victim = await visitor();
    const attacker = victim.copy();
    const refused = await victim.login(user.username, '/login/keeping');
    expect(refused.status).toBe(500);
    expect((await attacker.get('/me')).body).toEqual({ user: null, session: null });
    expect((await victim.get('/me')).body).toEqual({ user: null, session: null });
    expect(await rowsOf(application, user)).toEqual([]);
  });

  it('answers 500 when the login kept the id of a browser that came without a cookie [S1]', async () => {
    const user = newUser({ users });
    const browser = new Browser(application.url);
    const refused = await browser.login(user.username, '/login/keeping');
    expect(refused.status).toBe(500);
    expect(refused.headers.getSetCookie()).toEqual([]);
    expect(await rowsOf(application, user)).toEqual([]);
  });

  it('evicts nobody with a login that is refused for its id [S1, lesson 13]', async () => {
    const user = newUser({ users });
    const settled = new Browser(application.url);
    await settled.login(user.username);
    await (await visitor()).login(user.username, '/login/keeping');
    expect((await settled.get('/me')).body.user.username).toBe(user.username);
    expect(await liveSessionsOf(application, user)).toHaveLength(1);
  });
});

describe('a login by hand in a middleware, before any guard has seen the request', () => {
  let place: TestApplication;

  /** As behind a proxy that says in a header who it is. */
  function signInBySso(request: LoginRequest, _: unknown, next: (error?: unknown) => void): void {
    const { 'x-sso': username, 'x-fresh': fresh } = request.headers;
    const user = users.get(String(username));
    if (user === undefined) return next();
    const regenerated = new Promise<void>((resolve) =>
      fresh ? request.session.regenerate(() => resolve()) : resolve(),
    );
    regenerated
      .then(() => place.app.get(SingleSessionService).admit(user, request))
      .then(() => {
        request.session.passport = { user: user.username };
        next();
      }, next);
  }

  const encoded = (id: string): string => `%${Buffer.from(id).toString('hex').match(/../g)!.join('%')}`;

  beforeAll(async () => {
    place = await startApplication(databaseUrl, {
      users,
      controllers: [FixationController],
      build: (builder) => builder.setLogger(SILENT),
      configure: (app) => runBefore(app, signInBySso as never),
    });
  });
  afterAll(() => place?.close());

  it.each([
    ['', (cookie: string) => cookie],
    // As the middleware reads it, it is the same.
    [', however that is written', (cookie: string) => cookie.replace(/(?<==(s%3A)?)[\w-]{20,}/, encoded)],
  ])(
    'is refused when it kept the id that the browser came with, which somebody else may know%s [S1]',
    async (_, written) => {
      const user = newUser({ users });
      const victim = new Browser(place.url);
      await victim.post('/visit');
      const attacker = victim.copy();
      victim.cookie = written(victim.cookie!);
      const refused = await victim.get('/me', { 'x-sso': user.username });
      expect(refused.status).toBe(500);
      expect(await rowsOf(place, user)).toEqual([]);
      for (const browser of [attacker, victim])
        expect((await browser.get('/me')).body).toEqual({ user: null, session: null });
    },
  );

  it.each(['with a new id', 'in a browser that came without a cookie'])(
    'is admitted %s [S1]',
    async (how) => {
      const user = newUser({ users });
      const browser = new Browser(place.url);
      if (how === 'with a new id') await browser.post('/visit');
      const headers: Record<string, string> = how === 'with a new id' ? { 'x-fresh': '1' } : {};
      expect((await browser.get('/me', { 'x-sso': user.username, ...headers })).status).toBe(200);
      expect((await browser.get('/me')).body.user.username).toBe(user.username);
    },
  );
});

describe('with PassportModule.register({ session: false }), which makes logIn() do nothing', () => {
  let silent: TestApplication | undefined;

  afterEach(() => silent?.close());

  it('a cookie login is refused loudly and records nothing; a token login works [lesson 33]', async () => {
    silent = await startApplication(databaseUrl, {
      users,
      build: (builder) =>
        builder.setLogger(SILENT).overrideProvider(AuthModuleOptions).useValue({ session: false }),
    });
    const user = newUser({ users });
    const refused = await new Browser(silent.url).login(user.username);
    expect(refused.status).toBe(500);
    expect(refused.headers.getSetCookie()).toEqual([]);
    expect(await rowsOf(silent, user)).toEqual([]);

    const token = new TokenClient(silent.url);
    expect((await token.login(user.username)).status).toBe(200);
    expect((await token.get()).status).toBe(200);
  });
});
