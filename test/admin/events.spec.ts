import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { EventEmitter } from 'node:events';
import { Injectable, Logger, Module } from '@nestjs/common';
import { EventEmitter2, EventEmitterModule, OnEvent } from '@nestjs/event-emitter';
import { DataSource } from 'typeorm';
import {
  SingleSessionEvents,
  SingleSessionModule,
  SingleSessionService,
  type EndedEvent,
  type SingleSessionEvent,
} from '../../src/index.js';
import {
  startApplication,
  Users,
  type TestApplication,
  type TestApplicationSettings,
} from '../support/application.js';
import {
  ADMIN,
  ADMIN_OPTIONS,
  Client,
  eventsOf,
  someoneNew,
  sql,
  statesOf,
} from '../support/administration.js';
import { Browser } from '../support/client.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { newUser } from '../support/sessions.js';
import { SessionStore } from '../../src/session/session-store.js';
import { Sweeper } from '../../src/session/sweeper.js';
import { quotedTableNames } from '../../src/typeorm/table-names.js';
import { times, until } from '../support/store.js';

const HOUR = 3_600_000;
const users = new Users();
const options = { ...ADMIN_OPTIONS, maxSessions: 1, idleTimeout: HOUR, exempt: { roles: ['service'] } };

let databaseUrl: string;
/** Processes of one cluster, as far as the database can tell. */
let cluster: TestApplication[];
let here: TestApplication;
let there: TestApplication;
let events: SingleSessionEvent[];
let admin: Client;

beforeAll(async () => {
  databaseUrl = await freshDatabase();
  cluster = [];
  for (const _ of times(3, () => 0)) cluster.push(await startApplication(databaseUrl, { users, options }));
  [here, there] = cluster as [TestApplication, TestApplication];
  events = [];
  for (const { app } of cluster)
    app.get(SingleSessionEvents).all.subscribe((event) => void events.push(event));
});

beforeEach(async () => {
  admin = await someoneNew(here, ['admin']);
});

afterAll(async () => {
  for (const place of cluster ?? []) await place.close();
  await dropDatabase(databaseUrl);
});

const isEnded = (event: SingleSessionEvent): event is EndedEvent => event.type === 'ended';

const endedOf = (...clients: Client[]): EndedEvent[] =>
  events.filter(isEnded).filter(({ sessionId }) => clients.some((client) => client.sessionId === sessionId));

async function endOf(client: Client): Promise<EndedEvent> {
  await until(() => endedOf(client).length > 0);
  return endedOf(client)[0]!;
}

const of = <Type extends SingleSessionEvent['type']>(
  type: Type,
): Extract<SingleSessionEvent, { type: Type }>[] =>
  events.filter((event): event is Extract<SingleSessionEvent, { type: Type }> => event.type === type);

/** What is written in the row is what was told. */
async function expectToldAsWritten({ sessionId, at, reason, by, replacedBy }: EndedEvent): Promise<void> {
  const [row] = await sql(
    here,
    `SELECT ended_at AS at, end_reason AS reason, ended_by AS by, replaced_by AS "replacedBy" FROM user_session WHERE id = $1`,
    [sessionId],
  );
  expect(row).toEqual({ at, reason, by, replacedBy });
}

describe('admitted', () => {
  it('tells who signed in, where from, and whether exempt; once, in the process that admitted', async () => {
    const client = await someoneNew(there, ['user', 'service'], 'token');
    const mine = of('admitted').filter(({ sessionId }) => sessionId === client.sessionId);
    expect(mine).toEqual([
      {
        type: 'admitted',
        at: expect.any(Date),
        sessionId: client.sessionId,
        userId: String(client.user.id),
        username: client.user.username,
        roles: ['user', 'service'],
        exempt: true,
        ip: '127.0.0.1',
        userAgent: 'test of tokens',
      },
    ]);
    const enforced = await someoneNew(here);
    expect(of('admitted').find(({ sessionId }) => sessionId === enforced.sessionId)).toMatchObject({
      exempt: false,
    });
  });

  it('is not told of a wrong password', async () => {
    const user = newUser(here);
    await new Browser(here.url).post('/login', { username: user.username, password: 'wrong' });
    expect(of('admitted').filter(({ userId }) => userId === String(user.id))).toEqual([]);
  });

  it('says exempt where an exemption at run time made it so', async () => {
    const user = newUser(here);
    await admin.put(`${ADMIN}/exemptions`, { kind: 'username', value: user.username });
    const { sessionId } = await Client.signIn(there, user);
    expect(of('admitted').find((event) => event.sessionId === sessionId)).toMatchObject({ exempt: true });
  });
});

