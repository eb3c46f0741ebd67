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
  for (const { status, body, headers } of [await browser.get('/me'), await token.get()]) {
    expect(status).toBe(503);
    expect(body.code).toBe('SESSION_STORE_UNAVAILABLE');
    expect(headers.get('retry-after')).toBe('1');
  }
  jest.restoreAllMocks();
  expect((await browser.get('/me')).body.user?.username).toBe(user.username);
  expect((await token.get()).status).toBe(200);
}

/** What PostgreSQL answers, with this text in it. */
const answer = (text: unknown): object => ({ records: [{ answer: text }], affected: 1 });

const rows = (...all: unknown[]): object => answer(JSON.stringify(all));

const asked = (parameters: unknown): string => (parameters as string[][])[0]![0]!;

/** What is known of a session that is live, in the order of the statement. */
const live = (id: string): Record<string, unknown> => ({
  id,
  userId: user.id === undefined ? '1' : String(user.id),
  endedAt: null,
  over: null,
  place: 1,
  unseen: false,
  roles: 'user',
  administrator: false,
});

/** The session that was asked for, as if it were live, with some members changed. */
const withRow =
  (members: object): Query =>
  (_sql, parameters) =>
    rows(Object.values({ ...live(asked(parameters)), ...members }));

describe('when the query of a check', () => {
  it('answers as it should, the request passes: so it is the fault that counts below', async () => {
    inject(isVerify, withRow({}));
    expect((await browser.get('/me')).status).toBe(200);
  });

  const FAULTS: [string, Query][] = [
    ['fails', () => Promise.reject(new Error('connection terminated unexpectedly'))],
    ['throws what is no error', () => Promise.reject('nonsense')],
    ['throws nothing at all', () => Promise.reject(undefined)],
    ['answers nothing', () => undefined],
    ['answers without rows', () => ({})],
    ['answers with no rows at all', () => ({ records: [], affected: 0 })],
    ['answers with null for a row', () => ({ records: [null], affected: 1 })],
    ['answers with an empty row', () => ({ records: [{}], affected: 1 })],
    ['answers with NULL', () => answer(null)],
    ['answers with a text that was cut short', () => answer('[["')],
    ['answers with an object', () => answer('{"length":1}')],
    ['answers for nobody', () => rows()],
    ['answers for two', (_sql, parameters) => rows(null, Object.values(live(asked(parameters))))],
    ['answers with numbers', () => rows([1, 2, 3, 4, 5, 6, 7, 8])],
    ['answers with members missing', (_sql, parameters) => rows([asked(parameters)])],
    ['answers with one member more', withRow({ more: null })],
    ['answers with true', () => rows(true)],
    ["answers with somebody else's session", withRow({ id: randomUUID() })],
    ['answers with a user id that is no string', withRow({ userId: 7 })],
    ['answers without a user', withRow({ userId: null })],
    ['answers with a reason that is none', withRow({ over: 'because' })],
    ['answers with a reason that is no string', withRow({ over: false })],
    ['answers with a place that is none', withRow({ place: 'first' })],
    ['answers with half a place', withRow({ place: 0.5 })],
    ['answers with an end but no reason', withRow({ endedAt: Date.now() })],
    ['answers with an end that is none', withRow({ endedAt: 'yesterday', over: 'logout' })],
    ['answers without roles', withRow({ roles: null })],
    ['answers with roles that are none', withRow({ roles: ['user'] })],
    ['answers without saying whether it was seen', withRow({ unseen: null })],
    ['answers without saying who is an administrator', withRow({ administrator: null })],
  ];

  it.each(FAULTS)('%s, the request gets 503, never a pass and never a 401 [S26]', async (_, fault) => {
    const { times } = inject(isVerify, fault);
    await expectRefusedAndNotLoggedOut();
    expect(times()).toBe(2);
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
    expect((await new TokenClient(application.url, nameless).get()).status).toBe(500);
    expect((await browser.get('/me')).status).toBe(200);
  });
});
