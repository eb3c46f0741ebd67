import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { SingleSessionService } from '../../src/index.js';
import { startApplication, Users, type TestApplication } from '../support/application.js';
import {
  ADMIN,
  ADMIN_OPTIONS,
  Client,
  contentOf,
  countLive,
  endAll,
  someoneNew,
  statesOf,
  sql,
  type Kind,
} from '../support/administration.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { newUser } from '../support/sessions.js';
import { times, until } from '../support/store.js';

const EVERYONE = `${ADMIN}/logout-everyone`;
const users = new Users();

let databaseUrl: string;
let application: TestApplication;
let admin: Client;
let root: Client;

beforeAll(async () => {
  databaseUrl = await freshDatabase();
  const options = { ...ADMIN_OPTIONS, exempt: { roles: ['service'] } };
  application = await startApplication(databaseUrl, { users, options });
});

beforeEach(async () => {
  await endAll(application);
  admin = await someoneNew(application, ['admin']);
  root = await someoneNew(application, ['superadmin']);
});

afterAll(async () => {
  await application?.close();
  await dropDatabase(databaseUrl);
});

/** One of each: by cookie, by token, exempt by cookie and by token. */
async function crowd(roles: string[] = ['user']): Promise<Client[]> {
  const one = (more: string[], kind: Kind): Promise<Client> =>
    someoneNew(application, [...roles, ...more], kind);
  return [
    await one([], 'cookie'),
    await one([], 'token'),
    await one(['service'], 'cookie'),
    await one(['service'], 'token'),
  ];
}

const all = (count: number, state: string): string[] => times(count, () => state);

describe('who is spared', () => {
  it('by default: administrators of both kinds, the caller among them; nobody else, exempt, by token or by cookie [lesson 27]', async () => {
    const people = await crowd();
    const others = [await someoneNew(application, ['user', 'admin'], 'token'), root];
    const answer = await admin.post(EVERYONE, {});
    expect(answer.status).toBe(200);
    expect(answer.body).toEqual({ ended: 4, users: 4, spared: 3, dryRun: false });
    expect(await statesOf(people)).toEqual(all(4, 'cut-off'));
    expect(await statesOf([admin, ...others])).toEqual(all(3, 'live'));
  });

  it('a body that is left out means the same', async () => {
    const person = await someoneNew(application);
    expect((await admin.send('POST', EVERYONE)).body).toMatchObject({ ended: 1, spared: 2 });
    expect(await statesOf([person, admin, root])).toEqual(['cut-off', 'live', 'live']);
  });

  it('by role: who has it, and no look-alike of it', async () => {
    const editors = await crowd(['editor']);
    const others = [await someoneNew(application, ['Editor']), await someoneNew(application, ['editors'])];
    const { body } = await admin.post(EVERYONE, { except: { roles: ['editor'] } });
    expect(body).toEqual({ ended: 2, users: 2, spared: 6, dryRun: false });
    expect(await statesOf(editors)).toEqual(all(4, 'live'));
    expect(await statesOf(others)).toEqual(all(2, 'cut-off'));
  });

  it('by username and by user id', async () => {
    const [byName, byId, neither, mixedUp] = await crowd();
    const { body } = await admin.post(EVERYONE, {
      except: {
        usernames: [byName!.user.username, String(neither!.user.id)],
        userIds: [String(byId!.user.id), mixedUp!.user.username],
      },
    });
    expect(body).toEqual({ ended: 2, users: 2, spared: 4, dryRun: false });
    expect(await statesOf([byName!, byId!, neither!, mixedUp!])).toEqual([
      'live',
      'live',
      'cut-off',
      'cut-off',
    ]);
  });

  it('with administrators: false only the caller; with me: false as well nobody at all [lesson 27]', async () => {
    const people = [...(await crowd()), admin];
    const mine = await root.post(EVERYONE, { except: { administrators: false } });
    expect(mine.body).toEqual({ ended: 5, users: 5, spared: 1, dryRun: false });
    expect(await statesOf(people)).toEqual(all(5, 'cut-off'));
    expect(await root.state()).toBe('live');

    const another = await someoneNew(application, ['superadmin']);
    const none = await root.post(EVERYONE, { except: { administrators: false, me: false } });
    expect(none.body).toEqual({ ended: 2, users: 2, spared: 0, dryRun: false });
    expect(await statesOf([root, another])).toEqual(['cut-off', 'cut-off']);
  });

  it('me: false does not end a caller who is an administrator while those are spared', async () => {
    expect((await admin.post(EVERYONE, { except: { me: false } })).body).toMatchObject({ spared: 2 });
    expect(await admin.state()).toBe('live');
  });

  it("me spares all sessions of the caller's user, and nobody else's", async () => {
    const user = newUser(application, { roles: ['superadmin', 'service'] });
    const own = [await Client.signIn(application, user), await Client.signIn(application, user, 'token')];
    const { body } = await own[0]!.post(EVERYONE, { except: { administrators: false } });
    expect(body).toEqual({ ended: 2, users: 2, spared: 2, dryRun: false });
    expect(await statesOf(own)).toEqual(['live', 'live']);
  });

  it('endEveryone() of the service spares administrators unless told otherwise, and is recorded with its name', async () => {
    const service = application.app.get(SingleSessionService);
    const person = await someoneNew(application);
    expect(await service.endEveryone({ by: 'nightly job', note: 'closing time' })).toEqual({
      ended: 1,
      users: 1,
      spared: 2,
      dryRun: false,
    });
    expect(await statesOf([person, admin])).toEqual(['cut-off', 'live']);
    const [action] = (await admin.get(`${ADMIN}/actions?limit=1`)).body.items;
    expect(action).toMatchObject({ by: 'nightly job', note: 'closing time', ended: 1, ip: null });
    expect(await service.endEveryone({ except: { administrators: false } })).toMatchObject({ ended: 2 });
  });

  it('endEveryone() of the service spares by role, by username and by user id; what is undefined is as if left out', async () => {
    const service = application.app.get(SingleSessionService);
    const [byName, byId, neither] = await crowd();
    const byRole = await someoneNew(application, ['editor']);
    const except = {
      administrators: undefined,
      roles: ['editor'],
      usernames: [byName!.user.username],
      userIds: [String(byId!.user.id)],
    };
    const order = { by: undefined, note: undefined, dryRun: undefined, except };
    expect(await service.endEveryone(order)).toMatchObject({ ended: 2, spared: 5 });
    expect(await statesOf([byRole, byName!, byId!, neither!])).toEqual(['live', 'live', 'live', 'cut-off']);
  });
});

