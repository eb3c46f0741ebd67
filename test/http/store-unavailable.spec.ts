import { randomUUID } from 'node:crypto';
import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import { Controller, HttpCode, Post, Req, UseGuards } from '@nestjs/common';
import type { Request } from 'express';
import { firstValueFrom } from 'rxjs';
import { DataSource } from 'typeorm';
import {
  SessionStoreUnavailableException,
  SingleSessionLogin,
  SingleSessionService,
} from '../../src/index.js';
import {
  LocalLoginGuard,
  startApplication,
  type TestApplication,
  type TestUser,
} from '../support/application.js';
import { Browser, TokenClient, type Answer } from '../support/client.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { interceptQueries } from '../support/queries.js';
import { eventually, liveSessionsOf, newUser, rowsOf } from '../support/sessions.js';
import { watchStatements, type StatementWatch } from '../support/statements.js';
import { logOut } from '../support/ways-in.js';

/** The limit is 5 s; a machine under load gets as much again. */
const ANSWERED_WITHIN_MS = 10_000;

let databaseUrl: string;
let watch: StatementWatch;
let application: TestApplication;
let user: TestUser;
let browser: Browser;
let token: TokenClient;

/** Where the database goes when the session has been checked. */
@Controller('gone')
class GoneController {
  @UseGuards(LocalLoginGuard)
  @SingleSessionLogin()
  @Post('login')
  async login(): Promise<never> {
    await watch.cut();
    throw new Error('no menu without the database');
  }

  @Post('logout')
  @HttpCode(204)
  async logout(@Req() request: Request): Promise<void> {
    await watch.cut();
    await logOut(request);
  }
}

beforeAll(async () => {
  databaseUrl = await freshDatabase();
  watch = await watchStatements(databaseUrl);
  application = await startApplication(watch.url, {
    options: { maxSessions: 2 },
    controllers: [GoneController],
  });
  user = newUser(application);
  browser = new Browser(application.url);
  token = new TokenClient(application.url);
  await browser.login(user.username);
  await token.login(user.username);
});

afterEach(async () => {
  watch.unfreeze();
  await watch.restore();
});

afterAll(async () => {
  await application?.close();
  await watch?.stop();
  await dropDatabase(databaseUrl);
});

function expectUnavailable({ status, body, headers }: Answer): void {
  expect(status).toBe(503);
  expect(body).toEqual({
    statusCode: 503,
    error: 'Service Unavailable',
    message: 'Sessions cannot be checked at the moment. Try again shortly.',
    code: 'SESSION_STORE_UNAVAILABLE',
  });
  expect(headers.get('retry-after')).toMatch(/^[1-9]\d*$/);
  expect(headers.get('www-authenticate')).toBeNull();
}

async function expectAllGoesOnAsBefore(): Promise<void> {
  const answer = await eventually(
    () => browser.get('/me'),
    ({ status }) => status !== 503,
    8_000,
  );
  expect(answer.body.user?.username).toBe(user.username);
  expect((await token.get()).body.user?.username).toBe(user.username);
  expect(await liveSessionsOf(application, user)).toHaveLength(2);
}

describe('with the database gone', () => {
  it('refuses cookie and bearer with 503, lets anonymous callers pass, and logs nobody out [P5, S26]', async () => {
    await watch.cut();
    expectUnavailable(await browser.get('/me'));
    expectUnavailable(await token.get());
    expect((await new Browser(application.url).get('/me')).status).toBe(200);
    await watch.restore();
    await expectAllGoesOnAsBefore();
  });

  it.each(['/login', '/token'])(
    'refuses a login at %s with 503 and gives it no usable cookie [P5, S26]',
    async (path) => {
      await watch.cut();
      const newcomer = new Browser(application.url);
      const refused = await newcomer.login(user.username, path);
      expectUnavailable(refused);
      expect(refused.headers.getSetCookie()).toEqual([]);
      await watch.restore();
      await expectAllGoesOnAsBefore();
      expect((await newcomer.get('/me')).body).toEqual({ user: null, session: null });
    },
  );

  it('refuses a logout with 503, since it cannot be done, and the session stays [P5]', async () => {
    await watch.cut();
    expectUnavailable(await browser.post('/logout'));
    await watch.restore();
    await expectAllGoesOnAsBefore();
  });

  it('answers a wrong password with 401 all the same: the store is not asked', async () => {
    await watch.cut();
    const answer = await new Browser(application.url).post('/login', {
      username: user.username,
      password: 'no',
    });
    expect(answer.status).toBe(401);
  });
});

