import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { EventEmitter, once } from 'node:events';
import { request } from 'node:http';
import { Body, Controller, Get, Post, Req, Res, Session, UseGuards } from '@nestjs/common';
import { DataSource } from 'typeorm';
import { SingleSessionLogin } from '../../src/index.js';
import { Sessions } from '../../src/session/sessions.js';
import { LocalLoginGuard, startApplication, Users, type TestApplication } from '../support/application.js';
import { nodeResponseOf, type PlatformResponse } from '../support/platform.js';
import { Browser, usernameOf } from '../support/client.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { interceptQueries } from '../support/queries.js';
import { ImpatientBrowser, logIn, type Form, type UserRequest } from '../support/ways-in.js';
import { eventually, liveSessionsOf, newUser, rowsOf } from '../support/sessions.js';

@Controller()
class PagesController {
  /** Begins an anonymous session, as a login page does that keeps a CSRF token. */
  @Get('login-page')
  loginPage(@Session() session: Record<string, unknown>): void {
    session['csrf'] = 'a token';
  }

  @Post('handler')
  async handler(@Req() request: UserRequest, @Body() form: Form): Promise<void> {
    await logIn(request, users.checked(form));
  }

  /** Signs in twice, as where somebody adds what the guard does already. */
  @UseGuards(LocalLoginGuard)
  @Post('slow-guard-and-handler')
  slowGuardAndHandler(
    @Req() request: UserRequest,
    @Body() form: Form,
    @Res() response: PlatformResponse,
  ): Promise<void> {
    return this.slowHandler(request, form, response);
  }

  /** Signs in twice, and once more in vain. */
  @Post('failing-handler')
  async failingHandler(@Req() request: UserRequest, @Body() form: Form): Promise<void> {
    for (let time = 0; time < 2; time++) await logIn(request, users.checked(form));
    const goOn = once(clicks, 'go on');
    clicks.emit('signed in');
    await goOn;
    request.session.regenerate = (done) => (done(new Error('the store is away')), request.session);
    await logIn(request, users.checked(form));
  }

  @Post('slow-handler')
  async slowHandler(
    @Req() request: UserRequest,
    @Body() form: Form,
    @Res() response: PlatformResponse,
  ): Promise<void> {
    await logIn(request, users.checked(form));
    clicks.emit('signed in');
    await once(nodeResponseOf(response), 'close');
    clicks.emit('left');
    response.send();
  }

  /** Answers when the client has gone. */
  @UseGuards(LocalLoginGuard)
  @SingleSessionLogin()
  @Post('slow-login')
  async slowLogin(@Res() response: PlatformResponse): Promise<void> {
    await once(nodeResponseOf(response), 'close');
    response.send();
  }
}

const clicks = new EventEmitter();
const controllers = [PagesController];
const users = new Users();
let databaseUrl: string;
let one: TestApplication;
let two: TestApplication;
let rejecting: TestApplication;

beforeAll(async () => {
  databaseUrl = await freshDatabase();
  one = await startApplication(databaseUrl, { users, controllers });
  two = await startApplication(databaseUrl, { users, controllers, options: { maxSessions: 2 } });
  rejecting = await startApplication(databaseUrl, {
    users,
    controllers,
    options: { maxSessions: 2, onLimit: 'reject' },
  });
});

afterAll(async () => {
  for (const application of [rejecting, two, one]) await application?.close();
  await dropDatabase(databaseUrl);
});

async function loggedIn({ url }: TestApplication, username: string): Promise<Browser> {
  const browser = new Browser(url);
  expect((await browser.login(username)).status).toBe(200);
  return browser;
}

let givingUp: jest.SpiedFunction<Sessions['giveUp']>;
beforeEach(() => {
  givingUp = jest.spyOn(one.app.get(Sessions), 'giveUp');
});
afterEach(() => givingUp.mockRestore());

/** A click in this browser that is signed in, and has no answer yet. Gives how its client leaves; then all is done that follows. */
async function slowClick(
  { cookie }: Browser,
  username: string,
  path = '/slow-handler',
): Promise<() => Promise<void>> {
  const browser = new ImpatientBrowser(one.url, cookie);
  const signedIn = once(clicks, 'signed in');
  const answer = browser.login(username, path).catch(() => 'gone');
  await signedIn;
  return async () => {
    const left = once(clicks, 'left');
    browser.leave();
    await left;
    expect(await answer).toBe('gone');
    await Promise.all(givingUp.mock.results.map(({ value }) => value));
  };
}

