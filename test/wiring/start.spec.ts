import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { Inject, Injectable, Module, Scope, type ModuleMetadata, type OnModuleInit } from '@nestjs/common';
import { LazyModuleLoader, REQUEST } from '@nestjs/core';
import { Query, Resolver } from '@nestjs/graphql';
import { AuthModuleOptions, PassportModule } from '@nestjs/passport';
import { Test } from '@nestjs/testing';
import { TypeOrmModule } from '@nestjs/typeorm';
import { DataSource } from 'typeorm';
import { singleSessionMigrations } from '../../migrations/index.js';
import { SingleSessionModule, SingleSessionService, singleSessionEntities } from '../../src/index.js';
import {
  startApplication,
  type TestApplication,
  type TestApplicationSettings,
} from '../support/application.js';
import { Browser, TokenClient } from '../support/client.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';

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

async function start(settings: TestApplicationSettings = {}, url = databaseUrl): Promise<TestApplication> {
  return (application = await startApplication(url, settings));
}

/** What fails this early leaves no application to close: the data source is opened and closed here. */
async function compile(...imports: NonNullable<ModuleMetadata['imports']>): Promise<void> {
  const options = { type: 'postgres', url: databaseUrl, entities: singleSessionEntities } as const;
  const dataSource = await new DataSource(options).initialize();
  const dataSourceFactory = (): Promise<DataSource> => Promise.resolve(dataSource);
  const database = TypeOrmModule.forRootAsync({ useFactory: () => options, dataSourceFactory });
  try {
    await Test.createTestingModule({ imports: [database, ...imports] }).compile();
  } finally {
    await dataSource.destroy();
  }
}

type AsyncOptions = Parameters<typeof SingleSessionModule.forRootAsync>[0];

@Injectable({ scope: Scope.REQUEST })
class OfRequest {
  create(): object {
    return {};
  }
}

@Injectable({ scope: Scope.REQUEST, durable: true })
class OfTenant {}

@Injectable({ scope: Scope.TRANSIENT })
class OfWhoNeedsIt {
  readonly maxSessions = 2;
}

class EstateOptions {
  readonly property = 'a house';
}

@Resolver()
class LateResolver {
  @Query(() => String)
  late(): string {
    return 'a secret';
  }
}

@Module({ providers: [{ provide: LateResolver, useFactory: () => new LateResolver() }] })
class LateModule {}

@Module({})
class LoadingLate implements OnModuleInit {
  constructor(@Inject(LazyModuleLoader) private readonly loader: LazyModuleLoader) {}
  async onModuleInit(): Promise<void> {
    await this.loader.load(() => LateModule);
  }
}

