import { EventEmitter, once } from 'node:events';
import { Readable } from 'node:stream';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import {
  Body,
  Controller,
  Post,
  Redirect,
  Req,
  Res,
  UseGuards,
  UseInterceptors,
  type CallHandler,
  type CanActivate,
  type ExecutionContext,
  type INestApplication,
  type NestInterceptor,
} from '@nestjs/common';
import { MemoryStore, type SessionData, type Store } from 'express-session';
import type { FastifyInstance } from 'fastify';
import { defer, mergeMap, type Observable } from 'rxjs';
import { CurrentSession, SingleSessionLogout } from '../../src/index.js';
import { startApplication, Users, type TestApplication, type TestUser } from '../support/application.js';
import { Browser, TokenClient, type Answer } from '../support/client.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { nodeResponseOf, platform, type PlatformResponse } from '../support/platform.js';
import { liveSessionsOf, newUser, rowsOf } from '../support/sessions.js';
import { logIn, logOut, type UserRequest } from '../support/ways-in.js';

// Passport's `request.logout()` is at work for some turns of the event loop, and needs the cookie session until its end.

type Cart = UserRequest & { session: { cart?: string } };

/** A store over a network: each of its answers takes some turns. */
class DistantStore extends MemoryStore {
  override set(id: string, data: SessionData, done?: (error?: unknown) => void): void {
    super.set(id, data, (error) => later(() => done?.(error)));
  }

  override destroy(id: string, done?: (error?: unknown) => void): void {
    later(() => super.destroy(id, done));
  }
}

/** A store that does not answer one save until it is told to. */
class SilentStore extends MemoryStore {
  private isSilent = false;
  speak: () => void = () => {};

  fallSilent(): void {
    this.isSilent = true;
  }

  override set(id: string, data: SessionData, done?: (error?: unknown) => void): void {
    const save = (): void => super.set(id, data, done);
    if (!this.isSilent) return save();
    this.isSilent = false;
    this.speak = save;
  }
}

/** A store that cannot destroy what it keeps, or save what changes, while it is told so. */
class FailingStore extends MemoryStore {
  fails: 'set' | 'destroy' | undefined;

  override set(id: string, data: SessionData, done?: (error?: unknown) => void): void {
    if (this.fails === 'set') later(() => done?.(new Error('the store does not save it')));
    else super.set(id, data, done);
  }

  override destroy(id: string, done?: (error?: unknown) => void): void {
    if (this.fails === 'destroy') later(() => done?.(new Error('the store keeps it')));
    else super.destroy(id, done);
  }
}

/** Tells when it has destroyed what it keeps. */
class TellingStore extends MemoryStore {
  override destroy(id: string, done?: (error?: unknown) => void): void {
    super.destroy(id, (error) => {
      done?.(error);
      logouts.emit('destroyed');
    });
  }
}

function later(act: () => void, turns = 20): void {
  setImmediate(() => (turns > 0 ? later(act, turns - 1) : act()));
}

const requestOf = (context: ExecutionContext): UserRequest => context.switchToHttp().getRequest();

class LogoutGuard implements CanActivate {
  canActivate(context: ExecutionContext): Promise<boolean> {
    return logOut(requestOf(context)).then(() => true);
  }
}

class LogoutInterceptor implements NestInterceptor {
  intercept(context: ExecutionContext, next: CallHandler): Observable<unknown> {
    return defer(() => logOut(requestOf(context))).pipe(mergeMap(() => next.handle()));
  }
}

/** Stands for a time limit, which answers before the user is logged out. */
class AnsweringGuard implements CanActivate {
  canActivate(context: ExecutionContext): boolean {
    nodeResponseOf(context.switchToHttp().getResponse()).writeHead(202).end();
    return true;
  }
}

/** Tells when a logout that no handler waits for is over. */
const logouts = new EventEmitter();

@Controller('out')
class OutController {
  /** https://www.passportjs.org/concepts/authentication/logout/ */
  @SingleSessionLogout()
  @Post('callback')
  callback(@Req() request: UserRequest, @Res() response: PlatformResponse): void {
    request.logout((error) => {
      if (error) throw error as Error;
      response.status(302).redirect('/me');
    });
  }

  @SingleSessionLogout()
  @Post('unheeded')
  @Redirect('/me')
  unheeded(@Req() request: UserRequest): void {
    request.logout((error) => {
      if (error) throw error as Error;
      logouts.emit('over');
    });
  }

  @SingleSessionLogout()
  @Post('noted')
  noted(@Req() request: UserRequest): object {
    Object.assign(request.session, { note: 'written in the handler' });
    return {};
  }

