import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { startApplication, type TestApplication } from '../support/application.js';
import {
  ADMIN,
  ADMIN_OPTIONS,
  type Client,
  contentOf,
  someoneNew,
  statesOf,
} from '../support/administration.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { platform } from '../support/platform.js';

let databaseUrl: string;
let application: TestApplication;
let victim: Client;

beforeAll(async () => {
  databaseUrl = await freshDatabase();
  application = await startApplication(databaseUrl, { options: ADMIN_OPTIONS });
});

beforeEach(async () => {
  victim = await someoneNew(application);
});

afterAll(async () => {
  await application?.close();
  await dropDatabase(databaseUrl);
});

type Headers = Record<string, string>;

async function post(by: Client, headers: Headers, body: string | Uint8Array<ArrayBuffer>): Promise<number> {
  const cookie: Headers = by.browser.cookie ? { cookie: by.browser.cookie } : {};
  const { status } = await fetch(`${application.url}${ADMIN}/logout-everyone`, {
    method: 'POST',
    headers: { ...cookie, ...by.headers, ...headers },
    body,
  });
  return status;
}

const COUNT = '{"dryRun":true,"except":{"administrators":true}}';

// An order that says nothing ends everybody, so one that says something must not be taken for it.
describe.each(['cookie', 'token'] as const)(
  'an order with a body that no parser reads, by %s',
  (credential) => {
    it.each([
      [undefined],
      ['text/plain'],
      ['text/plain;charset=UTF-8'],
      ['application/octet-stream'],
      ['application/x-www-form-urlencoded'],
      ['multipart/form-data; boundary=x'],
      ['application/vnd.api+json'],
      ['application/merge-patch+json'],
      ['application/jsonp'],
    ])('of type %s is refused, and ends nothing [S5, S17]', async (type) => {
      const root = await someoneNew(application, ['superadmin'], credential);
      const before = await contentOf(application);
      // Of bytes, fetch says no type.
      const body = type === undefined ? new TextEncoder().encode(COUNT) : COUNT;
      const status = await post(root, type === undefined ? {} : { 'content-type': type }, body);
      expect([400, 415]).toContain(status);
      expect(await contentOf(application)).toBe(before);
      expect(await statesOf([root, victim])).toEqual(['live', 'live']);
    });

    it('that is nested without end is refused with 400, and ends nothing', async () => {
      const root = await someoneNew(application, ['superadmin'], credential);
      const json = { 'content-type': 'application/json' };
      const deep = (open: string, close: string): string => open.repeat(10_000) + '1' + close.repeat(10_000);
      expect(await post(root, json, `{"except":${deep('[', ']')}}`)).toBe(400);
      expect(await post(root, json, `{"note":${deep('{"a":', '}')}}`)).toBe(400);
      expect(await statesOf([root, victim])).toEqual(['live', 'live']);
    });
  },
);

describe('an order whose conditions stand in the query, where nobody reads them', () => {
  it.each([
    ['POST', '/logout-everyone?dryRun=true', {}],
    ['POST', '/logout-everyone?dryRun', undefined],
    ['POST', '/logout-everyone?except[usernames]=alice', {}],
    ['POST', '/logout-everyone?note=x', {}],
    ['POST', '/logout-everyone?except=alice', { except: { roles: ['none'] } }],
    ['POST', '/logout?dryRun=true', { usernames: ['USER'] }],
    ['POST', '/logout?userIds=1', { usernames: ['USER'] }],
    ['DELETE', '/ID?dryRun=true', undefined],
  ])('%s %s is refused with 400, and ends nothing', async (method, path, given) => {
    const root = await someoneNew(application, ['superadmin']);
    const before = await contentOf(application);
    const body = given && (JSON.parse(JSON.stringify(given).replace('USER', victim.user.username)) as object);
    const answer = await root.send(method, ADMIN + path.replace('ID', victim.sessionId), body);
    expect(answer.status).toBe(400);
    expect(answer.body.message).toEqual([
      expect.stringMatching(/(dryRun|note|except|userIds) is not read from the query/),
    ]);
    expect(await contentOf(application)).toBe(before);
    expect(await statesOf([root, victim])).toEqual(['live', 'live']);
  });

  it('is told only to whom it is allowed, and what else stands in the query is nobody’s business', async () => {
    const user = await someoneNew(application);
    expect((await user.post(`${ADMIN}/logout-everyone?dryRun=true`)).status).toBe(403);
    const root = await someoneNew(application, ['superadmin']);
    const { status, body } = await root.post(`${ADMIN}/logout-everyone?trace=1`, { dryRun: true });
    expect([status, body.dryRun]).toEqual([200, true]);
  });
});

it('an order that needs no body is taken without one, also from a client that calls each request JSON', async () => {
  const root = await someoneNew(application, ['superadmin'], 'cookie');
  const { status } = await fetch(`${application.url}${ADMIN}/${victim.sessionId}`, {
    method: 'DELETE',
    headers: { cookie: root.browser.cookie!, 'content-type': 'application/json' },
  });
  // Fastify refuses an empty body that is called JSON, before anybody is asked.
  const [answer, state] = platform === 'express' ? [200, 'admin'] : [400, 'live'];
  expect(status).toBe(answer);
  expect(await statesOf([root, victim])).toEqual(['live', state]);
});
