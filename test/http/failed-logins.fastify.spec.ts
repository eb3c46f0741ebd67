import { once } from 'node:events';
import { request as httpRequest } from 'node:http';
import { Readable } from 'node:stream';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { Controller, Post, Req, Res, StreamableFile, UseGuards } from '@nestjs/common';
import type { NestFastifyApplication } from '@nestjs/platform-fastify';
import { MemoryStore, type SessionData } from 'express-session';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { SingleSessionLogin, SingleSessionService, SkipSingleSession } from '../../src/index.js';
import {
  LocalGuard,
  LocalLoginGuard,
  startApplication,
  type TestApplication,
  type TestUser,
} from '../support/application.js';
import { Browser } from '../support/client.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { eventually, liveSessionsOf, newUser, rowsOf } from '../support/sessions.js';

// What of a login can fail on Fastify only: its hooks, its streams, and a reply that was hijacked.

const FAIL_IN = 'fail-in';

type LoginRequest = FastifyRequest & {
  user: TestUser;
  logIn(user: TestUser, done: (error?: unknown) => void): void;
};

@Controller('login')
@UseGuards(LocalLoginGuard)
class LoginController {
  @SingleSessionLogin()
  @Post('plain')
  plain(): object {
    return { done: true };
  }

  @SingleSessionLogin()
  @Post('send-error')
  sendError(@Res() reply: FastifyReply): void {
    void reply.send(new Error('after the login'));
  }

  @SingleSessionLogin()
  @Post('hijacked')
  hijacked(@Res() reply: FastifyReply): void {
    reply.hijack();
    reply.raw.writeHead(500).end('not today');
  }

  @SingleSessionLogin()
  @Post('stream-fails')
  streamFails(): StreamableFile {
    const stream = new Readable({ read: () => void stream.destroy(new Error('the file is not there')) });
    return new StreamableFile(stream).setErrorLogger(() => undefined);
  }

  @SingleSessionLogin()
  @Post('not-found')
  notFound(@Res() reply: FastifyReply): void {
    reply.callNotFound();
  }

  @SingleSessionLogin()
  @Post('waits')
  async waits(@Res() reply: FastifyReply): Promise<void> {
    entered();
    await once(reply.raw, 'close');
  }
}

@Controller('by-token')
@UseGuards(LocalGuard)
class TokenController {
  @SingleSessionLogin()
  @Post('unsendable')
  unsendable(@Res() reply: FastifyReply): void {
    void reply.code(400).type('text/plain').send({ an: 'object' });
  }
}

@SkipSingleSession()
@UseGuards(LocalGuard)
@Controller('by-hand')
class ByHandController {
  constructor(private readonly service: SingleSessionService) {}

  @Post('plain')
  async plain(@Req() request: LoginRequest): Promise<object> {
    const { user } = request;
    await new Promise<void>((resolve, reject) =>
      request.logIn(user, (error) => (error ? reject(error as Error) : resolve())),
    );
    await this.service.admit(user, request);
    return { done: true };
  }
}

/** Takes its time, as every store but that in memory does. */
class SlowStore extends MemoryStore {
  override set(sid: string, session: SessionData, callback?: (error?: unknown) => void): void {
    setImmediate(() => super.set(sid, session, callback));
  }
}

let entered: () => void;
let databaseUrl: string;
let application: TestApplication;

beforeAll(async () => {
  databaseUrl = await freshDatabase();
  application = await startApplication(databaseUrl, {
    session: { store: new SlowStore() },
    controllers: [LoginController, ByHandController],
    configure: (app) => addFailingHooks(app as NestFastifyApplication),
  });
});

afterAll(async () => {
  await application?.close();
  await dropDatabase(databaseUrl);
});

