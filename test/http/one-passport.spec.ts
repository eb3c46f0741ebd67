import type { AddressInfo } from 'node:net';
import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import {
  Controller,
  Get,
  HttpCode,
  Injectable,
  Module,
  Post,
  Req,
  type BeforeApplicationShutdown,
  type INestApplication,
  type INestApplicationContext,
} from '@nestjs/common';
import { HttpAdapterHost, NestFactory } from '@nestjs/core';
import { PassportModule, PassportSerializer } from '@nestjs/passport';
import { Test } from '@nestjs/testing';
import { TypeOrmModule } from '@nestjs/typeorm';
import { MemoryStore } from 'express-session';
import passport from 'passport';
import { singleSessionMigrations } from '../../migrations/index.js';
import { SingleSessionModule } from '../../src/index.js';
import { startApplication, Users, type TestApplication, type TestUser } from '../support/application.js';
import { Browser } from '../support/client.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { createApplication, useCookieSessions } from '../support/platform.js';
import { liveSessionsOf, newUser, rowsOf } from '../support/sessions.js';
import { logIn, logOut, type Form, type UserRequest } from '../support/ways-in.js';

// Passport is one object per process, and what these tests share.

const users = new Users();
const closing: (() => Promise<unknown>)[] = [];
let databaseUrl: string;

beforeAll(async () => {
  databaseUrl = await freshDatabase();
});

afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

afterAll(() => dropDatabase(databaseUrl));

@Controller()
class HandlerController {
  @Post('by-handler')
  @HttpCode(200)
  async login(@Req() request: UserRequest) {
    await logIn(request, users.checked(request.body as Form));
    return { stamp: request.session.singleSession ?? null };
  }

  @Post('out-by-handler')
  @HttpCode(204)
  logout(@Req() request: UserRequest): Promise<void> {
    return logOut(request);
  }

  @Get('who')
  who(@Req() request: UserRequest) {
    return { user: request.user ?? null };
  }
}

async function started(settings: Parameters<typeof startApplication>[1] = {}): Promise<TestApplication> {
  const application = await startApplication(databaseUrl, {
    users,
    controllers: [HandlerController],
    ...settings,
  });
  closing.push(() => application.close());
  return application;
}

/** An application that has never heard of us. */
async function startStranger(): Promise<{ app: INestApplication; url: string }> {
  const module = await Test.createTestingModule({
    imports: [PassportModule.register({ session: true })],
    controllers: [HandlerController],
  }).compile();
  const app = await createApplication(module, { logger: false });
  await useCookieSessions(app, { store: new MemoryStore() });
  await app.listen(0, '127.0.0.1');
  closing.push(() => app.close());
  return { app, url: `http://127.0.0.1:${(app.getHttpServer().address() as AddressInfo).port}` };
}

async function expectLoginWithoutUs(url: string, user: TestUser): Promise<void> {
  const browsers = [new Browser(url), new Browser(url)];
  for (const browser of browsers) {
    const { status, body } = await browser.login(user.username, '/by-handler');
    expect([status, body]).toEqual([200, { stamp: null }]);
  }
  for (const browser of browsers) expect((await browser.get('/who')).body.user?.username).toBe(user.username);
}

async function expectLogoutWithoutUs(url: string, user: TestUser): Promise<void> {
  const browser = new Browser(url);
  await browser.login(user.username, '/by-handler');
  expect((await browser.post('/out-by-handler')).status).toBe(204);
  expect((await browser.get('/who')).body.user).toBeNull();
}