describe('ended', () => {
  const common = ({ user, sessionId }: Client): object => ({
    type: 'ended',
    at: expect.any(Date),
    sessionId,
    userId: String(user.id),
    username: user.username,
  });

  it('superseded: by policy, with the session that replaced it', async () => {
    const first = await someoneNew(here);
    const second = await Client.signIn(there, first.user);
    expect(await endOf(first)).toEqual({
      ...common(first),
      reason: 'superseded',
      initiatedBy: 'policy',
      by: null,
      replacedBy: second.sessionId,
    });
    await expectToldAsWritten(endedOf(first)[0]!);
    expect(endedOf(second)).toEqual([]);
  });

  it.each(['cookie', 'token'] as const)('logout, by %s: by the user', async (kind) => {
    const client = await someoneNew(here, ['user'], kind);
    await client.post(kind === 'cookie' ? '/logout' : '/token/logout');
    const expected = { ...common(client), reason: 'logout', initiatedBy: 'user', replacedBy: null, by: null };
    expect(await endOf(client)).toEqual(expected);
  });

  it('logout-everywhere: by the user, once for each of the others', async () => {
    const place = await startApplication(databaseUrl, { users, options: { ...options, maxSessions: 3 } });
    try {
      const own = eventsOf(place);
      const user = newUser(place);
      const [a, b, c] = [
        await Client.signIn(place, user),
        await Client.signIn(place, user),
        await Client.signIn(place, user),
      ];
      await b.post('/sessions/mine/logout-others');
      const told = own
        .filter(isEnded)
        .map(({ sessionId, reason, initiatedBy, by }) => [sessionId, reason, initiatedBy, by]);
      const expected = [a, c].map(({ sessionId }) => [sessionId, 'logout-everywhere', 'user', user.username]);
      expect(told).toHaveLength(2);
      expect(told).toEqual(expect.arrayContaining(expected));
    } finally {
      await place.close();
    }
  });

  it('admin, of one session and of users: by an administrator, who is named', async () => {
    const [a, b] = [await someoneNew(here), await someoneNew(there, ['user'], 'token')];
    await admin.delete(`${ADMIN}/${a.sessionId}`);
    await admin.post(`${ADMIN}/logout`, { usernames: [b.user.username] });
    for (const client of [a, b]) {
      expect(await endOf(client)).toEqual({
        ...common(client),
        reason: 'admin',
        initiatedBy: 'admin',
        by: admin.user.username,
        replacedBy: null,
      });
      await expectToldAsWritten(endedOf(client)[0]!);
    }
  });

  it('by the application’s own code: what it says', async () => {
    const client = await someoneNew(here);
    await there.app.get(SingleSessionService).end(client.sessionId, { reason: 'expired', by: 'nightly job' });
    expect(await endOf(client)).toMatchObject({
      reason: 'expired',
      initiatedBy: 'policy',
      by: 'nightly job',
    });
  });

  it('cut-off: by an administrator, who is named, though nobody asks for the session again', async () => {
    const clients = [await someoneNew(here), await someoneNew(there, ['service'], 'token')];
    await admin.post(`${ADMIN}/logout-everyone`);
    for (const client of clients) {
      const expected = { reason: 'cut-off', initiatedBy: 'admin', by: admin.user.username, replacedBy: null };
      expect(await endOf(client)).toEqual({ ...common(client), ...expected });
      await expectToldAsWritten(endedOf(client)[0]!);
    }
    expect(endedOf(admin)).toEqual([]);
  });

  it.each([
    ['expired', 'expires_at', '1 second'],
    ['idle', 'last_seen_at', '2 hours'],
  ])('%s: by policy, when it is met dead', async (reason, column, ago) => {
    const client = await someoneNew(here, ['user'], 'token');
    await sql(here, `UPDATE user_session SET ${column} = now() - $2::interval WHERE id = $1`, [
      client.sessionId,
      ago,
    ]);
    expect(await client.at(there).state()).not.toBe('live');
    const expected = { ...common(client), reason, initiatedBy: 'policy', by: null, replacedBy: null };
    expect(await endOf(client)).toEqual(expected);
    expect(endedOf(client)[0]!.at.getTime()).toBeLessThan(Date.now());
  });

  it('is not told of what does not end: a second logout, an ended session’s logout, a dry run, a refused order', async () => {
    const client = await someoneNew(here);
    const superAdmin = await someoneNew(here, ['superadmin']);
    await admin.post(`${ADMIN}/logout`, { usernames: [client.user.username], dryRun: true });
    await admin.post(`${ADMIN}/logout-everyone`, { dryRun: true });
    await admin.delete(`${ADMIN}/${superAdmin.sessionId}`);
    const copy = new Browser(here.url, client.browser.cookie);
    await client.post('/logout');
    await copy.post('/logout');
    await admin.delete(`${ADMIN}/${client.sessionId}`);
    expect(endedOf(client)).toHaveLength(1);
    expect(endedOf(superAdmin)).toEqual([]);
  });
});

