import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { startApplication, Users, type TestApplication } from '../support/application.js';
import {
  BearerGuard,
  Client,
  contentOf,
  someoneNew,
  sql,
  statesOf,
  type Kind,
} from '../support/administration.js';
import { Browser } from '../support/client.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { platform } from '../support/platform.js';
import { newUser } from '../support/sessions.js';
import { times } from '../support/store.js';

const MINE = '/sessions/mine';
const ISO = expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
const users = new Users();

let databaseUrl: string;
let application: TestApplication;

beforeAll(async () => {
  databaseUrl = await freshDatabase();
  application = await startApplication(databaseUrl, {
    users,
    options: { maxSessions: 4, exempt: { roles: ['service'] }, selfService: { guards: [BearerGuard] } },
  });
});

afterAll(async () => {
  await application?.close();
  await dropDatabase(databaseUrl);
});

interface Item {
  id: string;
  current: boolean;
}

const itemsOf = async (client: Client): Promise<Item[]> => (await client.get(MINE)).body.items;

describe.each(['cookie', 'token'] as Kind[])('a user who is signed in by %s', (kind) => {
  let own: Client;
  let second: Client;
  let third: Client;
  let other: Client;

  beforeEach(async () => {
    second = await someoneNew(application, ['user'], 'cookie');
    own = await Client.signIn(application, second.user, kind);
    third = await Client.signIn(application, second.user, 'token');
    other = await someoneNew(application, ['user'], kind);
  });

  it('sees the own live sessions, newest first, the present one marked, with nothing of others [P7]', async () => {
    const answer = await own.get(MINE);
    expect(answer.status).toBe(200);
    expect(answer.headers.get('cache-control')).toBe('no-store');
    const shared = { createdAt: ISO, lastSeenAt: ISO, expiresAt: ISO, ip: '127.0.0.1' };
    expect(answer.body).toEqual({
      items: [
        { ...shared, id: third.sessionId, userAgent: 'test of tokens', current: false },
        { ...shared, id: own.sessionId, userAgent: `test of ${kind}s`, current: true },
        { ...shared, id: second.sessionId, userAgent: 'test of cookies', current: false },
      ],
    });
  });

  it('ends one of the own, which is refused with its reason, and no other', async () => {
    const answer = await own.delete(`${MINE}/${third.sessionId}`);
    expect([answer.status, answer.body]).toEqual([200, { ended: 1 }]);
    expect(await statesOf([own, second, third, other])).toEqual(['live', 'live', 'logout', 'live']);
    expect((await itemsOf(own)).map(({ id }) => id)).toEqual([own.sessionId, second.sessionId]);
    const again = await own.delete(`${MINE}/${third.sessionId}`);
    expect([again.status, again.body]).toEqual([200, { ended: 0 }]);
  });

  it('may end the present one', async () => {
    expect((await own.delete(`${MINE}/${own.sessionId}`)).body).toEqual({ ended: 1 });
    expect(await statesOf([own, second, third])).toEqual(['logout', 'live', 'live']);
  });

  it("gets 404 for another's session, live or ended, for an unknown one and for what is no id, all the same, and nothing ends", async () => {
    const ended = await someoneNew(application);
    await ended.delete(`${MINE}/${ended.sessionId}`);
    const before = await contentOf(application);
    const nobody = '00000000-0000-4000-8000-000000000000';
    const ids = [
      other.sessionId,
      ended.sessionId,
      nobody,
      'x',
      'logout-others',
      '%00',
      '1%20or%201=1',
      // Fastify's router itself refuses what is longer, with 414.
      '9'.repeat(platform === 'fastify' ? 100 : 300),
    ];
    const answers = await Promise.all(ids.map((id) => own.delete(`${MINE}/${id}`)));
    for (const { status, body } of answers)
      expect([status, body]).toEqual([404, { statusCode: 404, message: 'Not Found' }]);
    expect(await contentOf(application)).toBe(before);
    expect(await statesOf([own, second, third, other])).toEqual(times(4, () => 'live'));
  });

  it('ends all others, and keeps the present one; a second time there is nothing to end', async () => {
    const answer = await own.post(`${MINE}/logout-others`);
    expect([answer.status, answer.body]).toEqual([200, { ended: 2 }]);
    const states = await statesOf([own, second, third, other]);
    expect(states).toEqual(['live', 'logout-everywhere', 'logout-everywhere', 'live']);
    expect((await own.post(`${MINE}/logout-others`)).body).toEqual({ ended: 0 });
  });

  it('who was evicted gets 401 with the reason, sees nothing and ends nothing', async () => {
    const winners = [];
    for (const _ of times(4, () => 0)) winners.push(await Client.signIn(application, own.user, kind));
    const [first, ...more] = [
      await own.get(MINE),
      await own.delete(`${MINE}/${winners[0]!.sessionId}`),
      await own.post(`${MINE}/logout-others`),
    ];
    expect(first!.body).toMatchObject({ statusCode: 401, code: 'SESSION_ENDED', reason: 'superseded' });
    expect(more.map(({ status }) => status)).toEqual([401, 401]);
    expect(await statesOf(winners)).toEqual(times(4, () => 'live'));
  });
});

