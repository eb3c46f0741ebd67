import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { startApplication, Users, type TestApplication } from '../support/application.js';
import { ADMIN, ADMIN_OPTIONS, someoneNew, statesOf, type Client } from '../support/administration.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { until } from '../support/store.js';

// Far longer than a test: what is refused within it was not refused because of its age.
const options = { ...ADMIN_OPTIONS, freshness: { maxStalenessMs: 60_000 } };

let databaseUrl: string;
let here: TestApplication;
let there: TestApplication;
let root: Client;

beforeAll(async () => {
  databaseUrl = await freshDatabase();
  const users = new Users();
  here = await startApplication(databaseUrl, { options, users });
  there = await startApplication(databaseUrl, { options, users });
});

afterAll(async () => {
  await here?.close();
  await there?.close();
  await dropDatabase(databaseUrl);
});

const ENDINGS: [string, (victim: Client) => Promise<unknown>, string][] = [
  ['one session', ({ sessionId }) => root.delete(`${ADMIN}/${sessionId}`), 'admin'],
  ['a user by id', ({ user }) => root.post(`${ADMIN}/logout`, { userIds: [String(user.id)] }), 'admin'],
  ['a user by name', ({ user }) => root.post(`${ADMIN}/logout`, { usernames: [user.username] }), 'admin'],
  ['everyone', () => root.post(`${ADMIN}/logout-everyone`), 'cut-off'],
];

describe('what an administrator ends, with checks from memory', () => {
  it.each(ENDINGS)(
    '%s: is refused here at once and elsewhere as soon as it is told [P4, S24]',
    async (_, end, reason) => {
      root = await someoneNew(here, ['superadmin']);
      const victim = await someoneNew(here, ['user'], 'token');
      const elsewhere = victim.at(there);
      expect(await statesOf([victim, elsewhere, victim, elsewhere])).toEqual(Array(4).fill('live'));
      await end(victim);
      expect(await victim.state()).toBe(reason);
      await until(async () => (await elsewhere.state()) === reason);
    },
  );
});
