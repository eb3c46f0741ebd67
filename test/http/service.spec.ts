import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import {
  BadRequestException,
  Body,
  Controller,
  HttpCode,
  Post,
  Req,
  UnauthorizedException,
  UseGuards,
} from '@nestjs/common';
import type { Request } from 'express';
import { firstValueFrom } from 'rxjs';
import {
  CurrentSession,
  SessionLimitReachedException,
  SingleSessionLogin,
  SingleSessionService,
} from '../../src/index.js';
import {
  LocalGuard,
  startApplication,
  Users,
  type TestApplication,
  type TestUser,
} from '../support/application.js';
import { Browser, TokenClient } from '../support/client.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { liveSessionsOf, newUser, rowsOf } from '../support/sessions.js';

type Credentials = { username: string; password: string };

const users = new Users();

/** Logins that no interceptor sees. */
@Controller('by-hand')
class ByHandController {
  constructor(private readonly service: SingleSessionService) {}

  @Post('login')
  @HttpCode(200)
  async login(@Req() request: Request, @Body() credentials: Credentials): Promise<object> {
    const user = this.authenticate(credentials);
    await new Promise<void>((resolve, reject) =>
      request.logIn(user, (error) => (error ? reject(error) : resolve())),
    );
    return { session: await this.service.admit(user, request) };
  }

  @Post('login-without-passport')
  @HttpCode(200)
  async withoutLogIn(@Req() request: Request, @Body() credentials: Credentials): Promise<object> {
    return { session: await this.service.admit(this.authenticate(credentials), request) };
  }

  /** As a handler does that is tried again. */
  @Post('logins-without-passport')
  @HttpCode(200)
  async several(@Req() request: Request, @Body() { usernames }: { usernames: string[] }): Promise<object> {
    let session: CurrentSession | undefined;
    for (const username of usernames) {
      await new Promise((resolve) => request.session.regenerate(resolve));
      Object.assign(request.session, { passport: { user: username } });
      session = await this.service.admit(users.get(username), request);
    }
    return { session };
  }

  @Post('token')
  @HttpCode(200)
  async token(@Req() request: Request, @Body() credentials: Credentials): Promise<object> {
    const user = this.authenticate(credentials);
    return { session: await this.service.admit(user, request, { credential: 'token' }) };
  }

  @UseGuards(LocalGuard)
  @SingleSessionLogin({ credential: 'token' })
  @Post('token-twice')
  @HttpCode(200)
  async tokenTwice(@Req() request: Request, @CurrentSession() session: CurrentSession): Promise<object> {
    return { session, again: await this.service.admit(request.user, request) };
  }

  private authenticate({ username, password }: Credentials): TestUser {
    const user = users.get(username);
    if (!user || password !== username) throw new UnauthorizedException();
    return user;
  }
}

let databaseUrl: string;
let application: TestApplication;
let rejecting: TestApplication;
/** Three sessions for who has a role, one for others. */
let byRole: TestApplication;
let service: SingleSessionService;
let user: TestUser;

beforeAll(async () => {
  databaseUrl = await freshDatabase();
  const shared = { users, controllers: [ByHandController] };
  application = await startApplication(databaseUrl, { ...shared, options: { maxSessions: 3 } });
  rejecting = await startApplication(databaseUrl, { ...shared, options: { onLimit: 'reject' } });
  const maxSessions = ({ roles }: TestUser): Promise<number> => Promise.resolve(roles.length > 0 ? 3 : 1);
  byRole = await startApplication(databaseUrl, { ...shared, options: { maxSessions } });
  service = application.app.get(SingleSessionService);
});

beforeEach(() => {
  user = newUser({ users });
});

afterAll(async () => {
  await byRole?.close();
  await rejecting?.close();
  await application?.close();
  await dropDatabase(databaseUrl);
});

