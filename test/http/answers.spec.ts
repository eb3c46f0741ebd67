import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { startApplication, type TestApplication } from '../support/application.js';
import { Browser, TokenClient } from '../support/client.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';

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

describe('a second login', () => {
  it('evicts the first cookie session, which is told why once and is anonymous after', async () => {
    const first = new Browser(application.url);
    const second = new Browser(application.url);
    await first.login('alice');
    expect((await first.get('/me')).body.user.username).toBe('alice');
    expect((await second.login('alice')).status).toBe(200);

    const refused = await first.get('/me');
    expect(refused.status).toBe(401);
    expect(refused.body).toEqual({
      statusCode: 401,
      error: 'Unauthorized',
      message: expect.any(String),
      code: 'SESSION_ENDED',
      reason: 'superseded',
      endedAt: expect.any(String),
    });
    expect(refused.headers.get('www-authenticate')).toBeNull();
    expect((await first.get('/me')).body).toEqual({ user: null, session: null });
    expect((await second.get('/me')).body.user.username).toBe('alice');
  });

  it('evicts the first token, on a route with its own guard', async () => {
    const first = new TokenClient(application.url);
    const second = new TokenClient(application.url);
    await first.login('bob');
    expect((await first.get()).status).toBe(200);
    await second.login('bob');
    const refused = await first.get();
    expect(refused.status).toBe(401);
    expect(refused.body.reason).toBe('superseded');
    expect(refused.headers.get('www-authenticate')).toBe('Bearer error="invalid_token"');
    expect((await second.get()).status).toBe(200);
  });
});
