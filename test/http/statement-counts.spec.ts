import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { Controller, HttpCode, Post, Req, UseGuards } from '@nestjs/common';
import type { Request } from 'express';
import { SingleSessionLogout, SingleSessionService } from '../../src/index.js';
import {
  LocalLoginGuard,
  startApplication,
  type TestApplication,
  type TestUser,
} from '../support/application.js';
import { Browser, TokenClient } from '../support/client.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { newUser } from '../support/sessions.js';
import { CHECK, watchStatements, type StatementWatch } from '../support/statements.js';
import { logOut } from '../support/ways-in.js';

@Controller('passport')
class PassportController {
  @UseGuards(LocalLoginGuard)
  @Post('login')
  @HttpCode(200)
  login(): void {}

  @SingleSessionLogout()
  @Post('logout')
  @HttpCode(204)
  logout(@Req() request: Request): Promise<void> {
    return logOut(request);
  }
}

let databaseUrl: string;
let watch: StatementWatch;
let application: TestApplication;
let user: TestUser;

beforeAll(async () => {
  databaseUrl = await freshDatabase();
  watch = await watchStatements(databaseUrl);
  application = await startApplication(watch.url, { controllers: [PassportController] });
});

beforeEach(async () => {
  user = newUser(application);
  await quiet();
});

afterAll(async () => {
  await application?.close();
  await watch?.stop();
  await dropDatabase(databaseUrl);
});

const KINDS: [string, RegExp][] = [
  ['admission', /^WITH ruling AS MATERIALIZED [^;]*INSERT INTO "user_session_slots"/],
  ['check', CHECK],
  ['sharing', /^WITH old AS [^;]*UPDATE "user_session" s SET logins/],
  ['marking', /^WITH due AS [^;]*UPDATE "user_session" s SET\s+end_reason/],
  ['ending', /^WITH own AS [^;]*UPDATE "user_session" s SET ended_at/],
];

/** Anything else, a BEGIN for example, stands for itself. */
const kindOf = (text: string): string => KINDS.find(([, pattern]) => pattern.test(text))?.[0] ?? text;

/** What PostgreSQL was sent since the last call. What follows an answer follows at once: nothing for a while means that nothing more comes. */
async function quiet(): Promise<string[]> {
  for (let known = -1; known !== watch.statements.length;) {
    known = watch.statements.length;
    await new Promise((resolve) => setTimeout(resolve, 80));
  }
  const kinds = watch.statements.map(kindOf);
  watch.clear();
  return kinds;
}

describe('a login', () => {
  it.each(['/login', '/token'])(
    'at %s that displaces nobody is one statement, with no transaction around it [P6]',
    async (path) => {
      expect((await new Browser(application.url).login(user.username, path)).status).toBe(200);
      expect(await quiet()).toEqual(['admission']);
    },
  );

  it.each(['/login', '/token'])(
    'at %s that evicts is one statement, and one more of bookkeeping [P6]',
    async (path) => {
      await new Browser(application.url).login(user.username, path);
      await quiet();
      await new Browser(application.url).login(user.username, path);
      expect(await quiet()).toEqual(['admission', 'marking']);
    },
  );

  it("in the user's own browser is no more than that [P6, lesson 3]", async () => {
    const browser = new Browser(application.url);
    await browser.login(user.username);
    await quiet();
    await browser.login(user.username);
    expect(await quiet()).toEqual(['admission', 'marking']);
  });

  it('by a second click of that browser finds the session of the first with one statement more [P6, lesson 4]', async () => {
    const browser = new Browser(application.url);
    await browser.login(user.username);
    const clicks = [browser.copy(), browser.copy()];
    await clicks[0]!.login(user.username);
    await quiet();
    await clicks[1]!.login(user.username);
    expect(await quiet()).toEqual(['admission', 'sharing']);
  });

  it('once more by a guard, as a step-up, is no statement but two checks: of the request, and before the session is carried on', async () => {
    const browser = new Browser(application.url);
    await browser.login(user.username);
    await quiet();
    // Another object each time it is read, as from a database.
    const reading = jest.spyOn(application.users, 'get').mockImplementation(() => ({ ...user }));
    expect((await browser.login(user.username, '/passport/login')).status).toBe(200);
    reading.mockRestore();
    expect(await quiet()).toEqual(['check', 'check']);
  });

  it('with a wrong password asks nothing', async () => {
    await new Browser(application.url).post('/login', { username: user.username, password: 'wrong' });
    expect(await quiet()).toEqual([]);
  });

  it('by an evicted browser is not checked first: it is how one comes back', async () => {
    const browser = new Browser(application.url);
    await browser.login(user.username);
    await new Browser(application.url).login(user.username);
    await quiet();
    expect((await browser.login(user.username)).status).toBe(200);
    expect(await quiet()).not.toContain('check');
  });

  it.each([1, 3, 50])(
    'is answered after one statement when %d are allowed, evicting or rejecting [P6]',
    async (maxSessions) => {
      for (const onLimit of ['evict', 'reject'] as const) {
        const other = await startApplication(watch.url, {
          users: application.users,
          options: { maxSessions, onLimit },
        });
        try {
          await quiet();
          for (let n = 0; n <= Math.min(maxSessions, 3); n++) {
            await new TokenClient(other.url).login(user.username);
            const [first, ...later] = await quiet();
            expect(first).toBe('admission');
            expect([[], ['marking']]).toContainEqual(later);
          }
        } finally {
          await other.close();
        }
      }
    },
  );
});

