import type { RequestListener } from 'node:http';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { NestFastifyApplication } from '@nestjs/platform-fastify';
import inject from 'light-my-request';
import { startApplication, type TestApplication } from '../support/application.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { platform } from '../support/platform.js';
import { liveSessionsOf, newUser } from '../support/sessions.js';

// No socket, as behind an adapter for a serverless platform, and in tests with Fastify's `inject()`. Node's response then
// says 'finish' and 'close', but never that its socket has written everything.

let databaseUrl: string;
let application: TestApplication;

beforeAll(async () => {
  databaseUrl = await freshDatabase();
  application = await startApplication(databaseUrl);
});

afterAll(async () => {
  await application?.close();
  await dropDatabase(databaseUrl);
});

function ask(options: inject.InjectOptions): Promise<inject.Response> {
  const { app } = application;
  if (platform === 'fastify') return (app as NestFastifyApplication).inject(options);
  return inject(app.getHttpAdapter().getInstance() as RequestListener, options);
}

const signIn = (url: string, username: string, password = username): Promise<inject.Response> =>
  ask({ method: 'POST', url, payload: { username, password } });

describe('a request without a socket', () => {
  it('logs in with a cookie, and the next login evicts it', async () => {
    const user = newUser(application);
    const cookies: string[] = [];
    for (let login = 0; login < 2; login++) {
      const answer = await signIn('/login', user.username);
      expect(answer.statusCode).toBe(200);
      cookies.push(String(answer.headers['set-cookie']).split(';', 1)[0]!);
    }
    const statuses = [];
    for (const cookie of cookies)
      statuses.push((await ask({ url: '/me', headers: { cookie } })).json().user?.username ?? null);
    expect(statuses).toEqual([null, user.username]);
  });

  it('logs in with a token, and the next login evicts it', async () => {
    const user = newUser(application);
    const tokens: string[] = [];
    for (let login = 0; login < 2; login++)
      tokens.push((await signIn('/token', user.username)).json().accessToken);
    const statuses = [];
    for (const token of tokens)
      statuses.push(
        (await ask({ url: '/token/me', headers: { authorization: `Bearer ${token}` } })).statusCode,
      );
    expect(statuses).toEqual([401, 200]);
    expect(await liveSessionsOf(application, user)).toHaveLength(1);
  });
});
