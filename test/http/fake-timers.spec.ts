import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { startApplication, Users, type TestApplication } from '../support/application.js';
import { Browser, TokenClient } from '../support/client.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { newUser } from '../support/sessions.js';

const users = new Users();
let databaseUrl: string;
let application: TestApplication | undefined;

beforeEach(async () => {
  databaseUrl = await freshDatabase();
});

afterEach(async () => {
  jest.useRealTimers();
  await application?.close();
  await dropDatabase(databaseUrl);
});

/** What Vitest's `vi.useFakeTimers()` stops: all but what a query needs that the application makes itself. */
const stopTime = () => jest.useFakeTimers({ doNotFake: ['nextTick', 'queueMicrotask'] });

describe.each([
  ['strong', {}],
  ['bounded', { freshness: { maxStalenessMs: 60_000 } }],
] as const)("while an application's own test has stopped the time, with %s checks,", (_, options) => {
  it.each([
    ['cookie', Browser, '/login', '/me', '/logout'],
    ['token', TokenClient, undefined, '/token/me', '/token/logout'],
  ] as const)('a %s is admitted, checked, evicted and logged out', async (__, Client, login, me, logout) => {
    application = await startApplication(databaseUrl, { users, options });
    const { username } = newUser({ users });
    const [first, second] = [new Client(application.url), new Client(application.url)];
    stopTime();
    for (const client of [first, second]) {
      expect((await client.login(username, login)).status).toBe(200);
      expect((await client.get(me)).status).toBe(200);
    }
    const refused = { code: 'SESSION_ENDED', reason: 'superseded' };
    expect((await first.get(me)).body).toMatchObject(refused);
    expect((await second.post(logout)).status).toBe(204);
  });

  it('the application closes', async () => {
    application = await startApplication(databaseUrl, { users, options });
    const { username } = newUser({ users });
    stopTime();
    for (const client of [new TokenClient(application.url), new TokenClient(application.url)])
      expect((await client.login(username)).status).toBe(200);
    await application.close();
    application = undefined;
  });
});
