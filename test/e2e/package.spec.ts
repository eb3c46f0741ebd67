import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { Browser, TokenClient } from '../support/client.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { endAllProcesses, repository, startProcess, type RunningProcess } from '../support/processes.js';
import {
  packPackage,
  TemporaryApp,
  temporaryDirectory,
  type PackedPackage,
} from '../support/temporary-app.js';

const { dir, remove } = temporaryDirectory();
let packed: PackedPackage;

beforeAll(async () => {
  packed = await packPackage(dir);
});

afterAll(remove);

const fixture = (name: string) => readFileSync(join(repository, 'test/e2e/fixture', name), 'utf8');

describe('the tarball', () => {
  const DOCUMENTS = readdirSync(join(repository, 'docs')).filter((name) => name.endsWith('.md'));
  const BESIDE_CODE = [
    'CHANGELOG.md',
    'LICENSE',
    'README.md',
    'SECURITY.md',
    'package.json',
    ...DOCUMENTS.map((name) => `docs/${name}`),
  ].sort();

  it('holds compiled code with its types, and beside it what npm and people read, nothing else', () => {
    const others = packed.files.filter(
      (file) => !/^dist\/(src|migrations)\/[\w./-]+\.(js|d\.ts)$/.test(file),
    );
    expect(others.sort()).toEqual(BESIDE_CODE);
    const code = packed.files.filter((file) => file.endsWith('.js'));
    expect(packed.files.filter((file) => file.endsWith('.d.ts'))).toEqual(
      code.map((file) => file.replace(/js$/, 'd.ts')),
    );
    expect(code.filter((file) => /spec|test|bench|demo/.test(file))).toEqual([]);
  });

  it('brings one small library, and no script that runs at the consumer', () => {
    const { dependencies, optionalDependencies, bundleDependencies, scripts } = packed.manifest;
    expect(Object.keys(dependencies)).toEqual(['lru-cache']);
    expect({ optionalDependencies, bundleDependencies }).toEqual({});
    const installing = ['preinstall', 'install', 'postinstall', 'prepare'];
    expect(Object.keys(scripts as object).filter((name) => installing.includes(name))).toEqual([]);
  });

  it('names only files that are in it', () => {
    const { main, types, exports } = packed.manifest as unknown as {
      main: string;
      types: string;
      exports: Record<string, unknown>;
    };
    const named = JSON.stringify([main, types, exports]).match(/\.\/[\w./-]+\.(json|js|d\.ts)/g)!;
    expect(named.map((file) => file.slice(2)).filter((file) => !packed.files.includes(file))).toEqual([]);
  });
});

it('has types also for a compiler that looks for modules as Node 10 did, the default of TypeScript 5 for CommonJS', async () => {
  const app = new TemporaryApp(join(dir, 'node10'), packed, 'commonjs');
  app.write(
    'src/main.ts',
    "import { SingleSessionModule } from 'nestjs-single-session';\n" +
      "import { singleSessionMigrations } from 'nestjs-single-session/migrations';\n" +
      'export const used = [SingleSessionModule.forRoot(), singleSessionMigrations];\n',
  );
  const asBefore = {
    module: 'commonjs',
    moduleResolution: 'node10',
    resolvePackageJsonExports: undefined,
    ignoreDeprecations: '6.0',
  };
  expect(await app.compile(asBefore)).toBe('');
}, 60_000);

describe.each([
  ['module', 'an ES module application'],
  ['commonjs', 'a CommonJS application'],
] as const)('the tarball in a fresh application of type "%s"', (type, name) => {
  let app: TemporaryApp;
  let complaints: string;
  let databaseUrl: string;
  let server: RunningProcess;

  beforeAll(async () => {
    app = new TemporaryApp(join(dir, type), packed, type);
    app.write('src/main.ts', fixture('consumer.ts'));
    app.write('src/types.ts', fixture('consumer-types.ts'));
    app.write('src/inferred.ts', fixture('consumer-inferred.ts'));
    [complaints, databaseUrl] = await Promise.all([app.compile(), freshDatabase()]);
    server = await startProcess({
      program: 'dist/main.js',
      cwd: app.dir,
      env: { DATABASE_URL: databaseUrl },
    });
  }, 60_000);

  afterAll(async () => {
    await endAllProcesses();
    await dropDatabase(databaseUrl);
  });

  it('has types that let in what is right and refuse what is wrong', () => {
    expect(complaints).toBe('');
  });

  it(`is loaded by ${name} with its own kind of import`, () => {
    const compiled = readFileSync(join(app.dir, 'dist/main.js'), 'utf8');
    const loads = { module: 'from "nestjs-single-session"', commonjs: 'require("nestjs-single-session")' };
    expect(compiled.replaceAll("'", '"')).toContain(loads[type]);
  });

  it('lets a user sign in, and the second login evicts the first, with a cookie', async () => {
    const [first, second] = [new Browser(server.url), new Browser(server.url)];
    expect((await first.login('alice')).status).toBe(200);
    expect((await first.get('/me')).body).toMatchObject({
      user: { username: 'alice' },
      verdict: { live: true },
    });
    expect((await second.login('alice')).status).toBe(200);
    expect((await first.get('/me')).body).toMatchObject({ code: 'SESSION_ENDED', reason: 'superseded' });
    expect((await second.get('/me')).status).toBe(200);
    expect((await second.post('/logout')).status).toBe(204);
    expect((await second.get('/me')).status).toBe(401);
  });

  it('lets a user sign in, and the second login evicts the first, with a token', async () => {
    const [first, second] = [new TokenClient(server.url), new TokenClient(server.url)];
    await first.login('bob');
    expect((await first.get('/me/token')).status).toBe(200);
    await second.login('bob');
    expect((await first.get('/me/token')).body).toMatchObject({
      code: 'SESSION_ENDED',
      reason: 'superseded',
    });
    expect((await second.get('/me/token')).status).toBe(200);
  });

  it('ends with the process: nothing keeps it alive, and nothing was said on the way', async () => {
    expect(await server.stop()).toEqual({ code: null, signal: 'SIGTERM' });
    expect(server.stderr().replace(/^.*ExperimentalWarning.*\n.*--trace-warnings.*\n/gm, '')).toBe('');
  });
});
