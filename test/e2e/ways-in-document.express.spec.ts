import { generateKeyPairSync } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { JwtService } from '@nestjs/jwt';
import { Browser, type Answer } from '../support/client.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { startProvider, throughProvider, type OAuthProvider } from '../support/oauth-provider.js';
import { endAllProcesses, freePort, repository, startProcess } from '../support/processes.js';
import { packPackage, TemporaryApp, temporaryDirectory } from '../support/temporary-app.js';
import { codeOf } from './readme/applications.js';

// The application that docs/ways-in.md shows, as it stands there: each way in, and what the text says of it.

const keyPair = () =>
  generateKeyPairSync('rsa', {
    modulusLength: 2_048,
    publicKeyEncoding: { type: 'spki', format: 'pem' },
    privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
  });

const { dir, remove } = temporaryDirectory();
let databaseUrl: string;
let provider: OAuthProvider;
let url: string;
/** Those of the provider. */
const keys = keyPair();
/** What it said. */
let compiler: string;

beforeAll(async () => {
  const [application] = codeOf(readFileSync(join(repository, 'docs/ways-in.md'), 'utf8')).filter(
    ({ kind }) => kind === 'cookie',
  );
  const app = new TemporaryApp(join(dir, 'ways-in'), await packPackage(dir), 'module');
  for (const [name, text] of Object.entries(application!.files)) app.write(name, text);
  compiler = await app.compile();
  if (compiler !== '') return;
  [databaseUrl, provider] = await Promise.all([freshDatabase(), startProvider()]);
  const env = {
    DATABASE_URL: databaseUrl,
    OAUTH_URL: provider.url,
    OAUTH_CLIENT_ID: 'the application',
    OAUTH_KEY: keys.publicKey,
  };
  ({ url } = await startProcess({ program: 'dist/main.js', cwd: app.dir, env, port: await freePort() }));
}, 60_000);

afterAll(async () => {
  await endAllProcesses();
  await provider?.stop();
  if (databaseUrl) await dropDatabase(databaseUrl);
  remove();
});

const byForm = (browser: Browser): Promise<Answer> => browser.login('alice');
const remembering = (browser: Browser): Promise<Answer> =>
  browser.post('/login', { username: 'alice', password: 'alice', remember: true });

const WAYS: [string, (browser: Browser) => Promise<Answer>][] = [
  ['the handler', byForm],
  ['the guard', (browser) => browser.get('/magic?for=alice')],
  ['OAuth 2.0', (browser) => throughProvider(browser, '/oauth', 'alice')],
];

async function signedIn(signIn: (browser: Browser) => Promise<Answer>): Promise<Browser> {
  const browser = new Browser(url);
  expect([200, 302]).toContain((await signIn(browser)).status);
  expect((await browser.get('/me')).body.user.username).toBe('alice');
  return browser;
}

const reasonOf = async (browser: Browser): Promise<string | undefined> =>
  (await browser.get('/me')).body.reason;

const LOGOUT = { 'http://schemas.openid.net/event/backchannel-logout': {} };

/** The provider posts a logout token for alice. */
async function signedOutAtProvider({
  claims = { events: LOGOUT },
  privateKey = keys.privateKey,
  audience = 'the application',
}: { claims?: object; privateKey?: string; audience?: string } = {}): Promise<number> {
  const options = { privateKey, algorithm: 'RS256', issuer: provider.url, audience } as const;
  const logout_token = new JwtService().sign({ sub: 'alice', ...claims }, options);
  const body = new URLSearchParams({ logout_token });
  return (await fetch(`${url}/oauth/back-channel`, { method: 'POST', body })).status;
}

describe('the application of docs/ways-in.md', () => {
  it('compiles', () => expect(compiler).toBe(''));

  it.each(WAYS)('evicts at a login through %s, and can be come back to at once', async (_, signIn) => {
    const older = await signedIn(signIn);
    const newer = await signedIn(signIn);
    expect(await reasonOf(older)).toBe('superseded');
    await signIn(older);
    expect((await older.get('/me')).status).toBe(200);
    expect(await reasonOf(newer)).toBe('superseded');
  });

  it('remembers a browser that was closed, in the place that it had', async () => {
    const browser = (await signedIn(remembering)).forget('connect.sid');
    for (let n = 0; n < 3; n++) expect((await browser.get('/me')).body.user.username).toBe('alice');
    browser.forget('connect.sid');
    expect((await browser.get('/nowhere')).status).toBe(404);
    expect((await browser.forget('remember_me').get('/me')).status).toBe(200);
  });

  it('does not sign an evicted browser in again by its token, and so nobody is thrown out in turn [S14]', async () => {
    const evicted = await signedIn(remembering);
    const winner = await signedIn(remembering);
    expect(await reasonOf(evicted)).toBe('superseded');
    for (let n = 0; n < 2; n++) expect((await evicted.get('/me')).body).toMatchObject({ statusCode: 401 });
    expect(evicted.cookie).not.toMatch(/remember_me=[\w-]/);
    expect((await winner.get('/me')).status).toBe(200);
  });

  it('changes a password: this browser stays, with another cookie', async () => {
    const browser = await signedIn(byForm);
    const stolen = browser.copy();
    expect((await browser.post('/password')).body).toEqual({ loggedOutElsewhere: 0 });
    expect((await browser.get('/me')).status).toBe(200);
    expect((await stolen.get('/me')).status).toBe(401);
    expect((await new Browser(url).post('/password')).status).toBe(401);
  });

  it("disables an account, at an operator's word and nobody else's: its sessions end", async () => {
    const browser = await signedIn(byForm);
    const operator = new Browser(url);
    await operator.login('bob');
    for (const anyone of [new Browser(url), browser])
      expect((await anyone.post('/accounts/1/disable')).status).toBe(403);
    expect((await operator.post('/accounts/1/disable')).body).toEqual({ ended: 1 });
    expect(await reasonOf(browser)).toBe('admin');
  });

  it('ends the sessions of whom the provider signs out, and of nobody else', async () => {
    const browser = await signedIn((one) => throughProvider(one, '/oauth', 'alice'));
    const other = new Browser(url);
    await other.login('bob');
    expect(await signedOutAtProvider()).toBe(200);
    expect(await reasonOf(browser)).toBe('logout');
    expect((await other.get('/me')).status).toBe(200);
  });

  it.each([
    ['no logout token, as an ID token is not', { claims: {} }],
    [
      'without a user, whose session it names alone',
      { claims: { events: LOGOUT, sub: undefined, sid: '1' } },
    ],
    ['of an hour ago', { claims: { events: LOGOUT, iat: Math.floor(Date.now() / 1_000) - 3_600 } }],
    ['for another application', { audience: 'another' }],
    ['signed by somebody else', { privateKey: keyPair().privateKey }],
  ])('ends nothing for a token that is %s', async (_, wrong) => {
    const browser = await signedIn(byForm);
    expect(await signedOutAtProvider(wrong)).toBe(400);
    expect((await browser.get('/me')).status).toBe(200);
  });
});
