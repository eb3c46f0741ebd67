import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { Controller, HttpCode, Post, Req } from '@nestjs/common';
import type { Request } from 'express';
import { startApplication, type TestApplication, type TestUser } from '../support/application.js';
import { Browser } from '../support/client.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { liveSessionsOf, newUser } from '../support/sessions.js';

type UserRequest = Request & { user: TestUser; session: Request['session'] & { singleSession?: unknown } };
type Done = (error?: unknown) => void;

const called = (call: (done: Done) => void): Promise<void> =>
  new Promise((resolve, reject) => call((error) => (error ? reject(error) : resolve())));

/** What applications do after a change of password: the session id that may have leaked is given up. */
@Controller('password')
class PasswordController {
  @Post('keeping-info')
  @HttpCode(204)
  keepingInfo(@Req() request: UserRequest): Promise<void> {
    return called((done) => request.logIn(request.user, { session: true, keepSessionInfo: true }, done));
  }

  @Post('regenerate')
  @HttpCode(204)
  regenerate(@Req() request: UserRequest): Promise<void> {
    return called((done) => request.session.regenerate(done));
  }

  @Post('regenerate-and-copy')
  @HttpCode(204)
  async regenerateAndCopy(@Req() request: UserRequest): Promise<void> {
    const kept = Object.entries(request.session).filter(([key]) => key !== 'cookie');
    await this.regenerate(request);
    Object.assign(request.session, Object.fromEntries(kept));
  }

  @Post('login-again')
  @HttpCode(204)
  loginAgain(@Req() request: UserRequest): Promise<void> {
    return called((done) => request.logIn(request.user, done));
  }
}

let databaseUrl: string;
let application: TestApplication;

beforeAll(async () => {
  databaseUrl = await freshDatabase();
  application = await startApplication(databaseUrl, { controllers: [PasswordController] });
});

afterAll(async () => {
  await application?.close();
  await dropDatabase(databaseUrl);
});

async function change(
  path: string,
): Promise<{ user: TestUser; browser: Browser; before: Browser; id: string }> {
  const user = newUser(application);
  const browser = new Browser(application.url);
  const { body } = await browser.login(user.username);
  const before = browser.copy();
  expect((await browser.post(`/password/${path}`)).status).toBe(204);
  expect(browser.cookie).not.toBe(before.cookie);
  return { user, browser, before, id: body.session.id };
}

describe('a change of password that gives the cookie session a new id', () => {
  it.each(['keeping-info', 'regenerate-and-copy', 'login-again'])(
    '(%s) keeps the session: one is live, the old cookie is out, the next login evicts it [lesson 20]',
    async (path) => {
      const { user, browser, before, id } = await change(path);
      expect((await browser.get('/me')).body.session).toEqual({ id, userId: String(user.id) });
      expect((await before.get('/me')).body).toEqual({ user: null, session: null });
      expect(await liveSessionsOf(application, user)).toEqual([id]);

      await new Browser(application.url).login(user.username);
      expect((await browser.get('/me')).body.reason).toBe('superseded');
      expect(await liveSessionsOf(application, user)).toHaveLength(1);
    },
  );

  it('and drops what was in it is a logout of the browser, and the next login leaves one session [lesson 20]', async () => {
    const { user, browser, before } = await change('regenerate');
    for (const each of [browser, before])
      expect((await each.get('/me')).body).toEqual({ user: null, session: null });
    expect((await browser.login(user.username)).status).toBe(200);
    expect(await liveSessionsOf(application, user)).toHaveLength(1);
  });
});