describe('an application that cannot hold the limit does not start, and is told what to write [lesson 32]', () => {
  it('when the entities are unknown to the data source', async () => {
    const started = start({ typeorm: { autoLoadEntities: false } });
    await expect(started).rejects.toThrow(
      /entity UserSession .*`autoLoadEntities: true`.*singleSessionEntities/,
    );
  });

  it.each<[string, string | undefined]>([
    ['has no name', undefined],
    ['has the name that the options say', 'sessions'],
  ])('when no data source %s', async (_, dataSource) => {
    const imports = [SingleSessionModule.forRoot({ dataSource })];
    await expect(Test.createTestingModule({ imports }).compile()).rejects.toThrow(
      dataSource === undefined
        ? /no TypeORM data source without a name.*TypeOrmModule\.forRoot\(.*dataSource: '<its name>'/
        : /no TypeORM data source "sessions".*TypeOrmModule\.forRoot\(\{ name: 'sessions'/,
    );
  });

  it('when the module is imported without forRoot(), as by a feature that wants its service', async () => {
    const imports = [SingleSessionModule];
    await expect(Test.createTestingModule({ imports }).compile()).rejects.toThrow(
      /SingleSessionModule stands in the imports .*Write SingleSessionModule\.forRoot\(.*global/,
    );
  });

  it('when only one of the entities is known to the data source', async () => {
    const started = start({ typeorm: { autoLoadEntities: false, entities: [singleSessionEntities[0]!] } });
    await expect(started).rejects.toThrow(/entity UserSessionSlots .*singleSessionEntities/);
  });

  it('when the migrations were not run', async () => {
    const empty = await freshDatabase();
    try {
      const started = start({ typeorm: { migrationsRun: false } }, empty);
      await expect(started).rejects.toThrow(
        /user_session.* missing or out of date.*singleSessionMigrations.*migrationsRun: true/s,
      );
    } finally {
      await dropDatabase(empty);
    }
  });

  it('when a column is missing, as of an older version', async () => {
    const old = await freshDatabase();
    try {
      await (
        await start({}, old)
      ).app
        .get(DataSource)
        .query('ALTER TABLE user_session DROP COLUMN replaced_by');
      await application!.close();
      application = undefined;
      await expect(start({}, old)).rejects.toThrow(/user_session.* missing or out of date.*replaced_by/s);
    } finally {
      await dropDatabase(old);
    }
  });

  it('when the data source is not PostgreSQL', async () => {
    const build: TestApplicationSettings['build'] = (builder) =>
      builder.overrideProvider(DataSource).useFactory({
        factory: async () => {
          const dataSource = new DataSource({
            type: 'postgres',
            url: databaseUrl,
            entities: singleSessionEntities,
          });
          await dataSource.initialize();
          return Object.assign(dataSource, { options: { ...dataSource.options, type: 'mysql' } });
        },
      });
    await expect(start({ build })).rejects.toThrow(/PostgreSQL.*"mysql".*dataSource: 'sessions'/);
  });

  it.each<[string, () => object | Promise<object>, RegExp]>([
    [
      'a string where a list is meant',
      () => ({ exempt: { usernames: 'root' } }),
      /exempt\.usernames must be an array of strings/,
    ],
    ['an unknown key', () => ({ maxSession: 1 }), /unknown option "maxSession".*maxSessions/],
    ['what shapes the module', () => ({ isGlobal: false }), /beside useFactory in forRootAsync/],
    ['nothing', () => undefined as never, /options must be an object.*it was undefined/],
    ['a limit of 0', () => Promise.resolve({ maxSessions: 0 }), /maxSessions must be a whole number from 1/],
  ])('when the factory of forRootAsync() gives %s [P8]', async (_, useFactory, message) => {
    await expect(compile(SingleSessionModule.forRootAsync({ useFactory }))).rejects.toThrow(message);
  });

  it('when isGlobal is false and a module that wants the service does not import it', async () => {
    @Injectable()
    class Reader {
      constructor(@Inject(SingleSessionService) readonly service: SingleSessionService) {}
    }
    @Module({ providers: [Reader] })
    class Feature {}
    const started = compile(SingleSessionModule.forRoot({ isGlobal: false }), Feature);
    await expect(started).rejects.toThrow(/dependencies of the Reader.*SingleSessionService/s);
  });

  it('when an option is wrong, at once and before anything is asked [P8]', () => {
    expect(() => SingleSessionModule.forRoot({ maxSessions: 0 })).toThrow(
      /maxSessions must be a whole number from 1/,
    );
    expect(() => SingleSessionModule.forRoot({ refresh: {} } as never)).toThrow(
      /unknown option "refresh"\. Known: .*freshness.*admin, selfService/,
    );
    // As it comes from the environment.
    expect(() => SingleSessionModule.forRoot({ maxSessions: '2' as never })).toThrow(/it was "2"/);
  });

  it.each([
    ['an array', [1], /it was an array\.$/],
    ['a bigint', 1n, /it was 1n\.$/],
    ['an object', {}, /it was an object\.$/],
    // As querystring.parse() and JSON readers that take care make it: it has no toString().
    [
      'an object without a prototype',
      Object.create(null),
      /a whole number from 1 to 1000, .*; it was an object\.$/,
    ],
  ])(
    'when maxSessions is %s, with a message that says what to write and what it was [P8]',
    (_, maxSessions, message) => {
      expect(() => SingleSessionModule.forRoot({ maxSessions: maxSessions as never })).toThrow(message);
    },
  );

  it.each([
    5,
    true,
    null,
    [],
    'strong',
    new Map([['maxSessions', 3]]),
    () => ({ maxSessions: 3 }),
    Promise.resolve({ maxSessions: 3 }),
  ])('when the options are no object of options, but %p [P8]', (options) => {
    expect(() => SingleSessionModule.forRoot(options as never)).toThrow(
      /options must be an object: forRoot\(\{ maxSessions: 1 \}\); it was/,
    );
  });

  describe.each([
    ['as it is', 'AuthModuleOptions'],
    ['minified', 'a'],
  ])('when Passport, %s, puts the user elsewhere', (_, name) => {
    const { name: given } = AuthModuleOptions;
    const setName = (value: string): void =>
      void Object.defineProperty(AuthModuleOptions, 'name', { value, configurable: true });
    beforeEach(() => setName(name));
    afterEach(() => setName(given));

    it.each([
      ['register()', () => PassportModule.register({ property: 'account' })],
      [
        'registerAsync()',
        () => PassportModule.registerAsync({ useFactory: () => ({ property: 'account' }) }),
      ],
    ])('by %s', async (__, passport) => {
      await expect(start({ imports: [passport()] })).rejects.toThrow(
        /register\(\{ property: 'account' \}\) .*must be in request\.user/,
      );
    });

    it('but not when it puts the user where it is looked for', async () => {
      await start({ imports: [PassportModule.register({ property: 'user' })] });
    });
  });

  it('when it is registered twice', async () => {
    const started = start({ imports: [SingleSessionModule.forRoot({ maxSessions: 2 })] });
    await expect(started).rejects.toThrow(/called more than once.*Call it once, in your root module/);
  });

  it('when a resolver comes so late that its guards may have been read already', async () => {
    const started = start({ imports: [LoadingLate] });
    await expect(started).rejects.toThrow(
      /LateResolver was not there when .* @Module\(\{ imports: \[LateModule\] \}\) in place of/,
    );
  });

  // Nest stops the start itself where the guard is global, or as of an older version says nothing and runs no guard.
  it.each<[string, AsyncOptions]>([
    ['by useFactory', { inject: [REQUEST], useFactory: () => ({}) }],
    [
      'by useFactory, of a tenant',
      { inject: [OfTenant], useFactory: () => ({}), provideInjectionTokensFrom: [OfTenant] },
    ],
    ['by useClass', { useClass: OfRequest }],
  ])('when the options are made anew for each request %s', async (_, options) => {
    const module = SingleSessionModule.forRootAsync({ enforceGlobally: false, ...options });
    await expect(start({ module })).rejects.toThrow(
      /options of SingleSessionModule\.forRootAsync\(\) .* for each request.*Leave the scope out/,
    );
  });

  it('when the data source is made anew for each request', async () => {
    const ofRequest = TypeOrmModule.forRootAsync({
      name: 'tenants',
      inject: [REQUEST],
      useFactory: () => ({ type: 'postgres', url: databaseUrl, entities: singleSessionEntities }),
    });
    const options = { enforceGlobally: false, dataSource: 'tenants' };
    await expect(start({ imports: [ofRequest], options })).rejects.toThrow(
      /data source .* for each request.*dataSource: 'sessions'/,
    );
  });

  it('and leaves no connection behind', async () => {
    const url = await freshDatabase();
    await expect(start({ session: null }, url)).rejects.toThrow(/PassportSerializer is provided/);
    await dropDatabase(url);
  });
});

describe('an application that is fit to hold the limit starts', () => {
  it('with entities: singleSessionEntities in place of autoLoadEntities', async () => {
    const { url } = await start({
      typeorm: { autoLoadEntities: false, entities: [...singleSessionEntities] },
    });
    expect((await new Browser(url).login('bob')).status).toBe(200);
  });

  it('with options from what is made anew for each who needs it', async () => {
    const module = SingleSessionModule.forRootAsync({
      inject: [OfWhoNeedsIt],
      useFactory: ({ maxSessions }: OfWhoNeedsIt) => ({ maxSessions }),
      provideInjectionTokensFrom: [OfWhoNeedsIt],
    });
    const { url } = await start({ module });
    expect((await new Browser(url).login('bob')).status).toBe(200);
  });

  it('with a resolver in an application context, which serves no operations', async () => {
    const migrations = { migrations: singleSessionMigrations, migrationsRun: true };
    const database = { type: 'postgres', url: databaseUrl, autoLoadEntities: true, ...migrations } as const;
    const context = await Test.createTestingModule({
      imports: [TypeOrmModule.forRoot(database), SingleSessionModule.forRoot(), LateModule],
    }).compile();
    await context.init();
    await context.close();
  });

  it('in an application context, as of a job, which has no cookie sessions to keep its users in', async () => {
    const migrations = { migrations: singleSessionMigrations, migrationsRun: true };
    const database = { type: 'postgres', url: databaseUrl, autoLoadEntities: true, ...migrations } as const;
    const useValue = { serializeUser: () => undefined, deserializeUser: () => undefined };
    const context = await Test.createTestingModule({
      imports: [TypeOrmModule.forRoot(database), SingleSessionModule.forRoot()],
      providers: [{ provide: 'A_SERIALIZER', useValue }],
    }).compile();
    await context.init();
    await context.close();
  });

  it.each([
    ['has register()', ['register', 'registerAsync'], EstateOptions],
    ['has forRoot()', ['forRoot', 'forRootAsync', 'createAsyncOptionsProvider'], EstateOptions],
    // As JwtModule and HttpModule are written.
    [
      'has the methods of Passport, and no class for a token',
      ['register', 'registerAsync', 'createAsyncOptionsProvider'],
      'ESTATE_OPTIONS',
    ],
  ])(
    'with options of another module that %s, which have a `property` and nothing to do with Passport',
    async (_, methods, provide) => {
      @Module({ providers: [{ provide, useClass: EstateOptions }] })
      class EstateModule {}
      for (const name of methods) Object.defineProperty(EstateModule, name, { value: () => EstateModule });
      const { url } = await start({ imports: [EstateModule] });
      expect((await new Browser(url).login('bob')).status).toBe(200);
    },
  );

  it('with options of Passport that are made anew for each request, and so are not there yet', async () => {
    const ofRequest = PassportModule.registerAsync({ inject: [REQUEST], useFactory: () => ({}) });
    const { url } = await start({ imports: [ofRequest] });
    expect((await new Browser(url).login('bob')).status).toBe(200);
  });

  it.each([
    { serializeUser: () => ({}) },
    { deserializeUser: () => ({}) },
    { serializeUser: true, deserializeUser: true },
  ])('without cookie sessions, with a provider that is no serializer of Passport: %p', async (useValue) => {
    const providers = [{ provide: 'NO_SERIALIZER', useValue }];
    const { url } = await start({ session: null, serializer: false, providers });
    expect((await new TokenClient(url).login('bob')).status).toBe(200);
  });

  it('with a provider that is a Proxy and does not tell its prototype', async () => {
    const getPrototypeOf = (): never => {
      throw new Error('not resolved');
    };
    const useFactory = (): object => new Proxy({}, { getPrototypeOf });
    const { url } = await start({ providers: [{ provide: 'A_PROXY', useFactory }] });
    expect((await new Browser(url).login('bob')).status).toBe(200);
  });

  // As nestjs-cls provides the request, and as createMock() and mockDeep() make providers of a test.
  it.each([
    [
      'fails when it is asked for what it has not',
      (name: string) => {
        throw new Error(`not resolved: ${name}`);
      },
    ],
    ['answers with a function whatever it is asked for', () => () => undefined],
  ])('with a provider that is a Proxy and %s', async (_, answer: (name: string) => unknown) => {
    // What Nest itself and `await` look for is as in any object.
    const isPlain = (name: string): boolean => name in {} || /^(on|before)[A-Z]|^then$/.test(name);
    const useValue = new Proxy(
      {},
      {
        get: (target, name) =>
          typeof name === 'symbol' || isPlain(name) ? Reflect.get(target, name) : answer(name),
      },
    );
    const { url } = await start({
      session: null,
      serializer: false,
      providers: [{ provide: 'A_PROXY', useValue }],
    });
    const client = new TokenClient(url);
    expect((await client.login('bob')).status).toBe(200);
    expect((await client.get()).status).toBe(200);
  });

  // As an automatic mock is in place of a strategy.
  it.each([undefined, {}, { _sm: {} }])(
    'with a provider whose copy of Passport is %j, by which nobody signs in',
    async (copy) => {
      const useValue = { getPassportInstance: () => copy };
      const { url } = await start({ providers: [{ provide: 'A_STRATEGY', useValue }] });
      expect((await new Browser(url).login('bob')).status).toBe(200);
    },
  );
});