describe('a request', () => {
  it.each(['cookie', 'token'])('with a live %s costs one statement', async (kind) => {
    const send = await client(kind);
    await quiet();
    expect((await send()).status).toBe(200);
    expect(await quiet()).toEqual(['check']);
  });

  it('of an evicted session costs one statement, once the eviction is written down', async () => {
    const token = new TokenClient(application.url);
    await token.login(user.username);
    await new TokenClient(application.url).login(user.username);
    await quiet();
    expect((await token.get()).status).toBe(401);
    expect(await quiet()).toEqual(['check']);
  });

  it('with a cookie and a token costs one statement for each of the two at most', async () => {
    const [browser, token] = [new Browser(application.url), new TokenClient(application.url)];
    await browser.login(user.username);
    await token.login(newUser(application).username);
    await quiet();
    const answer = await browser.get('/token/me', { authorization: `Bearer ${token.token}` });
    expect(answer.status).toBe(200);
    expect((await quiet()).length).toBeLessThanOrEqual(2);
  });

  it('of an anonymous caller costs none', async () => {
    expect((await new Browser(application.url).get('/me')).status).toBe(200);
    expect((await new Browser(application.url).post('/echo', {})).status).toBe(200);
    expect((await new Browser(application.url).post('/logout')).status).toBe(204);
    expect(await quiet()).toEqual([]);
  });

  it.each(['/logout', '/passport/logout'])(
    'that logs out at %s costs one statement and no check',
    async (path) => {
      const browser = new Browser(application.url);
      await browser.login(user.username);
      await quiet();
      expect((await browser.post(path)).status).toBe(204);
      expect(await quiet()).toEqual(['ending']);
    },
  );

  async function client(kind: string): Promise<() => Promise<{ status: number }>> {
    const [browser, token] = [new Browser(application.url), new TokenClient(application.url)];
    await browser.login(user.username, kind === 'cookie' ? '/login' : '/echo');
    if (kind === 'token') await token.login(user.username);
    return kind === 'cookie' ? () => browser.get('/me') : () => token.get();
  }
});

describe('many checks', () => {
  it('of one turn of the event loop are two statements, and each gets its own answer', async () => {
    const service = application.app.get(SingleSessionService);
    const ids: string[] = [];
    for (let n = 0; n < 20; n++)
      ids.push((await new Browser(application.url).login(user.username)).body.session.id);
    await quiet();
    const verdicts = await Promise.all(ids.map((id) => service.verify(id)));
    expect(verdicts.pop()).toEqual({ live: true, userId: String(user.id) });
    for (const verdict of verdicts) expect(verdict).toMatchObject({ live: false, reason: 'superseded' });
    expect(await quiet()).toEqual(['check', 'check']);
  });

  it.each([
    ['six', 6, ['check']],
    ['49', 49, ['check', 'check']],
  ])(
    'of %s sessions that nobody knows are no more statements, and one when they are few',
    async (_, length, statements) => {
      const service = application.app.get(SingleSessionService);
      const { body } = await new Browser(application.url).login(user.username);
      await quiet();
      const ids = Array.from({ length }, () => randomUUID());
      const verdicts = await Promise.all([body.session.id, ...ids].map((id) => service.verify(id)));
      expect(verdicts.shift()).toEqual({ live: true, userId: String(user.id) });
      for (const verdict of verdicts)
        expect(verdict).toEqual({ live: false, reason: 'unknown', endedAt: null, userId: null });
      expect(await quiet()).toEqual(statements);
    },
  );

  it('of twenty parallel requests are far fewer than twenty statements', async () => {
    const browsers = Array.from({ length: 20 }, () => new Browser(application.url));
    for (const browser of browsers) await browser.login(newUser(application).username);
    await quiet();
    const answers = await Promise.all(browsers.map((browser) => browser.get('/me')));
    expect(answers.every(({ status }) => status === 200)).toBe(true);
    const kinds = await quiet();
    expect(new Set(kinds)).toEqual(new Set(['check']));
    expect(kinds.length).toBeLessThan(20);
  });
});
