import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { Logger } from '@nestjs/common';
import { DataSource } from 'typeorm';
import { SingleSessionService } from '../../src/index.js';
import { RequestCheck } from '../../src/http/request-check.js';
import { Freshness } from '../../src/session/freshness.js';
import { SIGNAL_APPLICATION_NAME } from '../../src/typeorm/listening-connection.js';
import {
  startApplication,
  type TestApplication,
  type TestApplicationSettings,
} from '../support/application.js';
import { Browser, TokenClient } from '../support/client.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { eventually, newUser, rowsOf } from '../support/sessions.js';
import { SignalLink } from '../support/signal-link.js';
import { CHECK, watchStatements, type StatementWatch } from '../support/statements.js';
import { timers } from '../support/timers.js';

/** Longer than a test: what is refused within it was not refused because of its age. */
const LONG = { maxStalenessMs: 60_000 };

let databaseUrl: string;
let watch: StatementWatch;
const applications: TestApplication[] = [];

beforeAll(async () => {
  databaseUrl = await freshDatabase();
});

beforeEach(async () => {
  watch = await watchStatements(databaseUrl);
});

afterEach(async () => {
  for (const application of applications.splice(0)) await application.close();
  await watch.stop();
  jest.restoreAllMocks();
});

afterAll(() => dropDatabase(databaseUrl));

async function start(
  url: string,
  options: NonNullable<TestApplicationSettings['options']>,
  settings: TestApplicationSettings = {},
): Promise<TestApplication> {
  const application = await startApplication(url, { ...settings, options });
  applications.push(application);
  return application;
}

async function signedIn(application: TestApplication, username: string): Promise<TokenClient> {
  const client = new TokenClient(application.url);
  await client.login(username);
  expect((await client.get()).status).toBe(200);
  return client;
}

/** What PostgreSQL was asked for the application: not the heartbeat. */
const asked = (): string[] => watch.statements.filter((text) => text !== 'SELECT 1');

async function listeners({ app }: TestApplication): Promise<number> {
  const rows: unknown[] = await app
    .get(DataSource)
    .query(
      `SELECT FROM pg_stat_activity WHERE datname = current_database() AND application_name = '${SIGNAL_APPLICATION_NAME}'`,
    );
  return rows.length;
}