describe('another application in the same process', () => {
  it('without this module signs people in as before, as often as they like', async () => {
    const application = await started();
    const user = newUser({ users });
    await expectLoginWithoutUs((await startStranger()).url, user);
    expect(await rowsOf(application, user)).toEqual([]);
  });

  it('with this module and a database of its own gets its own logins, and only these', async () => {
    const otherUrl = await freshDatabase();
    closing.push(() => dropDatabase(otherUrl));
    const application = await started();
    const other = await startApplication(otherUrl, { users, controllers: [HandlerController] });
    closing.push(() => other.close());
    const user = newUser({ users });
    const [here, there] = [new Browser(application.url), new Browser(other.url)];
    for (const browser of [here, there]) await browser.login(user.username, '/by-handler');
    for (const browser of [here, there])
      expect((await browser.get('/me')).body.user?.username).toBe(user.username);
    expect(await rowsOf(application, user)).toHaveLength(1);
    expect(await rowsOf(other, user)).toHaveLength(1);
  });

  it('signs people in beside a standalone context with this module, which serves no requests', async () => {
    @Injectable()
    class Serializer extends PassportSerializer {
      serializeUser(user: TestUser, done: (error: null, key: string) => void): void {
        done(null, user.username);
      }
      deserializeUser(username: string, done: (error: null, user: TestUser | false) => void): void {
        done(null, users.get(username) ?? false);
      }
    }
    @Module({
      imports: [
        TypeOrmModule.forRoot({
          type: 'postgres',
          url: databaseUrl,
          autoLoadEntities: true,
          migrations: singleSessionMigrations,
          migrationsRun: true,
          retryAttempts: 0,
        }),
        SingleSessionModule.forRoot(),
      ],
      providers: [Serializer],
    })
    class JobsModule {}
    const context: INestApplicationContext = await NestFactory.createApplicationContext(JobsModule, {
      logger: false,
    });
    closing.push(() => context.close());
    await expectLoginWithoutUs((await startStranger()).url, newUser({ users }));
  });
});

describe('when the application closes', () => {
  const prototype = Object.getPrototypeOf((passport as unknown as { _sm: object })._sm) as {
    logIn: unknown;
    logOut: unknown;
  };

  it('Passport is as it was, once the last application has closed', async () => {
    const before = Object.getOwnPropertyDescriptors(prototype);
    const stranger = await startStranger();
    const [first, second] = [
      await startApplication(databaseUrl, { users }),
      await startApplication(databaseUrl, { users }),
    ];
    expect(prototype.logIn).not.toBe(before.logIn.value);
    await first.close();
    const user = newUser({ users });
    expect((await new Browser(second.url).login(user.username)).status).toBe(200);
    await second.close();
    expect(Object.getOwnPropertyDescriptors(prototype)).toEqual(before);
    expect(Reflect.ownKeys(prototype)).toEqual(Reflect.ownKeys(before));
    await expectLoginWithoutUs(stranger.url, user);
  });

  it('another that goes on is still told of each login', async () => {
    const [first, second] = [await started(), await started()];
    await first.close();
    const user = newUser({ users });
    const { body } = await new Browser(second.url).login(user.username, '/by-handler');
    expect(await liveSessionsOf(second, user)).toEqual([body.stamp]);
  });

  it.each(['logIn', 'logOut'] as const)(
    'what somebody else has put around %s() of Passport since stays there, and is called',
    async (name) => {
      const before = Object.getOwnPropertyDescriptors(prototype);
      const stranger = await startStranger();
      const application = await startApplication(databaseUrl, { users });
      const ours = prototype[name] as (...parts: unknown[]) => unknown;
      let calls = 0;
      const theirs = function (this: unknown, ...parts: unknown[]): unknown {
        calls++;
        return ours.apply(this, parts);
      };
      prototype[name] = theirs;
      try {
        await application.close();
        expect(prototype[name]).toBe(theirs);
        const user = newUser({ users });
        await expectLoginWithoutUs(stranger.url, user);
        await expectLogoutWithoutUs(stranger.url, user);
        expect(calls).toBeGreaterThan(0);
      } finally {
        for (const key of Reflect.ownKeys(prototype)) Reflect.deleteProperty(prototype, key);
        Object.defineProperties(prototype, before);
      }
    },
  );

  it('a login that arrives before it has stopped listening is admitted', async () => {
    const user = newUser({ users });
    let stamp: unknown;
    @Injectable()
    class LastRequest implements BeforeApplicationShutdown {
      constructor(private readonly host: HttpAdapterHost) {}
      async beforeApplicationShutdown(): Promise<void> {
        const { port } = this.host.httpAdapter.getHttpServer().address() as AddressInfo;
        const browser = new Browser(`http://127.0.0.1:${port}`);
        ({ stamp } = (await browser.login(user.username, '/by-handler')).body as { stamp: unknown });
      }
    }
    const application = await startApplication(databaseUrl, {
      users,
      controllers: [HandlerController],
      providers: [LastRequest],
    });
    await application.close();
    expect(await liveSessionsOf(await started(), user)).toEqual([stamp]);
  });
});
