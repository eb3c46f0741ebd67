import { EventEmitter, once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { Readable } from 'node:stream';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import {
  Body,
  Controller,
  Get,
  Injectable,
  Post,
  Req,
  Res,
  StreamableFile,
  UseGuards,
  UseInterceptors,
  type CallHandler,
  type ExecutionContext,
  type NestInterceptor,
} from '@nestjs/common';
import { APP_INTERCEPTOR } from '@nestjs/core';
import { MemoryStore, type SessionData } from 'express-session';
import { NEVER, retry, timeout, type Observable } from 'rxjs';
import { SingleSessionLogin, SingleSessionService, SkipSingleSession } from '../../src/index.js';
import {
  LocalGuard,
  LocalLoginGuard,
  startApplication,
  Users,
  type TestApplication,
  type TestUser,
} from '../support/application.js';
import { Browser } from '../support/client.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { nodeResponseOf, type PlatformResponse } from '../support/platform.js';
import { eventually, liveSessionsOf, newUser } from '../support/sessions.js';
import { ImpatientBrowser, logIn, type UserRequest } from '../support/ways-in.js';

type Visit = UserRequest & { session: { visited?: boolean } };

/** Tells when a handler has signed in, with what it does afterwards; and then what came of that. */
const handlers = new EventEmitter();

/** Answers in the moment between the end of the connection and that in which the answer learns of it. */
function drop(response: PlatformResponse): void {
  nodeResponseOf(response).socket!.destroy();
  response.status(200).send({});
}

function visit({ session }: Visit): void {
  try {
    session.visited = true;
    handlers.emit('over', 'visited');
  } catch (error) {
    handlers.emit('over', error);
  }
}

function goOn(request: Visit, response: PlatformResponse): void {
  nodeResponseOf(response).once('close', () => handlers.emit('left'));
  handlers.emit('signed in', () => {
    try {
      request.session.visited = true;
      response.status(302).redirect('/me');
      handlers.emit('over', 'answered');
    } catch (error) {
      handlers.emit('over', error);
    }
  });
}

class TimeLimit implements NestInterceptor {
  intercept(_: ExecutionContext, next: CallHandler): Observable<unknown> {
    return next.handle().pipe(timeout(50));
  }
}

@Controller('broken')
class BrokenController {
  private tries = 0;

  constructor(
    private readonly people: Users,
    private readonly sessions: SingleSessionService,
  ) {}

  @SkipSingleSession()
  @Post('callback')
  callback(
    @Req() request: Visit,
    @Res() response: PlatformResponse,
    @Body() form: { username: string },
  ): void {
    request.logIn(this.people.get(form.username)!, (error) => {
      if (error) throw error as Error;
      goOn(request, response);
    });
  }

  @Post('step-up')
  async stepUp(@Req() request: Visit, @Res() response: PlatformResponse): Promise<void> {
    await logIn(request, request.user!);
    goOn(request, response);
  }

  /** Whose first try fails. */
  @UseGuards(LocalLoginGuard)
  @SingleSessionLogin()
  @Post('retried')
  retried(): object {
    if (this.tries++ === 0) throw new Error('the first try');
    return {};
  }

  @SkipSingleSession()
  @Post('another')
  async another(@Req() request: Visit, @Body() form: { first: string; second: string }): Promise<void> {
    await logIn(request, this.people.get(form.first)!);
    store.fails = true;
    await logIn(request, this.people.get(form.second)!);
  }

  @UseGuards(LocalLoginGuard)
  @SingleSessionLogin()
  @Post('dropped/marked')
  droppedMarked(@Res() response: PlatformResponse): void {
    drop(response);
  }

  @UseGuards(LocalGuard)
  @SingleSessionLogin({ credential: 'token' })
  @Post('dropped/in-parts')
  droppedInParts(@Res() response: PlatformResponse): void {
    const node = nodeResponseOf(response);
    node.socket!.destroy();
    // Node calls it finished, though the connection has taken nothing of it.
    node.writeHead(200, { 'content-length': 2 });
    node.write('{}');
    node.end();
  }

  @UseGuards(LocalLoginGuard)
  @Post('dropped/unmarked')
  dropped(@Res() response: PlatformResponse): void {
    drop(response);
  }

  @UseGuards(LocalLoginGuard)
  @Post('endless')
  endless(@Res({ passthrough: true }) response: PlatformResponse): StreamableFile {
    nodeResponseOf(response).once('close', () => setImmediate(() => handlers.emit('left')));
    const page = new Readable({ read: () => undefined });
    page.push('The first part.');
    return new StreamableFile(page);
  }

  /** Lets those wait that come behind it on its connection. */
  @Get('before')
  async before(): Promise<object> {
    await once(handlers, 'go on');
    return {};
  }

  @UseGuards(LocalLoginGuard)
  @SingleSessionLogin()
  @Post('behind/marked')
  behindMarked(): object {
    return {};
  }

  @UseGuards(LocalLoginGuard)
  @Post('behind/unmarked')
  behind(): object {
    return {};
  }

  /** Goes on when a time limit has answered for it. */
  @UseInterceptors(TimeLimit)
  @UseGuards(LocalLoginGuard)
  @SingleSessionLogin()
  @Post('slow')
  slow(@Req() request: Visit, @Res({ passthrough: true }) response: PlatformResponse): Observable<unknown> {
    nodeResponseOf(response).once('close', () => setImmediate(() => visit(request)));
    return NEVER;
  }

  @Post('rebind')
  async rebind(@Req() request: Visit, @Res() response: PlatformResponse): Promise<void> {
    const { passport } = request.session as { passport?: unknown };
    await new Promise((resolve) => request.session.regenerate(resolve));
    Object.assign(request.session, { passport });
    await this.sessions.rebind(request);
    goOn(request, response);
  }

  /** As a handler does that rebinds in any case, also where nothing has given the cookie session a new id. */
  @Post('rebind/kept')
  async rebindKept(@Req() request: Visit, @Res() response: PlatformResponse): Promise<void> {
    await this.sessions.rebind(request);
    goOn(request, response);
  }
}

@Injectable()
class Retrying implements NestInterceptor {
  intercept(_: ExecutionContext, next: CallHandler): Observable<unknown> {
    return next.handle().pipe(retry(1));
  }
}

/** Fails once when it is told to. */
class FailingStore extends MemoryStore {
  fails: boolean | 'at the stamp' = false;

  override set(
    id: string,
    data: SessionData & { singleSession?: string },
    done?: (error?: unknown) => void,
  ): void {
    if (!this.fails || (this.fails === 'at the stamp' && data.singleSession === undefined))
      return super.set(id, data, done);
    this.fails = false;
    done?.(new Error('the store is full'));
  }
}

const users = new Users();
const store = new FailingStore();
let databaseUrl: string;
let application: TestApplication;

beforeAll(async () => {
  databaseUrl = await freshDatabase();
  const options = { onLimit: 'reject' as const, idleTimeout: 60_000 };
  application = await startApplication(databaseUrl, {
    users,
    controllers: [BrokenController],
    providers: [{ provide: APP_INTERCEPTOR, useClass: Retrying }],
    options,
    session: { store },
  });
});

afterAll(async () => {
  await application?.close();
  await dropDatabase(databaseUrl);
});

/** The browser leaves when the handler has signed in. Resolves to what lets the handler go on. */
async function leaveAt(browser: ImpatientBrowser, path: string, body: object = {}): Promise<() => void> {
  const signedIn = once(handlers, 'signed in') as Promise<[() => void]>;
  const answer = browser.post(path, body).catch(() => 'gone');
  const [handler] = await signedIn;
  const left = once(handlers, 'left');
  browser.leave();
  await left;
  expect(await answer).toBe('gone');
  return handler;
}

describe('a login whose browser has left', () => {
  it.each(['marked', 'unmarked', 'in-parts'])(
    'in the moment of the answer is taken back (%s)',
    async (name) => {
      const user = newUser({ users });
      await expect(
        new Browser(application.url).login(user.username, `/broken/dropped/${name}`),
      ).rejects.toThrow('fetch failed');
      await eventually(
        () => liveSessionsOf(application, user),
        (live) => live.length === 0,
        1_000,
      );
      expect((await new Browser(application.url).login(user.username)).status).toBe(200);
    },
  );

  it('amid an answer whose head has brought the cookie stays signed in', async () => {
    const { username } = newUser({ users });
    const leaving = new AbortController();
    const { headers } = await fetch(`${application.url}/broken/endless`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ username, password: username }),
      signal: leaving.signal,
    });
    const left = once(handlers, 'left');
    leaving.abort();
    await left;
    const browser = new Browser(application.url, headers.getSetCookie()[0]!.split(';', 1)[0]);
    for (let request = 0; request < 2; request++)
      expect((await browser.get('/me')).body.user?.username).toBe(username);
  });

  it('is taken back, and its handler goes on to its end: an error in its callback would end the process', async () => {
    const user = newUser({ users });
    const handler = await leaveAt(new ImpatientBrowser(application.url), '/broken/callback', user);
    await eventually(
      () => liveSessionsOf(application, user),
      (live) => live.length === 0,
    );
    const over = once(handlers, 'over');
    handler();
    expect(await over).toEqual(['answered']);
    expect((await new Browser(application.url).login(user.username)).status).toBe(200);
  });

  it.each(['step-up', 'rebind'])(
    'takes the session with it that the new cookie session was to carry on (%s): nobody holds it any more',
    async (name) => {
      const user = newUser({ users });
      const browser = new ImpatientBrowser(application.url);
      expect((await browser.login(user.username)).status).toBe(200);
      const handler = await leaveAt(browser, `/broken/${name}`);
      handler();
      await eventually(
        () => liveSessionsOf(application, user),
        (live) => live.length === 0,
      );
      expect((await new Browser(application.url).login(user.username)).status).toBe(200);
    },
  );

  it('leaves the session alone that its cookie session has kept: the browser holds that cookie still', async () => {
    const user = newUser({ users });
    const browser = new ImpatientBrowser(application.url);
    expect((await browser.login(user.username)).status).toBe(200);
    const stayed = browser.copy();
    const handler = await leaveAt(browser, '/broken/rebind/kept');
    handler();
    expect((await stayed.get('/me')).body.user).toMatchObject({ id: user.id });
    expect(await liveSessionsOf(application, user)).toHaveLength(1);
  });

  it.each(['step-up', 'rebind'])('carries the session on when it has not left (%s)', async (name) => {
    const user = newUser({ users });
    const browser = new Browser(application.url);
    expect((await browser.login(user.username)).status).toBe(200);
    const before = await liveSessionsOf(application, user);
    handlers.once('signed in', (handler: () => void) => handler());
    expect((await browser.post(`/broken/${name}`)).status).toBe(302);
    expect((await browser.get('/me')).body.session.id).toBe(before[0]);
  });
});

