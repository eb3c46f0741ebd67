import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import pg from 'pg';
import { Browser, TokenClient, type Answer } from '../support/client.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { platform } from '../support/platform.js';
import { endAllProcesses, startProcess, type RunningProcess } from '../support/processes.js';
import { eventually } from '../support/sessions.js';
import { watchStatements } from '../support/statements.js';

// The contract of the demo, row by row: tests outside of this repository rely on it.

const UUID = /^[0-9a-f-]{36}$/;
const SESSION_SECRET = 'shared by the processes of this test';
let databaseUrl: string;

beforeAll(async () => {
  databaseUrl = await freshDatabase();
});

afterAll(async () => {
  await endAllProcesses();
  await dropDatabase(databaseUrl);
});

const start = (env: Record<string, string> = {}) =>
  startProcess({ env: { DATABASE_URL: databaseUrl, SESSION_SECRET, ...env } });

/** Two clients of one kind, of which the second has signed in last. */
async function twoBrowsers({ url }: RunningProcess, username: string): Promise<[Browser, Browser]> {
  const browsers: [Browser, Browser] = [new Browser(url), new Browser(url)];
  for (const browser of browsers) expect((await browser.login(username)).status).toBe(200);
  return browsers;
}

const outcome = ({ status, body }: Answer) => ({ status, code: body?.code, reason: body?.reason });
const SUPERSEDED = { status: 401, code: 'SESSION_ENDED', reason: 'superseded' };

