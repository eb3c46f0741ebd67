import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { Logger, type INestApplication } from '@nestjs/common';
import type { SingleSessionEvent, StormEvent } from '../../src/index.js';
import { startApplication, Users, type TestApplication, type TestUser } from '../support/application.js';
import {
  ADMIN,
  ADMIN_OPTIONS,
  Client,
  eventsOf,
  someoneNew,
  sql,
  statesOf,
} from '../support/administration.js';
import { Bookkeeper } from '../../src/session/bookkeeper.js';
import { Browser } from '../support/client.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { eventually, newUser } from '../support/sessions.js';
import { watchStatements, type StatementWatch } from '../support/statements.js';
import { times } from '../support/store.js';

const THRESHOLD = 5;
const WINDOW_MS = 3_600_000;
const users = new Users();
const warnings: string[] = [];

let databaseUrl: string;
let watch: StatementWatch;
let here: TestApplication;
let there: TestApplication;
let prefixed: TestApplication;
let events: SingleSessionEvent[][];
let admin: Client;
let user: TestUser;

beforeAll(async () => {
  databaseUrl = await freshDatabase();
  watch = await watchStatements(databaseUrl);
  const exempt = { usernames: ['fixed-worker'], roles: ['service'] };
  const options = { ...ADMIN_OPTIONS, exempt, storm: { threshold: THRESHOLD, windowMs: WINDOW_MS } };
  here = await startApplication(watch.url, { users, options });
  there = await startApplication(watch.url, { users, options });
  const configure = (app: INestApplication) => app.setGlobalPrefix('/api/', { exclude: ['token'] });
  prefixed = await startApplication(databaseUrl, { users, options, configure });
  events = [eventsOf(here), eventsOf(there)];
  Logger.overrideLogger({
    log: () => {},
    error: () => {},
    warn: (message: unknown) => void warnings.push(String(message)),
  });
});

beforeEach(async () => {
  admin = await someoneNew(here, ['admin'], 'token');
  user = newUser(here);
});

afterAll(async () => {
  Logger.overrideLogger(false);
  await prefixed?.close();
  await there?.close();
  await here?.close();
  await watch?.stop();
  await dropDatabase(databaseUrl);
});

const login = (place: TestApplication, whom = user): Promise<Client> => Client.signIn(place, whom, 'token');

/** So many at once, over both instances. */
const storm = (count: number, whom = user): Promise<Client[]> =>
  Promise.all(times(count, (n) => login(n % 2 ? here : there, whom)));

const stormsOf = (whom = user): StormEvent[] =>
  events
    .flat()
    .filter((event): event is StormEvent => event.type === 'storm' && event.userId === String(whom.id));

const warningsOf = ({ username }: TestUser = user): string[] =>
  warnings.filter((text) => text.includes('Storm') && text.includes(JSON.stringify(username)));

interface Storm {
  userId: string;
}

/** Each instance shares a summary for a second. */
async function summaryOf(
  whom: TestUser,
  isGood: (storms: Storm[]) => boolean,
  place = here,
): Promise<Storm[]> {
  return eventually(async () => {
    const { storms } = (await admin.at(place).get(`${ADMIN}/summary`)).body as { storms: Storm[] };
    return storms.filter(({ userId }) => userId === String(whom.id));
  }, isGood);
}

const inWindowBefore = (windows: number): Promise<unknown> =>
  sql(here, `UPDATE user_session_slots SET storm_since = storm_since - $2::interval WHERE user_id = $1`, [
    String(user.id),
    `${windows * WINDOW_MS + 1} milliseconds`,
  ]);

