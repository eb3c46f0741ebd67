import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { SingleSessionService } from '../../src/index.js';
import { startApplication, Users, type TestApplication, type TestUser } from '../support/application.js';
import { Browser, TokenClient } from '../support/client.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';

let databaseUrl: string;
let application: TestApplication;
let elsewhere: TestApplication;
let service: SingleSessionService;

// Passport's strategies are shared by all applications of a file, so its users are too.
const users = new Users();
const options = { exempt: { roles: ['service'] } };

beforeAll(async () => {
  databaseUrl = await freshDatabase();
  application = await startApplication(databaseUrl, { options, users });
  elsewhere = await startApplication(databaseUrl, { options, users });
  service = application.app.get(SingleSessionService);
});

afterAll(async () => {
  await application?.close();
  await elsewhere?.close();
  await dropDatabase(databaseUrl);
});

describe('what the service reports as ended', () => {
  it('is refused on the next request of that very cookie or token, on every process [lesson 17, lesson 22]', async () => {
    const clients = [new TokenClient(application.url), new TokenClient(elsewhere.url)];
    const browser = new Browser(application.url);
    for (const client of clients) await client.login('worker');
    await browser.login('worker');
    expect((await clients[0]!.get()).status).toBe(200);

    expect(await service.endUser(3, { by: 'root' })).toEqual({ ended: 3 });
    for (const client of clients) {
      const refused = await client.get();
      expect(refused.status).toBe(401);
      expect(refused.body.reason).toBe('admin');
    }
    expect((await browser.get('/me')).body.reason).toBe('admin');
  });

  it('is counted once: nothing that was dead is reported as ended [lesson 22]', async () => {
    const [first, second] = [new TokenClient(application.url), new TokenClient(elsewhere.url)];
    await first.login('alice');
    await second.login('alice');
    expect(await service.endUser(1)).toEqual({ ended: 1 });
    expect(await service.endUser(1)).toEqual({ ended: 0 });
    expect(await service.endUser('nobody')).toEqual({ ended: 0 });
  });
});

describe('a role that changes', () => {
  it('ends an exemption with the next login, and brings nothing back when it is given again [S11, lesson 11]', async () => {
    const worker = users.get('bob')!;
    const [before, after, again] = [1, 2, 3].map(() => new TokenClient(application.url));
    const become = (roles: string[]): unknown => users.set('bob', { ...worker, roles });

    become(['service']);
    await before!.login('bob');
    become(['user']);
    expect((await before!.get()).status).toBe(200);
    await after!.login('bob');
    expect((await before!.get()).status).toBe(401);

    become(['service']);
    await again!.login('bob');
    expect((await before!.get()).status).toBe(401);
    expect((await after!.get()).status).toBe(200);
    expect((await again!.get()).status).toBe(200);
  });
});

describe('a browser whose earlier user cannot be identified any more', () => {
  it('can still be signed in by somebody who can, and nothing of the earlier one stays behind', async () => {
    const picky = await startApplication(databaseUrl, {
      users,
      options: {
        identify: (user: TestUser) => {
          if (user.roles.includes('broken')) throw new Error('cannot be identified');
          return user;
        },
      },
    });
    const alice = users.get('alice')!;
    try {
      const browser = new Browser(picky.url);
      await browser.login('alice');
      users.set('alice', { ...alice, roles: ['broken'] });
      expect((await browser.login('bob')).status).toBe(200);
      expect((await browser.get('/me')).body.user.username).toBe('bob');
    } finally {
      users.set('alice', alice);
      await picky.close();
    }
  });
});