const databaseOf = ({ app }: TestApplication): DataSource => app.get(DataSource);

describe('a login in a browser that is already logged in', () => {
  it('replaces its own session: no 500, and one is left [lesson 3]', async () => {
    const user = newUser({ users });
    const browser = await loggedIn(one, user.username);
    const before = browser.copy();
    for (let n = 0; n < 3; n++) expect((await browser.login(user.username)).status).toBe(200);
    expect(await usernameOf(browser)).toBe(user.username);
    expect(await usernameOf(before)).toBeUndefined();
    expect(await liveSessionsOf(one, user)).toHaveLength(1);
  });

  it('displaces nobody else when two are allowed, however often it is done [lesson 3, lesson 4]', async () => {
    const user = newUser({ users });
    const other = await loggedIn(two, user.username);
    const browser = await loggedIn(two, user.username);
    for (let n = 0; n < 3; n++) expect((await browser.login(user.username)).status).toBe(200);
    expect(await usernameOf(other)).toBe(user.username);
    expect(await usernameOf(browser)).toBe(user.username);
    expect(await liveSessionsOf(two, user)).toHaveLength(2);
  });

  it("has room for itself under 'reject', however often it is done [lesson 3]", async () => {
    const user = newUser({ users });
    const other = await loggedIn(rejecting, user.username);
    const browser = await loggedIn(rejecting, user.username);
    for (let n = 0; n < 3; n++) expect((await browser.login(user.username)).status).toBe(200);
    expect(await usernameOf(other)).toBe(user.username);
    expect(await liveSessionsOf(rejecting, user)).toHaveLength(2);
  });

  it('keeps the session when the password is wrong', async () => {
    const user = newUser({ users });
    const browser = await loggedIn(one, user.username);
    expect((await browser.post('/login', { username: user.username, password: 'wrong' })).status).toBe(401);
    expect(await usernameOf(browser)).toBe(user.username);
  });

  it('says of the replaced session what took its place', async () => {
    const user = newUser({ users });
    const browser = await loggedIn(one, user.username);
    await browser.login(user.username);
    const isMarked = (rows: { endedAt: Date | null }[]): boolean => rows[0]!.endedAt !== null;
    const [first, second] = await eventually(() => rowsOf(one, user), isMarked);
    expect(first).toMatchObject({ endReason: 'superseded', replacedBy: second!.id });
    expect(second).toMatchObject({ endReason: null, endedAt: null, replacedBy: null });
  });
});

describe('a login as another user in the same browser', () => {
  it('ends what the browser gave up and leaves the sessions of both users elsewhere alone [lesson 3]', async () => {
    const [first, second] = [newUser({ users }), newUser({ users })];
    const elsewhere = [await loggedIn(two, first.username), await loggedIn(two, second.username)];
    const browser = await loggedIn(two, first.username);
    expect((await browser.login(second.username)).status).toBe(200);

    expect(await usernameOf(browser)).toBe(second.username);
    expect(await usernameOf(elsewhere[0]!)).toBe(first.username);
    expect(await usernameOf(elsewhere[1]!)).toBe(second.username);
    await eventually(
      () => liveSessionsOf(two, first),
      (live) => live.length === 1,
    );
    expect(await liveSessionsOf(two, second)).toHaveLength(2);
  });

  it('does not end the winner of a session that was evicted in this browser [lesson 16]', async () => {
    const [first, second] = [newUser({ users }), newUser({ users })];
    const loser = await loggedIn(one, first.username);
    const winner = await loggedIn(one, first.username);
    expect((await loser.login(second.username)).status).toBe(200);
    expect(await usernameOf(winner)).toBe(first.username);
    expect(await usernameOf(loser)).toBe(second.username);
  });
});