describe('SingleSessionService.admit()', () => {
  it('in a handler that logs in itself stamps the cookie session, and the session is a session like others', async () => {
    const browser = new Browser(application.url);
    const { body } = await browser.login(user.username, '/by-hand/login');
    expect(body.session).toEqual({ id: expect.any(String), userId: String(user.id) });
    expect((await browser.get('/me')).body.session).toEqual(body.session);
    for (let n = 0; n < 3; n++) await new Browser(application.url).login(user.username);
    expect((await browser.get('/me')).body.reason).toBe('superseded');
  });

  it('replaces the session of the same browser and displaces no other [lesson 3]', async () => {
    const others = [new Browser(application.url), new Browser(application.url)];
    for (const other of others) await other.login(user.username);
    const browser = new Browser(application.url);
    for (let n = 0; n < 3; n++)
      expect((await browser.login(user.username, '/by-hand/login')).status).toBe(200);
    for (const other of others) expect((await other.get('/me')).body.user.username).toBe(user.username);
    expect(await liveSessionsOf(application, user)).toHaveLength(3);
  });

  it('without req.logIn() answers 500 and records nothing: the cookie session would keep its id [S1]', async () => {
    const answer = await new Browser(application.url).login(user.username, '/by-hand/login-without-passport');
    expect(answer.status).toBe(500);
    expect(await rowsOf(application, user)).toEqual([]);
  });

  it('twice for one request is one session, which the latter cookie session carries', async () => {
    const browser = new Browser(rejecting.url);
    const usernames = [user.username, user.username];
    const { body } = await browser.post('/by-hand/logins-without-passport', { usernames });
    expect((await browser.get('/me')).body.session).toEqual(body.session);
    expect(await liveSessionsOf(rejecting, user)).toEqual([body.session.id]);
  });

  it('for somebody else on the same request ends the session of the first, whose cookie session nobody has', async () => {
    const other = newUser({ users });
    const browser = new Browser(rejecting.url);
    const usernames = [user.username, other.username];
    const { body } = await browser.post('/by-hand/logins-without-passport', { usernames });
    expect((await browser.get('/me')).body.session).toEqual(body.session);
    expect(await liveSessionsOf(rejecting, user)).toEqual([]);
  });

  it('on a route that has admitted a token is that login, though the request has a cookie session', async () => {
    const { status, body } = await new Browser(application.url).login(user.username, '/by-hand/token-twice');
    expect([status, body.again]).toEqual([200, body.session]);
    expect(await liveSessionsOf(application, user)).toEqual([body.session.id]);
  });

  it('for a token gives the id to sign, and touches no cookie', async () => {
    const answer = await new Browser(application.url).login(user.username, '/by-hand/token');
    expect(answer.headers.getSetCookie()).toEqual([]);
    const token = new TokenClient(application.url, application.sign(user, { sid: answer.body.session.id }));
    expect((await token.get()).body.session).toEqual(answer.body.session);
  });

  it.each(['login', 'token'])(
    'answers 409 to a %s without room, and the first session stays [lesson 34]',
    async (path) => {
      const first = new Browser(rejecting.url);
      await first.login(user.username, '/by-hand/login');
      const second = new Browser(rejecting.url);
      const refused = await second.login(user.username, `/by-hand/${path}`);
      expect(refused.status).toBe(409);
      expect(refused.body).toMatchObject({ code: 'SESSION_LIMIT_REACHED', maxSessions: 1 });
      expect((await second.get('/me')).body).toEqual({ user: null, session: null });
      expect((await first.get('/me')).body.user.username).toBe(user.username);
    },
  );

  it('works without a request of HTTP at all, and throws what says why', async () => {
    const other = rejecting.app.get(SingleSessionService);
    const { id } = await other.admit(user, { headers: {} });
    expect(await other.verify(id)).toEqual({ live: true, userId: String(user.id) });
    await expect(other.admit(user, { headers: {} })).rejects.toThrow(SessionLimitReachedException);
  });
});

