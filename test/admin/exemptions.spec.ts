import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { SingleSessionService } from '../../src/index.js';
import { startApplication, Users, type TestApplication, type TestUser } from '../support/application.js';
import {
  ADMIN,
  ADMIN_OPTIONS,
  Client,
  contentOf,
  someoneNew,
  sql,
  statesOf,
} from '../support/administration.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { LOOK_ALIKES } from '../support/look-alikes.js';
import { newUser } from '../support/sessions.js';
import { someone, times } from '../support/store.js';

const EXEMPTIONS = `${ADMIN}/exemptions`;
const HOUR = 3_600_000;
const users = new Users();

let databaseUrl: string;
let here: TestApplication;
/** Another process on the same database, as far as the database can tell. */
let there: TestApplication;
let admin: Client;

beforeAll(async () => {
  databaseUrl = await freshDatabase();
  const options = { ...ADMIN_OPTIONS, exempt: { usernames: ['fixed'], roles: ['service'], when: isRobot } };
  here = await startApplication(databaseUrl, { users, options });
  there = await startApplication(databaseUrl, { users, options });
});

beforeEach(async () => {
  admin = await someoneNew(here, ['admin']);
});

afterAll(async () => {
  await there?.close();
  await here?.close();
  await dropDatabase(databaseUrl);
});

const isRobot = (user: unknown): boolean => (user as TestUser).username.startsWith('robot');

type Kind = 'username' | 'role';
const query = (kind: Kind, value: string): string =>
  `${EXEMPTIONS}?kind=${kind}&value=${encodeURIComponent(value)}`;

async function exempt(kind: Kind, value: string, more: object = {}): Promise<void> {
  const { status, body } = await admin.put(EXEMPTIONS, { kind, value, ...more });
  if (status !== 200) throw new Error(`${status} ${JSON.stringify(body)}`);
}

const unexempt = async (kind: Kind, value: string): Promise<number> =>
  (await admin.delete(query(kind, value))).status;

/** One after the other, so that each would evict the one before. */
async function logins(user: TestUser, places: TestApplication[]): Promise<Client[]> {
  const clients: Client[] = [];
  for (const [n, place] of places.entries())
    clients.push((await Client.signIn(place, user, n % 2 ? 'cookie' : 'token')).at(place));
  return clients;
}

const everywhere = (): TestApplication[] => [there, here, there];

interface Listed {
  kind: string;
  value: string;
  origin: string;
  note: string | null;
  addedBy: string | null;
  expiresAt: string | null;
}

const listed = async (): Promise<Listed[]> => (await admin.get(EXEMPTIONS)).body.items;

describe.each(['username', 'role'] as const)('an exemption by %s', (kind) => {
  let user: TestUser;
  let value: string;

  beforeEach(() => {
    const role = someone('role');
    user = newUser(here, { roles: ['user', role] });
    value = kind === 'username' ? user.username : role;
  });

  it('is in force on every instance at the very next login, and ends nobody any more [lesson 31]', async () => {
    await exempt(kind, value);
    const clients = await logins(user, everywhere());
    expect(await statesOf(clients)).toEqual(['live', 'live', 'live']);
    const { items } = (await admin.get(`${ADMIN}?userId=${user.id}`)).body;
    expect(items.map((item: { exempt: boolean }) => item.exempt)).toEqual([true, true, true]);
  });

  it('leaves the session from before it alone', async () => {
    const [before] = await logins(user, [here]);
    await exempt(kind, value);
    const after = await logins(user, everywhere());
    expect(await statesOf([before!, ...after])).toEqual(['live', 'live', 'live', 'live']);
  });

  it('is for nobody else', async () => {
    await exempt(kind, value);
    const other = newUser(here);
    expect(await statesOf(await logins(other, everywhere()))).toEqual(['superseded', 'superseded', 'live']);
  });

  it('is over once it has expired, for the check of no session and the next login of all', async () => {
    const expiresAt = new Date(Date.now() + HOUR).toISOString();
    await exempt(kind, value, { expiresAt });
    const clients = await logins(user, everywhere());
    expect(await statesOf(clients)).toEqual(['live', 'live', 'live']);
    await sql(here, `UPDATE user_session_exemption SET expires_at = now() WHERE value = $1`, [value]);
    expect((await listed()).map((item) => item.value)).not.toContain(value);
    expect(await here.app.get(SingleSessionService).explain(user)).toMatchObject({ exempt: false });
    expect(await unexempt(kind, value)).toBe(404);
    expect(await statesOf(clients)).toEqual(['live', 'live', 'live']);
    const [next] = await logins(user, [there]);
    expect(await statesOf([...clients, next!])).toEqual([...times(3, () => 'superseded'), 'live']);
  });

  it('that is removed limits the next login again, which ends all that was opened meanwhile, and leaves others alone [lesson 11]', async () => {
    await exempt(kind, value);
    const clients = await logins(user, everywhere());
    const other = await someoneNew(here);
    expect(await unexempt(kind, value)).toBe(200);
    expect(await statesOf(clients)).toEqual(['live', 'live', 'live']);
    const [next] = await logins(user, [there]);
    expect(await statesOf([...clients, next!, other])).toEqual([
      ...times(3, () => 'superseded'),
      'live',
      'live',
    ]);
    expect(await unexempt(kind, value)).toBe(404);
  });

  it('makes a logout end its own session only, also one from before it [lesson 12]', async () => {
    const [before] = await logins(user, [here]);
    await exempt(kind, value);
    const clients = await logins(user, [...everywhere(), here]);
    expect((await before!.post('/token/logout')).status).toBe(204);
    expect((await clients[0]!.post('/token/logout')).status).toBe(204);
    expect((await clients[1]!.post('/logout')).status).toBe(204);
    const left = [before!, clients[0]!, ...clients.slice(2)];
    expect(await statesOf(left)).toEqual(['logout', 'logout', 'live', 'live']);
  });

  it('that is removed makes a logout end all of them again, also those that it let in [lesson 12]', async () => {
    const [before] = await logins(user, [here]);
    await exempt(kind, value);
    const clients = await logins(user, everywhere());
    await unexempt(kind, value);
    expect((await before!.post('/token/logout')).status).toBe(204);
    expect(await statesOf([before!, ...clients])).toEqual(['logout', ...times(3, () => 'logout-everywhere')]);
  });

  it('is recorded, when it is added, changed and removed, with who did it and from where', async () => {
    await exempt(kind, value, { note: 'fleet of workers' });
    await exempt(kind, value);
    await unexempt(kind, value);
    await unexempt(kind, value);
    const { items } = (await admin.get(`${ADMIN}/actions?limit=3`)).body;
    const shared = { by: admin.user.username, ip: '127.0.0.1', target: { kind, value }, ended: null };
    expect(items).toMatchObject([
      { ...shared, action: 'remove-exemption', note: null },
      { ...shared, action: 'add-exemption', note: null },
      { ...shared, action: 'add-exemption', note: 'fleet of workers' },
    ]);
  });
});