describe('limit-reached', () => {
  it('is told of a login without room, and of no failed password, no renewal and no login that has room', async () => {
    const place = await startApplication(databaseUrl, { users, options: { ...options, onLimit: 'reject' } });
    try {
      const own = eventsOf(place);
      const user = newUser(place);
      await Client.signIn(place, user);
      await new Browser(place.url).post('/login', { username: user.username, password: 'wrong' });
      const reached = (): SingleSessionEvent[] => own.filter(({ type }) => type === 'limit-reached');
      expect(reached()).toEqual([]);
      const refused = await new Browser(place.url).login(user.username);
      expect(refused.status).toBe(409);
      expect(reached()).toEqual([
        {
          type: 'limit-reached',
          at: expect.any(Date),
          userId: String(user.id),
          username: user.username,
          maxSessions: 1,
          ip: '127.0.0.1',
          userAgent: 'node',
        },
      ]);
      expect(own.filter(({ type }) => type === 'admitted')).toHaveLength(1);
    } finally {
      await place.close();
    }
  });
});

describe('what administrators do', () => {
  it('cut-off: once, with whom it spared and why, before its sessions are told of; none for a dry run', async () => {
    const client = await someoneNew(here);
    const before = of('cut-off').length;
    await admin.post(`${ADMIN}/logout-everyone`, { dryRun: true });
    const except = { roles: ['editor'], usernames: ['x'], userIds: ['404'] };
    await admin.post(`${ADMIN}/logout-everyone`, { except, note: 'breach' });
    const told = of('cut-off').slice(before);
    const userIds = ['404', String(admin.user.id)];
    expect(told).toEqual([
      {
        type: 'cut-off',
        at: expect.any(Date),
        by: admin.user.username,
        note: 'breach',
        except: { ...except, administrators: true, userIds: expect.arrayContaining(userIds) },
      },
    ]);
    const { at } = await endOf(client);
    expect(at).toEqual(told[0]!.at);
    expect(events.indexOf(told[0]!)).toBeLessThan(events.indexOf(endedOf(client)[0]!));
  });

  it('exemption-changed: added and removed, not for what was not there', async () => {
    const value = `role-${Date.now()}`;
    const path = `${ADMIN}/exemptions?kind=role&value=${value}`;
    await admin.delete(path);
    await admin.put(`${ADMIN}/exemptions`, { kind: 'role', value });
    await admin.delete(path);
    await admin.delete(path);
    const mine = of('exemption-changed').filter((event) => event.value === value);
    const shared = {
      type: 'exemption-changed',
      at: expect.any(Date),
      kind: 'role',
      value,
      by: admin.user.username,
    };
    expect(mine).toEqual([
      { ...shared, change: 'added' },
      { ...shared, change: 'removed' },
    ]);
  });

  it('storm: once', async () => {
    const user = newUser(here);
    await Promise.all(times(14, (n) => Client.signIn(n % 2 ? here : there, user, 'token')));
    expect(of('storm').filter(({ userId }) => userId === String(user.id))).toEqual([
      {
        type: 'storm',
        at: expect.any(Date),
        userId: String(user.id),
        username: user.username,
        logins: 11,
        windowMs: 60_000,
      },
    ]);
  });
});

