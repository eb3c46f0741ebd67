import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { ClassSerializerInterceptor } from '@nestjs/common';
import { APP_INTERCEPTOR, Reflector } from '@nestjs/core';
import { startApplication, type TestApplication } from '../support/application.js';
import { ADMIN, ADMIN_OPTIONS } from '../support/administration.js';
import { Browser } from '../support/client.js';
import { EventStream } from '../support/event-stream.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { newUser } from '../support/sessions.js';

const MINE = '/sessions/mine';

let databaseUrl: string;
let application: TestApplication;

/** Of an application whose answers are instances of classes, which say what of them is shown. */
const serializer = {
  provide: APP_INTERCEPTOR,
  useFactory: (reflector: Reflector) => new ClassSerializerInterceptor(reflector, { strategy: 'excludeAll' }),
  inject: [Reflector],
};

beforeAll(async () => {
  databaseUrl = await freshDatabase();
  application = await startApplication(databaseUrl, { providers: [serializer], options: ADMIN_OPTIONS });
});

afterAll(async () => {
  await application?.close();
  await dropDatabase(databaseUrl);
});

async function signIn(role: string): Promise<Browser> {
  const browser = new Browser(application.url);
  const { status } = await browser.login(newUser(application, { roles: [role] }).username);
  expect(status).toBe(200);
  return browser;
}

it('the serializer that stands around all routes leaves nothing of an answer that no class describes', async () => {
  expect((await (await signIn('user')).get('/me')).body).toEqual({});
});

it('an administrator is shown all the same who is signed in, and told what was done', async () => {
  const admin = await signIn('admin');
  const { body } = await admin.get(ADMIN);
  expect(body.items[0]).toMatchObject({ current: true, createdAt: expect.stringMatching(/^\d{4}-.*Z$/) });
  expect((await admin.post(`${ADMIN}/logout-everyone`, { dryRun: true })).body).toMatchObject({
    dryRun: true,
  });
});

it('so are users, of their own sessions, and of the end', async () => {
  const browser = await signIn('user');
  const events = await EventStream.open(`${application.url}${MINE}/events`, { cookie: browser.cookie! });
  await events.beat();
  const { body } = await browser.get(MINE);
  expect(body.items).toMatchObject([{ current: true }]);
  expect((await browser.send('DELETE', `${MINE}/${body.items[0].id}`)).body).toEqual({ ended: 1 });
  expect(await events.next('ended')).toMatchObject({ reason: 'logout' });
});
