import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { startApplication, type TestApplication, type TestUser } from '../support/application.js';
import { Browser, TokenClient, type Answer } from '../support/client.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { runBefore } from '../support/platform.js';
import { liveSessionsOf, newUser } from '../support/sessions.js';
import { watchStatements, type StatementWatch } from '../support/statements.js';

const UUID = 'c7a2cc5e-91a3-4cf5-8f0e-0f6d2d1d2f53';
const MEGABYTE = 1_048_576;

let databaseUrl: string;
let watch: StatementWatch;
let application: TestApplication;

beforeAll(async () => {
  databaseUrl = await freshDatabase();
  watch = await watchStatements(databaseUrl);
  application = await startApplication(watch.url);
});

beforeEach(() => watch.clear());

afterAll(async () => {
  await application?.close();
  await watch?.stop();
  await dropDatabase(databaseUrl);
});

const bringing = (user: TestUser, sid: unknown): Promise<Answer> =>
  new TokenClient(application.url, application.sign(user, { sid })).get();

describe('a token whose sid is', () => {
  const GARBAGE: [string, unknown][] = [
    ['empty', ''],
    ['not a uuid', 'garbage'],
    ['a uuid and more', `${UUID}0`],
    ['a uuid in braces', `{${UUID}}`],
    ['a uuid without hyphens', UUID.replaceAll('-', '')],
    ['a uuid with a newline', `${UUID.slice(0, 35)}\n`],
    ['36 hyphens', '-'.repeat(36)],
    ['SQL', `' OR 1=1 --`],
    ['a NUL', '\0'.repeat(36)],
    ['an array of a session', [UUID]],
    ['an empty array', []],
    ['an object', { toString: UUID, length: 36 }],
    ['a number', 7],
    ['zero', 0],
    ['true', true],
    ['false', false],
  ];

  it.each(GARBAGE)('%s is refused with 401 and asks the database nothing [S15]', async (_, sid) => {
    const answer = await bringing(newUser(application), sid);
    expect(answer.status).toBe(401);
    expect(answer.body).toMatchObject({ code: 'SESSION_ENDED', reason: 'unknown', endedAt: null });
    expect(answer.headers.get('www-authenticate')).toBe('Bearer error="invalid_token"');
    expect(watch.statements).toEqual([]);
  });

  it.each([
    ['missing', undefined],
    ['null', null],
  ])('%s is refused with SESSION_UNKNOWN and asks the database nothing [S15]', async (_, sid) => {
    const answer = await bringing(newUser(application), sid);
    expect(answer.status).toBe(401);
    expect(answer.body.code).toBe('SESSION_UNKNOWN');
    expect(watch.statements).toEqual([]);
  });

  it('a random uuid is refused with 401, and nothing is recorded for it [S15]', async () => {
    const user = newUser(application);
    const answer = await bringing(user, randomUUID());
    expect(answer.status).toBe(401);
    expect(answer.body).toMatchObject({ code: 'SESSION_ENDED', reason: 'unknown', endedAt: null });
    expect(await liveSessionsOf(application, user)).toEqual([]);
  });

  it("another user's live session is refused as unknown, and that session goes on [S15]", async () => {
    const [thief, owner] = [newUser(application), newUser(application)];
    const token = new TokenClient(application.url);
    await token.login(owner.username);
    const { body } = await token.get();
    const answer = await bringing(thief, body.session.id);
    expect(answer.status).toBe(401);
    expect(answer.body).toMatchObject({ code: 'SESSION_ENDED', reason: 'unknown', endedAt: null });
    expect((await token.get()).status).toBe(200);
  });

  it("another user's live session cannot be logged out with it [S15, P3]", async () => {
    const [thief, owner] = [newUser(application), newUser(application)];
    const token = new TokenClient(application.url);
    await token.login(owner.username);
    const { body } = await token.get();
    await new TokenClient(application.url, application.sign(thief, { sid: body.session.id })).post(
      '/token/logout',
    );
    expect((await token.get()).status).toBe(200);
  });

  it("the user's own live session in capitals is the same session, not an error [S15]", async () => {
    const user = newUser(application);
    const token = new TokenClient(application.url);
    await token.login(user.username);
    const { body } = await token.get();
    const answer = await bringing(user, body.session.id.toUpperCase());
    expect(answer.status).toBe(200);
    expect(answer.body.session).toEqual(body.session);
  });
});

describe('a sid of a megabyte', () => {
  it('is refused with 401 in no time and asks the database nothing [S15, S20]', async () => {
    // No header holds it: such a user comes from a session store or a body.
    const huge = await startApplication(watch.url, {
      configure: (app) =>
        runBefore(app, (request: { user?: object }, _: unknown, next: () => void) => {
          request.user = { id: 1, username: 'alice', roles: [], sid: 'a'.repeat(MEGABYTE) };
          next();
        }),
    });
    try {
      watch.clear();
      const startedAt = performance.now();
      const answer = await new Browser(huge.url).get('/me');
      expect(answer.status).toBe(401);
      expect(answer.body).toMatchObject({ code: 'SESSION_ENDED', reason: 'unknown' });
      expect(performance.now() - startedAt).toBeLessThan(1_000);
      expect(watch.statements).toEqual([]);
    } finally {
      await huge.close();
    }
  });
});
