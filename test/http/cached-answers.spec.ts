import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { Controller, Get, UseGuards } from '@nestjs/common';
import { APP_INTERCEPTOR } from '@nestjs/core';
import { AuthGuard } from '@nestjs/passport';
import { CurrentSession, SingleSessionLogin, SingleSessionLogout } from '../../src/index.js';
import { LocalLoginGuard, startApplication, type TestApplication } from '../support/application.js';
import { CacheInterceptor } from '../support/cache-interceptor.js';
import { Browser, TokenClient } from '../support/client.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { liveSessionsOf, newUser } from '../support/sessions.js';

/** As tutorials have it, and those who sign in by a link. */
@Controller('by-link')
class LinksController {
  @UseGuards(LocalLoginGuard)
  @SingleSessionLogin()
  @Get('login')
  login(@CurrentSession() { id }: CurrentSession): object {
    return { session: id };
  }

  @SingleSessionLogout()
  @Get('logout')
  logout(): object {
    return { bye: true };
  }

  @UseGuards(AuthGuard('jwt'))
  @SingleSessionLogout()
  @Get('token/logout')
  tokenLogout(): object {
    return { bye: true };
  }
}

let databaseUrl: string;
let application: TestApplication;

beforeAll(async () => {
  databaseUrl = await freshDatabase();
  application = await startApplication(databaseUrl, {
    controllers: [LinksController],
    providers: [{ provide: APP_INTERCEPTOR, useClass: CacheInterceptor }],
  });
});

afterAll(async () => {
  await application?.close();
  await dropDatabase(databaseUrl);
});

const someone = () => newUser(application);

it('an interceptor that answers from a cache logs everybody out, and not only who comes first [P2]', async () => {
  for (const user of [someone(), someone()]) {
    const browser = new Browser(application.url);
    await browser.login(user.username);
    expect((await browser.get('/by-link/logout')).status).toBe(200);
    expect(await liveSessionsOf(application, user)).toEqual([]);
  }
});

it('so it does with tokens', async () => {
  for (const user of [someone(), someone()]) {
    const client = new TokenClient(application.url);
    await client.login(user.username);
    expect((await client.get('/by-link/token/logout')).status).toBe(200);
    expect(await liveSessionsOf(application, user)).toEqual([]);
  }
});

it('each login by one link is a session, and nobody is told the session of somebody else [P7]', async () => {
  const user = someone();
  const link = `/by-link/login?username=${user.username}&password=${user.username}`;
  const ids = new Set<string>();
  for (const browser of [new Browser(application.url), new Browser(application.url)]) {
    const { body } = await browser.get(link);
    expect(await liveSessionsOf(application, user)).toEqual([body.session]);
    ids.add(body.session);
  }
  expect(ids.size).toBe(2);
});