describe('the demo as it starts without settings', () => {
  let demo: RunningProcess;

  beforeAll(async () => {
    demo = await start();
  });

  it('prints where it is and who can sign in', () => {
    expect(demo.stdout()).toContain(new URL(demo.url).port);
    for (const name of ['alice', 'bob', 'user1', 'user2000', 'admin', 'root', 'grader', 'xqueue-watcher'])
      expect(demo.stdout()).toContain(name);
  });

  it.each([
    ['alice', 'user'],
    ['bob', 'user'],
    ['user1', 'user'],
    ['user2000', 'user'],
    ['admin', 'admin'],
    ['root', 'superadmin'],
    ['grader', 'service'],
    ['xqueue-watcher', 'user'],
  ])('signs %s in, with the role %s and the username for a password', async (username, role) => {
    const browser = new Browser(demo.url);
    const answer = await browser.login(username);
    expect(answer.status).toBe(200);
    expect(answer.body).toEqual({
      user: expect.objectContaining({ username, roles: [role] }),
      session: { id: expect.stringMatching(UUID) },
    });
    expect(answer.headers.getSetCookie()).toHaveLength(1);
    expect((await browser.get('/me')).body).toEqual(answer.body);
  });

  it.each(['/login', '/token'])(
    'POST %s answers 401 to a wrong password, an unknown user and none',
    async (path) => {
      const browser = new Browser(demo.url);
      const wrong = [
        { username: 'alice', password: 'bob' },
        { username: 'nobody', password: 'nobody' },
        { username: 'user2001', password: 'user2001' },
        { username: 'user0', password: 'user0' },
        {},
        { username: ['alice'], password: ['alice'] },
      ];
      for (const body of wrong) expect((await browser.post(path, body)).status).toBe(401);
      expect(browser.cookie).toBeUndefined();
    },
  );

  it('POST /token answers with a JWT that names the session as sid, and /me takes it', async () => {
    const client = new TokenClient(demo.url);
    const { status, body, headers } = await client.login('user5');
    expect(status).toBe(200);
    expect(headers.getSetCookie()).toEqual([]);
    const payload = JSON.parse(Buffer.from(body.accessToken.split('.')[1], 'base64url').toString());
    expect(payload.sid).toMatch(UUID);
    const me = await client.get('/me');
    expect(me.body).toEqual({
      user: expect.objectContaining({ username: 'user5', roles: ['user'] }),
      session: { id: payload.sid },
    });
  });

  it('GET /me and /me-unguarded answer 401 to nobody, and the same to a user', async () => {
    const browser = new Browser(demo.url);
    const client = new TokenClient(demo.url);
    for (const path of ['/me', '/me-unguarded']) expect((await browser.get(path)).status).toBe(401);
    await browser.login('user6');
    await client.login('user7');
    expect((await browser.get('/me-unguarded')).body).toEqual((await browser.get('/me')).body);
    expect((await client.get('/me-unguarded')).body).toEqual((await client.get('/me')).body);
  });

  it('ends the first session at the second login, for cookies and tokens and from one to the other', async () => {
    const [first, second] = await twoBrowsers(demo, 'alice');
    const unguarded = await first.get('/me-unguarded');
    expect(unguarded.status).toBe(200);
    expect(outcome(await first.get('/me'))).toEqual(SUPERSEDED);
    const token = new TokenClient(demo.url);
    await token.login('alice');
    expect(outcome(await second.get('/me'))).toEqual(SUPERSEDED);
    const third = new Browser(demo.url);
    await third.login('alice');
    const refused = await token.get('/me');
    expect(outcome(refused)).toEqual(SUPERSEDED);
    expect(refused.headers.get('www-authenticate')).toBe('Bearer error="invalid_token"');
    expect((await third.get('/me')).status).toBe(200);
  });

  it('takes a double click on "Log in" for one login, on whichever process each click arrives and whichever answer comes last [lesson 4]', async () => {
    const other = await start();
    // Each process learns from the first browser that comes in which cookie the ids are.
    const visitor = new Browser(demo.url);
    await visitor.get('/');
    for (const { url } of [demo, other]) await visitor.copy(url).get('/');
    for (let round = 0; round < 10; round++) {
      const username = `user${100 + round}`;
      const page = new Browser(demo.url);
      await page.get('/');
      const clicks = [page.copy(), page.copy(other.url)];
      const answers = await Promise.all(clicks.map((click) => click.login(username)));
      expect(answers.map(({ status }) => status)).toEqual([200, 200]);
      const mine = await Promise.all(clicks.map((click) => click.get('/me')));
      expect(mine.map(({ status }) => status)).toEqual([200, 200]);
      expect(mine[0]!.body.session).toEqual(mine[1]!.body.session);
    }
  });

  it('sends a browser whose session has ended to a page that says why, and an API client JSON', async () => {
    const html = { accept: 'text/html,application/xhtml+xml,*/*;q=0.8' };
    const [page] = await twoBrowsers(demo, 'user8');
    const redirect = await page.get('/', html);
    expect(redirect.status).toBe(303);
    expect(redirect.headers.get('location')).toBe('/?ended=superseded');
    expect((await page.get('/?ended=superseded', html)).status).toBe(200);
    const [api] = await twoBrowsers(demo, 'user8');
    expect(outcome(await api.get('/me'))).toEqual(SUPERSEDED);
  });

  it.each(['grader', 'xqueue-watcher'])('limits %s in nothing', async (username) => {
    const [first, second] = await twoBrowsers(demo, username);
    for (const browser of [first, second]) expect((await browser.get('/me')).status).toBe(200);
    expect((await second.post('/logout')).status).toBe(204);
    expect((await first.get('/me')).status).toBe(200);
  });

  it('POST /logout answers 204 to a live, an ended and an unknown session, and the loser harms nobody', async () => {
    const [loser, winner] = await twoBrowsers(demo, 'user9');
    expect((await loser.post('/logout')).status).toBe(204);
    expect((await winner.get('/me')).status).toBe(200);
    expect((await winner.post('/logout')).status).toBe(204);
    expect((await winner.get('/me')).status).toBe(401);
    expect((await winner.post('/logout')).status).toBe(204);
    expect((await new Browser(demo.url).post('/logout')).status).toBe(204);

    const token = new TokenClient(demo.url);
    await token.login('user9');
    expect((await token.post('/logout')).status).toBe(204);
    expect(outcome(await token.get('/me'))).toEqual({ ...SUPERSEDED, reason: 'logout' });
    expect((await token.post('/logout')).status).toBe(204);
    expect((await new TokenClient(demo.url, 'no.jwt.atall').post('/logout')).status).toBe(204);
  });

  it('GET /health answers 200', async () => {
    expect((await new Browser(demo.url).get('/health')).status).toBe(200);
  });

  it('GET / is a page that needs nothing from elsewhere, and what it names is there', async () => {
    const browser = new Browser(demo.url);
    const { status, headers, body } = await browser.get('/', { accept: 'text/html' });
    expect(status).toBe(200);
    expect(headers.get('content-type')).toMatch(/^text\/html/);
    expect(body).not.toMatch(/(?:src|href)="https?:/);
    for (const [, path] of body.matchAll(/<(?:script|link)[^>]* (?:src|href)="(\/[^"]+)"/g))
      expect({ path, status: (await browser.get(path)).status }).toEqual({ path, status: 200 });
    await browser.login('admin');
    const links = [...body.matchAll(/<a href="(\/[^"]+)"/g)].map(([, path]) => path);
    expect(links).toEqual(['/admin/sessions/ui', '/sessions/mine']);
    for (const path of links)
      expect({ path, status: (await browser.get(path)).status }).toEqual({ path, status: 200 });
  });

  it('does not know a session that was opened before the module watched, and says so', async () => {
    const browser = new Browser(demo.url);
    await browser.login('user10');
    await forgetStamps('user10');
    expect(outcome(await browser.get('/me'))).toEqual({
      status: 401,
      code: 'SESSION_UNKNOWN',
      reason: undefined,
    });
  });
});

describe('the demo with every variable set', () => {
  let demo: RunningProcess;

  beforeAll(async () => {
    demo = await start({
      MAX_SESSIONS: '2',
      ON_LIMIT: 'reject',
      FRESHNESS: 'strong',
      EXEMPT_USERNAMES: 'user11, user12',
      EXEMPT_ROLES: 'admin,superadmin',
      LOGOUT_EVERYWHERE: 'false',
      UNREGISTERED: 'adopt',
      PLATFORM: platform,
    });
  });

  it('rejects the third login with 409, and a logout makes room for one and leaves the other alone (MAX_SESSIONS, ON_LIMIT, LOGOUT_EVERYWHERE)', async () => {
    const [first, second] = await twoBrowsers(demo, 'user20');
    const third = new Browser(demo.url);
    const refused = await third.login('user20');
    expect(refused.status).toBe(409);
    expect(refused.body).toMatchObject({ code: 'SESSION_LIMIT_REACHED', maxSessions: 2 });
    expect((await new TokenClient(demo.url).login('user20')).status).toBe(409);
    expect((await first.post('/logout')).status).toBe(204);
    expect((await second.get('/me')).status).toBe(200);
    expect((await third.login('user20')).status).toBe(200);
  });

  it.each(['user11', 'user12', 'admin', 'root'])(
    'lets %s in a third time (EXEMPT_USERNAMES, EXEMPT_ROLES)',
    async (username) => {
      await twoBrowsers(demo, username);
      expect((await new Browser(demo.url).login(username)).status).toBe(200);
    },
  );

  it.each(['grader', 'xqueue-watcher'])('limits %s, who is exempt by default only', async (username) => {
    await endSessionsOf(username);
    await twoBrowsers(demo, username);
    expect((await new Browser(demo.url).login(username)).status).toBe(409);
  });

  it('takes over a session that was opened before the module watched (UNREGISTERED)', async () => {
    const browser = new Browser(demo.url);
    await browser.login('user21');
    await forgetStamps('user21');
    const answer = await browser.get('/me');
    expect(answer.status).toBe(200);
    expect(answer.body.session.id).toMatch(UUID);
  });

  it('prints its settings', () => {
    expect(demo.stdout()).toMatch(/2 per user, onLimit: reject/);
    expect(demo.stdout()).toMatch(/users: user11, user12; roles: admin, superadmin/);
  });
});

describe('the demo whose database is away', () => {
  it('answers 503 and says when to come back, also where the cookie session cannot be read, and nobody is logged out [P5, S26]', async () => {
    const watch = await watchStatements(databaseUrl);
    const demo = await start({ DATABASE_URL: watch.url });
    const { url } = demo;
    const [browser, token] = [new Browser(url), new TokenClient(url)];
    await browser.login('user21');
    await token.login('user22');
    const askAll = () => Promise.all([browser.get('/me'), token.get('/me')]);
    try {
      await watch.cut();
      for (const { status, body, headers } of await askAll()) {
        expect([status, body.code]).toEqual([503, 'SESSION_STORE_UNAVAILABLE']);
        expect(headers.get('retry-after')).toBe('1');
      }
      expect((await new Browser(url).login('user21')).status).toBe(503);
      await watch.restore();
      await eventually(askAll, (answers) => answers.every(({ status }) => status === 200));
    } finally {
      await demo.stop();
      await watch.stop();
    }
  });
});

describe('the demo with empty lists of exemptions', () => {
  it('exempts nobody', async () => {
    const demo = await start({ EXEMPT_USERNAMES: '', EXEMPT_ROLES: '' });
    for (const username of ['grader', 'xqueue-watcher']) {
      const [first, second] = await twoBrowsers(demo, username);
      expect(outcome(await first.get('/me'))).toEqual(SUPERSEDED);
      expect((await second.get('/me')).status).toBe(200);
    }
  });
});

/** Takes our id out of the user's cookie sessions, as if they were older than the module. */
const forgetStamps = (username: string) =>
  inDatabase(
    `UPDATE cookie_session SET sess = (sess::jsonb - 'singleSession')::json
     WHERE sess->>'singleSession' IN (SELECT id::text FROM user_session WHERE username = $1)`,
    username,
  );

const endSessionsOf = (username: string) =>
  inDatabase(
    "UPDATE user_session_slots SET active = '{}', floor = generation WHERE user_id IN (SELECT user_id FROM user_session WHERE username = $1)",
    username,
  );

async function inDatabase(statement: string, parameter: string): Promise<void> {
  const database = new pg.Client({ connectionString: databaseUrl });
  await database.connect();
  await database.query(statement, [parameter]);
  await database.end();
}
