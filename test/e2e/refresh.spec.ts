import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { Browser, TokenClient, type Answer } from '../support/client.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { endAllProcesses, startProcess, type RunningProcess } from '../support/processes.js';

// The demo's tokens on two processes: what one of them signs the other takes, and what ends on one is refused by both.

const MINUTE = 60;
const DAY = 86_400;

let databaseUrl: string;
let one: RunningProcess;
let two: RunningProcess;
let lastUser = 0;

beforeAll(async () => {
  databaseUrl = await freshDatabase();
  [one, two] = await Promise.all([start(), start()]);
});

afterAll(async () => {
  await endAllProcesses();
  await dropDatabase(databaseUrl);
});

const start = (env: Record<string, string> = {}): Promise<RunningProcess> =>
  startProcess({ env: { DATABASE_URL: databaseUrl, SESSION_SECRET: 'shared by both processes', ...env } });

const newUser = (): string => `user${++lastUser}`;

interface Pair {
  accessToken: string;
  refreshToken: string;
}

async function signIn({ url }: RunningProcess, username: string): Promise<Pair> {
  const { status, body } = await new Browser(url).login(username, '/token');
  expect(status).toBe(200);
  return body;
}

const refresh = ({ url }: RunningProcess, refreshToken: unknown): Promise<Answer> =>
  new Browser(url).post('/token/refresh', { refreshToken });

const me = ({ url }: RunningProcess, accessToken: string): Promise<Answer> =>
  new TokenClient(url, accessToken).get('/me');

const claimsOf = (token: string): Record<string, unknown> =>
  JSON.parse(Buffer.from(token.split('.')[1]!, 'base64url').toString());

const outcome = ({ status, body }: Answer) => ({ status, code: body?.code, reason: body?.reason });
const ended = (reason: string) => ({ status: 401, code: 'SESSION_ENDED', reason });
const NOT_AUTHENTICATED = { status: 401, code: undefined, reason: undefined };

/** What both tokens get, on both processes. */
async function outcomesOf({ accessToken, refreshToken }: Pair): Promise<object[]> {
  const answers = [one, two].flatMap((at) => [me(at, accessToken), refresh(at, refreshToken)]);
  return (await Promise.all(answers)).map(outcome);
}

describe('POST /token', () => {
  it('answers with two tokens of one session, of which the refresh token lives as long as a session can', async () => {
    const username = newUser();
    const answer = await new Browser(one.url).login(username, '/token');
    expect(answer.body).toEqual({ accessToken: expect.any(String), refreshToken: expect.any(String) });
    expect(answer.headers.get('cache-control')).toBe('no-store');
    const [access, refreshing] = [claimsOf(answer.body.accessToken), claimsOf(answer.body.refreshToken)];
    expect(access['sid']).toBe(refreshing['sid']);
    expect(Number(access['exp']) - Number(access['iat'])).toBe(15 * MINUTE);
    expect(Number(refreshing['exp']) - Number(refreshing['iat'])).toBe(14 * DAY);
  });
});

