import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import { Browser, type Answer } from '../support/client.js';
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

const manifest = JSON.parse(readFileSync(join(repository, 'package.json'), 'utf8')) as {
  peerDependencies: Record<string, string>;
  peerDependenciesMeta: Record<string, { optional: boolean }>;
  devDependencies: Record<string, string>;
};

// What the README shows is compiled, and its applications are run. How they are marked: readme/applications.ts.

const shownIn = (name: string) =>
  codeOf(readFileSync(join(repository, name), 'utf8')).map((one) => ({ ...one, name }));
type Shown = ReturnType<typeof shownIn>[number];
const isApplication = ({ kind }: ReadmeCode): boolean => kind !== 'compiled only';

const code = shownIn('README.md');
const documents = readdirSync(join(repository, 'docs'))
  .filter((name) => name.endsWith('.md'))
  .map((name) => `docs/${name}`);
const applications = ['README.md', ...documents].flatMap(shownIn).filter(isApplication);

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

async function compiled({ name, line, files }: Shown): Promise<TemporaryApp> {
  const app = new TemporaryApp(join(dir, `${name.replaceAll('/', '-')}-${line}`), packed, 'module');
  for (const [name, text] of Object.entries(files)) app.write(name, text);
  expect(await app.compile()).toBe('');
  return app;
}

describe('the README', () => {
  it('shows a whole application for cookie sessions and one for JWTs', () => {
    const kinds = code.map(({ kind }) => kind);
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
      for (const one of code.filter((each) => !isApplication(each))) await compiled(one);
    },
    TIMEOUT_MS,
  );
});

/** What `nest new` gives, and the peers that this package asks for. */
const THERE_ALREADY = new Set([
  'nestjs-single-session',
  ...Object.keys(manifest.peerDependencies).filter((name) => !manifest.peerDependenciesMeta[name]?.optional),
  '@nestjs/platform-express',
  'express',
  '@types/express',
  'rxjs',
]);

/** What the commands of a text install. */
const installedBy = (text: string): string[] =>
  [...text.matchAll(/^npm install (?:-D )?(.+)$/gm)].flatMap(([, names]) => names!.split(' '));

/** What code needs to be compiled and run: packages, and the types of those that bring none. */
function neededBy(files: ReadmeCode['files']): string[] {
  const specifiers = Object.values(files).flatMap((text) =>
    [...text.matchAll(/^(?:import|\} from) (?:.* from )?'([^'.][^']*)';$/gm)].map(([, from]) => from!),
  );
  const names = specifiers
    .filter((from) => !from.startsWith('node:'))
    .map((from) => from.split('/', from.startsWith('@') ? 2 : 1).join('/'));
  const types = names.map((name) => `@types/${name}`).filter((name) => name in manifest.devDependencies);
  return [...new Set([...names, ...types])].filter((name) => !THERE_ALREADY.has(name)).sort();
}

describe.each(applications)('the $kind application in line $line of $name', ({ name, line, files }) => {
  it('needs nothing that the commands before it do not install', () => {
    const lines = readFileSync(join(repository, name), 'utf8').split('\n').slice(0, line);
    const section = lines.slice(lines.findLastIndex((text) => /^#+ /.test(text)));
    const installed = installedBy((name === 'README.md' ? section : lines).join('\n'));
    expect(neededBy(files).filter((each) => !installed.includes(each))).toEqual([]);
  });
});

describe.each(documents)('%s', (name) => {
  it('needs nothing that its commands and those of the README do not install', () => {
    const installed = ['README.md', name].flatMap((text) =>
      installedBy(readFileSync(join(repository, text), 'utf8')),
    );
    const needed = shownIn(name).flatMap(({ files }) => neededBy(files));
    expect([...new Set(needed)].filter((each) => !installed.includes(each))).toEqual([]);
  });

  it(
    'shows code that compiles, also where it is not run',
    async () => {
      for (const one of shownIn(name).filter((each) => !isApplication(each))) await compiled(one);
    },
    TIMEOUT_MS,
  );
});

describe.each(applications)('the $kind application in line $line of $name', (application) => {
  it(
    'compiles, starts on an empty database, and its second login ends the first session, refresh token and all',
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
      if ('src/refresh.strategy.ts' in application.files) await secondLoginEndsRefreshing(url);
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

/** Wherever the application keeps its refresh token: in the body, which is sent back as it came, or in a cookie. */
async function secondLoginEndsRefreshing(url: string): Promise<void> {
  const [first, second] = [new Browser(url), new Browser(url)];
  const me = ({ body }: Answer): Promise<Answer> =>
    new Browser(url).get('/me', { authorization: `Bearer ${body.accessToken}` });
  const refreshed = async (browser: Browser, { body }: Answer): Promise<Answer> => {
    const answers = await Promise.all([1, 2, 3].map(() => browser.copy().post('/token/refresh', body)));
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 200]);
    for (const answer of answers) expect((await me(answer)).status).toBe(200);
    return answers[0]!;
  };
  const signedIn = await first.login('alice', '/token');
  const last = await refreshed(first, await refreshed(first, signedIn));
  const winner = await second.login('alice', '/token');
  for (const answer of [await me(last), await first.post('/token/refresh', last.body)])
    expect(answer).toMatchObject({ status: 401, body: { code: 'SESSION_ENDED', reason: 'superseded' } });
  const loggedOut = async (browser: Browser, { body }: Answer): Promise<number> =>
    (await browser.copy().post('/token/logout', body)).status;
  expect(await loggedOut(first, last)).toBe(204);
  expect((await me(await refreshed(second, winner))).status).toBe(200);
  // An access token is no refresh token, and the other way round.
  const { accessToken, refreshToken = second.cookie?.split('=')[1] } = winner.body;
  const swapped = { cookie: `__Secure-refresh=${accessToken}` };
  expect((await new Browser(url).post('/token/refresh', { refreshToken: accessToken }, swapped)).status).toBe(
    401,
  );
  expect((await me({ ...winner, body: { accessToken: refreshToken } })).status).toBe(401);
  for (const site of winner.body.refreshToken === undefined ? ['cross-site', 'same-site'] : [])
    expect((await second.post('/token/refresh', {}, { 'sec-fetch-site': site })).status).toBe(403);
  expect(await loggedOut(second, winner)).toBe(204);
  expect((await second.post('/token/refresh', winner.body)).body).toMatchObject({ reason: 'logout' });
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
