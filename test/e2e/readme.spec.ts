import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import { Browser } from '../support/client.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { HttpClient, login } from '../support/http-client.js';
import { endAllProcesses, freePort, repository, startProcess } from '../support/processes.js';
import {
  packPackage,
  TemporaryApp,
  temporaryDirectory,
  type PackedPackage,
} from '../support/temporary-app.js';
import { codeOf, type ReadmeCode } from './readme/applications.js';

// What the README shows is compiled, and its applications are run. How they are marked: readme/applications.ts.

const readme = readFileSync(join(repository, 'README.md'), 'utf8');
const code = codeOf(readme);
const documents = readdirSync(join(repository, 'docs')).filter((name) => name.endsWith('.md'));
const applications = code.filter(({ kind }) => kind !== 'compiled only');

/** A compiler run each, on a machine that may be busy. */
const TIMEOUT_MS = 60_000;

const { dir, remove } = temporaryDirectory();
let packed: PackedPackage;
let databaseUrl: string | undefined;

beforeAll(async () => {
  packed = await packPackage(dir);
});

afterEach(async () => {
  await endAllProcesses();
  if (databaseUrl) await dropDatabase(databaseUrl);
  databaseUrl = undefined;
});

afterAll(remove);

async function compiled({ kind, line, files }: ReadmeCode): Promise<TemporaryApp> {
  const app = new TemporaryApp(join(dir, `${kind.replaceAll(' ', '-')}-${line}`), packed, 'module');
  for (const [name, text] of Object.entries(files)) app.write(name, text);
  expect(await app.compile()).toBe('');
  return app;
}

describe('the README', () => {
  it('shows a whole application for cookie sessions and one for JWTs', () => {
    const kinds = applications.map(({ kind }) => kind);
    expect(kinds).toEqual(expect.arrayContaining(['cookie', 'jwt']));
    for (const { files } of applications) expect(Object.keys(files)).toContain('src/main.ts');
  });

  it('shows them on both platforms', () => {
    const mains = applications.map(({ files }) => files['src/main.ts']!);
    expect(mains.filter((text) => text.includes('new FastifyAdapter()'))).toHaveLength(1);
  });

  it(
    'shows code that compiles, also where it is not run',
    async () => {
      for (const one of code.filter(({ kind }) => kind === 'compiled only')) await compiled(one);
    },
    TIMEOUT_MS,
  );
});

describe.each(documents)('docs/%s', (name) => {
  const shown = codeOf(readFileSync(join(repository, 'docs', name), 'utf8'));

  it(
    'shows code that compiles',
    async () => {
      for (const one of shown) await compiled({ ...one, line: documents.indexOf(name) });
    },
    TIMEOUT_MS,
  );
});

describe.each(applications)('the $kind application in line $line of the README', (application) => {
  it(
    'compiles, starts on an empty database, and its second login ends the first session',
    async () => {
      const app = await compiled(application);
      databaseUrl = await freshDatabase();
      const env = { DATABASE_URL: databaseUrl };
      const { url } = await startProcess({
        program: 'dist/main.js',
        cwd: app.dir,
        env,
        port: await freePort(),
      });
      await secondLoginEndsFirst(url, application.kind === 'jwt' ? 'token' : 'cookie');
    },
    TIMEOUT_MS,
  );
});

async function secondLoginEndsFirst(url: string, kind: 'cookie' | 'token'): Promise<void> {
  const client = new HttpClient();
  const [first, second] = [await login(client, url, 'alice', kind), await login(client, url, 'alice', kind)];
  client.close();
  expect([first.status, second.status]).toEqual([200, 200]);
  const me = (credential: typeof first.credential) => new Browser(url).get('/me', credential);
  expect((await me(second.credential)).status).toBe(200);
  const refused = await me(first.credential);
  expect(refused.status).toBe(401);
  expect(refused.body).toMatchObject({ code: 'SESSION_ENDED', reason: 'superseded' });
}

describe('what reads the README', () => {
  const fence = '```';
  const block = (first: string, language = 'ts') => `${fence}${language}\n${first}\nexport {};\n${fence}\n`;

  it('collects an application from its blocks, and leaves other languages and the text alone', () => {
    const text = [
      block('{}', 'json'),
      '<!-- app: jwt -->',
      'Text about // file: src/not-this.ts',
      block('// file: src/main.ts'),
      block('let looks: any;', 'typescript'),
      block('// file: src/other.ts'),
      '<!-- /app -->',
      '<!-- no-run -->',
      '',
      block('// file: src/main.ts'),
      block('import "x";'),
    ].join('\n');
    const [loose, app, ...more] = codeOf(text);
    expect(more).toEqual([]);
    expect([app!.kind, Object.keys(app!.files)]).toEqual(['jwt', ['src/main.ts', 'src/other.ts']]);
    expect(Object.keys(loose!.files)).toEqual(['src/main.ts', expect.stringMatching(/^src\/line-\d+\.ts$/)]);
  });

  it('takes from the first application of the kind what one like it does not show', () => {
    const text = [
      '<!-- app: cookie -->',
      block('// file: src/main.ts'),
      block('// file: src/other.ts'),
      '<!-- /app -->',
      '<!-- app: cookie, like the first -->',
      block('// file: src/main.ts\n// another'),
      '<!-- /app -->',
    ].join('\n');
    const [first, second] = codeOf(text);
    expect(Object.keys(second!.files)).toEqual(['src/main.ts', 'src/other.ts']);
    expect(second!.files['src/main.ts']).not.toBe(first!.files['src/main.ts']);
    expect(second!.files['src/other.ts']).toBe(first!.files['src/other.ts']);
  });

  it.each([
    ['an application like one that is not there', '<!-- app: jwt, like the first -->', 'no first one'],
    ['an application without an end', '<!-- app: jwt -->\n', 'ends inside'],
    [
      'an application inside of another',
      '<!-- app: jwt -->\n<!-- app: cookie -->\n<!-- /app -->',
      'has no <!-- /app -->',
    ],
    ['a block without an end', `${fence}ts\nexport {};`, 'ends inside'],
    [
      'a block of an application without a name',
      `<!-- app: jwt -->\n${block('export {};')}<!-- /app -->`,
      'begins with',
    ],
    [
      'a file that is there twice',
      `${block('// file: src/a.ts')}${block('// file: src/a.ts')}`,
      'there already',
    ],
  ])('refuses %s', (_what, text, says) => {
    expect(() => codeOf(text)).toThrow(says);
  });
});