describe('bounded freshness', () => {
  it('asks the database nothing for a session that it remembers', async () => {
    const application = await start(watch.url, { freshness: LONG });
    const user = newUser(application);
    const client = await signedIn(application, user.username);
    // The last-seen time of a new session is not due, and nobody was evicted.
    await eventually(asked, (texts) => texts.some((text) => CHECK.test(text)));
    watch.clear();
    for (let n = 0; n < 20; n++)
      expect((await client.get()).body.session).toMatchObject({ userId: String(user.id) });
    expect(asked()).toEqual([]);
  });

  it('refuses a token whose session has ended also beside a cookie session that it remembers', async () => {
    const application = await start(databaseUrl, { freshness: LONG, maxSessions: 2 });
    const user = newUser(application);
    const { token } = await signedIn(application, user.username);
    const [session] = await rowsOf(application, user);
    const browser = new Browser(application.url);
    await browser.login(user.username);
    const headers = { authorization: `Bearer ${token}` };
    for (let n = 0; n < 2; n++) expect((await browser.get('/token/me', headers)).status).toBe(200);
    await application.app.get(SingleSessionService).end(session!.id);
    expect((await browser.get('/token/me', headers)).body.reason).toBe('admin');
    expect((await browser.get('/me')).body.session?.userId).toBe(String(user.id));
  });

  it('writes down that the user of a session that it remembers has other roles now [lesson 30]', async () => {
    const application = await start(databaseUrl, { freshness: LONG });
    const user = newUser(application, { roles: ['admin'] });
    await signedIn(application, user.username);
    const [session] = await rowsOf(application, user);
    const later = new TokenClient(
      application.url,
      application.sign({ ...user, roles: ['user'] }, { sid: session!.id }),
    );
    expect((await later.get()).status).toBe(200);
    expect((await rowsOf(application, user))[0]!.roles).toEqual(['user']);
  });

  it('asks again when the verdict is too old, and only then', async () => {
    const application = await start(watch.url, { freshness: { maxStalenessMs: 300 } });
    const client = await signedIn(application, newUser(application).username);
    watch.clear();
    const began = performance.now();
    while (performance.now() - began < 900) expect((await client.get()).status).toBe(200);
    expect(asked().length).toBeGreaterThanOrEqual(2);
    // Four at most; should there be more, it is said what they were.
    expect(asked().slice(4)).toEqual([]);
  });

  it('refuses a session at once that this process ended, although it was remembered a moment ago [lesson 22]', async () => {
    const application = await start(databaseUrl, { freshness: LONG });
    const service = application.app.get(SingleSessionService);
    const ends: ((
      client: TokenClient,
      user: { id: number | string; username: string },
    ) => Promise<unknown>)[] = [
      async (_, { username }) => signedIn(application, username),
      async (_, { id }) => service.endUser(id),
      async (_, user) => service.end((await rowsOf(application, user))[0]!.id),
      async (client) => client.post('/token/logout'),
    ];
    for (const end of ends) {
      const user = newUser(application);
      const client = await signedIn(application, user.username);
      await end(client, user);
      const { status, body } = await client.get();
      expect({ status, code: body.code }).toEqual({ status: 401, code: 'SESSION_ENDED' });
    }
  });

  it('asks a limit that is a function once for each check, and answers for its failure: a promise that nobody waits for would end the process', async () => {
    const limit = jest.fn(async () => 1);
    const application = await start(watch.url, { freshness: LONG, maxSessions: limit });
    const client = await signedIn(application, newUser(application).username);
    watch.clear();
    limit.mockClear();
    expect((await client.get()).status).toBe(200);
    expect(asked()).toEqual([]);
    expect(limit).toHaveBeenCalledTimes(1);

    const unhandled = jest.fn();
    process.on('unhandledRejection', unhandled);
    try {
      limit.mockRejectedValue(new Error('the plans of the users are out of reach'));
      expect((await client.get()).status).toBe(500);
      expect(limit).toHaveBeenCalledTimes(2);
      expect(unhandled).not.toHaveBeenCalled();
    } finally {
      process.off('unhandledRejection', unhandled);
    }
  });

  it('lets the requests of one turn go on together, by what is known then and not when they arrived', async () => {
    const application = await start(watch.url, { freshness: LONG });
    const user = newUser(application);
    await signedIn(application, user.username);
    const sid = (await rowsOf(application, user))[0]!.id;
    const requestCheck = application.app.get(RequestCheck, { strict: false });
    const arrives = (): Promise<true> =>
      Promise.resolve(
        requestCheck.check({ headers: {}, user: { ...user, id: String(user.id), sid } }, undefined),
      );
    watch.clear();

    const order: string[] = [];
    const one = arrives().then(() => order.push('one'));
    const turn = new Promise<void>((resolve) =>
      setImmediate(() => {
        order.push('the next turn');
        resolve();
      }),
    );
    const two = arrives().then(() => order.push('two'));
    await Promise.all([one, two, turn]);
    expect(order).toEqual(['one', 'two', 'the next turn']);
    expect(asked()).toEqual([]);

    const late = arrives();
    application.app.get(Freshness, { strict: false }).heard('everything');
    expect(await late).toBe(true);
    expect(asked()).toEqual([expect.stringMatching(CHECK)]);
  });

  it('refuses a session that another process ended as soon as that is told, and leaves the others remembered', async () => {
    const [one, two] = [
      await start(databaseUrl, { freshness: LONG }),
      await start(watch.url, { freshness: LONG }),
    ];
    const [loser, other] = [newUser(one), newUser(one)];
    for (const user of [loser, other]) two.users.set(user.username, user);
    const evicted = await signedIn(two, loser.username);
    const spared = await signedIn(two, other.username);
    await signedIn(one, loser.username);
    await eventually(
      () => evicted.get(),
      ({ status }) => status === 401,
    );
    watch.clear();
    expect((await spared.get()).status).toBe(200);
    expect(asked()).toEqual([]);
  });

  it('answers verify() of the service from the database all the same: who moves money wants to know', async () => {
    const application = await start(watch.url, { freshness: LONG });
    const user = newUser(application);
    await signedIn(application, user.username);
    const [row] = await rowsOf(application, user);
    await application.app
      .get(DataSource)
      .query('UPDATE user_session_slots SET active = $1 WHERE user_id = $2', ['{}', String(user.id)]);
    const verdict = await application.app.get(SingleSessionService).verify(row!.id);
    expect(verdict.live).toBe(false);
  });

  it.each(['', ', also while something is open that belongs to it'])(
    'keeps a session in use from becoming idle%s',
    async (open) => {
      const idleTimeout = 1_200;
      const application = await start(databaseUrl, {
        idleTimeout,
        freshness: { maxStalenessMs: idleTimeout / 4 },
      });
      const user = newUser(application);
      const client = await signedIn(application, user.username);
      const [session] = await rowsOf(application, user);
      const watched = application.app.get(SingleSessionService).whenEnded(session!.id);
      // Whatever is open is looked after, and what that finds is remembered.
      const watching = open === '' ? undefined : watched.subscribe();
      const began = performance.now();
      while (performance.now() - began < 2 * idleTimeout) {
        expect((await client.get()).status).toBe(200);
        // Use is what happens now and then, and idleness is a time: there is no event for either.
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
      watching?.unsubscribe();
    },
  );

  it('runs in strong mode behind a pooler that breaks LISTEN, and says so', async () => {
    const warn = jest.spyOn(Logger.prototype, 'warn').mockImplementation(() => undefined);
    const link = await SignalLink.open(databaseUrl);
    link.throwsAway = true;
    const [one, two] = [
      await start(databaseUrl, { freshness: LONG }),
      await start(link.url, { freshness: LONG }, { build: (builder) => builder }),
    ];
    expect(warn.mock.calls.map(([text]) => String(text)).join()).toMatch(/PgBouncer/);
    const user = newUser(one);
    two.users.set(user.username, user);
    const evicted = await signedIn(two, user.username);
    await signedIn(one, user.username);
    expect((await evicted.get()).status).toBe(401);
    await applications.pop()!.close();
    await link.cut();
  });

  it('leaves neither connection nor timer behind a stop', async () => {
    const before = timers();
    const own = await freshDatabase();
    const application = await startApplication(own, { options: { freshness: { maxStalenessMs: 200 } } });
    await signedIn(application, newUser(application).username);
    expect(await listeners(application)).toBe(1);
    await application.close();
    expect(timers()).toBeLessThanOrEqual(before);
    // Without FORCE: it throws when somebody still holds a connection.
    await dropDatabase(own);
  });
});

describe('strong freshness', () => {
  it('starts nothing of this: no connection, no notification, and each request asks', async () => {
    const application = await start(watch.url, { freshness: 'strong' });
    const { username } = newUser(application);
    const first = await signedIn(application, username);
    await signedIn(application, username);
    expect((await first.get()).status).toBe(401);
    expect(await listeners(application)).toBe(0);
    const sent = watch.statements.filter((text) => /LISTEN|pg_notify|^SELECT 1$/.test(text));
    expect(sent).toEqual([]);
  });
});
