import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import fastifyCookie from '@fastify/cookie';
import { fastifySecureSession } from '@fastify/secure-session';
import { fastifySession } from '@fastify/session';
import type { INestApplication } from '@nestjs/common';
import type { NestFastifyApplication } from '@nestjs/platform-fastify';
import session from 'express-session';
import type { FastifyInstance } from 'fastify';
import passport from 'passport';
import {
  startApplication,
  type TestApplication,
  type TestApplicationSettings,
} from '../support/application.js';
import { Browser, TokenClient } from '../support/client.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { runBefore } from '../support/platform.js';

const SECRET = 'a secret of thirty-two characters or more';
const SESSION = { secret: SECRET, cookie: { secure: false }, saveUninitialized: false };
const REMEDY =
  /await app\.register\(fastifyCookie\) from '@fastify\/cookie'.*await app\.register\(fastifySession.*'@fastify\/session'.*two preHandler hooks.*before app\.init\(\) or app\.listen\(\)/;

let databaseUrl: string;
let application: TestApplication | undefined;

beforeAll(async () => {
  databaseUrl = await freshDatabase();
});

afterEach(async () => {
  await application?.close();
  application = undefined;
});

afterAll(() => dropDatabase(databaseUrl));

async function start(
  register: (app: NestFastifyApplication) => unknown,
  settings: TestApplicationSettings = {},
): Promise<TestApplication> {
  const configure = (app: INestApplication): unknown => register(app as NestFastifyApplication);
  return (application = await startApplication(databaseUrl, { session: null, ...settings, configure }));
}

function runPassport(app: INestApplication): void {
  runBefore(app, passport.initialize());
  runBefore(app, passport.session());
}

describe('on Fastify, an application whose users are kept in cookie sessions does not start, and is told what to write [lesson 32]', () => {
  it('when there is no session plugin', async () => {
    const started = start(runPassport);
    await expect(started).rejects.toThrow(/PassportSerializer is provided.*no session plugin/);
    await expect(started).rejects.toThrow(REMEDY);
  });

  it('when there is only @fastify/cookie', async () => {
    await expect(start((app) => app.register(fastifyCookie))).rejects.toThrow(/no session plugin/);
  });

  it('when express-session is there as a middleware, which sees no request of Fastify', async () => {
    const middleware = session({ secret: SECRET, resave: false, saveUninitialized: false });
    await expect(start((app) => void app.use(middleware))).rejects.toThrow(
      /a middleware of app\.use\(\) never sees the requests of Fastify/,
    );
  });

  it('when the plugin is registered in a context of its own, which the routes of Nest are not in', async () => {
    const elsewhere = start((app) =>
      app.register(async (instance: FastifyInstance) => {
        await instance.register(fastifyCookie);
        await instance.register(fastifySession, SESSION);
      }),
    );
    await expect(elsewhere).rejects.toThrow(/no session plugin/);
  });

  it('when @fastify/secure-session keeps them in the cookie itself', async () => {
    const started = start((app) => app.register(fastifySecureSession, { key: Buffer.alloc(32) }));
    await expect(started).rejects.toThrow(/@fastify\/secure-session keeps the whole session in the cookie/);
    await expect(started).rejects.toThrow(REMEDY);
  });
});

describe('on Fastify, an application that is fit to hold the limit starts', () => {
  async function limitHolds({ url }: TestApplication): Promise<void> {
    const [first, second] = [new Browser(url), new Browser(url)];
    expect((await first.login('alice')).status).toBe(200);
    expect((await second.login('alice')).status).toBe(200);
    expect((await first.get('/me')).body.reason).toBe('superseded');
    expect((await second.get('/me')).body.user.username).toBe('alice');
  }

  it('also when nobody has awaited the registration of @fastify/session', async () => {
    const started = await start(async (app) => {
      // As NestFactory.create() does: what comes after it is loaded when somebody waits for it.
      await app.getHttpAdapter().init?.();
      void app.register(fastifyCookie);
      void app.register(fastifySession, SESSION);
      runPassport(app);
    });
    await limitHolds(started);
  });

  it('with @fastify/session as it is by default, which saves every visitor and renews every cookie', async () => {
    const started = await start(async (app) => {
      await app.register(fastifyCookie);
      await app.register(fastifySession, { secret: SECRET, cookie: { secure: false } });
      runPassport(app);
    });
    await limitHolds(started);
    const browser = new Browser(started.url);
    await browser.get('/me');
    const before = browser.copy();
    await browser.login('bob');
    expect(browser.cookie).not.toBe(before.cookie);
    expect((await before.get('/me')).body.user).toBeNull();
    const after = browser.copy();
    expect((await browser.post('/logout')).status).toBe(204);
    expect((await after.get('/me')).body).toEqual({ user: null, session: null });
  });

  it('with @fastify/secure-session beside @fastify/session, under another name', async () => {
    const started = await start(async (app) => {
      await app.register(fastifyCookie);
      await app.register(fastifySession, SESSION);
      await app.register(fastifySecureSession, { key: Buffer.alloc(32), sessionName: 'flash' });
      runPassport(app);
    });
    await limitHolds(started);
  });

  it('with a session plugin of another name, which may keep what it decorates the request with', async () => {
    await start((app) =>
      app
        .getHttpAdapter()
        .getInstance()
        .decorateRequest('session', null as never),
    );
  });

  it('with JWTs only, whatever cookies it has beside them', async () => {
    const { url } = await start((app) => app.register(fastifySecureSession, { key: Buffer.alloc(32) }), {
      serializer: false,
    });
    const [first, second] = [new TokenClient(url), new TokenClient(url)];
    await first.login('alice');
    await second.login('alice');
    expect((await first.get()).body.reason).toBe('superseded');
    expect((await second.get()).status).toBe(200);
  });
});

describe('on Fastify, what the start cannot see is told by the first login, which then establishes nothing', () => {
  it('a route outside of the path of the cookie', async () => {
    const { url } = await start(async (app) => {
      await app.register(fastifyCookie);
      await app.register(fastifySession, { ...SESSION, cookie: { secure: false, path: '/elsewhere' } });
      runPassport(app);
    });
    const answer = await new Browser(url).login('alice');
    expect(answer.status).toBe(500);
    expect(answer.headers.getSetCookie()).toEqual([]);
  });
});