describe('a double click on "Log in"', () => {
  it('answers both, leaves exactly one session, and both cookies are of that one: it works whichever answer comes last [lesson 4]', async () => {
    const user = newUser({ users });
    let browser = await loggedIn(one, user.username);
    for (let round = 0; round < 10; round++) {
      const clicks = [browser.copy(), browser.copy()];
      expect(await sessionsOfClicks(clicks, user.username)).toHaveLength(1);
      expect(await liveSessionsOf(one, user)).toHaveLength(1);
      browser = clicks[round % 2]!;
    }
  });

  it('in a browser that came without a cookie leaves exactly one session [lesson 4]', async () => {
    const user = newUser({ users });
    const clicks = [new Browser(one.url), new Browser(one.url)];
    await Promise.all(clicks.map((click) => click.login(user.username)));
    expect(await liveSessionsOf(one, user)).toHaveLength(1);
  });

  it('never leaves more than two sessions when two are allowed [lesson 4]', async () => {
    const user = newUser({ users });
    await loggedIn(two, user.username);
    const browser = await loggedIn(two, user.username);
    const clicks = Array.from({ length: 4 }, () => browser.copy());
    await Promise.all(clicks.map((click) => click.login(user.username)));
    expect(await liveSessionsOf(two, user)).toHaveLength(2);
  });

  it('does not throw out the other browser when two are allowed [lesson 4]', async () => {
    const user = newUser({ users });
    const other = await loggedIn(two, user.username);
    const browser = await loggedIn(two, user.username);
    const clicks = [browser.copy(), browser.copy()];
    await Promise.all(clicks.map((click) => click.login(user.username)));
    expect(await usernameOf(other)).toBe(user.username);
  });

  it.each(['two', 'rejecting'] as const)(
    'does not throw out the other browser, nor is it refused, when the second click overtakes the first, which has taken the cookie session away (%s) [lesson 4]',
    async (name) => {
      const application = { two, rejecting }[name];
      const user = newUser({ users });
      const other = await loggedIn(application, user.username);
      const browser = await loggedIn(application, user.username);
      const clicks = [browser.copy(), browser.copy()];

      const first = holdNextAdmission(databaseOf(application));
      const answer = clicks[0]!.login(user.username);
      await first.reached;
      expect((await clicks[1]!.login(user.username)).status).toBe(200);
      first.release();
      expect((await answer).status).toBe(200);

      for (const one of [other, ...clicks]) expect(await usernameOf(one)).toBe(user.username);
      expect(await liveSessionsOf(application, user)).toHaveLength(2);
    },
  );
});

describe('a login by request.logIn() in a browser that is already logged in', () => {
  it.each(['one', 'two', 'rejecting'] as const)(
    'twice, the second click with the cookie that the first has just replaced, keeps the session for both and displaces nobody (%s) [lesson 4]',
    async (name) => {
      const application = { one, two, rejecting }[name];
      const user = newUser({ users });
      const others = name === 'one' ? [] : [await loggedIn(application, user.username)];
      const browser = await loggedIn(application, user.username);
      const { id } = (await browser.get('/me')).body.session;
      const clicks = [browser.copy(), browser.copy()];
      for (const click of clicks) expect((await click.login(user.username, '/handler')).status).toBe(201);
      for (const click of clicks) expect((await click.get('/me')).body.session?.id).toBe(id);
      for (const other of others) expect(await usernameOf(other)).toBe(user.username);
    },
  );

  it.each(['first', 'second'])(
    'twice, when the browser gives up the %s click, keeps the session for the other [lesson 4]',
    async (which) => {
      const user = newUser({ users });
      const browser = await loggedIn(one, user.username);
      const { id } = (await browser.get('/me')).body.session;
      const other = browser.copy();
      const click = async (): Promise<void> =>
        expect((await other.login(user.username, '/handler')).status).toBe(201);
      if (which === 'second') await click();
      const leave = await slowClick(browser, user.username);
      if (which === 'first') await click();
      await leave();
      expect((await other.get('/me')).body.session?.id).toBe(id);
    },
  );

  it('twice, and given up both times, ends the session: nobody holds a cookie of it', async () => {
    const user = newUser({ users });
    const browser = await loggedIn(one, user.username);
    const leave = await slowClick(browser, user.username);
    await (
      await slowClick(browser, user.username)
    )();
    expect(await liveSessionsOf(one, user)).toHaveLength(1);
    await leave();
    expect(await liveSessionsOf(one, user)).toEqual([]);
  });

  it('twice on one request, which cannot do so again, ends the session: nobody holds a cookie of it', async () => {
    const user = newUser({ users });
    const browser = await loggedIn(one, user.username);
    const signedIn = once(clicks, 'signed in');
    const answer = browser.login(user.username, '/failing-handler');
    await signedIn;
    clicks.emit('go on');
    expect((await answer).status).toBe(500);
    expect(await liveSessionsOf(one, user)).toEqual([]);
  });

  it('once more after the answer, and given up, ends the session: the cookie that it replaced is no good any more', async () => {
    const user = newUser({ users });
    const browser = await loggedIn(one, user.username);
    await browser.login(user.username, '/handler');
    await (
      await slowClick(browser, user.username)
    )();
    await eventually(
      () => liveSessionsOf(one, user),
      (live) => live.length === 0,
    );
  });

  it('is a new login when that session has ended in between [P2]', async () => {
    const user = newUser({ users });
    const browser = await loggedIn(one, user.username);
    const clicks = [browser.copy(), browser.copy()];
    await clicks[0]!.login(user.username, '/handler');
    const elsewhere = await loggedIn(one, user.username);
    await clicks[1]!.login(user.username, '/handler');
    expect(await usernameOf(clicks[1]!)).toBe(user.username);
    for (const evicted of [elsewhere, clicks[0]!]) expect(await usernameOf(evicted)).toBeUndefined();
  });

  it('as somebody who cannot be identified is refused, and nothing of it stays', async () => {
    const [user, nameless] = [newUser({ users }), newUser({ users }, { id: Number.NaN })];
    const browser = await loggedIn(one, user.username);
    const clicks = [browser.copy(), browser.copy()];
    await clicks[0]!.login(user.username, '/handler');
    expect((await clicks[1]!.login(nameless.username, '/handler')).status).toBe(500);
    const { status, body } = await clicks[1]!.get('/me');
    expect([status, body.user]).toEqual([200, null]);
    expect(await usernameOf(clicks[0]!)).toBe(user.username);
  });

  it('as somebody else with the cookie that was just replaced gets a session of its own', async () => {
    const [user, somebody] = [newUser({ users }), newUser({ users })];
    const browser = await loggedIn(one, user.username);
    const clicks = [browser.copy(), browser.copy()];
    await clicks[0]!.login(user.username, '/handler');
    await clicks[1]!.login(somebody.username, '/handler');
    expect(await usernameOf(clicks[0]!)).toBe(user.username);
    expect(await usernameOf(clicks[1]!)).toBe(somebody.username);
  });
});