  @SingleSessionLogout()
  @Post('late')
  @Redirect('/me')
  late(@Req() request: UserRequest, @Res({ passthrough: true }) response: PlatformResponse): void {
    const tell = (): unknown => logouts.emit('late', typeof request.session?.regenerate);
    nodeResponseOf(response).once('finish', tell);
  }

  /** https://expressjs.com/en/resources/middleware/session.html, "User login" */
  @SingleSessionLogout()
  @Post('by-hand')
  @Redirect('/me')
  byHand(@Req() request: UserRequest): void {
    request.session.save(() => {
      try {
        request.session.regenerate(() => logouts.emit('by hand', 'over'));
      } catch (error) {
        logouts.emit('by hand', error);
      }
    });
  }

  @SingleSessionLogout()
  @Post('begun')
  @Redirect('/me')
  begun(@Req() request: Cart): void {
    request.session.regenerate(() => (request.session.cart = 'begun'));
  }

  @SingleSessionLogout()
  @Post('twice')
  @Redirect('/me')
  async twice(@Req() request: UserRequest, @Body() other: TestUser): Promise<void> {
    await logOut(request);
    await logIn(request, other);
    await logOut(request);
  }

  @SingleSessionLogout()
  @Post('other')
  @Redirect('/me')
  async other(@Req() request: UserRequest, @Body() other: TestUser): Promise<void> {
    await logOut(request);
    await logIn(request, other);
  }

  @SingleSessionLogout()
  @Post('ours')
  ours(@Res() response: PlatformResponse): void {
    response.status(302).redirect('/me');
  }

  @SingleSessionLogout()
  @Post('kept')
  kept(@Req() request: Cart, @Res() response: PlatformResponse): void {
    request.session.cart = 'kept';
    request.logout({ keepSessionInfo: true }, () => void response.status(302).redirect('/me'));
  }

  @Post('unmarked')
  unmarked(@Req() request: Cart, @Res() response: PlatformResponse): void {
    request.session.cart = 'kept';
    request.logout({ keepSessionInfo: true }, () => void response.status(302).redirect('/me'));
  }

  @UseGuards(AnsweringGuard)
  @SingleSessionLogout()
  @Post('answered')
  answered(@Res() _response: PlatformResponse): void {}

  @Post('awaited')
  async awaited(@Req() request: UserRequest): Promise<void> {
    await logOut(request);
  }

  /** What comes first is the answer; Node, Express and Nest complain of the other at most in the log. */
  @Post('redirect-and-body')
  redirectAndBody(@Res({ passthrough: true }) response: PlatformResponse): object {
    response.status(302).redirect('/me');
    return { some: 'thing' };
  }

  @Post('redirect-and-error')
  async redirectAndError(@Res() response: PlatformResponse): Promise<void> {
    response.status(302).redirect('/me');
    await Promise.resolve();
    throw new Error('too late');
  }

  @SingleSessionLogout()
  @Post('marked/redirect-and-body')
  markedRedirectAndBody(@Res({ passthrough: true }) response: PlatformResponse): object {
    return this.redirectAndBody(response);
  }

  @SingleSessionLogout()
  @Post('marked/redirect-and-error')
  markedRedirectAndError(@Res() response: PlatformResponse): Promise<void> {
    return this.redirectAndError(response);
  }

  /** Fastify takes streams. */
  @SingleSessionLogout()
  @Post('file')
  file(@Res() response: PlatformResponse): void {
    const file = new Readable({ read: () => undefined });
    response.send(file);
    file.destroy(new Error('the file is not there'));
  }

  @Post('cart')
  cart(@Req() { session, user }: Cart, @CurrentSession() current?: CurrentSession): object {
    return { cart: session.cart ?? null, user: user ?? null, session: current ?? null };
  }
}

@Controller('early')
@UseInterceptors(LogoutInterceptor)
class InterceptedController {
  @SingleSessionLogout()
  @Post('interceptor')
  @Redirect('/me')
  out(): void {}
}

@Controller('early')
class GuardedController {
  @UseGuards(LogoutGuard)
  @SingleSessionLogout()
  @Post('guard')
  @Redirect('/me')
  out(): void {}
}

/** Fastify saves the cookie session after such a hook. */
function takeTurns(app: INestApplication): void {
  if (platform !== 'fastify') return;
  const instance: FastifyInstance = app.getHttpAdapter().getInstance();
  instance.addHook('preSerialization', (_, __, payload, done) => later(() => done(null, payload)));
}

