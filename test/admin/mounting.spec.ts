import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import {
  Inject,
  Injectable,
  Logger,
  Module,
  Scope,
  VersioningType,
  type CanActivate,
  type DynamicModule,
  type ExecutionContext,
  type LoggerService,
} from '@nestjs/common';
import { REQUEST } from '@nestjs/core';
import { Test } from '@nestjs/testing';
import { TypeOrmModule } from '@nestjs/typeorm';
import { of, type Observable } from 'rxjs';
import { DataSource } from 'typeorm';
import { singleSessionEntities, SingleSessionModule } from '../../src/index.js';
import type { SingleSessionModuleExtras } from '../../src/single-session.extras.js';
import type { SingleSessionOptions } from '../../src/single-session.options.js';
import {
  startApplication,
  Users,
  type TestApplication,
  type TestApplicationSettings,
  type TestUser,
} from '../support/application.js';
import { ADMIN, Client, contentOf, endAll, someoneNew, statesOf } from '../support/administration.js';
import { Browser } from '../support/client.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { newUser } from '../support/sessions.js';

type Options = SingleSessionOptions & SingleSessionModuleExtras;

const users = new Users();
const warnings: string[] = [];
const logger: LoggerService = {
  log: () => {},
  error: () => {},
  warn: (message: unknown) => void warnings.push(String(message)),
};

let databaseUrl: string;
let application: TestApplication | undefined;

beforeAll(async () => {
  databaseUrl = await freshDatabase();
});

afterEach(async () => {
  await application?.close();
  application = undefined;
  warnings.length = 0;
});

afterAll(() => dropDatabase(databaseUrl));

async function start(options: unknown, settings: TestApplicationSettings = {}): Promise<TestApplication> {
  const given = { users, options: options as Options, ...settings };
  return (application = await startApplication(databaseUrl, given));
}

@Injectable()
class Passing implements CanActivate {
  canActivate(): boolean {
    return true;
  }
}

@Injectable()
class Gate {
  open = true;
  asked: string[] = [];
}

@Injectable()
class GateGuard implements CanActivate {
  constructor(private readonly gate: Gate) {}

  canActivate(context: ExecutionContext): boolean {
    this.gate.asked.push(context.switchToHttp().getRequest<{ url: string }>().url);
    return this.gate.open;
  }
}

@Module({ providers: [Gate, GateGuard], exports: [] })
class GateModule {}

@Injectable()
class Unprovided implements CanActivate {
  canActivate(context: ExecutionContext): Observable<boolean> {
    const { headers } = context.switchToHttp().getRequest<{ headers: Record<string, string> }>();
    return of(headers['x-office'] === 'yes');
  }
}

@Injectable({ scope: Scope.REQUEST })
class OfRequest extends Passing {}

@Injectable()
class NeedsRequest implements CanActivate {
  constructor(@Inject(REQUEST) private readonly request: { headers: object } | undefined) {}

  // Made once, it would have no request, and let everybody pass.
  canActivate(): boolean {
    return this.request?.headers === undefined;
  }
}

@Injectable({ scope: Scope.TRANSIENT })
class Transient extends Passing {}

/** What fails this early leaves no application to close: the data source is opened and closed here. */
async function compile(module: DynamicModule): Promise<void> {
  const options = { type: 'postgres', url: databaseUrl, entities: singleSessionEntities } as const;
  const dataSource = await new DataSource(options).initialize();
  const dataSourceFactory = (): Promise<DataSource> => Promise.resolve(dataSource);
  const database = TypeOrmModule.forRootAsync({ useFactory: () => options, dataSourceFactory });
  try {
    await Test.createTestingModule({ imports: [database, module] }).compile();
  } finally {
    await dataSource.destroy();
  }
}

const EVERY_ROUTE: [string, string][] = [
  ['GET', ''],
  ['GET', '/summary'],
  ['GET', '/policy?username=alice'],
  ['GET', '/exemptions'],
  ['PUT', '/exemptions'],
  ['DELETE', '/exemptions?kind=username&value=x'],
  ['GET', '/actions'],
  ['GET', '/ui'],
  ['GET', '/ui/app.js'],
  ['GET', '/ui/app.css'],
  ['POST', '/logout'],
  ['POST', '/logout-everyone'],
  ['DELETE', '/00000000-0000-4000-8000-000000000000'],
];

async function expectNothingAt(paths: [string, string][]): Promise<void> {
  const root = await someoneNew(application!, ['superadmin', 'admin']);
  for (const client of [root, new Browser(application!.url)])
    for (const [method, path] of paths)
      expect([method, path, (await client.send(method, path)).status]).toEqual([method, path, 404]);
}