/** Sends a login without waiting for the answer before, and resolves when it is admitted. */
async function logInBehind(user: TestUser, path: string): Promise<Socket> {
  const { hostname, port } = new URL(application.url);
  const form = JSON.stringify({ username: user.username, password: user.username });
  const head = ['host: localhost', 'content-type: application/json', `content-length: ${form.length}`];
  const connection = connect(Number(port), hostname).setEncoding('latin1');
  connection.write('GET /broken/before HTTP/1.1\r\nhost: localhost\r\n\r\n');
  connection.write([`POST ${path} HTTP/1.1`, ...head, '', form].join('\r\n'));
  await eventually(
    () => liveSessionsOf(application, user),
    (live) => live.length === 1,
  );
  return connection;
}

describe.each(['marked', 'unmarked'])(
  'a login that waits behind another answer on its connection (%s)',
  (name) => {
    it('is taken back when the connection is closed before its turn comes', async () => {
      const user = newUser({ users });
      const connection = await logInBehind(user, `/broken/behind/${name}`);
      connection.destroy();
      await eventually(
        () => liveSessionsOf(application, user),
        (live) => live.length === 0,
        1_000,
      );
      handlers.emit('go on');
      expect((await new Browser(application.url).login(user.username)).status).toBe(200);
    });

    it('is signed in when its turn has come, and stays it when the connection is closed', async () => {
      const user = newUser({ users });
      const connection = await logInBehind(user, `/broken/behind/${name}`);
      handlers.emit('go on');
      let answers = '';
      for await (const part of connection as AsyncIterable<string>)
        if ((answers += part).split('HTTP/1.1 ').length > 2) break;
      const [, cookie] = /^set-cookie: ([^;]+)/im.exec(answers)!;
      expect((await new Browser(application.url, cookie).get('/me')).body.user).toMatchObject({
        id: user.id,
      });
      connection.destroy();
      expect(await liveSessionsOf(application, user)).toHaveLength(1);
    });
  },
);