const CONTROLLERS = [OutController, InterceptedController, GuardedController];

const users = new Users();
let databaseUrl: string;
let applications: Record<string, TestApplication>;

beforeAll(async () => {
  databaseUrl = await freshDatabase();
  const options = { maxSessions: 2, exempt: { roles: ['service'] } };
  const settings = { users, controllers: CONTROLLERS, options, configure: takeTurns };
  applications = {
    'in memory': await startApplication(databaseUrl, settings),
    distant: await startApplication(databaseUrl, { ...settings, session: { store: new DistantStore() } }),
  };
});

afterAll(async () => {
  for (const application of Object.values(applications ?? {})) await application.close();
  await dropDatabase(databaseUrl);
});

const signedIn = (store: string) => signIn(applications[store]!);

async function signIn(application: TestApplication) {
  const user = newUser({ users });
  const browser = new Browser(application.url);
  expect((await browser.login(user.username)).status).toBe(200);
  return { application, user, browser };
}

const ANONYMOUS = { status: 200, body: { user: null, session: null } };

describe.each(['in memory', 'distant'])('a logout with cookie sessions in a store that is %s', (store) => {
  it.each(['callback', 'unheeded', 'ours'])(
    'leaves the browser anonymous from the next request on (%s)',
    async (name) => {
      for (let round = 0; round < 5; round++) {
        const { application, user, browser } = await signedIn(store);
        const out: Answer = await browser.post(`/out/${name}`);
        expect(out.status).toBe(302);
        expect(await browser.get('/me')).toMatchObject(ANONYMOUS);
        expect(await liveSessionsOf(application, user)).toEqual([]);
      }
    },
  );

  it('by hand finds the cookie session until its end, which no handler waits for: to miss it would end the process', async () => {
    const { application, user, browser } = await signedIn(store);
    const over = once(logouts, 'by hand');
    expect((await browser.post('/out/by-hand')).status).toBe(302);
    expect(await over).toEqual(['over']);
    expect(await browser.get('/me')).toMatchObject(ANONYMOUS);
    expect(await liveSessionsOf(application, user)).toEqual([]);
  });

  it('is not undone by what the handler writes into the cookie session, which is not saved once more', async () => {
    const { browser } = await signedIn(store);
    expect((await browser.post('/out/noted')).status).toBe(201);
    expect(await browser.get('/me')).toMatchObject(ANONYMOUS);
  });

  it('leaves the cookie session to what the handler does when its answer has left', async () => {
    const { browser } = await signedIn(store);
    const late = once(logouts, 'late');
    expect((await browser.post('/out/late')).status).toBe(302);
    expect(await late).toEqual(['function']);
  });

  if (platform === 'express')
    it('leaves alone the cookie session that the handler has begun while the answer waited', async () => {
      const { application, user, browser } = await signedIn(store);
      expect((await browser.post('/out/begun')).status).toBe(302);
      expect((await browser.post('/out/cart')).body).toEqual({ cart: 'begun', user: null, session: null });
      expect(await liveSessionsOf(application, user)).toEqual([]);
    });

  it.each(['guard', 'interceptor'])(
    'ends all of the user where a %s is faster than the interceptor of the logout route',
    async (name) => {
      const { application, user, browser } = await signedIn(store);
      expect((await new TokenClient(application.url).login(user.username)).status).toBe(200);
      expect((await browser.post(`/early/${name}`)).status).toBe(302);
      expect(await liveSessionsOf(application, user)).toEqual([]);
    },
  );

  it.each(['guard', 'interceptor'])(
    'ends no other session there of a user who is exempt by now (%s)',
    async (name) => {
      const { application, user, browser } = await signedIn(store);
      const elsewhere = new TokenClient(application.url);
      expect((await elsewhere.login(user.username)).status).toBe(200);
      user.roles = ['service'];
      expect((await browser.post(`/early/${name}`)).status).toBe(302);
      expect((await elsewhere.get()).status).toBe(200);
      expect(await liveSessionsOf(application, user)).toHaveLength(1);
    },
  );

  it('on a route without our decorator ends the session of its browser, by the name of a logout, and no other', async () => {
    const { application, user, browser } = await signedIn(store);
    const elsewhere = new TokenClient(application.url);
    expect((await elsewhere.login(user.username)).status).toBe(200);
    expect((await browser.post('/out/awaited')).status).toBe(201);
    expect((await elsewhere.get()).status).toBe(200);
    expect((await rowsOf(application, user)).map(({ endReason }) => endReason)).toEqual(['logout', null]);
  });

  it('of nobody is answered like any other, as is the second of two clicks', async () => {
    const { browser } = await signedIn(store);
    for (let click = 0; click < 2; click++) expect((await browser.post('/out/awaited')).status).toBe(201);
  });

  it('ends who has signed in after it in the same request and is logged out there, too, and no other session of theirs', async () => {
    const { application, browser } = await signedIn(store);
    const other = newUser({ users });
    const elsewhere = new TokenClient(application.url);
    expect((await elsewhere.login(other.username)).status).toBe(200);
    expect((await browser.post('/out/twice', other)).status).toBe(302);
    expect(await liveSessionsOf(application, other)).toHaveLength(1);
    expect((await elsewhere.get()).status).toBe(200);
  });

  it('leaves signed in who has signed in after it in the same request', async () => {
    const { browser } = await signedIn(store);
    const other = newUser({ users });
    expect((await browser.post('/out/other', other)).status).toBe(302);
    expect((await browser.get('/me')).body.user?.username).toBe(other.username);
  });

  if (platform === 'fastify')
    it('that answers with a stream which fails before it is sent answers the error, which would end the process', async () => {
      const { user, browser, application } = await signedIn(store);
      expect((await browser.post('/out/file')).status).toBe(500);
      expect(await browser.get('/me')).toMatchObject(ANONYMOUS);
      expect(await liveSessionsOf(application, user)).toEqual([]);
    });

  it.each(['redirect-and-body', 'redirect-and-error'])(
    'that answers twice is answered as without us (%s)',
    async (name) => {
      const { user, browser, application } = await signedIn(store);
      const head = ({ status, headers, body }: Answer): unknown => [
        status,
        body,
        ...['location', 'content-type', 'content-length', 'etag'].map((one) => headers.get(one)),
      ];
      const expected = head(await browser.post(`/out/${name}`));
      expect(head(await browser.post(`/out/marked/${name}`))).toEqual(expected);
      expect(await browser.get('/me')).toMatchObject(ANONYMOUS);
      expect(await liveSessionsOf(application, user)).toEqual([]);
    },
  );

  it.each(['kept', 'unmarked'])(
    'that keeps what is in the cookie session keeps it without our session (%s)',
    async (name) => {
      const { application, user, browser } = await signedIn(store);
      expect((await browser.post(`/out/${name}`)).status).toBe(302);
      expect((await browser.post('/out/cart')).body).toEqual({ cart: 'kept', user: null, session: null });
      expect(await liveSessionsOf(application, user)).toEqual([]);
    },
  );
});