describe('SingleSessionService', () => {
  const admit = async (who = user): Promise<string> =>
    (await service.admit(who, { headers: {} }, { credential: 'token' })).id;

  it('.admit() of a cookie session that the server does not keep records nothing, and says what to use', async () => {
    for (const session of [{}, { regenerate: () => undefined }])
      await expect(service.admit(user, { headers: {}, session }, { credential: 'cookie' })).rejects.toThrow(
        /has no save\(\).*use @fastify\/session or express-session/,
      );
    expect(await rowsOf(application, user)).toEqual([]);
  });

  it('.verify() says live, or why not and since when', async () => {
    const id = await admit();
    expect(await service.verify(id)).toEqual({ live: true, userId: String(user.id) });
    await service.end(id);
    expect(await service.verify(id)).toEqual({
      live: false,
      reason: 'admin',
      endedAt: expect.any(Date),
      userId: String(user.id),
    });
  });

  it.each<[string, (one: SingleSessionService, id: string, who: TestUser) => Promise<unknown>]>([
    ['verify', (one, id, who) => one.verify(id, who)],
    ['whenEnded', (one, id, who) => firstValueFrom(one.whenEnded(id, who))],
  ])(
    '.%s() of an id asks for the limit of the user that it is given, who has lost a role since the login',
    async (_, ask) => {
      const one = byRole.app.get(SingleSessionService);
      const before = { ...user, roles: ['partner'] };
      const { id } = await one.admit(before, { headers: {} });
      await one.admit(before, { headers: {} });
      expect(await one.verify(id, before)).toMatchObject({ live: true });
      expect(await ask(one, id, { ...user, roles: [] })).toMatchObject({ reason: 'superseded' });
    },
  );

  it.each(['5f2c1c9e-6a53-4b0b-9e6f-2f7a0b5a7c11', 'garbage', '', '\0', undefined, 7, {}])(
    '.verify(%j) and .end() of it know nothing and fail nothing',
    async (id) => {
      const unknown = { live: false, reason: 'unknown', endedAt: null, userId: null };
      expect(await service.verify(id as string)).toEqual(unknown);
      expect(await service.end(id as string)).toEqual({ ended: 0 });
    },
  );

  it('.end() ends one session, once, and writes down by whom and why', async () => {
    const [first, second] = [await admit(), await admit()];
    expect(await service.end(first, { reason: 'cut-off', by: 'root' })).toEqual({ ended: 1 });
    expect(await service.end(first, { by: 'somebody else' })).toEqual({ ended: 0 });
    expect(await liveSessionsOf(application, user)).toEqual([second]);
    expect((await rowsOf(application, user))[0]).toMatchObject({ endReason: 'cut-off', endedBy: 'root' });
  });

  it('.endUser() ends all of a user, says how many, and leaves other users alone', async () => {
    const other = newUser({ users });
    await admit(other);
    for (let n = 0; n < 5; n++) await admit();
    expect(await service.endUser(user.id)).toEqual({ ended: 3 });
    expect(await service.endUser(String(user.id))).toEqual({ ended: 0 });
    expect(await liveSessionsOf(application, user)).toEqual([]);
    expect(await liveSessionsOf(application, other)).toHaveLength(1);
  });

  it.each([undefined, null, '', {}, 1.5, 'a\0'])(
    '.endUser() and .endOthers() of %p reject, for whoever catches that',
    async (id) => {
      const kept = await admit();
      const nobody = id as string;
      const calls = [() => service.endUser(nobody), () => service.endOthers(nobody, kept)];
      for (const call of calls)
        expect(await call().catch((error: unknown) => error)).toBeInstanceOf(TypeError);
      expect(await liveSessionsOf(application, user)).toEqual([kept]);
    },
  );

  it('.endOthers() keeps one session, and does nothing for one that is dead or of another user [P3]', async () => {
    const other = newUser({ users });
    const foreign = await admit(other);
    const [dead, kept] = [await admit(), await admit()];
    await service.end(dead);
    await admit();
    expect(await service.endOthers(user.id, dead)).toEqual({ ended: 0 });
    expect(await service.endOthers(user.id, foreign)).toEqual({ ended: 0 });
    expect(await service.endOthers(user.id, kept)).toEqual({ ended: 1 });
    expect(await liveSessionsOf(application, user)).toEqual([kept]);
    expect(await liveSessionsOf(application, other)).toEqual([foreign]);
  });
});