describe('the list', () => {
  it('has those of the options as fixed, which cannot be removed, and nothing is recorded', async () => {
    const items = await listed();
    for (const [kind, value] of [
      ['username', 'fixed'],
      ['role', 'service'],
    ] as const) {
      const nothing = { note: null, addedBy: null, addedAt: null, expiresAt: null };
      expect(items).toContainEqual({ kind, value, origin: 'options', ...nothing });
      const before = await contentOf(here);
      const refused = await admin.delete(query(kind, value));
      expect([refused.status, refused.body.error]).toEqual([409, 'Conflict']);
      expect(await contentOf(here)).toBe(before);
    }
    expect(await unexempt('role', 'fixed')).toBe(404);
    expect(await unexempt('username', 'service')).toBe(404);
  });

  it('has one item for what was put twice, with the note, the expiry and the name of the second', async () => {
    const value = someone();
    await exempt('username', value, { note: 'first', expiresAt: new Date(Date.now() + HOUR).toISOString() });
    const root = await someoneNew(here, ['superadmin']);
    const expiresAt = new Date(Date.now() + 2 * HOUR).toISOString();
    const { body } = await root.put(EXEMPTIONS, { kind: 'username', value, note: 'second', expiresAt });
    const mine = (await listed()).filter((item) => item.value === value);
    expect(mine).toEqual([body]);
    expect(body).toMatchObject({ note: 'second', addedBy: root.user.username, expiresAt, origin: 'runtime' });
    const other = someone('another');
    await exempt('username', other);
    await exempt('username', value);
    // What was put last is the first of the list.
    const [again, before] = (await listed()).filter(({ origin }) => origin === 'runtime');
    expect(again).toMatchObject({ value, note: null, expiresAt: null, addedBy: admin.user.username });
    expect(before).toMatchObject({ value: other });
  });

  it('tells a role from a username of the same text', async () => {
    const value = someone();
    await exempt('role', value);
    const user = newUser(here, { username: value });
    expect(await statesOf(await logins(user, [here, there]))).toEqual(['superseded', 'live']);
    expect(await unexempt('username', value)).toBe(404);
    expect(await unexempt('role', value)).toBe(200);
  });

  it('lets what is in the options be put at run time, and removes that without touching the options', async () => {
    await exempt('username', 'fixed', { note: 'twice' });
    const both = (await listed()).filter(({ value }) => value === 'fixed');
    expect(both.map(({ origin }) => origin)).toEqual(['options', 'runtime']);
    expect(await unexempt('username', 'fixed')).toBe(200);
    expect(await unexempt('username', 'fixed')).toBe(409);
    const user = newUser(here, { username: 'fixed' });
    expect(await statesOf(await logins(user, [here, there]))).toEqual(['live', 'live']);
  });
});