/** In an application of its own, whose store may fail. */
async function signedInOnce(
  store: Store,
  act: (signedIn: Awaited<ReturnType<typeof signIn>>) => Promise<void>,
): Promise<void> {
  const application = await startApplication(databaseUrl, {
    users,
    controllers: [OutController],
    session: { store },
  });
  try {
    await act(await signIn(application));
  } finally {
    await application.close();
  }
}

it('a logout that Passport cannot complete in time is answered, and may be completed later', async () => {
  const store = new SilentStore();
  await signedInOnce(store, async ({ application, user, browser }) => {
    store.fallSilent();
    expect((await browser.post('/out/unheeded')).status).toBe(302);
    expect(await liveSessionsOf(application, user)).toEqual([]);
    const left = once(logouts, 'over');
    store.speak();
    await left;
    expect(await browser.get('/me')).toMatchObject(ANONYMOUS);
  });
});

it('a logout that was answered before it began destroys its cookie session all the same', async () => {
  const store = new TellingStore();
  await signedInOnce(store, async ({ application, user, browser }) => {
    const destroyed = once(logouts, 'destroyed');
    expect((await browser.post('/out/answered')).status).toBe(202);
    await destroyed;
    expect(await liveSessionsOf(application, user)).toEqual([]);
    expect(await browser.get('/me')).toMatchObject(ANONYMOUS);
  });
});

it.each(['set', 'destroy'] as const)(
  'a logout that Passport cannot complete leaves nobody signed in, and no session that nobody holds (%s)',
  async (name) => {
    const store = new FailingStore();
    await signedInOnce(store, async ({ application, user, browser }) => {
      store.fails = name;
      expect((await browser.post('/out/awaited')).status).toBe(500);
      store.fails = undefined;
      expect(await liveSessionsOf(application, user)).toEqual([]);
      expect((await browser.get('/me')).body.user ?? null).toBeNull();
      expect(await browser.get('/me')).toMatchObject(ANONYMOUS);
    });
  },
);