/** Keeps the next login from its place until `release()`. `reached` resolves when it is about to be admitted. */
function holdNextAdmission(dataSource: DataSource): { reached: Promise<void>; release: () => void } {
  let reach!: () => void;
  let release!: () => void;
  const reached = new Promise<void>((resolve) => (reach = resolve));
  const released = new Promise<void>((resolve) => (release = resolve));
  const pass = interceptQueries(dataSource, async ({ sql, send }) => {
    if (!sql.includes('INSERT INTO "user_session_slots"')) return send();
    pass();
    reach();
    await released;
    return send();
  });
  return { reached, release };
}

/** Both clicks at once; the ids of the sessions that they are in afterwards. */
async function sessionsOfClicks(clicks: Browser[], username: string): Promise<string[]> {
  const answers = await Promise.all(clicks.map((click) => click.login(username)));
  expect(answers.map(({ status }) => status)).toEqual(clicks.map(() => 200));
  const bodies = await Promise.all(clicks.map(async (click) => (await click.get('/me')).body));
  expect(bodies.map(({ user }) => user?.username)).toEqual(clicks.map(() => username));
  return [...new Set(bodies.map(({ session }) => session.id as string))];
}

describe('a double click on "Log in" in a browser that has the cookie of the login page', () => {
  const visitor = async ({ url }: TestApplication): Promise<Browser> => {
    const browser = new Browser(url);
    await browser.get('/login-page');
    expect(browser.cookie).toBeDefined();
    return browser;
  };

  it('takes one place, and both cookies are of the same session [lesson 4]', async () => {
    for (let round = 0; round < 10; round++) {
      const user = newUser({ users });
      const browser = await visitor(one);
      expect(
        await sessionsOfClicks([browser.copy(), browser.copy(), browser.copy()], user.username),
      ).toHaveLength(1);
      expect(await liveSessionsOf(one, user)).toHaveLength(1);
    }
  });

  it('takes one place and throws nobody out when two are allowed [lesson 4]', async () => {
    const user = newUser({ users });
    const other = await loggedIn(two, user.username);
    const browser = await visitor(two);
    expect(await sessionsOfClicks([browser.copy(), browser.copy()], user.username)).toHaveLength(1);
    expect(await usernameOf(other)).toBe(user.username);
    expect(await liveSessionsOf(two, user)).toHaveLength(2);
  });

  it("takes the last place under 'reject', and neither click is refused [lesson 4]", async () => {
    const user = newUser({ users });
    const other = await loggedIn(rejecting, user.username);
    const browser = await visitor(rejecting);
    expect(await sessionsOfClicks([browser.copy(), browser.copy()], user.username)).toHaveLength(1);
    expect(await usernameOf(other)).toBe(user.username);
  });

  it('is the same when the second click arrives after the cookie session has its new id [lesson 4]', async () => {
    const user = newUser({ users });
    const browser = await visitor(one);
    const clicks = [browser.copy(), browser.copy()];
    const ids: string[] = [];
    for (const click of clicks) ids.push((await click.login(user.username)).body.session.id);
    expect(ids[1]).toBe(ids[0]);
    for (const click of clicks) expect(await usernameOf(click)).toBe(user.username);
  });

  it('is a new login some time later: a copy of the cookie elsewhere holds no second place [lesson 4]', async () => {
    const user = newUser({ users });
    const browser = await visitor(one);
    const elsewhere = browser.copy();
    await browser.login(user.username);
    await databaseOf(one).query(
      "UPDATE user_session SET created_at = created_at - interval '11 seconds' WHERE user_id = $1",
      [String(user.id)],
    );
    await elsewhere.login(user.username);
    expect(await usernameOf(elsewhere)).toBe(user.username);
    expect((await browser.get('/me')).body.reason).toBe('superseded');
  });

  it('as two users gives each a session of its own', async () => {
    const [first, second] = [newUser({ users }), newUser({ users })];
    const browser = await visitor(one);
    const clicks = [browser.copy(), browser.copy()];
    await Promise.all([clicks[0]!.login(first.username), clicks[1]!.login(second.username)]);
    expect(await usernameOf(clicks[0]!)).toBe(first.username);
    expect(await usernameOf(clicks[1]!)).toBe(second.username);
  });

  it('is a new login when the first click has been logged out or displaced in between [P2]', async () => {
    const user = newUser({ users });
    const browser = await visitor(one);
    const clicks = [browser.copy(), browser.copy()];
    const first = (await clicks[0]!.login(user.username)).body.session.id;
    const elsewhere = await loggedIn(one, user.username);
    const second = (await clicks[1]!.login(user.username)).body.session.id;
    expect(second).not.toBe(first);
    expect(await usernameOf(clicks[1]!)).toBe(user.username);
    expect(await liveSessionsOf(one, user)).toEqual([second]);
    expect(await usernameOf(elsewhere)).toBeUndefined();
  });

  it('leaves the session to the second click when the browser hangs up on the first, and to nobody when on both [S13]', async () => {
    const user = newUser({ users });
    const browser = await visitor(one);
    const clicks = [0, 1].map(() => {
      const click = request(`${one.url}/slow-login`, {
        method: 'POST',
        agent: false,
        headers: { 'content-type': 'application/json', cookie: browser.cookie },
      });
      click.on('error', () => undefined);
      return click.end(JSON.stringify({ username: user.username, password: user.username }));
    });
    const carried = async (): Promise<number> => {
      const [row] = await databaseOf(one).query<{ logins: number }[]>(
        'SELECT cardinality(logins) AS logins FROM user_session WHERE user_id = $1 AND ended_at IS NULL',
        [String(user.id)],
      );
      return row?.logins ?? 0;
    };
    await eventually(carried, (logins) => logins === 2);
    clicks[0]!.destroy();
    await eventually(carried, (logins) => logins === 1);
    expect(await liveSessionsOf(one, user)).toHaveLength(1);
    clicks[1]!.destroy();
    await eventually(carried, (logins) => logins === 0);
    expect(await liveSessionsOf(one, user)).toEqual([]);
  });

  it('leaves the session to the other click when that which the browser gives up has signed in twice [lesson 4]', async () => {
    const user = newUser({ users });
    const browser = await visitor(one);
    const leave = await slowClick(browser, user.username, '/slow-guard-and-handler');
    expect((await browser.login(user.username, '/handler')).status).toBe(201);
    await leave();
    await eventually(
      () => rowsOf(one, user),
      ([row]) => row!.logins.length === 1,
    );
    expect(await usernameOf(browser)).toBe(user.username);
  });

  it('leaves the session to the other click when the first has signed in twice and cannot do so again [lesson 4]', async () => {
    const user = newUser({ users });
    const browser = await visitor(one);
    const signedIn = once(clicks, 'signed in');
    const answer = browser.copy().login(user.username, '/failing-handler');
    await signedIn;
    expect((await browser.login(user.username, '/handler')).status).toBe(201);
    clicks.emit('go on');
    expect((await answer).status).toBe(500);
    await Promise.all(givingUp.mock.results.map(({ value }) => value));
    expect(await usernameOf(browser)).toBe(user.username);
  });
});
