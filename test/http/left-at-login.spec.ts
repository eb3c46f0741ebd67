import { EventEmitter, once } from 'node:events';
import { afterAll, beforeAll, describe, expect, it, jest } from '@jest/globals';
import {
  Catch,
  Controller,
  HttpCode,
  Injectable,
  Post,
  Req,
  UseGuards,
  type ArgumentsHost,
  type CallHandler,
  type CanActivate,
  type ExceptionFilter,
  type ExecutionContext,
  type NestInterceptor,
} from '@nestjs/common';
import { APP_FILTER, APP_INTERCEPTOR } from '@nestjs/core';
import { finalize, type Observable } from 'rxjs';
import { SingleSessionLogin, SingleSessionService } from '../../src/index.js';
import type { SessionRequest } from '../../src/http/request.js';
import { currentSessionOf } from '../../src/http/request-state.js';
import { A_MOMENT_MS } from '../../src/session/session.js';
import { Sessions } from '../../src/session/sessions.js';
import {
  LocalGuard,
  LocalLoginGuard,
  startApplication,
  Users,
  type TestApplication,
  type TestUser,
} from '../support/application.js';
import { Browser } from '../support/client.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { nodeResponseOf, type PlatformResponse } from '../support/platform.js';
import { eventually, liveSessionsOf, newUser, rowsOf } from '../support/sessions.js';
import { Gate, GatedStore, ImpatientBrowser } from '../support/ways-in.js';

/** Where a login waits before Passport establishes it, as for a store of cookie sessions that stands still, or for a password hash. */
const gate = new Gate();
const logins = new EventEmitter();
let latest: SessionRequest & { body: TestUser };
/** How many logins have reached the handler of a marked route. */
let handled = 0;

@Injectable()
class StandstillGuard implements CanActivate {
  async canActivate(context: ExecutionContext): Promise<boolean> {
    const http = context.switchToHttp();
    nodeResponseOf(http.getResponse<PlatformResponse>()).once('close', () => logins.emit('left'));
    latest = http.getRequest();
    await gate.pass(latest.body.username);
    return true;
  }
}

@Controller('slow')
@UseGuards(StandstillGuard)
class SlowController {
  constructor(private readonly sessions: SingleSessionService) {}

  @UseGuards(LocalLoginGuard)
  @SingleSessionLogin()
  @Post('marked')
  @HttpCode(200)
  marked(): object {
    handled++;
    return {};
  }

  @UseGuards(LocalLoginGuard)
  @Post('unmarked')
  @HttpCode(200)
  unmarked(): object {
    return {};
  }

  @Post('rebound')
  async rebound(@Req() request: SessionRequest): Promise<object> {
    return this.sessions.rebind(request);
  }

  @UseGuards(LocalGuard)
  @SingleSessionLogin({ credential: 'token' })
  @Post('token')
  @HttpCode(200)
  token(): object {
    return {};
  }
}

@Controller('quick')
class QuickController {
  @UseGuards(LocalLoginGuard)
  @Post('unmarked')
  @HttpCode(200)
  unmarked(): object {
    return {};
  }
}

/** Says when a login is over, whatever it has come to. */
@Catch()
class Over implements NestInterceptor, ExceptionFilter {
  intercept(_: ExecutionContext, next: CallHandler): Observable<unknown> {
    return next.handle().pipe(finalize(() => logins.emit('over')));
  }

  catch(_: unknown, host: ArgumentsHost): void {
    nodeResponseOf(host.switchToHttp().getResponse<PlatformResponse>()).end();
    logins.emit('over');
  }
}

const users = new Users();
const store = new GatedStore();
let databaseUrl: string;
let application: TestApplication;

beforeAll(async () => {
  databaseUrl = await freshDatabase();
  application = await startApplication(databaseUrl, {
    users,
    session: { store },
    controllers: [SlowController, QuickController],
    providers: [
      { provide: APP_INTERCEPTOR, useClass: Over },
      { provide: APP_FILTER, useClass: Over },
    ],
  });
});

afterAll(async () => {
  await application?.close();
  await dropDatabase(databaseUrl);
});

/** Gives up a login while it stands still; resolves when its process knows. */
async function leave(
  browser: ImpatientBrowser,
  { username }: TestUser,
  path: string,
  at = gate,
  meanwhile?: () => Promise<void>,
): Promise<void> {
  const arrived = at.shut(username);
  const answer = browser.login(username, path).catch(() => 'gone');
  await arrived;
  await meanwhile?.();
  const left = once(logins, 'left');
  browser.leave();
  await left;
  expect(await answer).toBe('gone');
}

async function goOn(at = gate): Promise<void> {
  const over = once(logins, 'over');
  at.open();
  await over;
}

