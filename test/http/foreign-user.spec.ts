import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, jest } from '@jest/globals';
import {
  Controller,
  Get,
  Injectable,
  Logger,
  Req,
  UseGuards,
  type CanActivate,
  type ExecutionContext,
} from '@nestjs/common';
import type { Admissions } from '../../src/session/admissions.js';
import type { Identity } from '../../src/session/identity.js';
import { DEFAULT_POLICY, Policy } from '../../src/session/policy.js';
import type { Check, CheckResult } from '../../src/session/session.js';
import type { Sessions } from '../../src/session/sessions.js';
import type { Watches } from '../../src/session/watches.js';
import { RequestCheck } from '../../src/http/request-check.js';
import type { SessionRequest } from '../../src/http/request.js';
import { startApplication, Users, type TestApplication, type TestUser } from '../support/application.js';
import { Browser, type Answer } from '../support/client.js';
import { gate } from '../support/fake-store.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { runBefore } from '../support/platform.js';
import { liveSessionsOf, newUser } from '../support/sessions.js';

type WithUser = { user?: TestUser; headers: Record<string, string | undefined> };

/** Somebody whom a header names, whoever the cookie session belongs to. */
const named = ({ headers }: WithUser): TestUser | undefined => users.get(headers['x-as'] ?? '');

@Injectable()
class ApiKeyGuard implements CanActivate {
  canActivate(context: ExecutionContext): boolean {
    const request = context.switchToHttp().getRequest<WithUser>();
    const user = named(request);
    if (user !== undefined) request.user = user;
    return true;
  }
}

@Controller()
class ApiController {
  @UseGuards(ApiKeyGuard)
  @Get('by-key')
  byKey(@Req() { user }: WithUser): object {
    return { user };
  }
}

const users = new Users();
let databaseUrl: string;
let application: TestApplication;
let warn: jest.SpiedFunction<Logger['warn']>;

beforeAll(async () => {
  databaseUrl = await freshDatabase();
});

beforeEach(() => {
  warn = jest.spyOn(Logger.prototype, 'warn').mockReturnValue();
});

afterEach(async () => {
  jest.restoreAllMocks();
  await application?.close();
});

afterAll(() => dropDatabase(databaseUrl));

/** What a signed-in browser gets that says to be somebody else; its own session goes on. */
async function asSomebodyElse(path: string): Promise<Answer[]> {
  const user = newUser(application);
  const browser = new Browser(application.url);
  await browser.login(user.username);
  const other = newUser(application).username;
  const answers = [await browser.get(path, { 'x-as': other }), await browser.get(path, { 'x-as': other })];
  expect((await browser.get('/me')).body.user?.username).toBe(user.username);
  expect(await liveSessionsOf(application, user)).toHaveLength(1);
  return answers;
}

function expectRefusedAndExplained(answers: Answer[]): void {
  for (const { status, body, headers } of answers) {
    expect([status, body]).toMatchObject([401, { code: 'SESSION_ENDED', reason: 'unknown' }]);
    expect(headers.getSetCookie()).toEqual([]);
  }
  const told = warn.mock.calls.filter(([text]) => String(text).includes('request.user is another user'));
  expect(told).toHaveLength(1);
}

describe('another user than that of the cookie session is refused, and the session goes on [lesson 35]', () => {
  it.each(['strong', { maxStalenessMs: 60_000 }] as const)(
    'when a guard has set it, for an API key beside the cookie (%j)',
    async (freshness) => {
      application = await startApplication(databaseUrl, {
        users,
        options: { freshness },
        controllers: [ApiController],
        providers: [ApiKeyGuard],
      });
      expectRefusedAndExplained(await asSomebodyElse('/by-key'));
    },
  );

  it('when a middleware has set it, for an administrator who acts as somebody', async () => {
    const impersonate = (request: WithUser, _: unknown, next: () => void): void => {
      request.user = request.user && (named(request) ?? request.user);
      next();
    };
    application = await startApplication(databaseUrl, {
      users,
      configure: (app) => runBefore(app, impersonate as never),
    });
    expectRefusedAndExplained(await asSomebodyElse('/me'));
  });
});

it('a cookie session that says another user by itself, after a change of ids, is destroyed, and the next request is anonymous', async () => {
  let changed = false;
  application = await startApplication(databaseUrl, {
    users,
    options: {
      identify: ({ id, username, roles }: TestUser) => ({ id: changed ? `new-${id}` : id, username, roles }),
    },
  });
  const user = newUser(application);
  const browser = new Browser(application.url);
  await browser.login(user.username);
  changed = true;
  expect((await browser.get('/me')).body).toMatchObject({ code: 'SESSION_ENDED', reason: 'unknown' });
  expect((await browser.get('/me')).body).toEqual({ user: null, session: null });
  expect(await liveSessionsOf(application, user)).toEqual([]);
});

