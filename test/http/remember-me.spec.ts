import { EventEmitter } from 'node:events';
import { get } from 'node:http';
import { Readable } from 'node:stream';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { Controller, Get, InternalServerErrorException, Sse, StreamableFile } from '@nestjs/common';
import { NEVER, of, startWith, type Observable } from 'rxjs';
import { Users, type TestApplication, type TestUser } from '../support/application.js';
import { Browser } from '../support/client.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { startProvider, type OAuthProvider } from '../support/oauth-provider.js';
import { nodeResponseOf, platform, runBefore, type PlatformResponse } from '../support/platform.js';
import { eventually, liveSessionsOf, newUser, rowsOf } from '../support/sessions.js';
import { remember, startWays, withoutMemory } from '../support/ways-in.js';

@Controller('pages')
class PagesController {
  @Get('broken')
  broken(): never {
    throw new InternalServerErrorException();
  }

  @Get('download')
  download(): StreamableFile {
    const endless = new Readable({ read: () => undefined });
    endless.push('the first part');
    return new StreamableFile(endless);
  }

  @Sse('short-stream')
  shortStream(): Observable<object> {
    return of({ data: 'the only event' });
  }

  @Sse('stream')
  stream(): Observable<object> {
    return NEVER.pipe(startWith({ data: 'the first' }));
  }
}

const users = new Users();
const closed = new EventEmitter();
let databaseUrl: string;
let provider: OAuthProvider;
let application: TestApplication;
let rejecting: TestApplication;

beforeAll(async () => {
  databaseUrl = await freshDatabase();
  provider = await startProvider();
  const shared = {
    users,
    provider,
    controllers: [PagesController],
    configure: (app: TestApplication['app']) => runBefore(app, noteClose),
  };
  application = await startWays(databaseUrl, shared);
  rejecting = await startWays(databaseUrl, {
    ...shared,
    options: { onLimit: 'reject', idleTimeout: 60_000 },
  });
});

afterAll(async () => {
  for (const one of [rejecting, application]) await one?.close();
  await provider?.stop();
  await dropDatabase(databaseUrl);
});

function noteClose(_request: unknown, response: PlatformResponse, next: () => void): void {
  nodeResponseOf(response).once('close', () => closed.emit('close'));
  next();
}

function remembered({ url }: TestApplication, { username }: TestUser): Browser {
  const browser = new Browser(url);
  remember(browser, username);
  return browser;
}

const usernameOf = async (browser: Browser): Promise<string | undefined> =>
  (await withoutMemory(browser).get('/me')).body.user?.username;

/** @Sse() on Fastify brings no cookie. */
const STREAM = { express: 'keeps the session that this began', fastify: 'has no session: it got no cookie' };

describe('a browser that is remembered', () => {
  it.each([
    ['/nowhere', 404],
    ['/pages/broken', 500],
  ])('and asks for %s gets %i and keeps the session that this began', async (path, status) => {
    const user = newUser({ users });
    const browser = remembered(application, user);
    expect((await browser.get(path)).status).toBe(status);
    expect(await usernameOf(browser)).toBe(user.username);
    expect(await liveSessionsOf(application, user)).toHaveLength(1);
  });

  it('and breaks off a download keeps the session that this began: its cookie came with the head', async () => {
    const user = newUser({ users });
    const browser = remembered(application, user);
    browser.cookie = await breakOff(`${application.url}/pages/download`, browser.cookie!);
    expect(await usernameOf(browser)).toBe(user.username);
    expect(await liveSessionsOf(application, user)).toHaveLength(1);
  });

  it(`and breaks off a stream of events ${STREAM[platform]}`, async () => {
    const user = newUser({ users });
    const browser = remembered(application, user);
    browser.cookie = await breakOff(`${application.url}/pages/stream`, browser.cookie!);
    const isKept = platform === 'express';
    expect(await usernameOf(browser)).toBe(isKept ? user.username : undefined);
    await eventually(
      () => liveSessionsOf(application, user),
      (live) => live.length === (isKept ? 1 : 0),
    );
  });

  it(`and reads a stream of events to its end ${STREAM[platform]}`, async () => {
    const user = newUser({ users });
    const browser = remembered(application, user);
    expect((await browser.get('/pages/short-stream')).status).toBe(200);
    const isKept = platform === 'express';
    expect(await usernameOf(browser)).toBe(isKept ? user.username : undefined);
    await eventually(
      () => liveSessionsOf(application, user),
      (live) => live.length === (isKept ? 1 : 0),
    );
  });

  it('has one session, however many requests it makes after the first', async () => {
    const user = newUser({ users });
    const browser = remembered(application, user);
    for (let n = 0; n < 4; n++)
      expect((await browser.get('/ways/page')).body.user.username).toBe(user.username);
    expect(await rowsOf(application, user)).toHaveLength(1);
  });
});

describe('a remembered browser whose session was evicted', () => {
  it('is told so once; its token then signs it in anew, which is a login and evicts the winner [S14]', async () => {
    const user = newUser({ users });
    const browser = remembered(application, user);
    await browser.get('/ways/page');
    const winner = remembered(application, user);
    await winner.get('/ways/page');

    const told = await browser.get('/ways/page');
    expect([told.status, told.body.reason]).toEqual([401, 'superseded']);
    expect(await usernameOf(winner)).toBe(user.username);

    expect((await browser.get('/ways/page')).body.user?.username).toBe(user.username);
    const evicted = await withoutMemory(winner).get('/me');
    expect([evicted.status, evicted.body.reason]).toEqual([401, 'superseded']);
    expect(await liveSessionsOf(application, user)).toHaveLength(1);
  });

  it("is answered 409 on every page under 'reject', and signed in when there is room again", async () => {
    const user = newUser({ users });
    const settled = remembered(rejecting, user);
    await settled.get('/ways/page');
    const browser = remembered(rejecting, user);
    for (let n = 0; n < 2; n++) expect((await browser.get('/ways/page')).status).toBe(409);
    expect(await usernameOf(settled)).toBe(user.username);
    expect((await settled.post('/logout')).status).toBe(204);
    expect((await browser.get('/ways/page')).body.user?.username).toBe(user.username);
  });
});

/** Leaves when the first event is there. Resolves to the cookies, when the server has heard of it. */
function breakOff(url: string, cookie: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const asking = get(url, { headers: { cookie }, agent: false }, (answer) => {
      const cookies = (answer.headers['set-cookie'] ?? []).map((set) => set.split(';', 1)[0]!);
      closed.once('close', () => resolve(cookies.join('; ')));
      answer.once('data', () => asking.destroy());
    });
    asking.on('error', reject);
  });
}