describe('a dry run', () => {
  it.each([
    {},
    { administrators: false },
    { administrators: false, me: false },
    { roles: ['editor'] },
    { administrators: false, roles: ['editor', 'admin'], me: false },
  ])(
    'with %j counts what the real one ends, ends nothing and records nothing [lesson 27]',
    async (except) => {
      const people = [...(await crowd()), ...(await crowd(['editor'])), admin, root];
      const evicted = await someoneNew(application);
      people.push(await Client.signIn(application, evicted.user));
      await until(
        async () =>
          (
            await sql(application, `SELECT 1 FROM user_session WHERE id = $1 AND ended_at IS NOT NULL`, [
              evicted.sessionId,
            ])
          ).length === 1,
      );
      const before = await contentOf(application);
      const dry = (await root.post(EVERYONE, { except, dryRun: true })).body;
      expect(await contentOf(application)).toBe(before);
      expect(await countLive(people)).toBe(11);

      const real = (await root.post(EVERYONE, { except })).body;
      expect(real).toEqual({ ...dry, dryRun: false });
      expect([await countLive(people), real.ended]).toEqual([real.spared, 11 - real.spared]);
    },
  );
});

describe('a role that changes', () => {
  it('a former administrator is not spared, and 403 before that', async () => {
    const former = await someoneNew(application, ['admin']);
    former.user.roles = ['user'];
    expect((await former.get(ADMIN)).status).toBe(403);
    expect((await admin.post(EVERYONE)).body).toEqual({ ended: 1, users: 1, spared: 2, dryRun: false });
    expect(await former.state()).toBe('cut-off');
  });

  it('a former administrator whose session has made no request since he was demoted is not spared either [lesson 30]', async () => {
    const former = await someoneNew(application, ['admin']);
    former.user.roles = ['user'];
    await admin.post(EVERYONE);
    expect(await former.state()).toBe('cut-off');
    expect(await admin.state()).toBe('live');
  });

  it('nobody comes back by a promotion, whether the session was refused meanwhile or not', async () => {
    const [asked, silent] = [await someoneNew(application), await someoneNew(application)];
    const demoted = await someoneNew(application, ['admin']);
    demoted.user.roles = ['user'];
    await demoted.state();
    await admin.post(EVERYONE);
    expect(await asked.state()).toBe('cut-off');
    for (const { user } of [asked, silent, demoted]) user.roles = ['admin'];
    expect(await statesOf([silent, demoted])).toEqual(['cut-off', 'cut-off']);
    expect((await silent.get(ADMIN)).status).toBe(401);
  });

  it('who was promoted is spared by the next login, not by the session from before', async () => {
    const promoted = await someoneNew(application);
    promoted.user.roles = ['admin'];
    expect((await promoted.get(ADMIN)).status).toBe(200);
    const anew = await someoneNew(application);
    anew.user.roles = ['admin'];
    const newer = await Client.signIn(application, anew.user);
    await admin.post(EVERYONE);
    expect(await statesOf([promoted, newer])).toEqual(['cut-off', 'live']);
  });

  it('an administrator whose role becomes another that makes one is spared, before and after the next request [lesson 27]', async () => {
    const [asked, silent] = [
      await someoneNew(application, ['admin']),
      await someoneNew(application, ['admin']),
    ];
    for (const { user } of [asked, silent]) user.roles = ['superadmin'];
    expect((await asked.get(ADMIN)).status).toBe(200);
    expect((await admin.post(EVERYONE)).body).toMatchObject({ ended: 0, spared: 4 });
    expect(await statesOf([asked, silent])).toEqual(['live', 'live']);
    for (const { user } of [asked, silent]) user.roles = ['user'];
    expect(await statesOf([asked, silent])).toEqual(['cut-off', 'cut-off']);
  });

  it('a role that was lost and given back does not spare: it was not held all the time', async () => {
    const wavering = await someoneNew(application, ['editor']);
    wavering.user.roles = [];
    expect(await wavering.state()).toBe('live');
    wavering.user.roles = ['editor'];
    expect(await wavering.state()).toBe('live');
    await admin.post(EVERYONE, { except: { roles: ['editor'] } });
    expect(await wavering.state()).toBe('cut-off');
  });

  it('a session shows its new roles after the next request', async () => {
    const { user, ...person } = await someoneNew(application, ['user', 'editor']);
    const roles = async (): Promise<unknown> =>
      (await admin.get(`${ADMIN}?userId=${user.id}`)).body.items[0].roles;
    user.roles = ['user', 'writer'];
    expect(await roles()).toEqual(['user', 'editor']);
    await person.browser.get('/me');
    expect(await roles()).toEqual(['user', 'writer']);
  });
});