it('an exempt user sees and ends the own sessions like everybody else', async () => {
  const user = newUser(application, { roles: ['service'] });
  const workers = await Promise.all(times(6, () => Client.signIn(application, user, 'token')));
  expect(await itemsOf(workers[0]!)).toHaveLength(6);
  expect((await workers[0]!.delete(`${MINE}/${workers[1]!.sessionId}`)).body).toEqual({ ended: 1 });
  expect((await workers[0]!.post(`${MINE}/logout-others`)).body).toEqual({ ended: 4 });
  expect(await workers[0]!.state()).toBe('live');
});

it('nobody gets 401, by every route, and nothing is ended', async () => {
  const person = await someoneNew(application);
  const before = await contentOf(application);
  const nobody = new Browser(application.url);
  const answers = [
    await nobody.get(MINE),
    await nobody.post(`${MINE}/logout-others`),
    await nobody.send('DELETE', `${MINE}/${person.sessionId}`),
  ];
  expect(answers.map(({ status }) => status)).toEqual([401, 401, 401]);
  expect(await contentOf(application)).toBe(before);
});

it('whose account is deleted gets 401, by every route, and nothing is ended', async () => {
  const gone = await someoneNew(application);
  const second = await Client.signIn(application, gone.user);
  users.delete(gone.user.username);
  const before = await contentOf(application);
  const answers = [
    await gone.get(MINE),
    await gone.get(`${MINE}/events`),
    await gone.post(`${MINE}/logout-others`),
    await gone.delete(`${MINE}/${second.sessionId}`),
  ];
  expect(answers.map(({ status }) => status)).toEqual([401, 401, 401, 401]);
  expect(await contentOf(application)).toBe(before);
});

it('who ended it is written down', async () => {
  const own = await someoneNew(application);
  const second = await Client.signIn(application, own.user);
  await own.delete(`${MINE}/${second.sessionId}`);
  const [row] = await sql(application, 'SELECT end_reason, ended_by FROM user_session WHERE id = $1', [
    second.sessionId,
  ]);
  expect(row).toEqual({ end_reason: 'logout', ended_by: own.user.username });
});

describe('mounted', () => {
  async function statusAt(
    selfService: boolean | { path: string } | undefined,
    path: string,
  ): Promise<number[]> {
    const place = await startApplication(databaseUrl, { users, options: { selfService } });
    try {
      const client = await someoneNew(place);
      const others = await client.post(`${path}/logout-others`);
      return [
        (await client.get(path)).status,
        others.status,
        (await client.delete(`${path}/${client.sessionId}`)).status,
      ];
    } finally {
      await place.close();
    }
  }

  it('by default nowhere', async () => {
    expect(await statusAt(undefined, MINE)).toEqual([404, 404, 404]);
    expect(await statusAt(false, MINE)).toEqual([404, 404, 404]);
  });

  it('with selfService: true at sessions/mine', async () => {
    expect(await statusAt(true, MINE)).toEqual([200, 200, 200]);
  });

  it('at another path, and then not at the default one', async () => {
    expect(await statusAt({ path: 'account/devices' }, '/account/devices')).toEqual([200, 200, 200]);
    expect(await statusAt({ path: 'account/devices' }, MINE)).toEqual([404, 404, 404]);
  });
});

it("does not keep another's session from becoming idle, whoever names it", async () => {
  const place = await startApplication(databaseUrl, {
    users,
    options: { idleTimeout: 60_000, selfService: true },
  });
  const lastSeen = async (): Promise<object> =>
    (await sql(application, 'SELECT last_seen_at FROM user_session WHERE id = $1', [named.sessionId]))[0]!;
  const named = await someoneNew(place);
  const client = await someoneNew(place);
  await sql(
    application,
    "UPDATE user_session SET last_seen_at = last_seen_at - interval '30 seconds' WHERE id = $1",
    [named.sessionId],
  );
  const before = await lastSeen();
  expect((await client.delete(`${MINE}/${named.sessionId}`)).status).toBe(404);
  // Whatever it has still to write is written then.
  await place.close();
  expect(await lastSeen()).toEqual(before);
});

it('shows no session that has become idle', async () => {
  const place = await startApplication(databaseUrl, {
    users,
    options: { idleTimeout: 60_000, maxSessions: 2, selfService: true },
  });
  try {
    const user = newUser(place);
    const idle = await Client.signIn(place, user);
    const client = await Client.signIn(place, user);
    const shown = async (): Promise<string[]> => (await itemsOf(client)).map(({ id }) => id).sort();
    expect(await shown()).toEqual([idle.sessionId, client.sessionId].sort());
    await sql(
      place,
      "UPDATE user_session SET last_seen_at = last_seen_at - interval '2 minutes' WHERE id = $1",
      [idle.sessionId],
    );
    expect(await shown()).toEqual([client.sessionId]);
  } finally {
    await place.close();
  }
});