describe('a storm', () => {
  it('is none at the threshold, and one above it: one event and one warning in the cluster, however many logins at once follow [lesson 31, S12]', async () => {
    await storm(THRESHOLD);
    expect(stormsOf()).toEqual([]);
    await storm(20);
    const [event] = stormsOf();
    expect(event).toEqual({
      type: 'storm',
      at: expect.any(Date),
      userId: String(user.id),
      username: user.username,
      logins: THRESHOLD + 1,
      windowMs: WINDOW_MS,
    });
    expect(stormsOf()).toHaveLength(1);
    expect(warningsOf()).toHaveLength(1);
  });

  it('is announced once when all of its logins come at once, too', async () => {
    await storm(24);
    expect([stormsOf().length, warningsOf().length]).toEqual([1, 1]);
  });

  it('warns with the name of the account and how to exempt it, which works as it is written', async () => {
    await storm(THRESHOLD + 1);
    const [warning] = warningsOf();
    const [, method, path, body] = /(PUT) (\S+) (\{.*?\})/.exec(warning!)!;
    expect(warning).toContain(`forRoot({ exempt: { usernames: [${JSON.stringify(user.username)}] } })`);
    const answer = await admin.send(method!, `/${path}`, JSON.parse(body!) as object);
    expect(answer.body).toMatchObject({ kind: 'username', value: user.username, origin: 'runtime' });
  });

  it('warns with the path that there is behind a global prefix', async () => {
    for (let n = 0; n <= THRESHOLD; n++) await login(prefixed);
    const [, path, body] = /PUT (\S+) (\{.*?\})/.exec(warningsOf()[0]!)!;
    const answer = await admin.at(prefixed).put(`/${path}`, JSON.parse(body!) as object);
    expect([path, answer.status]).toEqual([`api${ADMIN}/exemptions`, 200]);
  });

  it('cannot write a line of its own into the log by its username', async () => {
    const evil = newUser(here, { username: 'evil"\n[Nest] ERROR all is lost' });
    await storm(THRESHOLD + 1, evil);
    const [warning] = warningsOf(evil);
    expect(warning).toBeDefined();
    expect(warning).not.toContain('\n');
  });

  it('is announced again in the next window, if it goes on', async () => {
    await storm(THRESHOLD + 1);
    await inWindowBefore(1);
    await storm(THRESHOLD);
    expect(stormsOf()).toHaveLength(1);
    await storm(3);
    expect([stormsOf().length, warningsOf().length]).toEqual([2, 2]);
  });

  it('is not made of logins that are spread over two windows', async () => {
    await storm(THRESHOLD);
    await inWindowBefore(1);
    await storm(THRESHOLD);
    expect(stormsOf()).toEqual([]);
  });

  it('is not made of logins under an exemption, be it the first of all', async () => {
    const key = `kind=username&value=${user.username}`;
    await admin.put(`${ADMIN}/exemptions`, { kind: 'username', value: user.username });
    await login(here);
    await admin.delete(`${ADMIN}/exemptions?${key}`);
    await storm(THRESHOLD);
    expect(stormsOf()).toEqual([]);
    await login(here);
    expect(stormsOf()).toHaveLength(1);
  });

  it('is not made of wrong passwords, of requests, or of the logins of several accounts', async () => {
    const other = newUser(here);
    await storm(THRESHOLD);
    await storm(THRESHOLD, other);
    for (const _ of times(5, () => 0))
      await new Browser(here.url).post('/login', { username: user.username, password: 'wrong' });
    expect([...stormsOf(), ...stormsOf(other)]).toEqual([]);
  });

  it('costs a login nothing: one statement, and one that marks what it evicted [P6]', async () => {
    await storm(THRESHOLD - 1);
    await settled();
    watch.clear();
    // Not cleared in between: what comes late counts as well.
    for (const logins of [1, 2, 3]) {
      await login(here);
      await settled();
      expect(watch.statements).toHaveLength(2 * logins);
    }
    expect(stormsOf()).toHaveLength(1);
  });
});

/** Waits until the bookkeeping of the logins so far is written. */
const settled = (): Promise<unknown> =>
  Promise.all([here, there].map(({ app }) => app.get(Bookkeeper).close()));

describe('the summary', () => {
  it('shows a storm with its number of logins, over all instances, and not what is none', async () => {
    const calm = newUser(here);
    await storm(THRESHOLD, calm);
    await storm(THRESHOLD + 3);
    const storms = await summaryOf(user, ({ length }) => length > 0);
    expect(storms).toEqual([
      { userId: String(user.id), username: user.username, logins: THRESHOLD + 3, windowMs: WINDOW_MS },
    ]);
    expect(await summaryOf(calm, () => true)).toEqual([]);
  });

  it('still names the account when an administrator has logged it out, so that it can be exempted', async () => {
    await storm(THRESHOLD + 1);
    await admin.post(`${ADMIN}/logout`, { userIds: [String(user.id)] });
    const named = { username: user.username, logins: THRESHOLD + 1 };
    expect(await summaryOf(user, ({ length }) => length > 0)).toMatchObject([named]);
  });

  it('still shows the storm of the window before, and no longer', async () => {
    await storm(THRESHOLD + 1);
    await inWindowBefore(1);
    for (const place of [here, there]) await login(place);
    expect(await summaryOf(user, ({ length }) => length > 0)).toMatchObject([{ logins: THRESHOLD + 1 }]);
    await inWindowBefore(2);
    await summaryOf(user, ({ length }) => length === 0);
  });

  it('does not show an earlier one again when the user logs in', async () => {
    await storm(THRESHOLD + 1);
    await summaryOf(user, ({ length }) => length > 0);
    await inWindowBefore(2);
    await summaryOf(user, ({ length }) => length === 0);
    await login(here);
    expect(await summaryOf(user, () => true, there)).toEqual([]);
  });
});

describe.each(['username', 'role'] as const)('exempting it by %s', (kind) => {
  it('makes it disappear at once, and the account storms no more and evicts no more [lesson 31]', async () => {
    user.roles = [`role-of-${user.username}`];
    await storm(THRESHOLD + 1);
    await summaryOf(user, ({ length }) => length > 0);
    const value = kind === 'username' ? user.username : user.roles[0]!;
    await admin.put(`${ADMIN}/exemptions`, { kind, value });
    await summaryOf(user, ({ length }) => length === 0, there);
    const workers = await storm(3 * THRESHOLD);
    expect(new Set(await statesOf(workers))).toEqual(new Set(['live']));
    expect([stormsOf().length, warningsOf().length]).toEqual([1, 1]);
    await summaryOf(user, ({ length }) => length === 0);
  });
});

it.each([{ username: 'fixed-worker' }, { roles: ['user', 'service'] }])(
  'an account that is exempt by the options (%j) never storms',
  async (given) => {
    const worker = newUser(here, given);
    const clients = await storm(3 * THRESHOLD, worker);
    expect(new Set(await statesOf(clients))).toEqual(new Set(['live']));
    expect([stormsOf(worker), warningsOf(worker)]).toEqual([[], []]);
    expect(await summaryOf(worker, () => true)).toEqual([]);
  },
);