describe('once in the cluster', () => {
  async function unmarked(clients: readonly Client[]): Promise<number> {
    const ids = clients.map(({ sessionId }) => sessionId);
    return (await sql(here, 'SELECT 1 FROM user_session WHERE id = ANY($1) AND ended_at IS NULL', [ids]))
      .length;
  }

  const countsOf = (clients: readonly Client[]): number[] =>
    clients.map(
      ({ sessionId }) => events.filter(isEnded).filter((event) => event.sessionId === sessionId).length,
    );

  it('each of 100 sessions that end by every way, while all instances check them, is told exactly once', async () => {
    const people = await Promise.all(
      times(100, (n) => someoneNew(cluster[n % 3]!, n < 10 ? ['service'] : ['user'], 'token')),
    );
    const part = (from: number, to: number): Client[] => people.slice(from, to);
    const idsOf = (clients: Client[]): string[] => clients.map(({ sessionId }) => sessionId);
    await sql(here, `UPDATE user_session SET expires_at = now() - interval '1 s' WHERE id = ANY($1)`, [
      idsOf(part(80, 90)),
    ]);
    await sql(here, `UPDATE user_session SET last_seen_at = now() - interval '2 hours' WHERE id = ANY($1)`, [
      idsOf(part(90, 100)),
    ]);
    const thirdAdmin = admin.at(cluster[2]!);
    const watching = [...part(0, 20), ...part(40, 100)].flatMap((client) =>
      cluster.flatMap((place) => [0, 1].map(() => client.at(place).state())),
    );
    const winners: Client[] = [];
    await Promise.all([
      ...watching,
      ...part(0, 10).map((client) => thirdAdmin.delete(`${ADMIN}/${client.sessionId}`)),
      ...part(10, 20).map((client) => client.post('/token/logout')),
      ...part(20, 40).map(
        async ({ user }, n) => void winners.push(await Client.signIn(cluster[n % 3]!, user, 'token')),
      ),
      admin.post(`${ADMIN}/logout`, { usernames: part(40, 50).map(({ user }) => user.username) }),
      thirdAdmin.post(`${ADMIN}/logout`, { userIds: part(45, 55).map(({ user }) => String(user.id)) }),
      admin.post(`${ADMIN}/logout-everyone`),
      admin.at(there).post(`${ADMIN}/logout-everyone`),
      thirdAdmin.post(`${ADMIN}/logout-everyone`),
    ]);
    await Promise.all(people.map((client) => client.at(cluster[Math.floor(Math.random() * 3)]!).state()));
    await until(async () => (await unmarked(people)) === 0);
    await until(() => countsOf(people).every((count) => count > 0));
    expect(countsOf(people)).toEqual(times(100, () => 1));
  });

  it('those that two cut-offs end at the same time on two instances are all told, though nobody asks for them again', async () => {
    for (const _ of times(6, () => 0)) {
      const people = await Promise.all(times(10, (n) => someoneNew(cluster[n % 3]!, ['user'], 'token')));
      await Promise.all(cluster.map((place) => admin.at(place).post(`${ADMIN}/logout-everyone`)));
      await until(() => countsOf(people).every((count) => count > 0), 3_000);
      expect(countsOf(people)).toEqual(times(10, () => 1));
    }
  });

  it('a cut-off that comes while the one before is still being written down is written down, too', async () => {
    const [first, spared] = [await someoneNew(here), await someoneNew(here)];
    const runner = here.app.get(DataSource).createQueryRunner();
    await runner.startTransaction();
    try {
      // The last step of a sweep waits for this.
      await runner.query(`LOCK TABLE user_session_exemption IN SHARE ROW EXCLUSIVE MODE`);
      await admin.post(`${ADMIN}/logout-everyone`, { except: { usernames: [spared.user.username] } });
      await until(async () => (await unmarked([first])) === 0);
      await admin.post(`${ADMIN}/logout-everyone`);
    } finally {
      await runner.rollbackTransaction();
      await runner.release();
    }
    expect(await endOf(spared)).toMatchObject({ reason: 'cut-off' });
    expect(countsOf([first, spared])).toEqual([1, 1]);
  });

  it('what a sweep has written down is told, though a later step of it fails', async () => {
    const client = await someoneNew(here);
    const runner = here.app.get(DataSource).createQueryRunner();
    await runner.startTransaction();
    try {
      await runner.query(`LOCK TABLE user_session_exemption IN SHARE ROW EXCLUSIVE MODE`);
      await admin.post(`${ADMIN}/logout-everyone`);
      await until(async () => (await unmarked([client])) === 0);
      const waiting = `SELECT pg_terminate_backend(pid) AS ended FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE 'DELETE FROM%user_session_exemption%'`;
      await until(async () => (await sql(there, waiting)).length > 0);
    } finally {
      await runner.rollbackTransaction();
      await runner.release();
    }
    await until(() => endedOf(client).length > 0, 2_000);
    expect(endedOf(client)).toHaveLength(1);
  });

  it('a cut-off whose sweep finds another process sweeping is written down all the same, and listed as ended', async () => {
    const client = await someoneNew(here);
    const runner = here.app.get(DataSource).createQueryRunner();
    const sessionsTable = quotedTableNames(here.app.get(DataSource)).sessions;
    const lock = (verb: string): Promise<unknown> =>
      runner.query(`SELECT ${verb}(hashtext('nestjs-single-session:sweep'), hashtext($1))`, [sessionsTable]);
    await lock('pg_advisory_lock');
    const batch = jest.spyOn(here.app.get(SessionStore), 'sweep');
    try {
      await admin.post(`${ADMIN}/logout-everyone`);
      const { results } = batch.mock;
      const known = results.length;
      await until(() => results.length > known);
      expect(await results[known]!.value).toEqual({ more: true, ended: [] });
    } finally {
      batch.mockRestore();
      await lock('pg_advisory_unlock');
      await runner.release();
    }
    const { items } = (await admin.get(`${ADMIN}?state=ended&userId=${client.user.id}`)).body;
    expect(items).toMatchObject([{ id: client.sessionId, endReason: 'cut-off' }]);
    // The next sweep of any process, which a later cut-off sets off.
    await admin.post(`${ADMIN}/logout-everyone`);
    expect(await endOf(client)).toMatchObject({ reason: 'cut-off' });
  });

  it('a session whose row is locked while the cut-off is written down is told later, and listed as ended meanwhile', async () => {
    const [client, other] = [await someoneNew(here), await someoneNew(here)];
    const runner = here.app.get(DataSource).createQueryRunner();
    await runner.startTransaction();
    const sweep = jest.spyOn(here.app.get(Sweeper), 'sweep');
    try {
      await runner.query('SELECT FROM user_session WHERE id = $1 FOR UPDATE', [client.sessionId]);
      await admin.post(`${ADMIN}/logout-everyone`);
      await endOf(other);
      await Promise.all(sweep.mock.results.map(({ value }) => value));
      expect(endedOf(client)).toEqual([]);
    } finally {
      sweep.mockRestore();
      await runner.rollbackTransaction();
      await runner.release();
    }
    const { items } = (await admin.get(`${ADMIN}?state=ended&userId=${client.user.id}`)).body;
    expect(items).toMatchObject([{ id: client.sessionId, endReason: 'cut-off' }]);
    await admin.post(`${ADMIN}/logout-everyone`);
    expect(await endOf(client)).toMatchObject({ reason: 'cut-off' });
  });
});