describe('endEveryone by the application', () => {
  it.each([
    [{ userIds: '12' }, /except\.userIds must be an array of strings/],
    [{ usernames: 'alice' }, /except\.usernames must be an array of strings/],
    [{ roles: [7] }, /except\.roles must be an array of strings/],
    [{ roles: ['service', 7] }, /except\.roles must be an array of strings/],
    [{ administrators: 'no' }, /except\.administrators must be true or false/],
    [{ me: null }, /except\.me must be true or false/],
    [{ admins: false }, /except\.admins is unknown/],
    [{ constructor: ['alice'] }, /except\.constructor is unknown/],
    [new Set(['alice']), /except must be an object.*it was Set/],
    [new Map([['usernames', ['alice']]]), /except must be an object.*it was Map/],
    [[], /except must be an object.*it was \[\]/],
  ])('ends nothing when it is not understood: %j [lesson 9]', async (except, message) => {
    const user = newUser(application);
    const browser = new Browser(application.url);
    await browser.login(user.username);
    await expect(service.endEveryone({ except: except as object })).rejects.toThrow(message);
    expect((await browser.get('/me')).status).toBe(200);
  });

  it.each([
    ...[null, 'alice', [], [{ except: {} }], new Map([['dryRun', true]])].map(
      (order) => [order, /endEveryone\(\) takes an object.*except/] as const,
    ),
    [{ exempt: { usernames: ['alice'] } }, /endEveryone: exempt is unknown/],
    [{ dryRun: 'yes' }, /dryRun must be true or false/],
    [{ note: 7 }, /note must be a string/],
    [{ by: { username: 'root' } }, /by must be a string/],
  ])('ends nothing when the order itself is %p', async (order, message) => {
    const user = newUser(application);
    const browser = new Browser(application.url);
    await browser.login(user.username);
    await expect(service.endEveryone(order as object)).rejects.toThrow(message);
    expect((await browser.get('/me')).status).toBe(200);
  });
});

it('a user who is admitted by token twice on one request has one session', async () => {
  const user = newUser(application);
  const request = { headers: {} };
  const first = await service.admit(user, request, { credential: 'token' });
  expect(await service.admit(user, request, { credential: 'token' })).toEqual(first);
  expect(await rowsOf(application, user)).toHaveLength(1);
});

describe('list by the application', () => {
  it('has its defaults for what is left out and for what is undefined alike', async () => {
    const whole = await service.list();
    expect(whole.items.every(({ state }) => state === 'active')).toBe(true);
    const nothing = { userId: undefined, username: undefined, role: undefined, cursor: undefined };
    expect(await service.list({ state: undefined, limit: undefined, ...nothing })).toEqual(whole);
  });

  it('takes a limit as large as PostgreSQL can be asked for', async () => {
    expect((await service.list({ limit: 2 ** 31 - 2 })).nextCursor).toBeNull();
  });

  it.each([
    [{ limit: 0 }, /limit/],
    [{ limit: -1 }, /limit/],
    [{ limit: 1.5 }, /limit/],
    [{ limit: NaN }, /limit/],
    [{ limit: Infinity }, /limit/],
    [{ limit: 2 ** 31 - 1 }, /limit/],
    [{ limit: 2 ** 31 }, /limit/],
    [{ limit: '50' }, /limit/],
    [{ limit: null }, /limit/],
    [{ state: 'live' }, /state/],
    [{ state: null }, /state/],
    [{ state: 'constructor' }, /state/],
    [{ userid: 'alice' }, /property userid should not exist/],
    [{ constructor: 'alice' }, /property constructor should not exist/],
  ])('refuses %p as bad input, not as a failure of the server', async (query, message) => {
    const error: unknown = await service.list(query as object).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(BadRequestException);
    expect(JSON.stringify((error as BadRequestException).getResponse())).toMatch(message);
  });
});

it('a cursor that no page gave is refused as bad input, not as a failure of the server', async () => {
  await expect(service.list({ cursor: 'x' })).rejects.toThrow(BadRequestException);
});