describe('the cookie session of somebody else', () => {
  const identify = ({ id, username }: TestUser): Identity => ({ id: `key-${id}`, username, roles: [] });

  /** Whether a request of this user destroys the cookie session, and is refused when the session in it has ended. */
  async function isGone(user: object, passport: { user?: unknown } | undefined): Promise<boolean> {
    const ended: string[] = [];
    const giveUp = async (id: string): Promise<void> => {
      await new Promise(setImmediate);
      ended.push(id);
    };
    const destroy = jest.fn((done: () => void) => done());
    const found = { userId: 'alice', unmarked: false, unseen: false, roles: '', administrator: false };
    const verify = (): Promise<CheckResult> => Promise.resolve({ live: true, ...found });
    const check = new RequestCheck(
      { remembers: false, remembered: () => undefined, verify, giveUp } as unknown as Sessions,
      {} as Admissions,
      new Policy({ ...DEFAULT_POLICY, identify: identify as (user: unknown) => Identity }),
      {} as Watches,
      { unregistered: 'reject' },
    );
    const singleSession = '00000000-0000-4000-8000-000000000001';
    const session = { singleSession, passport: passport!, save: () => undefined, destroy };
    await expect(check.check({ headers: {}, user, session }, undefined)).rejects.toMatchObject({
      status: 401,
    });
    expect(ended).toEqual(destroy.mock.calls.map(() => singleSession));
    return destroy.mock.calls.length === 1;
  }

  it.each(['key-7', 7, '7', 7n, 'bob', 'bob@example.com', { id: 7 }])(
    'is destroyed where Passport keeps that user in it: %p',
    async (user) => {
      const bob = { id: 7, username: 'bob', email: 'bob@example.com' };
      expect(await isGone(bob, { user })).toBe(true);
    },
  );

  it.each([undefined, {}, { user: null }, { user: {} }, { user: 'alice' }])(
    'stays where it keeps another or nothing at all, as without Passport, also of a user who lacks a name: %p',
    async (passport) => {
      expect(await isGone({ id: 7, username: null }, passport)).toBe(false);
    },
  );
});

describe('what is checked at the same moment on the same request, as fields of GraphQL are, counts for what was checked', () => {
  const [mine, dead] = ['00000000-0000-4000-8000-000000000001', '00000000-0000-4000-8000-000000000002'];
  const user = { id: 'u', username: 'u', roles: [] };
  const nothing: unknown = {};

  /** Lets the first check pass, whatever the request is when its answer comes; and checks again. */
  async function checkTwice(request: SessionRequest, meanwhile: () => void): Promise<true> {
    const open = gate<void>();
    const verify = async ({ id }: Check): Promise<CheckResult> => {
      await open.promise;
      const rest = { userId: 'u', unmarked: false, unseen: false, roles: '', administrator: false };
      return id === mine
        ? { live: true, ...rest }
        : { live: false, reason: 'superseded', endedAt: null, ...rest };
    };
    const sessions = { remembers: false, remembered: () => undefined, verify };
    const check = new RequestCheck(
      sessions as unknown as Sessions,
      nothing as Admissions,
      new Policy(DEFAULT_POLICY),
      nothing as Watches,
      { unregistered: 'reject' },
    );
    const first = check.check(request, undefined);
    meanwhile();
    open.open();
    expect(await first).toBe(true);
    return check.check(request, undefined);
  }

  it('the user [P2, S16]', async () => {
    const request: SessionRequest = { headers: {}, user: { ...user, sid: mine } };
    const again = checkTwice(request, () => (request.user = { ...user, sid: dead }));
    await expect(again).rejects.toMatchObject({ status: 401 });
  });

  it('the cookie session [P2, S16]', async () => {
    const session = { singleSession: mine, save: () => undefined, destroy: (done: () => void) => done() };
    const request: SessionRequest = { headers: {}, user, session };
    const again = checkTwice(request, () => (session.singleSession = dead));
    await expect(again).rejects.toMatchObject({ status: 401 });
  });

  it('who was adopted [P2, S16]', async () => {
    const open = gate<void>();
    const adopt = async (): Promise<CheckResult & { id: string }> => {
      await open.promise;
      const rest = { userId: 'u', unmarked: false, unseen: false, roles: '', administrator: false };
      return { id: mine, live: true, ...rest };
    };
    const confirm = jest.fn(() => Promise.reject(new Error('asked')));
    const check = new RequestCheck(
      { remembers: false, remembered: () => undefined, verify: confirm } as unknown as Sessions,
      { adopt },
      new Policy(DEFAULT_POLICY),
      nothing as Watches,
      { unregistered: 'adopt' },
    );
    const passport = { user: 'u' };
    const session = {
      passport,
      save: (done: () => void) => done(),
      destroy: (done: () => void) => done(),
    };
    const request: SessionRequest = { headers: { cookie: 'sid=one' }, sessionID: 'one', user, session };
    const first = check.check(request, undefined);
    request.user = { ...user, sid: dead };
    open.open();
    expect(await first).toBe(true);
    await expect(check.check(request, undefined)).rejects.toThrow('asked');
  });

  it('and when nothing has changed it is not asked again', async () => {
    const request: SessionRequest = { headers: {}, user: { ...user, sid: mine } };
    await expect(checkTwice(request, () => undefined)).resolves.toBe(true);
  });
});
