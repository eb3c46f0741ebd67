import { randomUUID } from 'node:crypto';
import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import { Controller, HttpCode, Post, Req } from '@nestjs/common';
import type { Request } from 'express';
import { CurrentSession, SingleSessionEvents, SingleSessionService } from '../../src/index.js';
import type { SessionRequest } from '../../src/http/request.js';
import { setChecked } from '../../src/http/request-state.js';
import { startApplication, Users, type TestApplication, type TestUser } from '../support/application.js';
import { Browser, TokenClient } from '../support/client.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { liveSessionsOf, newUser, rowsOf } from '../support/sessions.js';
import { Gate } from '../support/ways-in.js';

type UserRequest = Request & { user: TestUser; session: Request['session'] & { singleSession?: unknown } };
type Done = (error?: unknown) => void;

const called = (call: (done: Done) => void): Promise<void> =>
  new Promise((resolve, reject) => call((error) => (error ? reject(error) : resolve())));

/** What applications do after a change of password: the session id that may have leaked is given up. */
@Controller('password')
class PasswordController {
  constructor(private readonly service: SingleSessionService) {}

  @Post('keeping-info')
  @HttpCode(204)
  keepingInfo(@Req() request: UserRequest): Promise<void> {
    return called((done) => request.logIn(request.user, { session: true, keepSessionInfo: true }, done));
  }

  @Post('regenerate')
  @HttpCode(204)
  regenerate(@Req() request: UserRequest): Promise<void> {
    return called((done) => request.session.regenerate(done));
  }

  @Post('regenerate-and-copy')
  @HttpCode(204)
  async regenerateAndCopy(@Req() request: UserRequest): Promise<void> {
    const kept = Object.entries(request.session).filter(([key]) => key !== 'cookie');
    await this.regenerate(request);
    Object.assign(request.session, Object.fromEntries(kept));
  }

  @Post('login-again')
  @HttpCode(204)
  async loginAgain(@Req() request: UserRequest): Promise<void> {
    await beforeRotation.pass(request.user.username);
    return called((done) => request.logIn(request.user, done));
  }

  @Post('rebind')
  @HttpCode(204)
  async rebind(@Req() request: UserRequest): Promise<void> {
    const { passport } = request.session as { passport?: unknown };
    await this.regenerate(request);
    Object.assign(request.session, { passport });
    await beforeRotation.pass(request.user.username);
    await this.service.rebind(request);
  }

  /** What a change of password should be. */
  @Post('change')
  @HttpCode(200)
  async change(@Req() request: UserRequest, @CurrentSession() current: CurrentSession): Promise<object> {
    const { ended } = await this.service.endOthers(current.userId, current.id, {
      reason: 'logout-everywhere',
    });
    await this.rebind(request);
    return { ended };
  }

  /** Tells what rebind() said, of a request that is not fit for it. */
  @Post('rebind-unfit')
  @HttpCode(200)
  async rebindUnfit(@Req() request: UserRequest): Promise<object> {
    const other = request.headers['x-as'];
    if (other !== undefined) request.user = users.get(String(other))!;
    const error = await this.service.rebind(request).catch((reason: Error) => reason);
    return { said: (error as Error).message };
  }
}

const users = new Users();
const beforeRotation = new Gate();
let databaseUrl: string;
let application: TestApplication;
let two: TestApplication;

beforeAll(async () => {
  databaseUrl = await freshDatabase();
  const shared = { users, controllers: [PasswordController] };
  application = await startApplication(databaseUrl, shared);
  two = await startApplication(databaseUrl, { ...shared, options: { maxSessions: 2 } });
});

afterEach(() => beforeRotation.open());

afterAll(async () => {
  for (const one of [two, application]) await one?.close();
  await dropDatabase(databaseUrl);
});