const under = (base: string): [string, string][] =>
  EVERY_ROUTE.map(([method, path]) => [method, base + path]);
const MINE: [string, string][] = [
  ['GET', '/sessions/mine'],
  ['DELETE', '/sessions/mine/x'],
  ['POST', '/sessions/mine/logout-others'],
];

describe('nothing is mounted', () => {
  it('by default, neither the API nor the page nor the own sessions [P8, S3]', async () => {
    await start({});
    await expectNothingAt([...under(ADMIN), ...MINE]);
    expect(warnings).toEqual([]);
  });

  it.each([{}, { roles: [] }, { roles: [], superRoles: [] }, { path: 'ops', guards: [], page: true }])(
    'with admin: %j, which names nobody; and a warning says so [P8, S3]',
    async (admin) => {
      const { path = 'admin/sessions' } = admin as { path?: string };
      await start({ admin, selfService: false }, { build: (builder) => builder.setLogger(logger) });
      Logger.overrideLogger(logger);
      await expectNothingAt([...under(`/${path}`), ...under(ADMIN), ...MINE]);
      expect(
        warnings.filter((text) => text.includes('nothing is mounted') && text.includes(path)),
      ).toHaveLength(1);
    },
  );

  it('of the page with page: false, and the rest is', async () => {
    await start({ admin: { roles: ['admin'], page: false } });
    const admin = await someoneNew(application!, ['admin']);
    expect((await admin.get(ADMIN)).status).toBe(200);
    for (const path of ['/ui', '/ui/app.js', '/ui/app.css'])
      expect((await admin.get(ADMIN + path)).status).toBe(404);
  });
});

it.each([
  ['superRoles', { superRoles: ['superadmin'] }],
  ['logoutAdmins', { logoutAdmins: (user: TestUser) => user.roles.includes('superadmin') }],
])('%s alone name somebody: all is mounted', async (_, admin) => {
  await start({ admin });
  expect((await (await someoneNew(application!, ['superadmin'])).get(ADMIN)).status).toBe(200);
});

