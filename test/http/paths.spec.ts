import { get } from 'node:http';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { startApplication, type TestApplication } from '../support/application.js';
import { Browser, TokenClient } from '../support/client.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { platform } from '../support/platform.js';
import { newUser } from '../support/sessions.js';

let databaseUrl: string;
let application: TestApplication;

beforeAll(async () => {
  databaseUrl = await freshDatabase();
  application = await startApplication(databaseUrl, {
    fastifyRouter: {
      caseSensitive: false,
      ignoreTrailingSlash: true,
      ignoreDuplicateSlashes: true,
      useSemicolonDelimiter: true,
    },
  });
});

afterAll(async () => {
  await application?.close();
  await dropDatabase(databaseUrl);
});

/** As it stands: fetch would tidy the path first. */
function raw(path: string, headers: Record<string, string>): Promise<{ status: number; text: string }> {
  const { hostname, port } = new URL(application.url);
  return new Promise((resolve, reject) => {
    get({ hostname, port, path, headers }, (answer) => {
      let text = '';
      answer.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
      answer.on('end', () => resolve({ status: answer.statusCode!, text }));
    }).on('error', reject);
  });
}

describe('however its path is written, a request', () => {
  const SPELLINGS = [
    '/me', '/%6de', '/m%65', '/%6D%65', '/me/', '/ME', '/mE/', '//me', '///me', '/me;x', '/me;jsessionid=1', '/me?x',
    '/me#x', '/./me', '/x/../me', '/%2e/me', '/me%2f', '/me%00', '/me%20', '/me.json', '/me//', '/%2fme', 'http://elsewhere/me', 'HTTP://elsewhere/%6De/',
  ]; // prettier-ignore

  it('of an evicted cookie session does not reach the handler [lesson 25, S4]', async () => {
    const reached: string[] = [];
    for (const path of SPELLINGS) {
      const { username } = newUser(application);
      const [loser, winner] = [new Browser(application.url), new Browser(application.url)];
      await loser.login(username);
      await winner.login(username);
      const passed = await raw(path, { cookie: winner.cookie! });
      const refused = await raw(path, { cookie: loser.cookie! });
      expect(refused.text).not.toContain(username);
      // Without its user there is nothing to refuse: @fastify/session reads no cookie of a request with a whole URL.
      const isKnown = passed.text.includes(username);
      expect([path, refused.status]).toEqual([path, isKnown ? 401 : passed.status]);
      if (isKnown) reached.push(path);
    }
    // Else the test would prove nothing.
    const own = platform === 'fastify' ? ['/%6de', '//me', '/me;x'] : ['http://elsewhere/me'];
    expect(reached).toEqual(expect.arrayContaining(['/me', '/me/', '/ME', '/me?x', ...own]));
  });

  it('of an evicted JWT does not reach a handler with its own guard, in 200 spellings [lesson 25, S4]', async () => {
    const { username } = newUser(application);
    const [loser, winner] = [new TokenClient(application.url), new TokenClient(application.url)];
    await loser.login(username);
    await winner.login(username);
    const random = generator(7);
    let reached = 0;
    for (let n = 0; n < 200; n++) {
      const path = respelled('/token/me', random);
      const passed = await raw(path, { authorization: `Bearer ${winner.token}` });
      const refused = await raw(path, { authorization: `Bearer ${loser.token}` });
      expect([path, refused.status]).toEqual([path, passed.status === 200 ? 401 : passed.status]);
      if (passed.status === 200) reached++;
    }
    expect(reached).toBeGreaterThan(20);
  });

  /** The same spellings in every run. */
  function generator(seed: number): () => number {
    let state = seed;
    return () => (state = (state * 48_271) % 2_147_483_647) / 2_147_483_647;
  }

  function respelled(path: string, random: () => number): string {
    const spell = (character: string): string => {
      const dice = random();
      if (character === '/') return dice < 0.03 ? '//' : dice < 0.06 ? '/./' : '/';
      if (dice < 0.08) return `%${character.charCodeAt(0).toString(16)}`;
      return dice < 0.5 ? character.toUpperCase() : character;
    };
    const TAILS = ['', '', '', '/', '?a=1', ';v=1', '%20'];
    return Array.from(path, spell).join('') + TAILS[Math.floor(random() * TAILS.length)];
  }
});