function addFailingHooks(app: NestFastifyApplication): void {
  type Done = (error: Error | null, payload?: unknown) => void;
  const failing = (hook: string) => (request: FastifyRequest, _: unknown, payload: unknown, done: Done) => {
    // Only once: the answer that says so goes through the same hooks.
    if (request.headers[FAIL_IN] !== hook) return done(null, payload);
    delete request.headers[FAIL_IN];
    done(new Error(`${hook} fails`));
  };
  const instance = app.getHttpAdapter().getInstance();
  instance.addHook('preSerialization', failing('preSerialization'));
  instance.addHook('onSend', failing('onSend'));
}

/** The answer, after seeing that the user is logged in nowhere. */
async function failToLogIn(path: string, headers: Record<string, string> = {}) {
  const user = newUser(application);
  const browser = new Browser(application.url);
  const { username } = user;
  const answer = await browser.post(path, { username, password: username }, headers);
  expect(await rowsOf(application, user)).toHaveLength(1);
  expect(await liveSessionsOf(application, user)).toEqual([]);
  expect((await browser.get('/me')).body.user ?? null).toBeNull();
  return answer;
}

describe('on Fastify, a login that fails after its admission ends its session before the answer leaves, and gives no usable cookie', () => {
  it.each([
    ['a hook before the serialization fails', '/login/plain', { [FAIL_IN]: 'preSerialization' }, 500],
    ['the handler sends an error', '/login/send-error', {}, 500],
    ['the handler says that there is no such route', '/login/not-found', {}, 404],
    ['what was admitted by hand fails in a hook', '/by-hand/plain', { [FAIL_IN]: 'preSerialization' }, 500],
  ])('when %s [lesson 19]', async (_, path, headers, status) => {
    const answer = await failToLogIn(path, headers as Record<string, string>);
    expect(answer.status).toBe(status);
    expect(answer.headers.getSetCookie()).toEqual([]);
  });

  it.each([
    ['a hook after that of the cookie session fails', '/login/plain', { [FAIL_IN]: 'onSend' }, 500],
    ['what was admitted by hand fails in such a hook', '/by-hand/plain', { [FAIL_IN]: 'onSend' }, 500],
    ['the stream of the answer fails', '/login/stream-fails', {}, 500],
    ['the reply was hijacked, and answered on Node’s response', '/login/hijacked', {}, 500],
  ])('when %s: a cookie that has left is worth nothing [lesson 19]', async (_, path, headers, status) => {
    expect((await failToLogIn(path, headers as Record<string, string>)).status).toBe(status);
  });

  it('when the answer to a failure cannot be sent, and no hook is there to notice: the connection is cut, and nobody waits for ever', async () => {
    const hookless = await startApplication(databaseUrl, {
      users: application.users,
      controllers: [TokenController],
      session: null,
      serializer: false,
    });
    try {
      const user = newUser(application);
      const answer = new Browser(hookless.url).login(user.username, '/by-token/unsendable');
      await expect(answer).rejects.toThrow('fetch failed');
      expect(await rowsOf(application, user)).toHaveLength(1);
      expect(await liveSessionsOf(application, user)).toEqual([]);
    } finally {
      await hookless.close();
    }
  });

  it('when the client is gone before it has its answer', async () => {
    const user = newUser(application);
    const { username } = user;
    const isThere = new Promise<void>((resolve) => (entered = resolve));
    const body = JSON.stringify({ username, password: username });
    const client = httpRequest(`${application.url}/login/waits`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) },
    }).on('error', () => undefined);
    client.end(body);
    await isThere;
    expect(await liveSessionsOf(application, user)).toHaveLength(1);
    client.destroy();
    await eventually(
      () => liveSessionsOf(application, user),
      (live) => live.length === 0,
    );
  });
});

it('on Fastify, a login that succeeds has its cookie, once, and its session is live', async () => {
  const user = newUser(application);
  for (const path of ['/login/plain', '/by-hand/plain']) {
    const browser = new Browser(application.url);
    const answer = await browser.login(user.username, path);
    expect([answer.status, answer.body]).toEqual([201, { done: true }]);
    expect(answer.headers.getSetCookie()).toHaveLength(1);
    expect((await browser.get('/me')).body.user.username).toBe(user.username);
  }
  expect(await liveSessionsOf(application, user)).toHaveLength(1);
});