describe('the stream', () => {
  it('is of one type by on(), and completes when the application closes', async () => {
    const place = await startApplication(databaseUrl, { users, options });
    const told: string[] = [];
    let completed = false;
    const stream = place.app.get(SingleSessionEvents);
    stream
      .on('ended')
      .subscribe({ next: ({ reason }) => void told.push(reason), complete: () => (completed = true) });
    const client = await someoneNew(place);
    await client.post('/logout');
    await until(() => told.length > 0);
    expect(told).toEqual(['logout']);
    await place.close();
    expect(completed).toBe(true);
  });
});

describe('@nestjs/event-emitter', () => {
  const heard: [string, unknown][] = [];
  let fail = false;
  let place: TestApplication | undefined;

  @Injectable()
  class Listener {
    @OnEvent('single-session.ended')
    ended(event: unknown): void {
      heard.push(['ended', event]);
      if (fail) throw new Error('a listener failed');
    }

    @OnEvent('single-session.admitted')
    admitted(event: unknown): void {
      heard.push(['admitted', event]);
      if (fail) throw new Error('a listener failed');
    }

    @OnEvent('single-session.*')
    any(event: unknown): void {
      heard.push(['*', event]);
    }
  }

  const startWith = async (
    more: object,
    settings: TestApplicationSettings = {},
  ): Promise<TestApplication> => {
    const emitter = EventEmitterModule.forRoot({ wildcard: true, ...more });
    @Module({ imports: [emitter, SingleSessionModule.forRoot(options)] })
    class Root {}
    return (place = await startApplication(databaseUrl, { users, module: Root, ...settings }));
  };

  beforeEach(() => {
    heard.length = 0;
    fail = false;
  });

  afterEach(async () => {
    await place?.close();
    place = undefined;
  });

  it('gets every event under its name, the same object as the stream', async () => {
    const { app } = await startWith({}, { providers: [Listener] });
    const own = eventsOf({ app });
    const first = await someoneNew(place!);
    const second = await Client.signIn(place!, first.user);
    await until(() => heard.some(([name]) => name === 'ended'));
    const ended = own.find(({ type }) => type === 'ended');
    expect(heard.find(([name]) => name === 'ended')![1]).toBe(ended);
    expect(ended).toMatchObject({ sessionId: first.sessionId, replacedBy: second.sessionId });
    expect(heard.filter(([name]) => name === 'admitted')).toHaveLength(2);
    expect(heard.filter(([name]) => name === '*')).toHaveLength(3);
  });

  it('a listener that throws breaks no login, no logout and no other listener', async () => {
    await startWith({}, { providers: [Listener] });
    Logger.overrideLogger(false);
    // Without Nest's own net around it.
    place!.app.get(EventEmitter2).on('single-session.admitted', () => {
      throw new Error('a bare listener failed');
    });
    place!.app.get(EventEmitter2).on('single-session.ended', () => {
      throw new Error('a bare listener failed');
    });
    fail = true;
    const first = await someoneNew(place!);
    const second = await Client.signIn(place!, first.user);
    expect(await statesOf([first, second])).toEqual(['superseded', 'live']);
    expect((await second.post('/logout')).status).toBe(204);
    await until(() => heard.filter(([name]) => name === 'ended').length === 2);
  });

  it('with names of another delimiter it is called, too', async () => {
    await startWith({ wildcard: false }, { providers: [Listener] });
    await someoneNew(place!);
    expect(heard.map(([name]) => name)).toEqual(['admitted']);
  });

  it('is found beside an emitter of Node’s own, which goes by the same name and hears nothing', async () => {
    const own = new EventEmitter();
    const emit = jest.spyOn(own, 'emit');
    @Module({ providers: [{ provide: EventEmitter, useValue: own }] })
    class OwnEmitter {}
    @Module({ imports: [OwnEmitter, EventEmitterModule.forRoot(), SingleSessionModule.forRoot(options)] })
    class Root {}
    place = await startApplication(databaseUrl, { users, module: Root, providers: [Listener] });
    await someoneNew(place);
    expect(heard.map(([name]) => name)).toEqual(['admitted']);
    expect(emit).not.toHaveBeenCalled();
  });

  it('where the application has none, nothing happens', async () => {
    place = await startApplication(databaseUrl, { users, options, providers: [Listener] });
    const errors = jest.spyOn(Logger.prototype, 'error').mockReturnValue();
    await Client.signIn(place, newUser(place));
    expect(heard).toEqual([]);
    expect(errors).not.toHaveBeenCalled();
    errors.mockRestore();
  });
});
