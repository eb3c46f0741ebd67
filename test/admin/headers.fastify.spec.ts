import { afterAll, beforeAll, expect, it } from '@jest/globals';
import type { NestFastifyApplication } from '@nestjs/platform-fastify';
import { startApplication, type TestApplication } from '../support/application.js';
import { ADMIN, ADMIN_OPTIONS, someoneNew } from '../support/administration.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';

let databaseUrl: string;
let application: TestApplication;

beforeAll(async () => {
  databaseUrl = await freshDatabase();
  application = await startApplication(databaseUrl, {
    options: ADMIN_OPTIONS,
    fastifyRouter: { ignoreTrailingSlash: true },
    configure: (app) => {
      const instance = (app as NestFastifyApplication).getHttpAdapter().getInstance();
      instance.addHook('onRequest', async (_, reply) => {
        reply.header('Cache-Control', 'public, max-age=600').header('X-Content-Type-Options', 'none');
      });
    },
  });
});

afterAll(async () => {
  await application?.close();
  await dropDatabase(databaseUrl);
});

it("on Fastify, what the application's hooks say of all answers does not make those for administrators ones to keep [S9]", async () => {
  const admin = await someoneNew(application, ['admin']);
  for (const path of ['', '/ui', '/policy']) {
    const { headers } = await admin.get(ADMIN + path);
    expect(headers.get('cache-control')).toBe('no-store');
    expect(headers.get('x-content-type-options')).toBe('nosniff');
  }
});

it('on Fastify, where a slash behind a path is ignored, /ui/ leads to /ui, in relation to which the page names its parts', async () => {
  const admin = await someoneNew(application, ['admin']);
  const { status, headers } = await admin.get(`${ADMIN}/ui/`);
  expect([status, headers.get('location')]).toEqual([308, '../ui']);
});