async function change(
  path: string,
): Promise<{ user: TestUser; browser: Browser; before: Browser; id: string }> {
  const user = newUser(application);
  const browser = new Browser(application.url);
  const { body } = await browser.login(user.username);
  const before = browser.copy();
  expect((await browser.post(`/password/${path}`)).status).toBe(204);
  expect(browser.cookie).not.toBe(before.cookie);
  return { user, browser, before, id: body.session.id };
}

describe('a change of password that gives the cookie session a new id', () => {
  it.each(['keeping-info', 'regenerate-and-copy', 'login-again', 'rebind'])(
    '(%s) keeps the session: one is live, the old cookie is out, the next login evicts it [lesson 20]',
    async (path) => {
      const { user, browser, before, id } = await change(path);
      expect((await browser.get('/me')).body.session).toEqual({ id, userId: String(user.id) });
      expect((await before.get('/me')).body).toEqual({ user: null, session: null });
      expect(await liveSessionsOf(application, user)).toEqual([id]);

      await new Browser(application.url).login(user.username);
      expect((await browser.get('/me')).body.reason).toBe('superseded');
      expect(await liveSessionsOf(application, user)).toHaveLength(1);
    },
  );

  it('and drops what was in it is a logout of the browser, and the next login leaves one session [lesson 20]', async () => {
    const { user, browser, before } = await change('regenerate');
    for (const each of [browser, before])
      expect((await each.get('/me')).body).toEqual({ user: null, session: null });
    expect((await browser.login(user.username)).status).toBe(200);
    expect(await liveSessionsOf(application, user)).toHaveLength(1);
  });
});

describe.each(['rebind', 'login-again', 'keeping-info', 'regenerate-and-copy'])(
  'a rotation (%s) where two sessions are allowed',
  (path) => {
    it('takes no place, evicts nobody, is no login, and the session keeps its age [lesson 4, lesson 20]', async () => {
      const user = newUser(application);
      const [older, newer] = [new Browser(two.url), new Browser(two.url)];
      const { body } = await older.login(user.username);
      await newer.login(user.username);
      const events: string[] = [];
      const subscription = two.app
        .get(SingleSessionEvents)
        .all.subscribe(({ type }) => void events.push(type));
      for (let n = 0; n < 3; n++) expect((await older.post(`/password/${path}`)).status).toBe(204);
      expect((await older.get('/me')).body.session.id).toBe(body.session.id);
      expect((await newer.get('/me')).status).toBe(200);
      expect(await rowsOf(two, user)).toHaveLength(2);
      subscription.unsubscribe();
      expect(events).toEqual([]);

      await new Browser(two.url).login(user.username);
      expect((await older.get('/me')).body.reason).toBe('superseded');
      expect((await newer.get('/me')).status).toBe(200);
    });
  },
);

describe('a session that ends while its request is under way', () => {
  async function evictedMeanwhile(
    path: string,
  ): Promise<{ user: TestUser; loser: Browser; winner: Browser }> {
    const user = newUser(application);
    const [loser, winner] = [new Browser(application.url), new Browser(application.url)];
    await loser.login(user.username);
    const arrived = beforeRotation.shut(user.username);
    const rotation = loser.post(`/password/${path}`);
    await arrived;
    await winner.login(user.username);
    beforeRotation.open();
    expect((await rotation).status).toBe(204);
    return { user, loser, winner };
  }

  it('is not brought back by rebind(), and the winner stays [lesson 15]', async () => {
    const { user, loser, winner } = await evictedMeanwhile('rebind');
    const refused = await loser.get('/me');
    expect([refused.status, refused.body.reason]).toEqual([401, 'superseded']);
    expect((await winner.get('/me')).body.user.username).toBe(user.username);
    expect(await liveSessionsOf(application, user)).toHaveLength(1);
  });

  it('is not carried on by request.logIn(), which is a login then: a new session, that evicts', async () => {
    const { user, loser, winner } = await evictedMeanwhile('login-again');
    expect((await loser.get('/me')).body.user.username).toBe(user.username);
    expect((await winner.get('/me')).body.reason).toBe('superseded');
    expect(await rowsOf(application, user)).toHaveLength(3);
  });
});

