import { randomUUID } from 'node:crypto';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { Controller, HttpCode, Logger, Post } from '@nestjs/common';
import { SingleSessionLogout } from '../../src/index.js';
import { startApplication, Users, type TestApplication } from '../support/application.js';
import { Browser, TokenClient } from '../support/client.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { liveSessionsOf, newUser } from '../support/sessions.js';

/** Without the guard that reads the token. */
@Controller('forgotten')
class ForgottenController {
  @SingleSessionLogout()
  @Post('logout')
  @HttpCode(204)
  logout(): void {}
}

const users = new Users();
let databaseUrl: string;
let application: TestApplication;
let warn: jest.SpiedFunction<Logger['warn']>;

beforeAll(async () => {
  databaseUrl = await freshDatabase();
});

const start = (options: object = {}): Promise<TestApplication> =>
  startApplication(databaseUrl, {
    users,
    controllers: [ForgottenController],
    options: { storm: { threshold: 1 }, ...options },
  });

beforeEach(async () => {
  application = await start();
  warn = jest.spyOn(Logger.prototype, 'warn').mockReturnValue();
});

afterEach(async () => {
  jest.restoreAllMocks();
  await application.close();
});

afterAll(() => dropDatabase(databaseUrl));

const warnings = (): string[] => warn.mock.calls.map(([text]) => String(text));

describe('what the client cannot mend is said in the log, once [lesson 32]', () => {
  it('a token without sid: where to sign it, and where to hand it on', async () => {
    const token = new TokenClient(application.url, application.sign(newUser({ users }), {}));
    for (let n = 0; n < 2; n++) expect((await token.get()).body.code).toBe('SESSION_UNKNOWN');
    expect(warnings()).toEqual([
      expect.stringMatching(/credential: 'token'.*sign `sid: session\.id`.*return `sid: payload\.sid`/),
    ]);
    expect(warnings()[0]).not.toContain('adopt');
  });

  it('a token whose sid is no id of a session', async () => {
    const user = newUser({ users });
    const token = new TokenClient(application.url, application.sign(user, { sid: String(user.id) }));
    for (let n = 0; n < 2; n++) expect((await token.get()).body.reason).toBe('unknown');
    expect(warnings()).toEqual([
      expect.stringMatching(/`sid` is no id of a session\. Sign `sid: session\.id`/),
    ]);
  });

  it('a token that names another user than its login did', async () => {
    const [alice, bob] = [newUser({ users }), newUser({ users })];
    const login = new TokenClient(application.url);
    await login.login(alice.username);
    const [sid] = await liveSessionsOf(application, alice);
    const token = new TokenClient(application.url, application.sign(bob, { sid }));
    for (let n = 0; n < 2; n++) expect((await token.get()).body.reason).toBe('unknown');
    expect(warnings()).toEqual([expect.stringMatching(/its `sid` belongs to another user.*same id/)]);
  });

  it('a login whose user brings a sid of somebody else, as the claims of OpenID Connect may', async () => {
    const user = Object.assign(newUser({ users }), { sid: randomUUID() });
    for (let n = 0; n < 2; n++) {
      const answer = await new Browser(application.url).login(user.username);
      expect(answer.body).toMatchObject({ code: 'SESSION_ENDED', reason: 'unknown' });
    }
    expect(warnings()).toEqual([expect.stringMatching(/a login was refused.*`sid`.*another name/i)]);
  });

  it('a logout with a token that no guard of its route reads, and which ends nothing', async () => {
    const user = newUser({ users });
    const token = new TokenClient(application.url);
    await token.login(user.username);
    await new Browser(application.url).post('/forgotten/logout');
    expect(warnings()).toEqual([]);
    for (let n = 0; n < 2; n++) expect((await token.post('/forgotten/logout')).status).toBe(204);
    expect(await liveSessionsOf(application, user)).toHaveLength(1);
    expect(warnings()).toEqual([expect.stringMatching(/logout ended nothing.*AuthGuard\('jwt'\)/)]);
  });

  it.each([
    ['admin', '/admin/sessions', { admin: { roles: ['admin'] } }],
    ['selfService', '/sessions/mine', { selfService: true }],
  ])('a token that no guard reads on the routes of %s', async (option, path, options) => {
    await application.close();
    application = await start(options);
    warn.mockClear();
    const token = new TokenClient(application.url);
    await token.login(newUser({ users }, { roles: ['admin'] }).username);
    expect((await new Browser(application.url).get(path)).status).toBe(401);
    expect(warnings()).toEqual([]);
    for (let n = 0; n < 2; n++) expect((await token.get(path)).status).toBe(401);
    expect(warnings()).toEqual([
      expect.stringMatching(new RegExp(`Write ${option}: .*guards: \\[AuthGuard\\('jwt'\\)\\]`)),
    ]);
  });

  it.each([
    ['without `admin`', {}],
    ['with an `admin` that names nobody', { admin: {} }],
  ])('a storm, without a route that is not there, %s', async (_, options) => {
    await application.close();
    application = await start(options);
    warn.mockClear();
    const user = newUser({ users });
    for (let n = 0; n < 2; n++) await new TokenClient(application.url).login(user.username);
    expect(warnings()).toEqual([
      expect.stringContaining(`exempt it: forRoot({ exempt: { usernames: ["${user.username}"]`),
    ]);
  });
});
