import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import {
  type CanActivate,
  Controller,
  type ExecutionContext,
  Get,
  Inject,
  Injectable,
  type MessageEvent,
  Module,
  Post,
  HttpCode,
  Req,
  Sse,
  UseGuards,
} from '@nestjs/common';
import { AuthGuard } from '@nestjs/passport';
import { of, type Observable } from 'rxjs';
import { DataSource } from 'typeorm';
import { getDataSourceToken, TypeOrmModule } from '@nestjs/typeorm';
import {
  CurrentSession,
  SingleSessionGuard,
  SingleSessionLogin,
  SingleSessionLogout,
  SingleSessionModule,
  SingleSessionService,
  UserSession,
} from '../../src/index.js';
import { singleSessionMigrations } from '../../migrations/index.js';
import {
  LocalGuard,
  LocalLoginGuard,
  startApplication,
  Users,
  type TestApplication,
  type TestApplicationSettings,
  type TestUser,
} from '../support/application.js';
import { Browser, TokenClient } from '../support/client.js';
import { EventStream } from '../support/event-stream.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { liveSessionsOf, newUser } from '../support/sessions.js';

type Current = { id: string };

/** As one that asks for a second factor does. */
class Refusing implements CanActivate {
  canActivate(): boolean {
    return false;
  }
}

@Controller('guarded')
class GuardedController {
  @UseGuards(LocalLoginGuard, Refusing)
  @SingleSessionLogin()
  @Post('login')
  login(): object {
    return {};
  }

  @UseGuards(LocalLoginGuard)
  @Sse('stream')
  stream(): Observable<MessageEvent> {
    return of({ data: 'an event' });
  }

  @UseGuards(SingleSessionGuard)
  @Get('cookie')
  cookie(@Req() request: { user?: TestUser }): object {
    return { user: request.user ?? null };
  }

  @UseGuards(AuthGuard('jwt'), SingleSessionGuard)
  @Get('after')
  after(@Req() request: { user: TestUser }, @CurrentSession() session: Current): object {
    return { user: request.user, session };
  }

  @UseGuards(SingleSessionGuard, AuthGuard('jwt'))
  @Get('before')
  before(@Req() request: { user: TestUser }): object {
    return { user: request.user };
  }
}

const users = new Users();
const started: TestApplication[] = [];
let databaseUrl: string;

beforeAll(async () => {
  databaseUrl = await freshDatabase();
});

afterAll(async () => {
  for (const application of started) await application.close();
  await dropDatabase(databaseUrl);
});

async function start(settings: TestApplicationSettings): Promise<TestApplication> {
  const application = await startApplication(databaseUrl, { users, ...settings });
  started.push(application);
  return application;
}

async function expectLimitOfOne(application: TestApplication): Promise<void> {
  const { username } = newUser({ users });
  const [first, second] = [new Browser(application.url), new Browser(application.url)];
  await first.login(username);
  await second.login(username);
  expect((await first.get('/me')).body).toMatchObject({ code: 'SESSION_ENDED', reason: 'superseded' });
  expect((await second.get('/me')).body.user.username).toBe(username);
}