describe('rebind()', () => {
  it('says what to write when nobody is signed in', async () => {
    const { body } = await new Browser(application.url).post('/password/rebind-unfit');
    expect(body.said).toMatch(/found no live session .* SingleSessionService\.admit\(\)/);
  });

  it('says what to write where no cookie session could carry the session, as of the user of a token', async () => {
    const request: SessionRequest = { headers: {}, user: newUser(application) };
    setChecked(request, { id: randomUUID(), userId: 'of a token' });
    const rebound = application.app.get(SingleSessionService).rebind(request as never);
    await expect(rebound).rejects.toThrow(/no cookie session to carry it/);
  });

  it('needs no user beside the session', async () => {
    const browser = new Browser(application.url);
    const { username } = newUser(application);
    await browser.login(username);
    expect((await browser.post('/password/rebind-unfit', {}, { 'x-as': 'nobody' })).body).toEqual({});
    expect((await browser.get('/me')).body.user?.username).toBe(username);
  });

  it('says what to write for another user, and both keep what they had', async () => {
    const [user, other] = [newUser(application), newUser(application)];
    const browsers = [new Browser(application.url), new Browser(application.url)];
    await browsers[0]!.login(user.username);
    await browsers[1]!.login(other.username);
    const { body } = await browsers[0]!.post('/password/rebind-unfit', {}, { 'x-as': other.username });
    expect(body.said).toMatch(/another user .* SingleSessionService\.admit\(user, request\)/);
    const names = await Promise.all(
      browsers.map(async (browser) => (await browser.get('/me')).body.user.username),
    );
    expect(names).toEqual([user.username, other.username]);
  });
});

describe('an account', () => {
  it('whose password is changed keeps this browser with a new cookie, and is out everywhere else [lesson 20]', async () => {
    const user = newUser(application);
    const several = await startApplication(databaseUrl, {
      users,
      controllers: [PasswordController],
      options: { maxSessions: 5 },
    });
    try {
      const here = new Browser(several.url);
      const there = [new Browser(several.url), new Browser(several.url)];
      const token = new TokenClient(several.url);
      const stranger = new Browser(several.url);
      await here.login(user.username);
      for (const browser of there) await browser.login(user.username);
      await token.login(user.username);
      await stranger.login(newUser(application).username);
      const stolen = here.copy();

      expect((await here.post('/password/change')).body).toEqual({ ended: 3 });
      expect((await here.get('/me')).body.user.username).toBe(user.username);
      expect((await stolen.get('/me')).body.user).toBeNull();
      for (const answer of [...(await Promise.all(there.map((one) => one.get('/me')))), await token.get()])
        expect([answer.status, answer.body.reason]).toEqual([401, 'logout-everywhere']);
      expect((await stranger.get('/me')).status).toBe(200);
    } finally {
      await several.close();
    }
  });

  it.each(['disabled', 'deleted'])(
    'that is %s is ended by endUser(): its cookie and its token are refused, and nobody else is touched [S11]',
    async (how) => {
      const user = newUser(application);
      const [browser, token, other] = [new Browser(two.url), new TokenClient(two.url), new Browser(two.url)];
      await browser.login(user.username);
      await token.login(user.username);
      await other.login(newUser(application).username);
      if (how === 'deleted') users.delete(user.username);
      const { ended } = await two.app.get(SingleSessionService).endUser(user.id, { by: 'operator' });
      expect(ended).toBe(2);
      for (const answer of [await browser.get('/me'), await token.get()])
        expect([answer.status, answer.body.code, answer.body.reason]).toEqual([
          401,
          'SESSION_ENDED',
          'admin',
        ]);
      expect((await other.get('/me')).status).toBe(200);
      expect(await liveSessionsOf(two, user)).toEqual([]);
    },
  );
});