describe.each(['username', 'role'] as const)('who only looks like the %s', (kind) => {
  it.each(LOOK_ALIKES)(
    '$how ($name) is not exempt, and cannot remove it [S10]',
    async ({ name, looksLike }) => {
      await exempt(kind, looksLike);
      const user = newUser(here, kind === 'username' ? { username: name } : { roles: [name] });
      const [first, second] = await logins(user, [here, there]);
      expect(await statesOf([first!, second!])).toEqual(['superseded', 'live']);
      expect(await unexempt(kind, name)).toBe(404);
      users.delete(user.username);
    },
  );
});

describe('the explanation', () => {
  const explain = async (username: string): Promise<Record<string, unknown>> =>
    (await admin.get(`${ADMIN}/policy?username=${encodeURIComponent(username)}`)).body;
  const byObject = (user: TestUser): Promise<unknown> => here.app.get(SingleSessionService).explain(user);

  it('names the option for whom nothing exempts', async () => {
    const { user } = await someoneNew(here);
    const expected = { maxSessions: 1, onLimit: 'evict', exempt: false };
    expect(await byObject(user)).toEqual({ ...expected, why: expect.stringContaining('maxSessions is 1') });
    expect(await explain(user.username)).toEqual({
      ...expected,
      why: expect.stringMatching(/maxSessions is 1.*exempt\.when/),
    });
  });

  it('names the exemption of the options: by username, by role, by function', async () => {
    const cases: [TestUser, RegExp][] = [
      [newUser(here, { username: 'fixed' }), /username "fixed".*exempt\.usernames of the options/],
      [(await someoneNew(here, ['user', 'service'])).user, /role "service".*exempt\.roles of the options/],
    ];
    for (const [user, why] of cases) {
      const expected = { maxSessions: null, onLimit: 'evict', exempt: true, why: expect.stringMatching(why) };
      expect(await byObject(user)).toEqual(expected);
      expect(await explain(user.username)).toEqual(expected);
    }
    const robot = newUser(here, { username: someone('robot') });
    expect(await byObject(robot)).toMatchObject({
      exempt: true,
      why: expect.stringContaining('exempt.when'),
    });
  });

  it.each(['username', 'role'] as const)(
    'names the exemption at run time by %s, who added it, and until when',
    async (kind) => {
      const { user } = await someoneNew(here, [someone('role')]);
      const value = kind === 'username' ? user.username : user.roles[0]!;
      const expiresAt = new Date(Date.now() + HOUR).toISOString();
      await exempt(kind, value, { expiresAt });
      for (const said of [await byObject(user), await explain(user.username)]) {
        const { why, ...rest } = said as { why: string };
        expect(rest).toEqual({ maxSessions: null, onLimit: 'evict', exempt: true });
        for (const part of [kind, value, admin.user.username, 'run time', expiresAt])
          expect(why).toContain(part);
      }
      await unexempt(kind, value);
      expect(await explain(user.username)).toMatchObject({ exempt: false, maxSessions: 1 });
    },
  );

  it('tells the same as the next login does', async () => {
    const { user } = await someoneNew(here);
    for (const isExempt of [true, false, true]) {
      if (isExempt) await exempt('username', user.username);
      else await unexempt('username', user.username);
      expect((await explain(user.username))['exempt']).toBe(isExempt);
      const before = (await admin.get(`${ADMIN}?userId=${user.id}`)).body.items.length;
      await Client.signIn(there, user);
      const after = (await admin.get(`${ADMIN}?userId=${user.id}`)).body.items.length;
      expect(after).toBe(isExempt ? before + 1 : 1);
    }
  });

  it('asks the functions of the options where findUser finds the user, and says that it cannot where not', async () => {
    const place = await startApplication(databaseUrl, {
      users,
      options: {
        ...ADMIN_OPTIONS,
        exempt: { when: isRobot },
        onLimit: 'reject',
        maxSessions: (user: TestUser) => (user.roles.includes('unlimited') ? Infinity : 3),
        idleTimeout: HOUR,
        findUser: (username) => Promise.resolve(users.get(username) ?? null),
      },
    });
    try {
      const boss = await someoneNew(place, ['admin']);
      const ask = async (username: string): Promise<unknown> =>
        (await boss.get(`${ADMIN}/policy?username=${username}`)).body;
      const three = { maxSessions: 3, onLimit: 'reject', exempt: false };
      const { username } = newUser(place);
      expect(await ask(username)).toEqual({
        ...three,
        why: expect.stringMatching(/function maxSessions .*3/),
      });
      const robot = newUser(place, { username: someone('robot') });
      expect(await ask(robot.username)).toMatchObject({ exempt: true, maxSessions: null });
      const unlimited = newUser(place, { roles: ['unlimited'] });
      expect(await ask(unlimited.username)).toMatchObject({
        exempt: true,
        maxSessions: null,
        why: expect.stringContaining('maxSessions'),
      });
      expect(await ask(someone('robot-unknown'))).toEqual({
        maxSessions: null,
        onLimit: 'reject',
        exempt: false,
        why: expect.stringMatching(/decides at the login.*exempt\.when/),
      });
    } finally {
      await place.close();
    }
  });
});
