import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { APP_INTERCEPTOR } from '@nestjs/core';
import { startApplication, type TestApplication } from '../support/application.js';
import { ADMIN, ADMIN_OPTIONS, someoneNew, type Client } from '../support/administration.js';
import { CacheInterceptor } from '../support/cache-interceptor.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';

let databaseUrl: string;
let application: TestApplication;

beforeAll(async () => {
  databaseUrl = await freshDatabase();
  application = await startApplication(databaseUrl, {
    providers: [{ provide: APP_INTERCEPTOR, useClass: CacheInterceptor }],
    options: ADMIN_OPTIONS,
  });
});

afterAll(async () => {
  await application?.close();
  await dropDatabase(databaseUrl);
});

const idsAt = async (client: Client, path: string): Promise<string[]> => {
  const { body } = await client.get(path);
  return (body.items as { id: string }[]).map(({ id }) => id);
};

it('the cache that stands around all routes gives an answer to whoever asks next', async () => {
  const [first, second] = [await someoneNew(application), await someoneNew(application)];
  const { body } = await first.get('/me');
  expect((await second.get('/me')).body).toEqual(body);
});

it('nobody is shown the sessions of somebody else from it [P7]', async () => {
  const [first, second] = [await someoneNew(application), await someoneNew(application)];
  expect(await idsAt(first, '/sessions/mine')).toEqual([first.sessionId]);
  expect(await idsAt(second, '/sessions/mine')).toEqual([second.sessionId]);
});

it('an administrator sees what is so now', async () => {
  const admin = await someoneNew(application, ['admin']);
  await idsAt(admin, ADMIN);
  const someone = await someoneNew(application);
  expect(await idsAt(admin, ADMIN)).toContain(someone.sessionId);
});

it('the page sends to its place whoever asks for it with a slash, the second time too', async () => {
  const admin = await someoneNew(application, ['admin']);
  const { status } = await admin.get(`${ADMIN}/ui/`);
  expect((await admin.get(`${ADMIN}/ui/`)).status).toBe(status);
});