describe('SingleSessionModule', () => {
  it('.forRoot() without options is a working limit of one session', async () => {
    await expectLimitOfOne(await start({ module: SingleSessionModule.forRoot() }));
  });

  it('.forRootAsync() takes its options from a factory with injected providers', async () => {
    @Module({ providers: [{ provide: 'LIMIT', useValue: 2 }], exports: ['LIMIT'] })
    class Settings {}
    const module = SingleSessionModule.forRootAsync({
      imports: [Settings],
      inject: ['LIMIT'],
      useFactory: async (maxSessions: number) => Promise.resolve({ maxSessions }),
    });
    const application = await start({ module });
    const user = newUser({ users });
    for (let n = 0; n < 3; n++) await new Browser(application.url).login(user.username);
    expect(await liveSessionsOf(application, user)).toHaveLength(2);
  });

  it('.forRootAsync() with an empty result is a limit of one, enforced globally', async () => {
    await expectLimitOfOne(
      await start({ module: SingleSessionModule.forRootAsync({ useFactory: () => ({}) }) }),
    );
  });

  it('with isGlobal: false works where it is imported, and the guard is global all the same', async () => {
    @Injectable()
    class Reader {
      constructor(@Inject(SingleSessionService) readonly service: SingleSessionService) {}
    }
    const settings = { module: SingleSessionModule.forRoot({ isGlobal: false }), providers: [Reader] };
    const application = await start(settings);
    await expectLimitOfOne(application);
    expect(application.app.get(Reader).service).toBe(application.app.get(SingleSessionService));
  });

  it('is seen by modules that do not import it', async () => {
    @Injectable()
    class Reader {
      constructor(@Inject(SingleSessionService) readonly service: SingleSessionService) {}
    }
    @Module({ providers: [Reader] })
    class Feature {}
    @Module({ imports: [SingleSessionModule.forRoot(), Feature] })
    class Around {}
    const application = await start({ module: Around });
    expect(application.app.get(Reader, { strict: false }).service).toBeInstanceOf(SingleSessionService);
  });

  it('with dataSource keeps its sessions in the data source of that name', async () => {
    const otherUrl = await freshDatabase();
    @Module({
      imports: [
        TypeOrmModule.forRoot({
          name: 'sessions',
          type: 'postgres',
          url: otherUrl,
          autoLoadEntities: true,
          migrations: singleSessionMigrations,
          migrationsRun: true,
          retryAttempts: 0,
        }),
        SingleSessionModule.forRoot({ dataSource: 'sessions' }),
      ],
    })
    class OnItsOwn {}
    const application = await startApplication(databaseUrl, { users, module: OnItsOwn });
    try {
      await expectLimitOfOne(application);
      const named = application.app.get<DataSource>(getDataSourceToken('sessions'), { strict: false });
      expect(await named.manager.count(UserSession)).toBe(2);
    } finally {
      await application.close();
      await dropDatabase(otherUrl);
    }
  });
});

describe('with enforceGlobally: false', () => {
  let application: TestApplication;

  beforeAll(async () => {
    application = await start({ options: { enforceGlobally: false }, controllers: [GuardedController] });
  });

  it('a stream without our guard is left alone, also where its request has just signed in', async () => {
    const { username } = newUser({ users });
    const form = new URLSearchParams({ username, password: username }).toString();
    const stream = await EventStream.open(`${application.url}/guarded/stream?${form}`);
    await stream.ended;
    expect(stream.events).toEqual([{ type: 'message', data: 'an event' }]);
  });

  it('the evicted pass where no guard stands, and are refused where one does', async () => {
    const { username } = newUser({ users });
    const loser = new Browser(application.url);
    await loser.login(username);
    await new Browser(application.url).login(username);
    expect((await loser.get('/me')).body.user.username).toBe(username);
    expect((await loser.get('/guarded/cookie')).body.reason).toBe('superseded');
  });

  it.each(['after', 'before'])(
    'an evicted JWT is refused where the guard stands %s the one that authenticates [lesson 18, lesson 32]',
    async (order) => {
      const { username } = newUser({ users });
      const [loser, winner] = [new TokenClient(application.url), new TokenClient(application.url)];
      await loser.login(username);
      await winner.login(username);
      expect((await winner.get(`/guarded/${order}`)).body.user.username).toBe(username);
      expect((await loser.get(`/guarded/${order}`)).status).toBe(401);
    },
  );

  it('a login in the same browser replaces its own session and no other [lesson 3]', async () => {
    const two = await start({
      options: { enforceGlobally: false, maxSessions: 2 },
      controllers: [GuardedController],
    });
    const user = newUser({ users });
    const [browser, other] = [new Browser(two.url), new Browser(two.url)];
    await other.login(user.username);
    for (let n = 0; n < 3; n++) await browser.login(user.username);
    for (const each of [browser, other])
      expect((await each.get('/guarded/cookie')).body.user.username).toBe(user.username);
    expect(await liveSessionsOf(two, user)).toHaveLength(2);
  });

  it('a login that a guard refuses after Passport has established it signs in nobody, and displaces nobody', async () => {
    const user = newUser({ users });
    const [other, browser] = [new Browser(application.url), new Browser(application.url)];
    await other.login(user.username);
    expect((await browser.login(user.username, '/guarded/login')).status).toBe(403);
    expect((await browser.get('/guarded/cookie')).body).toEqual({ user: null });
    expect((await other.get('/guarded/cookie')).body.user.username).toBe(user.username);
    expect(await liveSessionsOf(application, user)).toHaveLength(1);
  });

  it('a logout ends the session', async () => {
    const user = newUser({ users });
    const browser = new Browser(application.url);
    await browser.login(user.username);
    expect((await browser.post('/logout')).status).toBe(204);
    expect(await liveSessionsOf(application, user)).toEqual([]);
  });
});

