import { createSign, generateKeyPairSync, randomUUID } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { Controller, Get, HttpCode, Injectable, Post, Req, UseGuards } from '@nestjs/common';
import { AuthGuard, PassportStrategy } from '@nestjs/passport';
import type { Request } from 'express';
import { ExtractJwt, Strategy as JwtStrategyBase } from 'passport-jwt';
import { SkipSingleSession, SingleSessionService } from '../../src/index.js';
import { LocalLoginGuard, startApplication, Users, type TestApplication, type TestUser } from '../support/application.js';
import { Browser, TokenClient } from '../support/client.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { countRows, eventually, liveSessionsOf, newUser, rowsOf } from '../support/sessions.js';

const KEYS = generateKeyPairSync('rsa', { modulusLength: 2048 });

@Injectable()
class RsaStrategy extends PassportStrategy(JwtStrategyBase, 'rsa') {
  constructor() {
    super({
      jwtFromRequest: ExtractJwt.fromAuthHeaderAsBearerToken(),
      secretOrKey: KEYS.publicKey.export({ type: 'spki', format: 'pem' }) as string,
      algorithms: ['RS256'],
    });
  }
  validate({ sub, username }: { sub: string; username: string }): object {
    return { id: sub, username, roles: [] };
  }
}

@Controller('before')
class BeforeController {
  /** A login of the time before the module: nothing of ours on it. */
  @SkipSingleSession()
  @UseGuards(LocalLoginGuard)
  @Post('login')
  @HttpCode(200)
  login(): void {}

  @UseGuards(AuthGuard('rsa'))
  @Get('rsa')
  rsa(@Req() { user }: { user: TestUser }): object {
    return { user };
  }
}

const users = new Users();
const shared = { users, controllers: [BeforeController], providers: [RsaStrategy] };
let databaseUrl: string;
let application: TestApplication;

beforeAll(async () => {
  databaseUrl = await freshDatabase();
  application = await startApplication(databaseUrl, { ...shared, options: { unregistered: 'adopt' } });
});

afterAll(async () => {
  await application?.close();
  await dropDatabase(databaseUrl);
});

async function loggedInBefore({ url }: TestApplication, { username }: TestUser): Promise<Browser> {
  const browser = new Browser(url);
  expect((await browser.login(username, '/before/login')).status).toBe(200);
  return browser;
}

const sidless = (user: TestUser, claims: object = {}): TokenClient =>
  new TokenClient(application.url, application.sign(user, { jti: randomUUID(), ...claims }));

let user: TestUser;
beforeEach(() => {
  user = newUser({ users });
});

