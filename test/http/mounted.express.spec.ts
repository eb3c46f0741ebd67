import { expect, it } from '@jest/globals';
import type { NestExpressApplication } from '@nestjs/platform-express';
import express from 'express';
import { startApplication } from '../support/application.js';
import { Browser } from '../support/client.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { liveSessionsOf, newUser } from '../support/sessions.js';
import { logIn } from '../support/ways-in.js';

it('a login in an Express application that is mounted in this one is admitted', async () => {
  const databaseUrl = await freshDatabase();
  const mounted = express();
  const application = await startApplication(databaseUrl, {
    configure: (app) => (app as NestExpressApplication).use('/part', express().use('/of-it', mounted)),
  });
  try {
    const user = newUser(application);
    mounted.post('/login', (request, response, next) => {
      logIn(request, user).then(() => response.json({}), next);
    });
    const browser = new Browser(application.url);
    expect((await browser.post('/part/of-it/login')).status).toBe(200);
    expect((await browser.get('/me')).body.user?.username).toBe(user.username);
    expect(await liveSessionsOf(application, user)).toHaveLength(1);
  } finally {
    await application.close();
    await dropDatabase(databaseUrl);
  }
});
