import { afterAll, beforeAll, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { ValidationPipe } from '@nestjs/common';
import { DataSource } from 'typeorm';
import { AdministrationStore } from '../../src/session/administration-store.js';
import { StoreUnavailableError } from '../../src/session/session-store.js';
import { startApplication, Users, type TestApplication, type TestUser } from '../support/application.js';
import {
  ADMIN,
  ADMIN_OPTIONS,
  BearerGuard,
  Client,
  contentOf,
  countLive,
  endAll,
  someoneNew,
  sql,
  statesOf,
} from '../support/administration.js';
import { Browser, type Answer } from '../support/client.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { platform, routesOf } from '../support/platform.js';
import { eventually, newUser } from '../support/sessions.js';
import { watchStatements, type StatementWatch } from '../support/statements.js';
import { times } from '../support/store.js';

const ISO = expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
const NOBODY = '00000000-0000-4000-8000-000000000000';

const users = new Users();
let databaseUrl: string;
let watch: StatementWatch;
let application: TestApplication;
let converting: TestApplication;
let admin: Client;
let root: Client;

beforeAll(async () => {
  databaseUrl = await freshDatabase();
  watch = await watchStatements(databaseUrl);
  application = await startApplication(watch.url, {
    users,
    options: { ...ADMIN_OPTIONS, exempt: { usernames: ['batch'], roles: ['service'] } },
  });
  converting = await startApplication(databaseUrl, {
    users,
    options: ADMIN_OPTIONS,
    configure: (app) =>
      app.useGlobalPipes(
        new ValidationPipe({ transform: true, transformOptions: { enableImplicitConversion: true } }),
      ),
  });
});

beforeEach(async () => {
  await endAll(application);
  admin = await someoneNew(application, ['admin']);
  root = await someoneNew(application, ['superadmin']);
});

afterAll(async () => {
  await converting?.close();
  await application?.close();
  await watch?.stop();
  await dropDatabase(databaseUrl);
});

interface Call {
  path?: string;
  body?: object;
}

/** Every route of the controllers, and a call of it that is good. `target` is somebody's live session. */
const ROUTES: Record<string, (target: Client) => Call> = {
  'GET /admin/sessions': () => ({ path: '?limit=1' }),
  'GET /admin/sessions/summary': () => ({}),
  'DELETE /admin/sessions/:id': ({ sessionId }) => ({ path: `/${sessionId}` }),
  'POST /admin/sessions/logout': ({ user }) => ({ body: { usernames: [user.username] } }),
  'POST /admin/sessions/logout-everyone': () => ({ body: {} }),
  'GET /admin/sessions/policy': ({ user }) => ({ path: `/policy?username=${user.username}` }),
  'GET /admin/sessions/exemptions': () => ({}),
  'PUT /admin/sessions/exemptions': () => ({ body: { kind: 'role', value: 'matrix' } }),
  // After the row above, which adds it.
  'DELETE /admin/sessions/exemptions': () => ({ path: '/exemptions?kind=role&value=matrix' }),
  'GET /admin/sessions/actions': () => ({}),
  'GET /admin/sessions/ui': () => ({}),
  'GET /admin/sessions/ui/app.js': () => ({}),
  'GET /admin/sessions/ui/app.css': () => ({}),
};

function call(route: string, target: Client, caller: Pick<Client, 'send'> | Browser): Promise<Answer> {
  const [method, path] = route.split(' ') as [string, string];
  const { path: given, body } = ROUTES[route]!(target);
  const tail = given ?? path.slice(ADMIN.length);
  return caller.send(method, ADMIN + tail, body);
}

const registeredRoutes = ({ app }: TestApplication): string[] =>
  routesOf(app)
    .filter((route) => route.split(' ')[1]!.startsWith(ADMIN))
    .sort();

describe('who may call', () => {
  it('every route of the controllers has a row in the table of this file [S3]', () => {
    expect(registeredRoutes(application)).toEqual(Object.keys(ROUTES).sort());
  });

  it.each(Object.keys(ROUTES))(
    '%s: 401 for nobody and for an evicted administrator, 403 for a user, and nothing changes; then it answers both administrators [S3]',
    async (route) => {
      const [target, user] = [await someoneNew(application), await someoneNew(application)];
      const evicted = await someoneNew(application, ['superadmin']);
      const winner = await Client.signIn(application, evicted.user);
      await eventually(
        () => sql(application, UNMARKED),
        (rows) => rows.length === 0,
      );
      const before = await contentOf(application);

      const anonymous = await call(route, target, new Browser(application.url));
      expect([anonymous.status, anonymous.body.code]).toEqual([401, undefined]);
      const forbidden = await call(route, target, user);
      expect([forbidden.status, Object.keys(forbidden.body).sort()]).toEqual([
        403,
        ['message', 'statusCode'],
      ]);
      const ended = await call(route, target, evicted);
      expect(ended.status).toBe(401);
      expect(ended.body).toMatchObject({ code: 'SESSION_ENDED', reason: 'superseded' });
      expect(await contentOf(application)).toBe(before);
      expect(await statesOf([target, user, winner, admin, root])).toEqual(times(5, () => 'live'));

      const lesser = await call(route, target, admin);
      expect(lesser.status).toBe(200);
      if (route === 'DELETE /admin/sessions/exemptions')
        await admin.put(`${ADMIN}/exemptions`, { kind: 'role', value: 'matrix' });
      expect((await call(route, await someoneNew(application), root)).status).toBe(200);
    },
  );

  it('a lesser administrator never ends an administrator, by no route; a super administrator does [S6]', async () => {
    const other = await someoneNew(application, ['admin'], 'token');
    const { username, id } = other.user;
    expect((await admin.delete(`${ADMIN}/${other.sessionId}`)).body).toEqual({
      ended: 0,
      skipped: [{ userId: String(id), why: 'administrator' }],
    });
    await admin.post(`${ADMIN}/logout`, { usernames: [username], userIds: [String(id)] });
    await admin.post(`${ADMIN}/logout-everyone`, { except: { me: true } });
    const refused = await admin.post(`${ADMIN}/logout-everyone`, { except: { administrators: false } });
    expect(refused.status).toBe(403);
    const dryRun = { except: { administrators: false }, dryRun: true };
    expect((await admin.post(`${ADMIN}/logout-everyone`, dryRun)).status).toBe(403);
    expect(await statesOf([other, root, admin])).toEqual(['live', 'live', 'live']);

    expect((await root.delete(`${ADMIN}/${other.sessionId}`)).body).toEqual({ ended: 1, skipped: [] });
    expect(await statesOf([other, admin, root])).toEqual(['admin', 'live', 'live']);
  });

  describe.each(['by role', 'by function'])('an administrator %s who signs in', (how) => {
    let place: TestApplication;
    let lesser: Client;

    beforeAll(async () => {
      const admin =
        how === 'by role'
          ? ADMIN_OPTIONS.admin
          : {
              guards: [BearerGuard],
              logout: (user: TestUser) => user.roles.includes('admin'),
              logoutAdmins: (user: TestUser) => user.roles.includes('superadmin'),
            };
      place = await startApplication(databaseUrl, { users, options: { admin, maxSessions: 2 } });
    });

    afterAll(() => place?.close());

    beforeEach(async () => {
      lesser = await someoneNew(place, ['admin']);
    });

    const waiting = async (count: number): Promise<void> => {
      const text = `SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`;
      await eventually(
        () => sql(place, text),
        (rows) => rows.length === count,
      );
    };

    it.each(['usernames', 'userIds'])(
      'while a lesser one is logging him out by %s stays signed in: what counts is the role of the login that came first [S6]',
      async (by) => {
        const older = await someoneNew(place, ['superadmin'], 'token');
        const { id, username } = older.user;
        const runner = place.app.get(DataSource).createQueryRunner();
        await runner.startTransaction();
        await runner.query('SELECT FROM user_session_slots WHERE user_id = $1 FOR UPDATE', [String(id)]);
        // Both sessions of before are out of the slots when the login is through.
        const signingIn = [Client.signIn(place, older.user, 'token')];
        await waiting(1);
        signingIn.push(Client.signIn(place, older.user, 'token'));
        await waiting(2);
        const order = { [by]: [by === 'userIds' ? String(id) : username] };
        const answering = lesser.post(`${ADMIN}/logout`, order);
        await waiting(3);
        await runner.rollbackTransaction();
        await runner.release();
        const [clients, { body }] = [await Promise.all(signingIn), await answering];
        expect(body).toMatchObject({ ended: 0, skipped: [{ why: 'administrator' }] });
        expect(await statesOf(clients)).toEqual(['live', 'live']);
      },
    );

    it('again and again, while lesser ones log him out by every way, ends with the sessions that he may have [S6]', async () => {
      for (const round of times(8, (n) => n)) {
        const boss = newUser(place, { roles: ['superadmin'] });
        const before = round % 2 ? [await Client.signIn(place, boss, 'token')] : [];
        const order = { usernames: [boss.username], userIds: [String(boss.id)] };
        const [clients] = await Promise.all([
          Promise.all(times(3, () => Client.signIn(place, boss, 'token'))),
          ...before.map(({ sessionId }) => lesser.delete(`${ADMIN}/${sessionId}`)),
          ...times(3, () => lesser.post(`${ADMIN}/logout`, order)),
          lesser.post(`${ADMIN}/logout-everyone`),
        ]);
        expect(await countLive([...before, ...clients])).toBe(2);
      }
    });
  });

  it('who lost the role is refused at once, and who gets it may act at once; a token keeps what its strategy says [lesson 30]', async () => {
    const former = await someoneNew(application, ['admin']);
    const target = await someoneNew(application);
    expect((await former.get(ADMIN)).status).toBe(200);
    former.user.roles = ['user'];
    expect((await former.delete(`${ADMIN}/${target.sessionId}`)).status).toBe(403);
    expect((await former.post(`${ADMIN}/logout-everyone`)).status).toBe(403);
    expect((await former.get(ADMIN)).status).toBe(403);
    expect(await target.state()).toBe('live');
    former.user.roles = ['user', 'admin'];
    expect((await former.delete(`${ADMIN}/${target.sessionId}`)).body.ended).toBe(1);
  });

  it('an administrator by token may act, and an evicted one may not', async () => {
    const first = await someoneNew(application, ['admin'], 'token');
    expect((await first.get(`${ADMIN}/summary`)).status).toBe(200);
    await Client.signIn(application, first.user, 'token');
    const refused = await first.post(`${ADMIN}/logout-everyone`);
    expect(refused.body).toMatchObject({ statusCode: 401, code: 'SESSION_ENDED', reason: 'superseded' });
    expect(refused.headers.get('www-authenticate')).toBe('Bearer error="invalid_token"');
  });
});

const UNMARKED = `SELECT 1 FROM user_session s JOIN user_session_slots u USING (user_id)
  WHERE s.ended_at IS NULL AND NOT s.exempt AND s.id <> ALL (u.active)`;

describe('answers', () => {
  it('are kept by nobody and guessed at by no browser [S9]', async () => {
    for (const path of ['', '/summary', '/exemptions', '/actions']) {
      const { headers } = await admin.get(ADMIN + path);
      expect(headers.get('cache-control')).toBe('no-store');
      expect(headers.get('x-content-type-options')).toBe('nosniff');
      expect(headers.get('content-type')).toMatch(/^application\/json/);
    }
  });

  it('say that the store is what failed, when it fails after the session was checked, and when to ask again', async () => {
    const failure = new StoreUnavailableError('the store does not answer');
    const store = jest.spyOn(application.app.get(AdministrationStore), 'list').mockRejectedValueOnce(failure);
    const { status, body, headers } = await admin.get(ADMIN);
    store.mockRestore();
    expect([status, body.code, headers.get('retry-after')]).toEqual([503, 'SESSION_STORE_UNAVAILABLE', '1']);
  });

  it('from the page on, no other site is told where it stands', async () => {
    const { headers } = await admin.get(`${ADMIN}/ui`);
    expect(headers.get('referrer-policy')).toBe('no-referrer');
  });

  it('GET / lists sessions with exactly the members of the contract, live and ended', async () => {
    const person = await someoneNew(application, ['user', 'editor'], 'token');
    const { id, username } = person.user;
    const listed = (await admin.get(`${ADMIN}?username=${username}`)).body;
    const item = {
      id: person.sessionId,
      userId: String(id),
      username,
      roles: ['user', 'editor'],
      createdAt: ISO,
      lastSeenAt: ISO,
      expiresAt: ISO,
      ip: '127.0.0.1',
      userAgent: 'test of tokens',
      exempt: false,
      state: 'active',
      endReason: null,
      endedAt: null,
      endedBy: null,
      current: false,
    };
    expect(listed).toEqual({ items: [item], nextCursor: null });
    await admin.delete(`${ADMIN}/${person.sessionId}`);
    expect((await admin.get(`${ADMIN}?username=${username}&state=ended`)).body.items).toEqual([
      { ...item, state: 'ended', endReason: 'admin', endedAt: ISO, endedBy: admin.user.username },
    ]);
  });

  it('GET / marks the session of the caller as current, and no other', async () => {
    await someoneNew(application);
    for (const caller of [admin, root, await someoneNew(application, ['admin'], 'token')]) {
      const { items } = (await caller.get(ADMIN)).body as { items: { id: string; current: boolean }[] };
      expect(items.length).toBeGreaterThanOrEqual(3);
      expect(items.filter(({ current }) => current).map(({ id }) => id)).toEqual([caller.sessionId]);
    }
  });

  it('GET /summary counts what is live', async () => {
    await someoneNew(application, ['service']);
    await someoneNew(application);
    const evicted = await someoneNew(application);
    await Client.signIn(application, evicted.user, 'token');
    const expected = { activeSessions: 5, activeUsers: 5, administrators: 2, exemptSessions: 1, storms: [] };
    const answer = await eventually(
      () => admin.get(`${ADMIN}/summary`),
      ({ body }) => body.activeSessions === 5,
    );
    expect(answer.body).toEqual(expected);
  });

  it('DELETE /:id answers what ended, 404 for what nobody knows, and says so when there was nothing to end', async () => {
    const person = await someoneNew(application);
    const path = `${ADMIN}/${person.sessionId}`;
    const first = await admin.delete(path);
    expect([first.status, first.body]).toEqual([200, { ended: 1, skipped: [] }]);
    const again = { ended: 0, skipped: [{ userId: String(person.user.id), why: 'no-session' }] };
    expect((await admin.delete(path)).body).toEqual(again);
    for (const unknown of [
      NOBODY,
      'x',
      '%00',
      'null',
      '1',
      person.sessionId.slice(1),
      '%E2%80%AE',
      // Fastify's router itself refuses what is longer, with 414.
      '9'.repeat(platform === 'fastify' ? 100 : 500),
    ])
      expect([unknown, (await admin.delete(`${ADMIN}/${unknown}`)).status]).toEqual([unknown, 404]);
    // Of the unknown, nothing was done.
    const { items } = (await admin.get(`${ADMIN}/actions?limit=3`)).body;
    expect(items.slice(0, 2)).toMatchObject(times(2, () => ({ target: { sessionId: person.sessionId } })));
  });

  it('DELETE /:id records the id as the list shows it, also of one that was given in capitals', async () => {
    const { sessionId } = await someoneNew(application);
    expect((await admin.delete(`${ADMIN}/${sessionId.toUpperCase()}`)).body.ended).toBe(1);
    const [action] = (await admin.get(`${ADMIN}/actions?limit=1`)).body.items;
    expect(action.target).toEqual({ sessionId });
  });

  it('DELETE /:id ends this one session, and no other of its user', async () => {
    const worker = newUser(application, { roles: ['service'] });
    const clients = await Promise.all([
      Client.signIn(application, worker),
      Client.signIn(application, worker, 'token'),
      Client.signIn(application, worker),
    ]);
    expect((await admin.delete(`${ADMIN}/${clients[1].sessionId}`)).body).toEqual({ ended: 1, skipped: [] });
    expect(await statesOf(clients)).toEqual(['live', 'admin', 'live']);
  });

  it('POST /logout names everybody who was left alone, with the reason [lesson 28]', async () => {
    const [byName, byId] = [await someoneNew(application), await someoneNew(application, ['user'], 'token')];
    const offline = newUser(application);
    const order = {
      usernames: [byName.user.username, root.user.username, offline.username, 'nobody'],
      userIds: [String(byId.user.id), String(admin.user.id), '404'],
      note: 'left the company',
    };
    const answer = await admin.post(`${ADMIN}/logout`, order);
    expect(answer.status).toBe(200);
    expect(Object.keys(answer.body).sort()).toEqual(['dryRun', 'ended', 'skipped', 'users']);
    expect(answer.body).toMatchObject({ ended: 2, users: 2, dryRun: false });
    expect(answer.body.skipped).toHaveLength(5);
    expect(answer.body.skipped).toEqual(
      expect.arrayContaining([
        { username: root.user.username, why: 'administrator' },
        { username: offline.username, why: 'no-session' },
        { username: 'nobody', why: 'no-session' },
        { userId: String(admin.user.id), why: 'administrator' },
        { userId: '404', why: 'no-session' },
      ]),
    );
    expect(await statesOf([byName, byId, root, admin])).toEqual(['admin', 'admin', 'live', 'live']);
    const [action] = (await admin.get(`${ADMIN}/actions?limit=1`)).body.items;
    expect(action).toMatchObject({ action: 'logout', ended: 2, users: 2, note: 'left the company' });
  });

  it('POST /logout ends nobody for a name that is not in use any more', async () => {
    const { id, username: former } = newUser(application);
    await (await Client.signIn(application, users.get(former)!)).post('/logout');
    const renamed = await Client.signIn(application, newUser(application, { id, username: `not ${former}` }));
    expect((await admin.post(`${ADMIN}/logout`, { usernames: [former] })).body).toMatchObject({
      ended: 0,
      skipped: [{ username: former, why: 'no-session' }],
    });
    expect(await statesOf([renamed])).toEqual(['live']);
  });

  it('POST /logout counts sessions and users, and only what was live: an expired one that nobody has met stays expired', async () => {
    const worker = newUser(application, { roles: ['service'] });
    const [expired, ...live] = await Promise.all(times(3, () => Client.signIn(application, worker, 'token')));
    await sql(application, 'UPDATE user_session SET expires_at = now() WHERE id = $1', [expired!.sessionId]);
    const counts = { ended: 2, users: 1 };
    expect((await admin.post(`${ADMIN}/logout`, { userIds: [String(worker.id)] })).body).toMatchObject(
      counts,
    );
    expect((await admin.get(`${ADMIN}/actions?limit=1`)).body.items).toMatchObject([counts]);
    expect(await statesOf([expired!, ...live])).toEqual(['expired', 'admin', 'admin']);
  });

  it('POST /logout by a super administrator ends administrators too, and the caller when named', async () => {
    const answer = await root.post(`${ADMIN}/logout`, {
      usernames: [admin.user.username, root.user.username],
    });
    expect(answer.body).toEqual({ ended: 2, users: 2, skipped: [], dryRun: false });
    expect(await statesOf([admin, root])).toEqual(['admin', 'admin']);
  });

  it('POST /logout counts a user who is named twice once', async () => {
    const { user } = await someoneNew(application);
    const order = { usernames: [user.username, user.username], userIds: [String(user.id)] };
    const dry = (await admin.post(`${ADMIN}/logout`, { ...order, dryRun: true })).body;
    expect(dry).toEqual({ ended: 1, users: 1, skipped: [], dryRun: true });
    expect((await admin.post(`${ADMIN}/logout`, order)).body).toEqual({ ...dry, dryRun: false });
  });

  it('POST /logout with dryRun counts the same, ends nothing and records nothing', async () => {
    const people = await Promise.all(times(3, () => someoneNew(application)));
    const usernames = [...people.map(({ user }) => user.username), 'nobody', root.user.username];
    const before = await contentOf(application);
    const dry = (await admin.post(`${ADMIN}/logout`, { usernames, dryRun: true })).body;
    expect(await contentOf(application)).toBe(before);
    expect(await countLive(people)).toBe(3);
    const real = (await admin.post(`${ADMIN}/logout`, { usernames })).body;
    expect(real).toEqual({ ...dry, dryRun: false });
    expect(real).toMatchObject({ ended: 3, users: 3 });
    expect(await countLive(people)).toBe(0);
  });

  it('GET /actions tells what was done, by whom, from where, newest first, in pages', async () => {
    const [a, b] = [await someoneNew(application), await someoneNew(application)];
    await admin.delete(`${ADMIN}/${a.sessionId}`);
    await root.post(`${ADMIN}/logout`, { userIds: [String(b.user.id)], note: '<b>bold</b>' });
    await admin.put(`${ADMIN}/exemptions`, { kind: 'username', value: 'x', note: 'why' });
    await admin.delete(`${ADMIN}/exemptions?kind=username&value=x`);
    const shape = { id: expect.stringMatching(/^\d+$/), at: ISO, ip: '127.0.0.1' };
    const [by, byRoot] = [admin.user.username, root.user.username];
    const target = { kind: 'username', value: 'x' };
    const expected = [
      { ...shape, by, action: 'remove-exemption', ended: null, users: null, note: null, target },
      { ...shape, by, action: 'add-exemption', ended: null, users: null, note: 'why', target },
      {
        ...shape,
        by: byRoot,
        action: 'logout',
        ended: 1,
        users: 1,
        note: '<b>bold</b>',
        target: { userIds: [String(b.user.id)], usernames: [] },
      },
      {
        ...shape,
        by,
        action: 'end-session',
        ended: 1,
        users: 1,
        note: null,
        target: { sessionId: a.sessionId },
      },
    ];
    const first = (await admin.get(`${ADMIN}/actions?limit=3`)).body;
    const second = (await admin.get(`${ADMIN}/actions?limit=1&cursor=${first.nextCursor}`)).body;
    expect([...first.items, ...second.items]).toEqual(expected);
    expect(Object.keys(first).sort()).toEqual(['items', 'nextCursor']);
  });

  it('GET /policy and /exemptions have exactly the members of the contract', async () => {
    const policy = (await admin.get(`${ADMIN}/policy?username=nobody`)).body;
    expect(policy).toEqual({ maxSessions: 1, onLimit: 'evict', exempt: false, why: expect.any(String) });
    const put = await admin.put(`${ADMIN}/exemptions`, { kind: 'role', value: 'r1', note: 'n' });
    const item = {
      kind: 'role',
      value: 'r1',
      origin: 'runtime',
      note: 'n',
      addedBy: admin.user.username,
      addedAt: ISO,
      expiresAt: null,
    };
    expect([put.status, put.body]).toEqual([200, item]);
    const { body } = await admin.get(`${ADMIN}/exemptions`);
    expect(Object.keys(body)).toEqual(['items']);
    expect(body.items).toContainEqual(item);
    for (const known of body.items) expect(Object.keys(known).sort()).toEqual(Object.keys(item).sort());
    expect((await admin.delete(`${ADMIN}/exemptions?kind=role&value=r1`)).status).toBe(200);
    expect((await admin.delete(`${ADMIN}/exemptions?kind=role&value=r1`)).status).toBe(404);
  });
});

describe('what is said to be ended is dead, and nothing else is [S17]', () => {
  const routes: [string, (people: Client[]) => Promise<Answer>][] = [
    ['DELETE /:id', ([first]) => admin.delete(`${ADMIN}/${first!.sessionId}`)],
    [
      'POST /logout by name',
      (people) =>
        admin.post(`${ADMIN}/logout`, { usernames: people.slice(1).map(({ user }) => user.username) }),
    ],
    [
      'POST /logout by id',
      (people) =>
        admin.post(`${ADMIN}/logout`, { userIds: people.slice(2).map(({ user }) => String(user.id)) }),
    ],
    [
      'POST /logout-everyone',
      (people) =>
        admin.post(`${ADMIN}/logout-everyone`, { except: { usernames: [people[3]!.user.username] } }),
    ],
  ];

  it.each(routes)(
    '%s: the count is that of the credentials which are refused from now on',
    async (_, act) => {
      const people = await Promise.all(
        times(6, (place) => someoneNew(application, ['user'], place % 2 ? 'cookie' : 'token')),
      );
      const worker = newUser(application, { roles: ['service'] });
      people.push(
        await Client.signIn(application, worker),
        await Client.signIn(application, worker, 'token'),
      );
      const evicted = await Client.signIn(application, people[0]!.user);
      people.push(evicted, await Client.signIn(application, people[0]!.user));
      const before = await statesOf(people);

      const { body } = await act([...people.slice(-1), ...people.slice(0, -1)]);

      const after = await statesOf(people);
      const died = people.filter((_person, place) => before[place] === 'live' && after[place] !== 'live');
      expect(died.length).toBeGreaterThan(0);
      expect(body.ended).toBe(died.length);
      const usersOf = new Set(died.map(({ user }) => user.id)).size;
      expect(body.users ?? usersOf).toBe(usersOf);
      expect(await statesOf([admin, root])).toEqual(['live', 'live']);
      expect(await countLive(people)).toBe(after.filter((state) => state === 'live').length);
    },
  );
});

describe('a list', () => {
  interface Listed {
    id: string;
    createdAt: string;
  }

  async function everyPage(query: string, between: () => Promise<unknown>): Promise<Listed[]> {
    const items: Listed[] = [];
    for (let cursor: string | null = ''; cursor !== null;) {
      const { status, body } = await admin.get(`${ADMIN}?${query}${cursor && `&cursor=${cursor}`}`);
      expect(status).toBe(200);
      items.push(...body.items);
      cursor = body.nextCursor as string | null;
      await between();
    }
    return items;
  }

  it.each(['active', 'all'])(
    'of state %s comes newest first, without gaps or repeats while logins go on, also within one microsecond [S21]',
    async (state) => {
      const people = await Promise.all(times(14, () => someoneNew(application)));
      const ids = people.map(({ sessionId }) => sessionId);
      await sql(
        application,
        `UPDATE user_session s SET created_at = '2026-01-01 00:00:00.123456Z'::timestamptz + (q.place / 5) * interval '1 microsecond'
         FROM unnest($1::uuid[]) WITH ORDINALITY AS q (id, place) WHERE s.id = q.id`,
        [ids],
      );
      const noise = newUser(application);
      const items = await everyPage(`limit=3&state=${state}`, () => Client.signIn(application, noise));
      const seen = items.map(({ id }) => id);
      expect(new Set(seen).size).toBe(seen.length);
      const ours = items.filter(({ id }) => ids.includes(id));
      expect(ours.map(({ id }) => id).sort()).toEqual(ids.sort());
      const times_ = items.map(({ createdAt }) => createdAt);
      expect(times_).toEqual([...times_].sort().reverse());
    },
  );

  it('of ended sessions pages the same, whatever ended them', async () => {
    const people = await Promise.all(times(7, () => someoneNew(application)));
    await admin.post(`${ADMIN}/logout`, { usernames: people.slice(0, 3).map(({ user }) => user.username) });
    await admin.post(`${ADMIN}/logout-everyone`);
    const items = await everyPage('limit=2&state=ended&role=user', () => Promise.resolve());
    const ids = items.map(({ id }) => id);
    expect(new Set(ids).size).toBe(ids.length);
    expect(ids).toEqual(expect.arrayContaining(people.map(({ sessionId }) => sessionId)));
  });

  it('is filtered by user, name, role and state, exactly, and by all of them together', async () => {
    const editor = await someoneNew(application, ['user', 'editor']);
    const writer = await someoneNew(application, ['user', 'writer']);
    const newer = await Client.signIn(application, editor.user);
    await eventually(
      () => sql(application, UNMARKED),
      (rows) => rows.length === 0,
    );
    const { id, username } = editor.user;
    const cases: [string, string[]][] = [
      [`userId=${id}`, [newer.sessionId]],
      [`userId=${id}&state=all`, [newer.sessionId, editor.sessionId]],
      [`username=${username}&state=ended`, [editor.sessionId]],
      ['role=editor', [newer.sessionId]],
      ['role=user', [newer.sessionId, writer.sessionId]],
      [`role=writer&userId=${id}`, []],
      [`role=editor&userId=${id}&username=${username}&state=active`, [newer.sessionId]],
      [`username=${username.toUpperCase()}`, []],
      [`username=${username}%25`, []],
      ['username=%27%20OR%201%3D1--', []],
      ['role=edit', []],
    ];
    for (const [query, expected] of cases) {
      const { items } = (await admin.get(`${ADMIN}?${query}`)).body as { items: Listed[] };
      expect([query, items.map((item) => item.id)]).toEqual([query, expected]);
    }
  });

  it('has 50 unless asked for more, and 200 at most', async () => {
    await sql(
      application,
      `WITH people AS (SELECT 'many' || n AS user_id, gen_random_uuid() AS id FROM generate_series(1, 220) AS n),
       slots AS (INSERT INTO user_session_slots (user_id, generation, active, floor, succession, protected_generation)
         SELECT user_id, 1, ARRAY[id], 0, '{}', 0 FROM people)
       INSERT INTO user_session (id, user_id, username, roles, administrator, generation, exempt, cutoff, created_at, last_seen_at, expires_at)
       SELECT id, user_id, user_id, '{many}', false, 1, false, (SELECT COALESCE(max(id), 0) FROM user_session_cutoff), now(), now(), now() + interval '1 day' FROM people`,
    );
    expect((await admin.get(`${ADMIN}?role=many`)).body.items).toHaveLength(50);
    const most = (await admin.get(`${ADMIN}?role=many&limit=200`)).body;
    expect(most.items).toHaveLength(200);
    const rest = (await admin.get(`${ADMIN}?role=many&limit=200&cursor=${most.nextCursor}`)).body;
    expect([rest.items.length, rest.nextCursor]).toEqual([20, null]);
  });

  it('says that what is no number is none, not that it is too large', async () => {
    const { status, body } = await admin.get(`${ADMIN}?limit=abc`);
    expect([status, body.message]).toEqual([400, ['limit must be an integer number']]);
  });
});

const many = (count: number): string[] => times(count, (n) => `user-${n}`);
const evil = (json: string): object => ({ raw: json });

/** Method, path, body (`raw`: as it is, since an object literal has no own `__proto__`). */
const BAD: [string, string, object?][] = [
  ...[
    'limit=0',
    'limit=-1',
    'limit=1e9',
    'limit=1000000000',
    'limit=NaN',
    'limit=1;drop',
    'limit=201',
    `limit=${2 ** 53}`,
    'limit=',
    'limit=1.5',
    'limit=Infinity',
    'limit=1&limit=2',
    'limit=null',
    'cursor=',
    'cursor=x',
    'cursor=1',
    `cursor=1.${'-'.repeat(36)}`,
    `cursor=1.${'a'.repeat(36)}`,
    `cursor=99999999999999999999.${NOBODY}`,
    `cursor=1.${NOBODY}x`,
    'cursor=%27;--',
    'state=dead',
    'state=',
    'state=active&state=ended',
    'username=',
    'username=a&username=b',
    `username=${'x'.repeat(256)}`,
    'username=%00',
    'userId=a%00b',
    'role=%00',
    'role=',
    'unknown=1',
    '__proto__=1',
    'constructor=1',
    'offset=10',
    'order=id',
    'username[a]=1',
  ].map((query): [string, string] => ['GET', `?${query}`]),
  ...['limit=0', 'limit=1e9', 'cursor=x', `cursor=${'9'.repeat(40)}`, 'cursor=-1', 'state=all'].map(
    (query): [string, string] => ['GET', `/actions?${query}`],
  ),
  ...['', '?username=', '?username=a&username=b', '?username=%00', '?username=a&x=1', '?user=a'].map(
    (query): [string, string] => ['GET', `/policy${query}`],
  ),
  ...['', '?kind=username', '?value=x', '?kind=when&value=x', '?kind=username&value=%00'].map(
    (query): [string, string] => ['DELETE', `/exemptions${query}`],
  ),
  ...[
    {},
    [],
    [{ usernames: ['alice'] }],
    { userIds: [] },
    { usernames: [] },
    { userIds: [], usernames: [] },
    { userIds: null },
    { userIds: '1' },
    { usernames: 'alice' },
    { userIds: [1] },
    { usernames: [null] },
    { usernames: [['alice']] },
    { usernames: [{}] },
    { usernames: { 0: 'alice' } },
    { usernames: [''] },
    { usernames: ['alice\0'] },
    { usernames: ['\ud800'] },
    { usernames: ['x'.repeat(256)] },
    { usernames: many(1_001) },
    { userIds: many(600), usernames: many(401) },
    { usernames: ['alice'], dryRun: 'false' },
    { usernames: ['alice'], dryRun: 'true' },
    { usernames: ['alice'], dryRun: 0 },
    { usernames: ['alice'], dryRun: null },
    { usernames: ['alice'], note: 1 },
    { usernames: ['alice'], note: null },
    { usernames: ['alice'], note: '\0' },
    { usernames: ['alice'], note: 'a\udc00b' },
    { usernames: ['alice'], note: 'x'.repeat(1_001) },
    { usernames: ['alice'], everyone: true },
    { usernames: ['alice'], constructor: 1 },
    { usernames: ['alice'], hasOwnProperty: 1 },
    { usernames: ['alice'], toString: 'x' },
    { usernames: ['alice'], __defineGetter__: 'x' },
    evil('{"usernames":["alice"],"__proto__":{"dryRun":true}}'),
    evil('{"__proto__":{"usernames":["alice"]}}'),
  ].map((body): [string, string, object] => ['POST', '/logout', body]),
  ...[
    [],
    [{}],
    [{ dryRun: true }],
    { except: null },
    { except: [] },
    { except: 'administrators' },
    { except: true },
    { except: { administrators: 'false' } },
    { except: { administrators: 'true' } },
    { except: { administrators: null } },
    { except: { administrators: 1 } },
    { except: { me: 'false' } },
    { except: { me: null } },
    { except: { roles: 'admin' } },
    { except: { roles: [1] } },
    { except: { roles: [''] } },
    { except: { roles: ['\ud800'] } },
    { except: { roles: ['\0'] } },
    { except: { usernames: null } },
    { except: { usernames: many(1_001) } },
    { except: { userIds: [1] } },
    { except: { admins: true } },
    { except: { except: {} } },
    { dryRun: 'true' },
    { dryRun: 'false' },
    { dryRun: 1 },
    { dryRun: null },
    { note: ['a'] },
    { dryrun: true },
    evil('{"__proto__":{"dryRun":true}}'),
    evil('{"except":{"__proto__":{"roles":["user"]}}}'),
    evil('{"except":{"constructor":{"prototype":{"x":1}}}}'),
  ].map((body): [string, string, object] => ['POST', '/logout-everyone', body]),
  ...[
    {},
    [],
    { kind: 'username' },
    { value: 'alice' },
    { kind: 'when', value: 'alice' },
    { kind: ['username'], value: 'alice' },
    { kind: 'username', value: '' },
    { kind: 'username', value: ['alice'] },
    { kind: 'username', value: 1 },
    { kind: 'username', value: 'a\0' },
    { kind: 'username', value: '\udfff' },
    { kind: 'username', value: 'x'.repeat(256) },
    { kind: 'username', value: 'alice', note: null },
    { kind: 'username', value: 'alice', expiresAt: null },
    { kind: 'username', value: 'alice', expiresAt: 1 },
    { kind: 'username', value: 'alice', expiresAt: 'tomorrow' },
    { kind: 'username', value: 'alice', expiresAt: '2020-01-01T00:00:00Z' },
    { kind: 'username', value: 'alice', expiresAt: '2999-13-01T00:00:00Z' },
    { kind: 'username', value: 'alice', expiresAt: '2999-02-31T00:00:00Z' },
    { kind: 'username', value: 'alice', expiresAt: '2999-02-29T00:00:00+02:00' },
    { kind: 'username', value: 'alice', expiresAt: '2999-01-01' },
    { kind: 'username', value: 'alice', origin: 'options' },
    { kind: 'username', value: 'alice', addedBy: 'root' },
    evil('{"kind":"username","value":"alice","__proto__":{"note":"x"}}'),
  ].map((body): [string, string, object] => ['PUT', '/exemptions', body]),
];

const textOf = (body: object | undefined): string =>
  body === undefined ? '' : 'raw' in body ? String(body.raw) : JSON.stringify(body);

const named = BAD.map(([method, path, body]): [string, string, string, string] => {
  const text = textOf(body);
  return [
    `${method} ${path} ${text.length > 90 ? `${text.slice(0, 80)}… (${text.length})` : text}`,
    method,
    path,
    text,
  ];
});

async function sendText(
  client: Client,
  url: string,
  method: string,
  path: string,
  text: string,
): Promise<Answer> {
  const answer = await fetch(url + ADMIN + path, {
    method,
    headers: { cookie: client.browser.cookie!, ...(text && { 'content-type': 'application/json' }) },
    ...(text && { body: text }),
  });
  return { status: answer.status, body: await answer.json(), headers: answer.headers };
}

/** Fastify's own parser refuses such keys, in its own words. */
const isRefusedByParser = (text: string, status: number): boolean =>
  platform === 'fastify' && /"(__proto__|constructor)"/.test(text) && status === 400;

describe.each(['plainly', 'under a global pipe that converts'])('bad input, %s', (how) => {
  const base = (): TestApplication => (how === 'plainly' ? application : converting);
  let caller: Client;

  beforeEach(async () => {
    const user = newUser(base(), { roles: ['superadmin'] });
    caller = await Client.signIn(base(), user);
  });

  it('gets 400 in the shape of Nest, ends nothing, records nothing, pollutes nothing [S18, S21]', async () => {
    const victim = await Client.signIn(base(), users.get('alice')!);
    await eventually(
      () => sql(application, UNMARKED),
      (rows) => rows.length === 0,
    );
    const before = await contentOf(application);
    const wrong: unknown[] = [];
    for (const [title, method, path, text] of named) {
      const { status, body } = await sendText(caller, base().url, method, path, text);
      const shape = Array.isArray(body.message) && body.message.every((m: unknown) => typeof m === 'string');
      const keys = Object.keys(body).sort().join();
      if (isRefusedByParser(text, status)) continue;
      if (status !== 400 || !shape || keys !== 'error,message,statusCode' || body.error !== 'Bad Request')
        wrong.push([title, status, body]);
    }
    expect(wrong).toEqual([]);
    expect(await contentOf(application)).toBe(before);
    expect(await victim.state()).toBe('live');
    expect(Object.prototype).not.toHaveProperty('dryRun');
    expect(Object.prototype).not.toHaveProperty('x');
  });

  it('that is no JSON object at all gets 400, and ends nothing [S18]', async () => {
    const before = await contentOf(application);
    for (const path of ['/logout', '/logout-everyone'])
      for (const text of ['null', 'true', '1', '"x"', '{', '{"dryRun":tru', 'undefined'])
        expect([text, (await sendText(caller, base().url, 'POST', path, text)).status]).toEqual([text, 400]);
    expect(await contentOf(application)).toBe(before);
  });

  it('that is a list gets 400 from us: not each Nest of our peers refuses one [S18]', async () => {
    for (const path of ['/logout', '/logout-everyone'])
      for (const list of ['[]', '[{}]', '[{"dryRun":true}]'])
        expect((await sendText(caller, base().url, 'POST', path, list)).body.message).toEqual([
          'expected an object',
        ]);
  });

  it('good input at the edge of it is taken: 1,000 users, names of 255, a note of 1,000, an empty list of exceptions', async () => {
    const logout = await caller.send('POST', `${ADMIN}/logout`, {
      usernames: [...many(998), 'x'.repeat(255)],
      userIds: ["Robert'); DROP TABLE user_session;--"],
      note: '\u{1F600}'.repeat(500),
    });
    expect(logout.status).toBe(200);
    expect(logout.body.skipped).toHaveLength(1_000);
    const everyone = { except: { roles: [], usernames: [], userIds: [] }, dryRun: true };
    const answer = await caller.send('POST', `${ADMIN}/logout-everyone`, everyone);
    expect([answer.status, answer.body.dryRun]).toEqual([200, true]);
  });
});

describe('who exists', () => {
  /** The body, and the statements that it took. */
  async function cost(action: () => Promise<Answer>): Promise<[number, unknown, number]> {
    watch.clear();
    const { status, body } = await action();
    return [status, body, watch.statements.length];
  }

  it('a caller without permission learns nothing of: the same answers and statements for known and unknown names [lesson 29, S7]', async () => {
    const person = await someoneNew(application);
    const user = await someoneNew(application);
    const callers: Pick<Client, 'send'>[] = [user, new Browser(application.url)];
    const { username, id } = person.user;
    const pairs: [string, (known: boolean) => [string, object?]][] = [
      ['GET', (known) => [`?username=${known ? username : 'nobody'}`]],
      ['GET', (known) => [`?userId=${known ? id : 404}`]],
      ['GET', (known) => [`/policy?username=${known ? username : 'nobody'}`]],
      ['DELETE', (known) => [`/${known ? person.sessionId : NOBODY}`]],
      ['POST', (known) => ['/logout', { usernames: [known ? username : 'nobody'] }]],
      ['POST', (known) => ['/logout', { userIds: [known ? String(id) : '404'], dryRun: true }]],
      ['POST', (known) => ['/logout-everyone', { except: { usernames: [known ? username : 'nobody'] } }]],
      ['PUT', (known) => ['/exemptions', { kind: 'username', value: known ? username : 'nobody' }]],
      ['DELETE', (known) => [`/exemptions?kind=username&value=${known ? 'batch' : 'nobody'}`]],
      ['GET', (known) => [known ? '?limit=1' : '?limit=0']],
      ['POST', (known) => ['/logout', known ? { usernames: [username] } : {}]],
    ];
    await user.state();
    for (const caller of callers)
      for (const [method, of] of pairs) {
        const [known, unknown] = [of(true), of(false)];
        const first = await cost(() => caller.send(method, ADMIN + known[0], known[1]));
        expect(await cost(() => caller.send(method, ADMIN + unknown[0], unknown[1]))).toEqual(first);
        expect([401, 403]).toContain(first[0]);
        expect(first[2]).toBeLessThanOrEqual(1);
        expect(JSON.stringify(first[1])).not.toContain(username);
      }
  });

  it('an administrator is not told from an ended session: an unknown name and an idle one are the same [S7]', async () => {
    const idle = newUser(application);
    const cost1 = await cost(() => admin.post(`${ADMIN}/logout`, { usernames: [idle.username] }));
    const cost2 = await cost(() => admin.post(`${ADMIN}/logout`, { usernames: ['nobody'] }));
    expect(cost1).toEqual([
      200,
      { ended: 0, users: 0, skipped: [{ username: idle.username, why: 'no-session' }], dryRun: false },
      cost1[2],
    ]);
    expect([cost2[0], cost2[2]]).toEqual([cost1[0], cost1[2]]);
    expect(cost2[1]).toMatchObject({ ended: 0, users: 0, dryRun: false });
  });
});
