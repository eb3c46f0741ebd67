import { afterAll, afterEach, beforeAll, describe, expect, it, jest } from '@jest/globals';
import {
  Logger,
  Module,
  RequestMethod,
  type MiddlewareConsumer,
  type NestModule,
  type Type,
} from '@nestjs/common';
import cookieSession from 'cookie-session';
import express, { type Express, type Request, type Response } from 'express';
import session from 'express-session';
import passport from 'passport';
import { expressComplaint } from '../../src/http/express.check.js';
import { SingleSessionModule } from '../../src/index.js';
import {
  startApplication,
  type TestApplication,
  type TestApplicationSettings,
} from '../support/application.js';
import { Browser } from '../support/client.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { rowsOf } from '../support/sessions.js';

type Next = (error?: unknown) => void;

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

async function start(settings: TestApplicationSettings): Promise<TestApplication> {
  return (application = await startApplication(databaseUrl, { session: null, ...settings }));
}

describe('on Express, an application whose users are kept in cookie sessions does not start, and is told what to write [lesson 32]', () => {
  it('when there is no session middleware', async () => {
    await expect(start({})).rejects.toThrow(
      /PassportSerializer is provided.*no session middleware.*app\.use\(session\(\{.*express-session/,
    );
  });

  it('when there are other middlewares, but none for sessions', async () => {
    const configure: TestApplicationSettings['configure'] = (app) => {
      app.enableCors();
      app.use(passport.initialize());
    };
    await expect(start({ configure })).rejects.toThrow(/no session middleware/);
  });

  it('when cookie-session keeps them in the cookie itself', async () => {
    const configure: TestApplicationSettings['configure'] = (app) =>
      app.use(cookieSession({ keys: ['k'] }), passport.session());
    await expect(start({ configure })).rejects.toThrow(
      /cookie-session keeps the whole session in the cookie.*regenerate.*app\.use\(session\(\{.*express-session/,
    );
  });
});

it('cookie-session that the start does not see, given the save() and regenerate() that Passport asks for, keeps nobody: the first login says what to use, and nothing is recorded [lesson 32]', async () => {
  const inCookie = cookieSession({ keys: ['k'] });
  const login = passport.session();
  const done = (callback: Next): void => callback();
  const authentication = (request: Request, response: Response, next: Next): void => {
    inCookie(request, response, () => {
      Object.defineProperties(request.session, { regenerate: { value: done }, save: { value: done } });
      login(request, response, next);
    });
  };
  const errors = jest.spyOn(Logger.prototype, 'error').mockReturnValue();
  const started = await start({ configure: (app) => app.use(authentication) });
  expect((await new Browser(started.url).login('alice')).status).toBe(500);
  expect(String(errors.mock.calls)).toMatch(
    /has no save\(\), or no id.*cookie-session.*use @fastify\/session or express-session/,
  );
  errors.mockRestore();
  expect(await rowsOf(started, { id: 1 })).toEqual([]);
});

it('cookie-session beside JWTs, where it holds no user, does not stop the start, and the limit holds', async () => {
  const configure: TestApplicationSettings['configure'] = (app) => app.use(cookieSession({ keys: ['k'] }));
  const { url } = await start({ serializer: false, configure });
  const [first, second] = [await tokenOf(url), await tokenOf(url)];
  const me = (authorization: string) => new Browser(url).get('/token/me', { authorization });
  expect((await me(first)).body.reason).toBe('superseded');
  expect((await me(second)).status).toBe(200);
});

async function tokenOf(url: string): Promise<string> {
  const { body } = await new Browser(url).login('alice', '/token');
  return `Bearer ${body.accessToken}`;
}

describe('on Express, an application with the session middleware starts, and its limit holds', () => {
  const sessions = session({ secret: 'test', resave: false, saveUninitialized: false });
  const login = passport.session();

  @Module({ imports: [SingleSessionModule.forRoot()] })
  class ThroughConsumer implements NestModule {
    configure(consumer: MiddlewareConsumer): void {
      consumer.apply(sessions, passport.initialize(), login).forRoutes('{*path}');
    }
  }

  @Module({ imports: [SingleSessionModule.forRoot()] })
  class ForAllMethods implements NestModule {
    configure(consumer: MiddlewareConsumer): void {
      consumer
        .apply(sessions, passport.initialize(), login)
        .forRoutes({ path: '{*path}', method: RequestMethod.ALL });
    }
  }

  const authentication = (request: never, response: never, next: Next): void => {
    sessions(request, response, (error?: unknown) => (error ? next(error) : login(request, response, next)));
  };

  const WAYS: [string, TestApplicationSettings][] = [
    ['through app.use', { configure: (app) => app.use(sessions, login) }],
    ['through MiddlewareConsumer', { module: ThroughConsumer as Type }],
    ['through MiddlewareConsumer for all methods', { module: ForAllMethods as Type }],
    [
      'wrapped in an arrow function',
      {
        configure: (app) => {
          app.use((request: never, response: never, next: Next) => sessions(request, response, next));
          app.use(login);
        },
      },
    ],
    ['wrapped in a function of any name', { configure: (app) => app.use(authentication) }],
  ];

  it('when it comes through MiddlewareConsumer and all paths have a prefix', async () => {
    const configure: TestApplicationSettings['configure'] = (app) => app.setGlobalPrefix('api');
    const { url } = await start({ module: ThroughConsumer as Type, configure });
    expect((await new Browser(`${url}/api`).login('alice')).status).toBe(200);
  });

  it.each(WAYS)('when it comes %s [lesson 32]', async (_, settings) => {
    const { url } = await start(settings);
    const [first, second] = [new Browser(url), new Browser(url)];
    expect((await first.login('alice')).status).toBe(200);
    expect((await second.login('alice')).status).toBe(200);
    expect((await first.get('/me')).body.reason).toBe('superseded');
    expect((await second.get('/me')).body.user.username).toBe('alice');
  });
});

describe('among what Express runs before the first route, the start', () => {
  const sessions = session({ secret: 'test', resave: false, saveUninitialized: false });
  const pass = (_: unknown, __: unknown, next: Next): void => next();
  /** Stands for a middleware of a package that is not installed here. */
  const named = (name: string) =>
    Object.defineProperty((...given: Parameters<typeof pass>) => pass(...given), 'name', { value: name });

  it.each([
    ['express.json()', express.json()],
    ['express.urlencoded()', express.urlencoded()],
    ['express.text()', express.text()],
    ['express.raw()', express.raw()],
    ['express.static()', express.static('.')],
    ['cors()', named('corsMiddleware')],
    ['helmet()', named('helmetMiddleware')],
    ['cookieParser()', named('cookieParser')],
    ['compression()', named('compression')],
    ['passport.initialize()', passport.initialize()],
    ['passport.session()', passport.session()],
  ])('takes %s for none of a session', (_, middleware) => {
    expect(expressComplaint(express().use(middleware))).toMatch(/no session middleware/);
  });

  it.each<[string, (app: Express) => unknown]>([
    ['where there is no route', (app) => app.use(sessions)],
    ['where it is for all methods of a path', (app) => app.all('/{*path}', sessions)],
    ['where it is for whatever a route is asked', (app) => app.route('/{*path}').all(sessions)],
  ])('finds that of the session %s', (_, add) => {
    const app = express();
    add(app);
    expect(expressComplaint(app)).toBeUndefined();
  });
});

it('on an adapter that is neither of Express nor of Fastify, the application does not start, and is told which to take [lesson 32]', async () => {
  const configure: TestApplicationSettings['configure'] = (app) =>
    Object.assign(app.getHttpAdapter(), { getType: () => 'uWebSockets' });
  await expect(start({ serializer: false, configure })).rejects.toThrow(
    /works on Express and on Fastify, not on uWebSockets\. Write NestFactory\.create\(AppModule\)/,
  );
});