describe('after it', () => {
  it.each(['evict', 'reject'] as const)(
    'with onLimit %s everyone can sign in again at once, stays signed in, and is ended by the next one',
    async (onLimit) => {
      const options = { ...ADMIN_OPTIONS, onLimit, maxSessions: 2 };
      const other = await startApplication(databaseUrl, { users, options });
      try {
        const boss = await someoneNew(other, ['admin']);
        const user = newUser(other);
        const first = [await Client.signIn(other, user), await Client.signIn(other, user, 'token')];
        await boss.post(EVERYONE);
        const second = [await Client.signIn(other, user, 'token'), await Client.signIn(other, user)];
        expect(await statesOf([...first, ...second])).toEqual(['cut-off', 'cut-off', 'live', 'live']);
        expect((await boss.post(EVERYONE)).body).toMatchObject({ users: 1, ended: 2 });
        expect(await statesOf(second)).toEqual(['cut-off', 'cut-off']);
        expect(await Client.signIn(other, user).then((client) => client.state())).toBe('live');
      } finally {
        await other.close();
      }
    },
  );

  it('a second cut-off spares by its own exceptions, and does not bring back what the first ended', async () => {
    const [a, b, c] = await crowd();
    const except = (person: Client): object => ({ except: { usernames: [person.user.username] } });
    await admin.post(EVERYONE, { except: { usernames: [a!, b!].map(({ user }) => user.username) } });
    expect((await admin.post(EVERYONE, except(c!))).body).toMatchObject({ ended: 2, spared: 2 });
    expect((await admin.post(EVERYONE, except(b!))).body).toMatchObject({ ended: 0, spared: 2 });
    expect(await statesOf([a!, b!, c!])).toEqual(all(3, 'cut-off'));
    const again = await Client.signIn(application, a!.user);
    expect((await admin.post(EVERYONE, except(a!))).body).toMatchObject({ ended: 0, spared: 3 });
    expect(await again.state()).toBe('live');
  });

  it('the ended are listed with reason and name of who ended them, and are not among the active, at once and later', async () => {
    const people = await crowd();
    const ids = people.map(({ sessionId }) => sessionId).sort();
    const listed = async (state: string): Promise<Record<string, unknown>[]> =>
      (await admin.get(`${ADMIN}?role=user&limit=200&state=${state}`)).body.items.filter(
        ({ id }: { id: string }) => ids.includes(id),
      );
    await admin.post(EVERYONE, { note: 'maintenance' });
    const expectListed = async (): Promise<void> => {
      const items = await listed('ended');
      expect(items.map(({ id }) => String(id)).sort()).toEqual(ids);
      for (const item of items)
        expect(item).toMatchObject({
          state: 'ended',
          endReason: 'cut-off',
          endedBy: admin.user.username,
          endedAt: expect.stringMatching(/Z$/),
        });
      expect(await listed('active')).toEqual([]);
      expect(await listed('all')).toHaveLength(4);
    };
    await expectListed();
    await until(
      async () =>
        (await sql(application, 'SELECT 1 FROM user_session WHERE id = ANY($1) AND ended_at IS NULL', [ids]))
          .length === 0,
    );
    await expectListed();
  });

  it('the record tells who, how many, whom it spared and why', async () => {
    await crowd();
    const answer = await admin.post(EVERYONE, { note: 'breach', except: { roles: ['editor'] } });
    expect(answer.body).toMatchObject({ ended: 4, users: 4 });
    const [action] = (await admin.get(`${ADMIN}/actions?limit=1`)).body.items;
    expect(action).toMatchObject({
      action: 'logout-everyone',
      by: admin.user.username,
      ip: '127.0.0.1',
      ended: 4,
      users: 4,
      note: 'breach',
      target: { except: { administrators: true, roles: ['editor'], userIds: [String(admin.user.id)] } },
    });
  });

  it("the summary counts none of them, and a user's second session counts as one user", async () => {
    const worker = newUser(application, { roles: ['service'] });
    await Promise.all(times(3, () => Client.signIn(application, worker, 'token')));
    expect((await admin.post(EVERYONE)).body).toEqual({ ended: 3, users: 1, spared: 2, dryRun: false });
    await until(async () => (await admin.get(`${ADMIN}/summary`)).body.activeSessions === 2);
  });
});

describe('logins at the same moment', () => {
  it('are wholly before or wholly after: each is live or cut off, never half, and nobody is locked out', async () => {
    const people = times(30, () => newUser(application));
    const cut = [10, 20].map((after) => async (): Promise<void> => {
      await until(() => started > after);
      expect((await admin.post(EVERYONE)).status).toBe(200);
    });
    let started = 0;
    const logins = people.map(async (user, place) => {
      started++;
      return Client.signIn(application, user, place % 2 ? 'token' : 'cookie');
    });
    const [clients] = await Promise.all([Promise.all(logins), ...cut.map((go) => go())]);
    const states = await statesOf(clients);
    expect(new Set([...states, 'live', 'cut-off'])).toEqual(new Set(['live', 'cut-off']));
    // What is refused stays refused, and the list says the same.
    const live = clients.filter((_, place) => states[place] === 'live').map(({ sessionId }) => sessionId);
    const { items } = (await admin.get(`${ADMIN}?role=user&limit=200`)).body as { items: { id: string }[] };
    expect(items.map(({ id }) => id).sort()).toEqual(live.sort());
    const again = await Promise.all(people.map((user) => Client.signIn(application, user)));
    expect(await countLive(again)).toBe(30);
  });
});