describe.each(['marked', 'unmarked', 'token'])(
  'a login that was given up before it was admitted (%s)',
  (name) => {
    it('evicts nobody: whoever tried again elsewhere meanwhile stays signed in [P3]', async () => {
      const user = newUser({ users });
      await leave(new ImpatientBrowser(application.url), user, `/slow/${name}`);
      const again = new Browser(application.url);
      expect((await again.login(user.username)).status).toBe(200);
      await goOn();
      expect((await again.get('/me')).body.user?.username).toBe(user.username);
      expect(await rowsOf(application, user)).toHaveLength(1);
    });
  },
);

it.each(['marked', 'unmarked'])(
  'a login that was given up before it was admitted leaves nothing of the session that its browser came with (%s)',
  async (name) => {
    const user = newUser({ users });
    const browser = new ImpatientBrowser(application.url);
    expect((await browser.login(user.username)).status).toBe(200);
    await leave(browser, user, `/slow/${name}`);
    await goOn();
    await eventually(
      () => liveSessionsOf(application, user),
      (live) => live.length === 0,
    );
    expect((await browser.copy().get('/me')).body).toEqual({ user: null, session: null });
  },
);

it.each(['marked', 'unmarked'])(
  'and leaves it to another click by request.logIn() that has carried it on meanwhile [lesson 4] (%s)',
  async (name) => {
    const user = newUser({ users });
    const browser = new Browser(application.url);
    expect((await browser.login(user.username)).status).toBe(200);
    const { id } = (await browser.get('/me')).body.session;
    await leave(
      new ImpatientBrowser(application.url, browser.cookie),
      user,
      `/slow/${name}`,
      gate,
      async () => {
        expect((await browser.login(user.username, '/quick/unmarked')).status).toBe(200);
      },
    );
    const givingUp = jest.spyOn(application.app.get(Sessions), 'giveUp');
    await goOn();
    await Promise.all(givingUp.mock.results.map(({ value }) => value));
    givingUp.mockRestore();
    expect((await browser.get('/me')).body?.session?.id).toBe(id);
  },
);

it.each(['marked', 'unmarked'])(
  'a login that was given up while the store of cookie sessions stood still with its stamp keeps its place no longer than its client waits (%s)',
  async (name) => {
    const user = newUser({ users });
    await leave(new ImpatientBrowser(application.url), user, `/slow/${name}`, store.gate);
    await eventually(
      () => liveSessionsOf(application, user),
      (live) => live.length === 0,
    );
    await goOn(store.gate);
    expect(await liveSessionsOf(application, user)).toEqual([]);
    expect(currentSessionOf(latest)).toBeUndefined();
  },
);

it('and on a marked route its handler is not called, for which there is no session', async () => {
  const before = handled;
  const user = newUser({ users });
  await leave(new ImpatientBrowser(application.url), user, '/slow/marked', store.gate);
  await eventually(
    () => liveSessionsOf(application, user),
    (live) => live.length === 0,
  );
  await goOn(store.gate);
  expect(handled).toBe(before);
});

it('a cookie session that kept its id is held by the browser that left: its session stays', async () => {
  const user = newUser({ users });
  const browser = new ImpatientBrowser(application.url);
  expect((await browser.login(user.username)).status).toBe(200);
  await leave(browser, user, '/slow/rebound', store.gate);
  await goOn(store.gate);
  expect((await browser.copy().get('/me')).body.user?.username).toBe(user.username);
});

it('a login once more that was given up there takes the session with it that the new cookie session was to carry on', async () => {
  const user = newUser({ users });
  const browser = new ImpatientBrowser(application.url);
  expect((await browser.login(user.username)).status).toBe(200);
  await leave(browser, user, '/slow/unmarked', store.gate);
  await eventually(
    () => liveSessionsOf(application, user),
    (live) => live.length === 0,
  );
  await goOn(store.gate);
  expect(await liveSessionsOf(application, user)).toEqual([]);
});

it('and leaves it to the other click of the same browser, however long the store stood still [lesson 4]', async () => {
  const user = newUser({ users });
  const browser = new Browser(application.url);
  expect((await browser.login(user.username)).status).toBe(200);
  const { id } = (await browser.get('/me')).body.session;
  const first = new ImpatientBrowser(application.url, browser.cookie);
  const givingUp = jest.spyOn(application.app.get(Sessions), 'giveUp');
  const timers = jest.spyOn(globalThis, 'setTimeout');
  expect((await browser.login(user.username, '/slow/unmarked')).status).toBe(200);
  await leave(first, user, '/slow/unmarked', store.gate);
  const ofTheMoment = timers.mock.calls.filter(([, afterMs]) => afterMs === A_MOMENT_MS);
  timers.mockRestore();
  expect(ofTheMoment).not.toHaveLength(0);
  for (const [timeIsUp] of ofTheMoment) timeIsUp();
  await goOn(store.gate);
  await Promise.all(givingUp.mock.results.map(({ value }) => value));
  givingUp.mockRestore();
  expect((await browser.get('/me')).body?.session.id).toBe(id);
});
