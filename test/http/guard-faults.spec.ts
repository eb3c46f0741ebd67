import { randomUUID } from 'node:crypto';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { DataSource } from 'typeorm';
import { startApplication, type TestApplication, type TestUser } from '../support/application.js';
import { interceptQueries } from '../support/queries.js';
import { Browser, TokenClient } from '../support/client.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { newUser } from '../support/sessions.js';

type Query = (sql: string, parameters: unknown[]) => unknown;

let databaseUrl: string;
let application: TestApplication;
let dataSource: DataSource;
let user: TestUser;
let browser: Browser;
let token: TokenClient;

beforeAll(async () => {
  databaseUrl = await freshDatabase();
  application = await startApplication(databaseUrl, { options: { maxSessions: 2 } });
  dataSource = application.app.get(DataSource);
});

beforeEach(async () => {
  user = newUser(application);
  browser = new Browser(application.url);
  token = new TokenClient(application.url);
  await browser.login(user.username);
  await token.login(user.username);
});

afterEach(() => {
  jest.restoreAllMocks();
});

afterAll(async () => {
  await application?.close();
  await dropDatabase(databaseUrl);
});

const isVerify = (sql: string): boolean => sql.startsWith('SELECT');
const isMark = (sql: string): boolean => sql.includes('FOR NO KEY UPDATE') && sql.includes('replaced_by');

/** Puts `answer` in the place of what PostgreSQL would answer to the statements that `matches` picks. */
function inject(matches: (sql: string) => boolean, answer: Query): { times: () => number } {
  let times = 0;
  interceptQueries(dataSource, async ({ sql, parameters, send }) => {
    if (!matches(sql)) return send();
    times++;
    return answer(sql, parameters);
  });
  return { times: () => times };
}

async function expectRefusedAndNotLoggedOut(): Promise<void> {
  for (const answer of [await browser.get('/me'), await token.get()]) {
    expect(answer.status).toBe(503);
    expect(answer.body.code).toBe('SESSION_STORE_UNAVAILABLE');
    expect(answer.headers.get('retry-after')).toBe('1');
  }
  jest.restoreAllMocks();
  expect((await browser.get('/me')).body.user?.username).toBe(user.username);
  expect((await token.get()).status).toBe(200);
}

const records = (...rows: unknown[]): object => ({ records: rows, affected: rows.length });

/** The row of the session that was asked for, as it is when it is live, with some members changed. */
const row = (asked: unknown, members: object): object => ({
  id: (asked as string[])[0],
  user_id: user.id === undefined ? '1' : String(user.id),
  ended_at: null,
  over: null,
  place: 1,
  unseen: false,
  roles: 'user',
  administrator: false,
  ...members,
});

/** The last row, which says how many were asked. */
const last = (place: unknown = 1): object => ({
  id: null,
  user_id: null,
  ended_at: null,
  over: null,
  place,
  unseen: null,
});

const withRow =
  (members: object): Query =>
  (_sql, parameters) =>
    records(row((parameters as unknown[])[0], members));

describe('when the query of a check', () => {
  it('answers with rows as they should be, the request passes: so it is the fault that counts below', async () => {
    inject(isVerify, withRow({}));
    expect((await browser.get('/me')).status).toBe(200);
  });

  const FAULTS: [string, Query][] = [
    ['fails', () => Promise.reject(new Error('connection terminated unexpectedly'))],
    ['throws what is no error', () => Promise.reject('nonsense')],
    ['throws nothing at all', () => Promise.reject(undefined)],
    ['answers nothing', () => undefined],
    ['answers without rows', () => ({})],
    ['answers with null for a row', () => records(null)],
    ['answers with a user id that is no string', withRow({ user_id: 7 })],
    ['answers without a user', withRow({ user_id: null })],
    ['answers with a reason that is none', withRow({ over: 'because' })],
    ['answers with reason undefined', withRow({ over: undefined })],
    ['answers with a place that is none', withRow({ place: 'first' })],
    ['answers with place undefined', withRow({ place: undefined })],
    ['answers with an end but no reason', withRow({ ended_at: new Date() })],
    ['answers with an end undefined', withRow({ ended_at: undefined })],
    ['answers without roles', withRow({ roles: undefined })],
    ['answers with roles that are none', withRow({ roles: ['user'] })],
  ];

  it.each(FAULTS)('%s, the request gets 503, never a pass and never a 401 [S26]', async (_, fault) => {
    const { times } = inject(isVerify, fault);
    await expectRefusedAndNotLoggedOut();
    expect(times()).toBe(2);
  });

  // Nobody knows the session then, as it seems, and a second query is to say so with a last row.
  it.each<[string, Query]>([
    ['with no rows at all', () => records()],
    ['with an empty row', () => records({})],
    ['with a row of numbers', () => records([1, 2, 3])],
    ["with somebody else's row", withRow({ id: randomUUID() })],
    ['for another number of sessions', () => records(last(2))],
    ['for a number of sessions that is none', () => records(last('one'))],
  ])('answers %s, the request gets 503, never a pass and never a 401 [S26]', async (_, fault) => {
    const { times } = inject(isVerify, fault);
    await expectRefusedAndNotLoggedOut();
    expect(times()).toBe(4);
  });

  it('cannot even be sent, the request gets 503 [S26]', async () => {
    jest.spyOn(dataSource, 'createQueryRunner').mockImplementation(() => {
      throw new Error('the pool has ended');
    });
    await expectRefusedAndNotLoggedOut();
  });
});

describe('when the end of a session cannot be written down', () => {
  it('its request gets 503 and not 401: an end that is not on record could be undone by a higher limit [S26]', async () => {
    for (let n = 0; n < 2; n++) await new Browser(application.url).login(user.username);
    await forgetMarks();
    const { times } = inject(isMark, () => Promise.reject(new Error('disk full')));
    expect((await browser.get('/me')).status).toBe(503);
    expect(times()).toBe(1);
    jest.restoreAllMocks();
    expect((await browser.get('/me')).body.reason).toBe('superseded');
  });

  async function forgetMarks(): Promise<void> {
    const isMarked = 'SELECT 1 FROM user_session WHERE user_id = $1 AND ended_at IS NOT NULL';
    while ((await dataSource.query(isMarked, [String(user.id)])).length < 2) await Promise.resolve();
    await dataSource.query('UPDATE user_session SET ended_at = NULL, end_reason = NULL WHERE user_id = $1', [
      String(user.id),
    ]);
  }
});

describe('when the application cannot say who is asking', () => {
  it('answers 500 and not 200, and logs nobody out [S26, lesson 6]', async () => {
    const nameless = application.sign(
      { ...user, id: '' },
      { sid: (await browser.get('/me')).body.session.id },
    );
    const answer = await new TokenClient(application.url, nameless).get();
    expect(answer.status).toBe(500);
    expect((await browser.get('/me')).status).toBe(200);
  });
});
