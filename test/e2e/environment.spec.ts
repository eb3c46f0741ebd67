import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { Browser } from '../support/client.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { endAllProcesses, runToEnd, startProcess } from '../support/processes.js';

// What the demo reads of its environment before any platform is loaded.

let databaseUrl: string;

beforeAll(async () => {
  databaseUrl = await freshDatabase();
});

afterAll(async () => {
  await endAllProcesses();
  await dropDatabase(databaseUrl);
});

const settings = (env: Record<string, string> = {}) => ({
  env: { DATABASE_URL: databaseUrl, SESSION_SECRET: 'shared by the processes of this test', ...env },
});

describe('a wrong environment variable', () => {
  const wrong: [name: string, value: string, says: RegExp][] = [
    ['MAX_SESSIONS', '0', /MAX_SESSIONS is "0".* whole number/],
    ['MAX_SESSIONS', '1.5', /MAX_SESSIONS is "1.5"/],
    ['MAX_SESSIONS', '-1', /MAX_SESSIONS is "-1"/],
    ['MAX_SESSIONS', 'one', /MAX_SESSIONS is "one"/],
    ['MAX_SESSIONS', '1001', /1,?000/],
    ['ON_LIMIT', 'refuse', /ON_LIMIT is "refuse".*evict or reject/],
    ['FRESHNESS', 'weak', /FRESHNESS is "weak".*strong, or milliseconds from 100/],
    ['FRESHNESS', '99', /FRESHNESS is "99"/],
    ['LOGOUT_EVERYWHERE', 'yes', /LOGOUT_EVERYWHERE is "yes".*true or false/],
    ['UNREGISTERED', 'ignore', /UNREGISTERED is "ignore".*reject or adopt/],
    ['PLATFORM', 'koa', /PLATFORM is "koa".*express or fastify/],
    ['PORT', '99999', /PORT is "99999"/],
    ['DATABASE_URL', 'mysql://u:hidden@h/d', /DATABASE_URL must look like postgres:/],
  ];

  it('stops the start with code 1 and says what to write instead [S26]', async () => {
    for (let i = 0; i < wrong.length; i += 4) {
      await Promise.all(
        wrong.slice(i, i + 4).map(async ([name, value, says]) => {
          const { code, stdout, stderr } = await runToEnd(settings({ [name]: value }));
          expect({ name, value, code, stdout, stderr }).toEqual({
            name,
            value,
            code: 1,
            stdout: '',
            stderr: expect.stringMatching(says),
          });
          expect(stderr).not.toMatch(/hidden|\n\s+at /);
        }),
      );
    }
  });

  it('is not one that is empty or absent: the defaults of the contract hold', async () => {
    const empty = Object.fromEntries(
      ['MAX_SESSIONS', 'ON_LIMIT', 'FRESHNESS', 'LOGOUT_EVERYWHERE', 'UNREGISTERED', 'PLATFORM'].map(
        (name) => [name, ''],
      ),
    );
    const server = await startProcess(settings(empty));
    expect(server.stdout()).toMatch(/1 per user, onLimit: evict/);
    expect(server.stdout()).toMatch(/exempt +users: xqueue-watcher; roles: service/);
  });
});

describe('without DATABASE_URL', () => {
  it('brings a PostgreSQL of its own, which ends with it', async () => {
    const server = await startProcess({ env: {} });
    expect((await new Browser(server.url).login('alice')).status).toBe(200);
    expect(await server.stop()).toEqual({ code: 0, signal: null });
    expect(server.stderr()).toBe('');
  });
});