describe('POST /token/refresh', () => {
  it('answers at another process with new tokens of the same session, and the old ones stay good', async () => {
    const first = await signIn(one, newUser());
    const answer = await refresh(two, first.refreshToken);
    expect(answer.status).toBe(200);
    expect(answer.headers.get('cache-control')).toBe('no-store');
    expect(answer.body).toEqual({ accessToken: expect.any(String), refreshToken: expect.any(String) });
    expect(claimsOf(answer.body.accessToken)['sid']).toBe(claimsOf(first.accessToken)['sid']);
    for (const { accessToken, refreshToken } of [first, answer.body as Pair]) {
      expect((await me(one, accessToken)).body.session.id).toBe(claimsOf(first.accessToken)['sid']);
      expect((await refresh(one, refreshToken)).status).toBe(200);
    }
  });

  it('takes no access token, and nothing else takes a refresh token', async () => {
    const { accessToken, refreshToken } = await signIn(one, newUser());
    expect(outcome(await refresh(one, accessToken))).toEqual(NOT_AUTHENTICATED);
    for (const path of ['/me', '/me-unguarded', '/sessions/mine'])
      expect((await new TokenClient(one.url, refreshToken).get(path)).status).toBe(401);
    expect((await me(one, accessToken)).status).toBe(200);
  });

  it('answers 401 to a token with a changed claim, without a signature, of another kind and to none', async () => {
    const { refreshToken } = await signIn(one, newUser());
    const other = await signIn(one, newUser());
    const [header, payload, signature] = refreshToken.split('.') as [string, string, string];
    const encode = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url');
    const forged: unknown[] = [
      [header, other.refreshToken.split('.')[1], signature].join('.'),
      [header, encode({ ...claimsOf(refreshToken), exp: 99_999_999_999 }), signature].join('.'),
      [encode({ alg: 'none', typ: 'JWT' }), payload, ''].join('.'),
      [header, payload, ''].join('.'),
      '',
      'no.jwt.atall',
      [refreshToken],
      { toString: refreshToken },
      7,
      undefined,
    ];
    for (const token of forged) expect(outcome(await refresh(one, token))).toEqual(NOT_AUTHENTICATED);
    expect((await fetch(`${one.url}/token/refresh`, { method: 'POST' })).status).toBe(401);
    expect((await refresh(one, refreshToken)).status).toBe(200);
  });

  it('refuses both tokens on both processes when a login evicts the session on one, with the reason, and the winner goes on [P2, P3]', async () => {
    const username = newUser();
    const loser = await signIn(one, username);
    const refreshed = (await refresh(two, loser.refreshToken)).body as Pair;
    const winner = await signIn(two, username);
    for (const pair of [loser, refreshed])
      expect(await outcomesOf(pair)).toEqual(Array(4).fill(ended('superseded')));
    expect((await outcomesOf(winner)).map((each) => (each as Answer).status)).toEqual([200, 200, 200, 200]);
  });

  it('is refused after a logout, an administrator and a log-out of everyone, each with its reason [lesson 17]', async () => {
    const username = newUser();
    const loggedOut = await signIn(one, username);
    expect((await new TokenClient(two.url, loggedOut.accessToken).post('/logout')).status).toBe(204);
    expect(await outcomesOf(loggedOut)).toEqual(Array(4).fill(ended('logout')));

    const root = new Browser(one.url);
    await root.login('root');
    const byAdmin = await signIn(one, username);
    const sid = String(claimsOf(byAdmin.accessToken)['sid']);
    expect((await root.send('DELETE', `/admin/sessions/${sid}`)).status).toBe(200);
    expect(await outcomesOf(byAdmin)).toEqual(Array(4).fill(ended('admin')));

    const cutOff = await signIn(two, username);
    expect((await root.post('/admin/sessions/logout-everyone', {})).status).toBe(200);
    expect(await outcomesOf(cutOff)).toEqual(Array(4).fill(ended('cut-off')));
  });

  it('lets 16 parallel refreshes of one client through, and all their tokens work', async () => {
    const { refreshToken } = await signIn(one, newUser());
    const answers = await Promise.all(
      Array.from({ length: 16 }, (_, index) => refresh(index % 2 ? one : two, refreshToken)),
    );
    expect(answers.map(({ status }) => status)).toEqual(Array(16).fill(200));
    for (const { body } of answers)
      expect((await outcomesOf(body)).map((each) => (each as Answer).status)).toEqual([200, 200, 200, 200]);
  });

  it('needs no room: it works where a login gets 409', async () => {
    const full = await start({ ON_LIMIT: 'reject', MAX_SESSIONS: '1' });
    const username = newUser();
    const { refreshToken } = await signIn(full, username);
    expect((await new Browser(full.url).login(username, '/token')).status).toBe(409);
    const { status, body } = await refresh(full, refreshToken);
    expect(status).toBe(200);
    expect((await me(full, body.accessToken)).status).toBe(200);
    await full.stop();
  });
});

describe('POST /logout', () => {
  it('takes a refresh token from a client whose access token has expired, and ends both', async () => {
    const pair = await signIn(one, newUser());
    const { refreshToken } = pair;
    expect((await new Browser(two.url).post('/logout', { refreshToken })).status).toBe(204);
    expect(await outcomesOf(pair)).toEqual(Array(4).fill(ended('logout')));
    expect((await new Browser(two.url).post('/logout', { refreshToken })).status).toBe(204);
  });

  it("ends nothing for the loser's refresh token [P3]", async () => {
    const username = newUser();
    const [loser, winner] = [await signIn(one, username), await signIn(one, username)];
    const { refreshToken } = loser;
    expect((await new Browser(two.url).post('/logout', { refreshToken })).status).toBe(204);
    expect((await me(one, winner.accessToken)).status).toBe(200);
  });
});