describe("with unregistered: 'adopt'", () => {
  it('a cookie session of before becomes one session, whatever the number of first requests at once', async () => {
    const browser = await loggedInBefore(application, user);
    const answers = await Promise.all(Array.from({ length: 6 }, () => browser.copy().get('/me')));
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 200, 200, 200, 200]);
    const ids = new Set(answers.map(({ body }) => body.session.id));
    expect(ids.size).toBe(1);
    expect(await rowsOf(application, user)).toHaveLength(1);
    expect((await browser.get('/me')).body.session.id).toBe([...ids][0]);
  });

  it('a token of before becomes one session, and stays that one', async () => {
    const token = sidless(user);
    const answers = await Promise.all(Array.from({ length: 6 }, () => token.get()));
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 200, 200, 200, 200]);
    expect((await token.get()).body.session.id).toBe(answers[0]!.body.session.id);
    expect(await rowsOf(application, user)).toHaveLength(1);
  });

  it('an adopted session counts: it evicts older ones and is evicted by a login, for good', async () => {
    const cookie = await loggedInBefore(application, user);
    expect((await cookie.get('/me')).status).toBe(200);
    const token = sidless(user);
    expect((await token.get()).status).toBe(200);
    expect((await cookie.copy().get('/me')).body.reason).toBe('superseded');

    const winner = new Browser(application.url);
    await winner.login(user.username);
    for (let n = 0; n < 3; n++) expect((await token.get()).body.reason).toBe('superseded');
    expect((await winner.get('/me')).status).toBe(200);
    expect(await liveSessionsOf(application, user)).toHaveLength(1);
  });

  it('an adopted session that was logged out is not adopted again [P2]', async () => {
    const service = application.app.get(SingleSessionService);
    const token = sidless(user);
    const { body } = await token.get();
    await service.end(body.session.id);
    expect((await token.get()).body).toMatchObject({ code: 'SESSION_ENDED', reason: 'admin' });
    expect(await liveSessionsOf(application, user)).toEqual([]);
  });

  it('a user who brings neither cookie nor bearer, as with an API key, gets 401 and no row', async () => {
    const keyed = await startApplication(databaseUrl, {
      ...shared,
      options: { unregistered: 'adopt' },
      configure: (app) =>
        app.use((request: Request & { user?: object }, _: unknown, next: () => void) => {
          if (request.headers['x-api-key']) request.user = { ...user };
          next();
        }),
    });
    try {
      const before = await countRows(keyed);
      for (let n = 0; n < 3; n++) {
        const answer = await new Browser(keyed.url).get('/me', { 'x-api-key': 'k' });
        expect(answer.status).toBe(401);
        expect(answer.body.code).toBe('SESSION_UNKNOWN');
      }
      expect(await countRows(keyed)).toEqual(before);
    } finally {
      await keyed.close();
    }
  });

  it('an evicted cookie session does not come back by bringing any bearer token along [P2, P3]', async () => {
    const loser = await loggedInBefore(application, user);
    // The cookie is what authenticates; whoever holds it chooses the rest of the headers.
    const first = await loser.copy().get('/me', { authorization: 'Bearer one' });
    expect(first.status).toBe(200);
    const winner = new Browser(application.url);
    await winner.login(user.username);
    expect((await loser.copy().get('/me', { authorization: 'Bearer two' })).status).toBe(401);
    expect((await winner.get('/me')).body.user?.username).toBe(user.username);
  });

  it('an evicted token does not come back in another spelling of its signature [P2, P3]', async () => {
    const loser = rsaToken(user);
    const respelled = loser.slice(0, -1) + sibling(loser.at(-1)!);
    const get = (token: string): Promise<{ status: number }> => new TokenClient(application.url, token).get('/before/rsa');
    expect((await get(loser)).status).toBe(200);
    const winner = new Browser(application.url);
    await winner.login(user.username);
    expect((await get(loser)).status).toBe(401);
    expect((await get(respelled)).status).toBe(401);
    expect((await winner.get('/me')).body.user?.username).toBe(user.username);
  });

  it('an evicted token does not come back when its row has left after the retention [P2]', async () => {
    const forgetful = await startApplication(databaseUrl, {
      ...shared,
      options: { unregistered: 'adopt', retention: 1 },
    });
    try {
      const token = new TokenClient(forgetful.url, forgetful.sign(user, { jti: randomUUID() }));
      const { body } = await token.get();
      const winner = new Browser(forgetful.url);
      await winner.login(user.username);
      expect((await token.get()).body.reason).toBe('superseded');
      const isSwept = (rows: { id: string }[]): boolean => rows.every(({ id }) => id !== body.session.id);
      await eventually(() => rowsOf(forgetful, user), isSwept, 4_000).catch(() => undefined);
      expect((await token.get()).status).toBe(401);
      expect((await winner.get('/me')).body.user?.username).toBe(user.username);
    } finally {
      await forgetful.close();
    }
  });

  // 2,048 bits in 342 characters: the lowest four bits of the last one say nothing.
  function sibling(last: string): string {
    const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
    return ALPHABET[ALPHABET.indexOf(last) ^ 1]!;
  }

  function rsaToken({ id, username }: TestUser): string {
    const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url');
    const signed = `${part({ alg: 'RS256', typ: 'JWT' })}.${part({ sub: String(id), username })}`;
    return `${signed}.${createSign('RSA-SHA256').update(signed).sign(KEYS.privateKey, 'base64url')}`;
  }
});

describe("with unregistered: 'adopt' and onLimit: 'reject'", () => {
  it('parallel first requests of one cookie session are all answered 200', async () => {
    const rejecting = await startApplication(databaseUrl, {
      ...shared,
      options: { unregistered: 'adopt', onLimit: 'reject' },
    });
    try {
      const browser = await loggedInBefore(rejecting, user);
      const answers = await Promise.all(Array.from({ length: 6 }, () => browser.copy().get('/me')));
      expect(answers.map(({ status }) => status)).toEqual([200, 200, 200, 200, 200, 200]);
      expect(await rowsOf(rejecting, user)).toHaveLength(1);
    } finally {
      await rejecting.close();
    }
  });
});

describe("without it, as 'reject' is the default", () => {
  it('a cookie session and a token of before are refused as unknown, and nothing is recorded', async () => {
    const rejecting = await startApplication(databaseUrl, shared);
    try {
      const browser = await loggedInBefore(rejecting, user);
      expect((await browser.get('/me')).body.code).toBe('SESSION_UNKNOWN');
      expect((await sidless(user).get()).status).toBe(200);
      const token = new TokenClient(rejecting.url, rejecting.sign(user, {}));
      expect((await token.get()).body.code).toBe('SESSION_UNKNOWN');
      expect(await rowsOf(rejecting, user)).toHaveLength(1);
    } finally {
      await rejecting.close();
    }
  });
});