describe('two applications on one database', () => {
  it('are one cluster: a login at one evicts at the other, at once, and a logout too', async () => {
    const [one, two] = [await start({}), await start({})];
    const { username } = newUser({ users });
    const [first, second] = [new TokenClient(one.url), new TokenClient(two.url)];
    await first.login(username);
    expect((await new TokenClient(two.url, first.token).get()).status).toBe(200);
    await second.login(username);
    expect((await first.get()).body.reason).toBe('superseded');
    expect((await new TokenClient(one.url, second.token).get()).status).toBe(200);
    await new TokenClient(one.url, second.token).post('/token/logout');
    expect((await second.get()).body.reason).toBe('logout');
  });
});

describe('an application with JWTs only', () => {
  it('without session middleware, without a serializer and with a bare @SingleSessionLogin() works', async () => {
    @Controller('bare')
    class BareController {
      @UseGuards(LocalGuard)
      @SingleSessionLogin()
      @Post('login')
      @HttpCode(200)
      login(@CurrentSession() { id }: Current): object {
        return { sid: id };
      }

      @UseGuards(AuthGuard('jwt'))
      @SingleSessionLogout()
      @Post('logout')
      @HttpCode(204)
      logout(): void {}
    }
    const application = await start({ session: null, serializer: false, controllers: [BareController] });
    const user = newUser({ users });
    const login = async (): Promise<TokenClient> => {
      const answer = await new Browser(application.url).login(user.username, '/bare/login');
      expect(answer.status).toBe(200);
      expect(answer.headers.getSetCookie()).toEqual([]);
      return new TokenClient(application.url, application.sign(user, { sid: answer.body.sid }));
    };
    const [first, second] = [await login(), await login()];
    expect((await first.get()).body.reason).toBe('superseded');
    expect((await second.get()).status).toBe(200);
    expect((await second.post('/bare/logout')).status).toBe(204);
    expect((await second.get()).body.reason).toBe('logout');
  });
});

describe("where an application's test overrides the guard", () => {
  const nothing = () => undefined;
  const SILENT = { log: nothing, warn: nothing, error: nothing };
  const STAND_IN = { canActivate: () => true };
  const INVENTED = { id: 7, username: 'invented', roles: [] };
  const MOCKED = {
    canActivate: (context: ExecutionContext) => {
      context.switchToHttp().getRequest<{ user?: TestUser }>().user = INVENTED;
      return true;
    },
  };
  const Mocked = AuthGuard('mocked');

  @Controller('mocked')
  class MockedController {
    @UseGuards(Mocked)
    @Get()
    me(@Req() request: { user: TestUser }, @CurrentSession() session?: Current): object {
      return { user: request.user.username, session: session ?? null };
    }
  }

  const startMocked = (build: NonNullable<TestApplicationSettings['build']>) =>
    start({
      controllers: [MockedController],
      build: (builder) => build(builder.setLogger(SILENT).overrideGuard(Mocked).useValue(MOCKED)),
    });

  it('a user whom the test has invented passes without a session, and logins are admitted', async () => {
    const application = await startMocked((builder) =>
      builder.overrideProvider(SingleSessionGuard).useValue(STAND_IN),
    );
    const answer = await new Browser(application.url).get('/mocked');
    expect([answer.status, answer.body]).toEqual([200, { user: 'invented', session: null }]);
    const user = newUser({ users });
    expect((await new Browser(application.url).login(user.username)).status).toBe(200);
    expect(await liveSessionsOf(application, user)).toHaveLength(1);
  });

  it('and does not where it is not overridden', async () => {
    const application = await startMocked((builder) => builder);
    const answer = await new Browser(application.url).get('/mocked');
    expect([answer.status, answer.body.code]).toEqual([401, 'SESSION_UNKNOWN']);
  });
});