describe('the start stops and says what to write for admin with', () => {
  const wrong: [string, unknown, RegExp][] = [
    ['true', true, /admin must be an object: \{ roles/],
    ['a string', 'admin', /admin must be an object/],
    ['an array', ['admin'], /admin must be an object/],
    ['null', null, /admin must be an object/],
    ['an unknown key', { role: ['admin'] }, /unknown option "admin\.role".*roles/],
    [
      'the wrong spelling of a key',
      { roles: ['admin'], superroles: ['root'] },
      /unknown option "admin\.superroles"/,
    ],
    ['a prototype', JSON.parse('{"__proto__":{"roles":["user"]}}'), /unknown option "admin\.__proto__"/],
    ['roles: a string', { roles: 'admin' }, /admin\.roles must be an array of strings: \['admin'\]/],
    ['roles: an empty string', { roles: [''] }, /admin\.roles must be an array of strings.*it was \[ '' \]/],
    [
      'roles: a function in the list',
      { roles: [() => true] },
      /admin\.roles must be an array of strings.*it was \[ \[Function/,
    ],
    ['roles: null', { roles: null }, /admin\.roles must be an array of strings/],
    [
      'superRoles: a string',
      { roles: ['admin'], superRoles: 'root' },
      /admin\.superRoles must be an array of strings: \['superadmin'\]/,
    ],
    ['superRoles: a number in the list', { superRoles: [1] }, /admin\.superRoles must be an array/],
    ['logout: true', { logout: true }, /admin\.logout must be a function/],
    ['logoutAdmins: a string', { logoutAdmins: 'root' }, /admin\.logoutAdmins must be a function/],
    ['path: an empty string', { roles: ['a'], path: '' }, /admin\.path must be a path/],
    ['path: a slash in front', { roles: ['a'], path: '/ops' }, /admin\.path must be a path/],
    ['path: a slash behind', { roles: ['a'], path: 'ops/' }, /admin\.path must be a path/],
    ['path: two slashes', { roles: ['a'], path: 'ops//v1' }, /admin\.path must be a path/],
    ['path: a parameter', { roles: ['a'], path: 'ops/:tenant' }, /admin\.path must be a path/],
    ['path: an array', { roles: ['a'], path: ['ops'] }, /admin\.path must be a path/],
    ['guards: one guard', { roles: ['a'], guards: Passing }, /admin\.guards must be an array of guards/],
    ['guards: a string', { roles: ['a'], guards: ['jwt'] }, /admin\.guards must be an array of guards/],
    [
      'guards: undefined in it',
      { roles: ['a'], guards: [undefined] },
      /admin\.guards must be an array of guards/,
    ],
    [
      'guards: an object that guards nothing',
      { roles: ['a'], guards: [{}] },
      /admin\.guards must be an array/,
    ],
    ['page: a string', { roles: ['a'], page: 'false' }, /admin\.page must be exactly true or false/],
    ['page: null', { roles: ['a'], page: null }, /admin\.page must be exactly true or false/],
  ];

  it.each(wrong)('%s [P8, S18]', (_, admin, message) => {
    expect(() => SingleSessionModule.forRoot({ admin } as Options)).toThrow(message);
    const useFactory = (): SingleSessionOptions => ({});
    expect(() => SingleSessionModule.forRootAsync({ useFactory, admin } as never)).toThrow(message);
  });

  it.each([
    ['a string', 'true', /selfService must be true, false/],
    ['null', null, /selfService must be true, false/],
    ['an unknown key', { roles: [] }, /unknown option "selfService\.roles"/],
    ['a path with a slash in front', { path: '/mine' }, /selfService\.path must be a path/],
    ['guards that are none', { guards: [1] }, /selfService\.guards must be an array of guards/],
  ])('selfService: %s [P8]', (_, selfService, message) => {
    expect(() => SingleSessionModule.forRoot({ selfService } as Options)).toThrow(message);
  });

  it.each([
    [{ threshold: 0 }, /storm\.threshold must be a whole number/],
    [{ threshold: '10' }, /storm\.threshold/],
    [{ windowMs: 0 }, /storm\.windowMs/],
    [{ windowMs: 1.5 }, /storm\.windowMs/],
    [{ window: 1 }, /unknown option "storm\.window"/],
    [10, /storm must be an object/],
    [true, /storm must be an object/],
  ])('storm: %j [P8]', (storm, message) => {
    expect(() => SingleSessionModule.forRoot({ storm } as Options)).toThrow(message);
  });
});

describe('the path', () => {
  const statuses = async (...paths: string[]): Promise<number[]> => {
    const admin = await someoneNew(application!, ['admin']);
    const answers = await Promise.all(paths.map((path) => admin.get(path)));
    return answers.map(({ status }) => status);
  };

  it('is an option, of several segments', async () => {
    await start({ admin: { roles: ['admin'], path: 'ops/v1/who-is-there' } });
    const base = '/ops/v1/who-is-there';
    expect(await statuses(base, `${base}/summary`, `${base}/ui`, ADMIN, `${ADMIN}/ui`)).toEqual([
      200, 200, 200, 404, 404,
    ]);
  });

  it('stands behind a global prefix', async () => {
    const configure: TestApplicationSettings['configure'] = (app) =>
      app.setGlobalPrefix('api', { exclude: ['login'] });
    await start({ admin: { roles: ['admin'] }, selfService: true }, { configure });
    const paths = [ADMIN, `${ADMIN}/ui`, '/sessions/mine'];
    expect(await statuses(...paths.map((path) => `/api${path}`))).toEqual([200, 200, 200]);
    expect(await statuses(...paths)).toEqual([404, 404, 404]);
  });

  it('needs no version where the application has versions', async () => {
    const configure: TestApplicationSettings['configure'] = (app) =>
      app.enableVersioning({ type: VersioningType.URI, defaultVersion: '1' });
    await start({ admin: { roles: ['admin'] }, selfService: true }, { configure });
    const user = newUser(application!, { roles: ['admin'] });
    const admin = (await Client.signIn({ url: `${application!.url}/v1` }, user)).at(application!);
    for (const path of [ADMIN, `${ADMIN}/ui`, '/sessions/mine'])
      expect([path, (await admin.get(path)).status]).toEqual([path, 200]);
  });
});

describe('permissions by function', () => {
  let answers: { logout: unknown; logoutAdmins: unknown };
  const given = {
    admin: {
      logout: (user: TestUser) => (user.roles.includes('help') ? answers.logout : false) as boolean,
      logoutAdmins: (user: TestUser) =>
        Promise.resolve((user.roles.includes('boss') ? answers.logoutAdmins : false) as boolean),
    },
  };

  async function people(): Promise<{ help: Client; boss: Client; user: Client }> {
    answers = { logout: true, logoutAdmins: true };
    await start(given);
    await endAll(application!);
    const [help, boss] = [await someoneNew(application!, ['help']), await someoneNew(application!, ['boss'])];
    return { help, boss, user: await someoneNew(application!) };
  }

  it('are the two of the roles: who has one is an administrator, whom only the second may log out [S6]', async () => {
    const { help, boss, user } = await people();
    expect((await user.get(ADMIN)).status).toBe(403);
    expect((await help.delete(`${ADMIN}/${boss.sessionId}`)).body).toMatchObject({ ended: 0 });
    const admins = { except: { administrators: false } };
    expect((await help.post(`${ADMIN}/logout-everyone`, admins)).status).toBe(403);
    expect((await help.post(`${ADMIN}/logout-everyone`)).body).toMatchObject({ ended: 1, spared: 2 });
    expect(await statesOf([help, boss, user])).toEqual(['live', 'live', 'cut-off']);
    expect((await boss.delete(`${ADMIN}/${help.sessionId}`)).body).toEqual({ ended: 1, skipped: [] });
  });

  it('are asked anew for each request, and who lost it is not spared [lesson 30]', async () => {
    const { help, boss, user } = await people();
    const other = await someoneNew(application!, ['help']);
    other.user.roles = [];
    expect((await other.get(ADMIN)).status).toBe(403);
    expect((await boss.post(`${ADMIN}/logout-everyone`)).body).toMatchObject({ ended: 2, spared: 2 });
    expect(await statesOf([help, boss, other, user])).toEqual(['live', 'live', 'cut-off', 'cut-off']);
  });

  it.each([undefined, null, 1, 'true', {}, [], 0, '', Promise.resolve('yes')])(
    'that answer %p are a mistake: 500, and nothing is ended',
    async (wrong) => {
      const { help, boss, user } = await people();
      answers = { logout: wrong, logoutAdmins: wrong };
      const before = await contentOf(application!);
      for (const caller of [help, boss]) {
        expect((await caller.delete(`${ADMIN}/${user.sessionId}`)).status).toBe(500);
        expect((await caller.post(`${ADMIN}/logout-everyone`)).status).toBe(500);
        expect((await caller.get(ADMIN)).status).toBe(500);
      }
      expect(await contentOf(application!)).toBe(before);
      answers = { logout: true, logoutAdmins: true };
      expect(await statesOf([user, boss, help])).toEqual(['live', 'live', 'live']);
    },
  );

  it('that throw are a mistake, too, and nothing of it is told', async () => {
    const { help, user } = await people();
    answers = { logout: Promise.reject(new Error('the directory at 10.0.0.7 is down')), logoutAdmins: true };
    (answers.logout as Promise<unknown>).catch(() => undefined);
    const answer = await help.delete(`${ADMIN}/${user.sessionId}`);
    expect(answer.status).toBe(500);
    expect(JSON.stringify(answer.body)).not.toContain('directory');
    expect(await user.state()).toBe('live');
  });

  it('may stand beside roles', async () => {
    answers = { logout: true, logoutAdmins: true };
    await start({ admin: { roles: ['admin'], logoutAdmins: given.admin.logoutAdmins } });
    const [admin, boss] = [
      await someoneNew(application!, ['admin']),
      await someoneNew(application!, ['boss']),
    ];
    expect((await admin.delete(`${ADMIN}/${boss.sessionId}`)).body.ended).toBe(0);
    expect((await boss.delete(`${ADMIN}/${admin.sessionId}`)).body.ended).toBe(1);
  });
});

describe("the application's guards", () => {
  const admin = (guards: unknown[]): object => ({
    admin: { roles: ['admin'], guards },
    selfService: { guards },
  });
  const paths = [ADMIN, `${ADMIN}/ui`, '/sessions/mine'];
  const statuses = (client: Client, headers = {}): Promise<number[]> =>
    Promise.all(paths.map(async (path) => (await client.send('GET', path, undefined, headers)).status));

  it('stand in front of every route, with what the module that provides them gives them', async () => {
    const module = SingleSessionModule.forRoot(admin([GateGuard]) as Options);
    @Module({ imports: [GateModule, module] })
    class Root {}
    await start(undefined, { module: Root });
    const gate = application!.app.get(Gate, { strict: false });
    const client = await someoneNew(application!, ['admin']);
    expect(await statuses(client)).toEqual([200, 200, 200]);
    gate.open = false;
    gate.asked.length = 0;
    expect(await statuses(client)).toEqual([403, 403, 403]);
    expect((await client.post(`${ADMIN}/logout-everyone`)).status).toBe(403);
    expect((await client.post('/sessions/mine/logout-others')).status).toBe(403);
    expect(gate.asked.sort()).toEqual(
      [...paths, `${ADMIN}/logout-everyone`, '/sessions/mine/logout-others'].sort(),
    );
    expect((await client.get('/me')).status).toBe(200);
  });

  it('may be instances, may be provided by nobody, may answer later, and all must agree', async () => {
    let open: boolean | Promise<boolean> = true;
    await start(admin([{ canActivate: () => open }, Unprovided, Passing]));
    const client = await someoneNew(application!, ['admin']);
    expect(await statuses(client, { 'x-office': 'yes' })).toEqual([200, 200, 200]);
    expect(await statuses(client, { 'x-office': 'no' })).toEqual([403, 403, 403]);
    open = Promise.resolve(false);
    expect(await statuses(client, { 'x-office': 'yes' })).toEqual([403, 403, 403]);
  });

  it('stop the start when they need what nobody provides [lesson 32; P8]', async () => {
    await expect(start(admin([GateGuard]))).rejects.toThrow(/Gate/);
  });

  it.each([
    ['are of it themselves, provided by a module', OfRequest, [OfRequest]],
    ['need the request, provided by a module', NeedsRequest, [NeedsRequest]],
    ['are of it themselves, provided by nobody', OfRequest, []],
    ['need the request, provided by nobody', NeedsRequest, []],
  ])(
    'stop the start when they would be made for each request: they %s [lesson 32; P8]',
    async (_, guard, providers) => {
      const started = start(admin([guard]), { providers });
      await expect(started).rejects.toThrow(
        /is made anew for each request.*switchToHttp\(\)\.getRequest\(\)/,
      );
    },
  );

  it('may be made for each place where they are needed', async () => {
    await start(admin([Transient]), { providers: [Transient] });
    expect(await statuses(await someoneNew(application!, ['admin']))).toEqual([200, 200, 200]);
  });

  it('give nobody a permission, and no session that has ended a life', async () => {
    await start(admin([Passing]));
    const user = await someoneNew(application!);
    expect(await statuses(user)).toEqual([403, 403, 200]);
    const evicted = await someoneNew(application!, ['admin']);
    await Client.signIn(application!, evicted.user);
    expect((await evicted.get(ADMIN)).body.code).toBe('SESSION_ENDED');
    expect((await new Browser(application!.url).get(ADMIN)).status).toBe(401);
  });

  it('are looked at where nothing is guarded globally, too [lesson 32]', async () => {
    await start({ ...admin([]), enforceGlobally: false });
    const evicted = await someoneNew(application!, ['admin']);
    const victim = await someoneNew(application!);
    await Client.signIn(application!, evicted.user);
    const refused = await evicted.post(`${ADMIN}/logout-everyone`);
    expect([refused.status, refused.body.code]).toEqual([401, 'SESSION_ENDED']);
    expect((await victim.get('/sessions/mine')).status).toBe(200);
  });
});

describe('forRootAsync', () => {
  const admin = { roles: ['admin'] };

  it('mounts what stands beside the factory', async () => {
    const useFactory = (): Promise<SingleSessionOptions> => Promise.resolve({ maxSessions: 2 });
    await start(undefined, {
      module: SingleSessionModule.forRootAsync({ useFactory, admin, selfService: true }),
    });
    const client = await someoneNew(application!, ['admin']);
    const statuses = [];
    for (const path of [ADMIN, `${ADMIN}/ui`, '/sessions/mine'])
      statuses.push((await client.get(path)).status);
    expect(statuses).toEqual([200, 200, 200]);
    const policy = (await client.get(`${ADMIN}/policy?username=alice`)).body;
    expect(policy.maxSessions).toBe(2);
  });

  it('mounts nothing unless told', async () => {
    await start(undefined, { module: SingleSessionModule.forRootAsync({ useFactory: () => ({}) }) });
    await expectNothingAt([...under(ADMIN), ...MINE]);
  });

  it.each(['admin', 'selfService'])(
    'refuses %s from the factory, and says where it belongs [P8]',
    async (key) => {
      const useFactory = (): SingleSessionOptions => ({ [key]: key === 'admin' ? admin : true }) as never;
      await expect(compile(SingleSessionModule.forRootAsync({ useFactory }))).rejects.toThrow(
        new RegExp(`unknown option "${key}".*write it beside useFactory in forRootAsync`),
      );
    },
  );
});
