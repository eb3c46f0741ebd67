import { once } from 'node:events';
import { connect, constants, type ClientHttp2Session, type ClientHttp2Stream } from 'node:http2';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, jest } from '@jest/globals';
import {
  Controller,
  Logger,
  Post,
  Res,
  UseGuards,
  type CanActivate,
  type ExecutionContext,
} from '@nestjs/common';
import type { FastifyReply } from 'fastify';
import { DataSource } from 'typeorm';
import { Logins } from '../../src/http/logins.js';
import { SingleSessionLogin } from '../../src/index.js';
import {
  LocalGuard,
  LocalLoginGuard,
  startApplication,
  type TestApplication,
  type TestUser,
} from '../support/application.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { eventually, liveSessionsOf, newUser, rowsOf } from '../support/sessions.js';

// Node's answers of HTTP/2 tell less of their client than those of HTTP/1.1.

let entered: () => void;

@Controller('waits')
class WaitingController {
  @UseGuards(LocalLoginGuard)
  @SingleSessionLogin()
  @Post('login')
  login(@Res() reply: FastifyReply): Promise<void> {
    return untilGone(reply);
  }

  @UseGuards(LocalGuard)
  @SingleSessionLogin({ credential: 'token' })
  @Post('token')
  token(@Res() reply: FastifyReply): Promise<void> {
    return untilGone(reply);
  }
}

async function untilGone(reply: FastifyReply): Promise<void> {
  entered();
  await once(reply.raw, 'close');
}

class OnceGone implements CanActivate {
  async canActivate(context: ExecutionContext): Promise<boolean> {
    await untilGone(context.switchToHttp().getResponse<FastifyReply>());
    return true;
  }
}

@UseGuards(OnceGone)
@Controller('left')
class LeftController extends WaitingController {}

let databaseUrl: string;
let application: TestApplication;
let client: ClientHttp2Session;
let user: TestUser;

beforeAll(async () => {
  databaseUrl = await freshDatabase();
  application = await startApplication(databaseUrl, {
    http2: true,
    controllers: [WaitingController, LeftController],
    options: { onLimit: 'reject' },
  });
});

beforeEach(() => {
  user = newUser(application);
  client = connect(application.url).on('error', () => undefined);
});

afterEach(() => {
  client.destroy();
  jest.restoreAllMocks();
});

afterAll(async () => {
  await application?.close();
  await dropDatabase(databaseUrl);
});

function post(path: string): ClientHttp2Stream {
  const stream = client.request({ ':method': 'POST', ':path': path, 'content-type': 'application/json' });
  stream.on('error', () => undefined);
  stream.end(JSON.stringify({ username: user.username, password: user.username }));
  return stream;
}

async function statusOf(stream: ClientHttp2Stream): Promise<number> {
  const [headers] = (await once(stream, 'response')) as [{ ':status': number }];
  stream.resume();
  return headers[':status'];
}

/** How many statements wait for a lock. */
async function waiting(): Promise<number> {
  const sql = `SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`;
  return (await application.app.get(DataSource).query<object[]>(sql)).length;
}

const live = (): Promise<string[]> => liveSessionsOf(application, user);

describe.each(['/login', '/token'])('a login over HTTP/2 (%s)', (path) => {
  it('is admitted, and keeps its session when its client goes after the answer', async () => {
    const login = post(path);
    expect(await statusOf(login)).toBe(200);
    await once(login, 'close');
    client.destroy();
    expect(await live()).toHaveLength(1);
    client = connect(application.url);
    expect(await statusOf(post(path))).toBe(409);
    expect(await live()).toHaveLength(1);
  });

  it('leaves nothing, and calls no handler, when its client is gone before it is admitted', async () => {
    entered = jest.fn();
    const errors = jest.spyOn(Logger.prototype, 'error').mockReturnValue();
    const holder = application.app.get(DataSource).createQueryRunner();
    await holder.startTransaction();
    try {
      await holder.query('LOCK TABLE user_session IN SHARE MODE');
      const login = post(`/waits${path}`);
      await eventually(waiting, (count) => count === 1);
      login.close(constants.NGHTTP2_CANCEL);
      await once(login, 'close');
      // The server reads the streams of a client in their order.
      await statusOf(post('/skipped'));
    } finally {
      await holder.rollbackTransaction();
      await holder.release();
    }
    await eventually(
      () => statusOf(post(path)),
      (status) => status === 200,
    );
    expect(await live()).toHaveLength(1);
    expect(entered).not.toHaveBeenCalled();
    expect(errors.mock.calls).toEqual([]);
  });

  it('is not even recorded when its client had left before, and so evicts nobody', async () => {
    const isThere = new Promise<void>((resolve) => (entered = resolve));
    const admitting = jest.spyOn(application.app.get(Logins), 'admit');
    const login = post(`/left${path}`);
    await isThere;
    login.close(constants.NGHTTP2_CANCEL);
    await eventually(
      () => Promise.resolve(admitting.mock.results),
      (results) => results.length === 1,
    );
    await expect(admitting.mock.results[0]!.value).rejects.toMatchObject({ status: 499 });
    expect(await rowsOf(application, user)).toEqual([]);
  });

  it('leaves nothing when its client is gone before it has its answer', async () => {
    const isThere = new Promise<void>((resolve) => (entered = resolve));
    const login = post(`/waits${path}`);
    await isThere;
    expect(await live()).toHaveLength(1);
    login.close(constants.NGHTTP2_CANCEL);
    await eventually(live, (sessions) => sessions.length === 0);
  });
});