describe('a session that nobody holds any more ends when the database is back: it would keep its place [P5]', () => {
  it.each([
    ['of a login that fails in its handler', '/gone/login', 500],
    ['of a browser that Passport logs out', '/gone/logout', 204],
  ])('%s', async (_case, path, status) => {
    const other = newUser(application);
    const client = new Browser(application.url);
    if (path === '/gone/logout') await client.login(other.username);
    expect((await client.login(other.username, path)).status).toBe(status);
    await watch.restore();
    await eventually(
      () => liveSessionsOf(application, other),
      (live) => live.length === 0,
    );
  });
});

describe('with the database gone, the service', () => {
  const id = randomUUID();
  const who = { id: 'u', username: 'u', roles: [] };
  it('says so also where it has refused a login and cannot tell why [P5]', async () => {
    const service = application.app.get(SingleSessionService);
    const restore = interceptQueries(application.app.get(DataSource), async ({ sql, send }) => {
      if (!sql.includes('INSERT')) throw new Error('gone');
      return send();
    });
    try {
      const admitting = service.admit(
        { ...user, sid: randomUUID() },
        { headers: {} },
        { credential: 'token' },
      );
      await expect(admitting).rejects.toThrow(SessionStoreUnavailableException);
    } finally {
      restore();
    }
  });

  it.each<[string, (service: SingleSessionService) => Promise<unknown>]>([
    ['admit', (service) => service.admit(who, { headers: {} }, { credential: 'token' })],
    ['verify', (service) => service.verify(id)],
    ['end', (service) => service.end(id)],
    ['endUser', (service) => service.endUser('u')],
    ['endOthers', (service) => service.endOthers('u', id)],
    ['endEveryone', (service) => service.endEveryone()],
    ['list', (service) => service.list()],
    ['explain', (service) => service.explain(who)],
    ['whenEnded', (service) => firstValueFrom(service.whenEnded(id))],
  ])('says of %s() what Nest answers with 503, and not with 500 [P5, S26]', async (_, call) => {
    await watch.cut();
    await expect(call(application.app.get(SingleSessionService))).rejects.toThrow(
      SessionStoreUnavailableException,
    );
  });
});

describe('with a database that says nothing any more', () => {
  it('refuses requests, a login and a logout with 503 within the time limit, and logs nobody out [P5, S26]', async () => {
    watch.freeze();
    const newcomer = new Browser(application.url);
    const startedAt = performance.now();
    const answers = await Promise.all([
      browser.get('/me'),
      token.get(),
      newcomer.login(user.username),
      browser.post('/logout'),
      ...Array.from({ length: 30 }, () => browser.get('/me')),
    ]);
    expect(performance.now() - startedAt).toBeLessThan(ANSWERED_WITHIN_MS);
    answers.forEach(expectUnavailable);
    expect((await new Browser(application.url).get('/me')).status).toBe(200);

    watch.unfreeze();
    const after = await eventually(
      () => token.get(),
      ({ status }) => status !== 503,
      8_000,
    );
    // The logout and the login reached the database when it came back: the first was answered with an error and may
    // have been done, the second was taken back.
    expect([200, 401]).toContain(after.status);
    expect((await newcomer.get('/me')).body).toEqual({ user: null, session: null });
  });

  it('does not bring to life a login that was answered with 503, when its statement is done after all [P5]', async () => {
    const other = newUser(application);
    const settled = new Browser(application.url);
    await settled.login(other.username);
    watch.loseCancels();
    watch.freeze();
    expectUnavailable(await new Browser(application.url).login(other.username, '/token'));
    watch.unfreeze();
    // Both are allowed: only that it was taken back makes it dead.
    await eventually(
      () => rowsOf(application, other),
      (rows) => rows.length === 2,
      8_000,
    );
    await eventually(
      () => liveSessionsOf(application, other),
      (live) => live.length === 1,
      8_000,
    );
    expect((await settled.get('/me')).status).toBe(200);
  });
});
