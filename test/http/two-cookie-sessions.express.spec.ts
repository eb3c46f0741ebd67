import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { Controller, Get, HttpCode, Post, Req, UseGuards } from '@nestjs/common';
import session from 'express-session';
import passport from 'passport';
import { CurrentSession, SingleSessionLogin } from '../../src/index.js';
import { LocalLoginGuard, startApplication, type TestApplication } from '../support/application.js';
import { Browser } from '../support/client.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { eventually, liveSessionsOf, newUser } from '../support/sessions.js';

/** A part of the application that keeps its users in a cookie session of its own, as the pages of its operators may. */
@Controller('admin')
class AdminController {
  @UseGuards(LocalLoginGuard)
  @SingleSessionLogin()
  @Post('login')
  @HttpCode(200)
  login(): void {}

  @Get('me')
  me(@Req() { user }: { user?: object }, @CurrentSession() current?: CurrentSession): object {
    return { user: user ?? null, session: current ?? null };
  }
}

const settings = { secret: 'test', resave: false, saveUninitialized: false };
let databaseUrl: string;
let application: TestApplication;

beforeAll(async () => {
  databaseUrl = await freshDatabase();
  application = await startApplication(databaseUrl, {
    controllers: [AdminController],
    options: { maxSessions: 2, onLimit: 'reject' },
    session: null,
    configure: (app) => {
      app.use(session({ ...settings, name: 'admin.sid', cookie: { path: '/admin' } }));
      app.use(session({ ...settings, name: 'sid' }), passport.session());
    },
  });
});

afterAll(async () => {
  await application?.close();
  await dropDatabase(databaseUrl);
});

it("a login that shares the session of another cookie of its browser ends the one that it gave up: under 'reject', the next has room [lesson 3, lesson 4]", async () => {
  const user = newUser(application);
  const pages = new Browser(application.url);
  await pages.login(user.username);
  // It sends the cookie of the pages, too.
  const admin = pages.copy();
  expect((await admin.login(user.username, '/admin/login')).status).toBe(200);
  expect((await pages.login(user.username)).status).toBe(200);
  const { id } = (await pages.get('/me')).body.session;
  expect((await admin.get('/admin/me')).body.session.id).toBe(id);
  await eventually(
    () => liveSessionsOf(application, user),
    (live) => live.length === 1,
  );
  expect(await liveSessionsOf(application, user)).toEqual([id]);
  expect((await new Browser(application.url).login(user.username)).status).toBe(200);
});