it('a login that Passport could not establish takes the session with it whose cookie session it has taken away', async () => {
  const user = newUser({ users });
  const browser = new Browser(application.url);
  expect((await browser.login(user.username)).status).toBe(200);
  store.fails = true;
  expect((await browser.login(user.username)).status).toBe(500);
  expect((await browser.get('/me')).body.user ?? null).toBeNull();
  expect(await liveSessionsOf(application, user)).toEqual([]);
  expect((await browser.login(user.username)).status).toBe(200);
});

it.each(['behind/unmarked', 'rebind'])(
  'a session that a new cookie session could not carry on leaves nobody signed in, and no cookie is sent (%s)',
  async (path) => {
    const user = newUser({ users });
    const browser = new Browser(application.url);
    expect((await browser.login(user.username)).status).toBe(200);
    const answer = (handler: () => void): void => handler();
    handlers.once('signed in', answer);
    store.fails = 'at the stamp';
    const { status, headers } = await browser.login(user.username, `/broken/${path}`);
    handlers.off('signed in', answer);
    expect([status, headers.getSetCookie()]).toEqual([500, []]);
    expect((await browser.get('/skipped')).body).toEqual({ user: null });
    expect(await liveSessionsOf(application, user)).toEqual([]);
  },
);

it('a login for which a time limit has answered leaves its handler the cookie session: an error in its callback would end the process', async () => {
  const user = newUser({ users });
  const over = once(handlers, 'over');
  const browser = new Browser(application.url);
  expect((await browser.login(user.username, '/broken/slow')).status).toBe(500);
  expect(await over).toEqual(['visited']);
  expect((await browser.get('/me')).body).toEqual({ user: null, session: null });
  expect(await liveSessionsOf(application, user)).toEqual([]);
});

it('a login that Passport could not establish takes the one with it that the same request was before', async () => {
  const [first, second] = [newUser({ users }), newUser({ users })];
  const browser = new Browser(application.url);
  const names = { first: first.username, second: second.username };
  expect((await browser.post('/broken/another', names)).status).toBe(500);
  expect((await browser.get('/me')).body).toEqual({ user: null, session: null });
  expect(await liveSessionsOf(application, first)).toEqual([]);
  expect(await liveSessionsOf(application, second)).toEqual([]);
});

it('a login that an interceptor tries again is no login with a token in place of the cookie', async () => {
  const user = newUser({ users });
  const browser = new Browser(application.url);
  expect((await browser.login(user.username, '/broken/retried')).status).toBe(500);
  expect((await browser.get('/me')).body).toEqual({ user: null, session: null });
  expect(await liveSessionsOf(application, user)).toEqual([]);
});
