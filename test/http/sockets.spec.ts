import type { IncomingMessage } from 'node:http';
import {
  Injectable,
  UseGuards,
  type CanActivate,
  type ExecutionContext,
  type INestApplication,
} from '@nestjs/common';
import { JwtService } from '@nestjs/jwt';
import { IoAdapter } from '@nestjs/platform-socket.io';
import { WsAdapter } from '@nestjs/platform-ws';
import { SubscribeMessage, WebSocketGateway } from '@nestjs/websockets';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import type { RequestHandler } from 'express';
import session, { MemoryStore } from 'express-session';
import passport from 'passport';
import type { Server, Socket } from 'socket.io';
import { CurrentSession, SingleSessionService, SkipSingleSession } from '../../src/index.js';
import { Client, someoneNew, sql, type Kind } from '../support/administration.js';
import { startApplication, Users, type TestApplication } from '../support/application.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { openSocket, SOCKET_PATH, type Library, type LiveSocket } from '../support/live-sockets.js';
import { platform } from '../support/platform.js';
import { eventually } from '../support/sessions.js';
import { watchStatements, type StatementWatch } from '../support/statements.js';

const ISO = expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
// A cookie of @fastify/session is not one that a middleware of Express could read.
const KINDS: Kind[] = platform === 'express' ? ['cookie', 'token'] : ['token'];

const users = new Users();
// One store for all applications of this file.
const cookieSessions = new MemoryStore().setMaxListeners(0);
const cookieMiddleware = session({
  secret: 'test',
  resave: false,
  saveUninitialized: false,
  store: cookieSessions,
});
/** How many messages have reached a handler. */
let handled = 0;

type SocketRequest = IncomingMessage & { user?: object };
/** A client of either library, as handleConnection() gets it. */
type GatewayClient = Partial<Socket>;

/** Authenticates the request of a socket, by the token that it brings. */
function authenticate(jwt: JwtService, request: SocketRequest): void {
  const [, token] = /^Bearer (.+)$/.exec(request.headers.authorization ?? '') ?? [];
  if (token === undefined) return;
  const { sub, ...claims } = jwt.verify<{ sub: string }>(token);
  request.user = { id: sub, ...claims };
}

@WebSocketGateway({ path: SOCKET_PATH })
class LiveGateway {
  constructor(
    private readonly sessions: SingleSessionService,
    private readonly jwt: JwtService,
  ) {}

  afterInit(server: Server): void {
    // Of socket.io alone. A cookie session is read as for HTTP.
    if (typeof server.engine?.use !== 'function') return;
    server.engine.use(cookieMiddleware);
    server.engine.use(passport.session());
  }

  async handleConnection(client: GatewayClient, given?: SocketRequest): Promise<void> {
    const request = given ?? (client.request as SocketRequest);
    await readCookieSession(client, request);
    authenticate(this.jwt, request);
    await this.sessions.closeWhenEnded(client, given);
  }

  @SubscribeMessage('who')
  who(@CurrentSession() current: CurrentSession): object {
    handled++;
    return { event: 'answer', data: current };
  }
}

/** For ws, which has no middlewares. */
function readCookieSession(client: GatewayClient, request: SocketRequest): Promise<void> {
  if (client.request !== undefined || request.headers.cookie === undefined) return Promise.resolve();
  const middlewares = [cookieMiddleware, passport.session() as RequestHandler];
  const run = ([first, ...rest]: typeof middlewares, done: () => void): void =>
    first === undefined ? done() : void first(request as never, {} as never, () => run(rest, done));
  return new Promise((resolve) => run(middlewares, resolve));
}

@Injectable()
class LateTokenGuard implements CanActivate {
  constructor(private readonly jwt: JwtService) {}

  canActivate(context: ExecutionContext): boolean {
    authenticate(this.jwt, context.switchToWs().getClient<Socket>().request as SocketRequest);
    return true;
  }
}

/** Says nothing to our module when a client connects. */
@WebSocketGateway({ path: SOCKET_PATH })
class ForgetfulGateway {
  @SubscribeMessage('who')
  who(): object {
    handled++;
    return { event: 'answer', data: 'passed' };
  }

  /** Its guard authenticates after the global guards have run. */
  @UseGuards(LateTokenGuard)
  @SubscribeMessage('late')
  late(@CurrentSession() current: CurrentSession): object {
    handled++;
    return { event: 'answer', data: current };
  }

  @SkipSingleSession()
  @SubscribeMessage('skipped')
  skipped(): object {
    return { event: 'answer', data: 'passed' };
  }
}

let databaseUrl: string;
let log: StatementWatch;
const sockets: LiveSocket[] = [];
const started: TestApplication[] = [];

beforeAll(async () => {
  databaseUrl = await freshDatabase();
  log = await watchStatements(databaseUrl);
});

beforeEach(() => {
  handled = 0;
});

afterEach(() => {
  for (const socket of sockets.splice(0)) socket.close();
});

afterAll(async () => {
  for (const application of started) await application.close();
  await log?.stop();
  await dropDatabase(databaseUrl);
});

const ADAPTERS = { 'socket.io': IoAdapter, ws: WsAdapter } as const;

async function start(
  library: Library,
  url = databaseUrl,
  { gateway = LiveGateway as new (...parts: never[]) => object, options = {} } = {},
): Promise<TestApplication> {
  const Adapter = ADAPTERS[library];
  const application = await startApplication(url, {
    users,
    options,
    session: { store: cookieSessions },
    providers: [gateway],
    configure: (app: INestApplication) => app.useWebSocketAdapter(new Adapter(app)),
  });
  started.push(application);
  return application;
}

async function connect(library: Library, { url }: TestApplication, client?: Client): Promise<LiveSocket> {
  const cookie = client?.browser.cookie;
  const socket = await openSocket(library, url, { ...client?.headers, ...(cookie && { cookie }) });
  sockets.push(socket);
  return socket;
}

const end = ({ app }: TestApplication, client: Client) => app.get(SingleSessionService).end(client.sessionId);

describe.each(['socket.io', 'ws'] as Library[])('a socket of %s', (library) => {
  /** Two processes of one cluster, as far as our module can tell. */
  let here: TestApplication;
  let there: TestApplication;

  beforeAll(async () => {
    [here, there] = [await start(library, log.url), await start(library)];
  });

  const told = (reason: string, endedAt: unknown = ISO): object =>
    library === 'ws' ? { code: 4401, told: reason } : { told: { reason, endedAt } };

  describe.each(KINDS)('opened by %s', (kind) => {
    it('is closed with the reason the moment its session ends; others stay open, and answer [lesson 26]', async () => {
      const [client, other] = [
        await someoneNew(here, ['user'], kind),
        await someoneNew(here, ['user'], kind),
      ];
      const [socket, otherSocket] = [
        await connect(library, here, client),
        await connect(library, here, other),
      ];
      expect(await socket.ask('who')).toEqual({ id: client.sessionId, userId: String(client.user.id) });
      await Client.signIn(here, client.user, kind);
      expect(await socket.closed).toEqual(told('superseded'));
      expect(await otherSocket.ask('who')).toMatchObject({ id: other.sessionId });
    });

    it('is closed when its session ends on another process, which does not tell', async () => {
      const client = await someoneNew(here, ['user'], kind);
      const socket = await connect(library, here, client);
      await socket.ask('who');
      await end(there, client);
      expect(await socket.closed).toEqual(told('admin'));
    });

    it('is refused with the reason when its session has ended before', async () => {
      const client = await someoneNew(here, ['user'], kind);
      await end(there, client);
      expect(await (await connect(library, here, client)).closed).toEqual(told('admin'));
    });
  });

  it('is refused when nobody is signed in', async () => {
    expect(await (await connect(library, here)).closed).toEqual(told('unknown', null));
  });

  it('brings no message of an ended session to a handler, however soon it comes, and is closed by it [P2]', async () => {
    const client = await someoneNew(here, ['user'], 'token');
    const socket = await connect(library, here, client);
    await socket.ask('who');
    await end(there, client);
    const since = performance.now();
    void socket.ask('who').catch(() => undefined);
    expect(await socket.closed).toEqual(told('admin'));
    expect(handled).toBe(1);
    // Not by the look of every second.
    expect(performance.now() - since).toBeLessThan(500);
  });

  it('keeps its user as it was, and does not bring back roles that were lost since [S11]', async () => {
    const client = await someoneNew(here, ['admin'], 'token');
    const socket = await connect(library, here, client);
    // From here on the connection itself was checked, with the roles that it came with.
    await socket.ask('who');
    const demoted = here.sign({ ...client.user, roles: ['user'] }, { sid: client.sessionId });
    await client.browser.get('/token/me', { authorization: `Bearer ${demoted}` });
    for (let n = 0; n < 3; n++) await socket.ask('who');
    const rows = await sql(here, 'SELECT roles FROM user_session WHERE id = $1', [client.sessionId]);
    expect(rows).toEqual([{ roles: ['user'] }]);
  });

  it('that is closed by its client is not looked after any more', async () => {
    const socket = await connect(library, here, await someoneNew(here, ['user'], 'token'));
    await socket.ask('who');
    socket.close();
    await socket.closed;
    await eventually(
      async () => {
        log.clear();
        // No event: that nothing is asked any more shows only when a round of a second has gone by.
        await new Promise((resolve) => setTimeout(resolve, 1_200));
        return log.statements.length;
      },
      (count) => count === 0,
      8_000,
    );
  });

  it('is closed, and may come back, when its session cannot be verified [P5]', async () => {
    const client = await someoneNew(here, ['user'], 'token');
    await log.cut();
    try {
      const socket = await connect(library, here, client);
      expect(await socket.closed).toEqual(
        library === 'ws'
          ? { code: 1013, told: 'SESSION_STORE_UNAVAILABLE' }
          : { told: 'session-unavailable' },
      );
    } finally {
      await log.restore();
    }
    expect(await (await connect(library, here, client)).ask('who')).toMatchObject({ id: client.sessionId });
  });

  it('with bounded freshness is closed long before the staleness is over', async () => {
    const options = { freshness: { maxStalenessMs: 60_000 } };
    const [one, other] = [
      await start(library, databaseUrl, { options }),
      await start(library, databaseUrl, { options }),
    ];
    const client = await someoneNew(one, ['user'], 'token');
    const socket = await connect(library, one, client);
    await socket.ask('who');
    await Client.signIn(other, client.user, 'token');
    expect(await socket.closed).toEqual(told('superseded'));
  });
});

describe('a gateway that does not say who connects', () => {
  it('with ws passes no message: enforcement is not silently absent [lesson 32]', async () => {
    const place = await start('ws', databaseUrl, { gateway: ForgetfulGateway });
    const socket = await connect('ws', place, await someoneNew(place, ['user'], 'token'));
    expect(await socket.ask('who')).toMatchObject({ status: 'error' });
    expect(handled).toBe(0);
    expect(await socket.ask('skipped')).toBe('passed');
  });

  it('with socket.io passes anonymous messages, as an anonymous request passes', async () => {
    const place = await start('socket.io', databaseUrl, { gateway: ForgetfulGateway });
    const socket = await connect('socket.io', place);
    expect(await socket.ask('who')).toBe('passed');
    expect(await socket.ask('skipped')).toBe('passed');
  });

  it('with socket.io checks whom a guard of the handler has authenticated, and closes the socket [lesson 18]', async () => {
    const place = await start('socket.io', databaseUrl, { gateway: ForgetfulGateway });
    const client = await someoneNew(place, ['user'], 'token');
    const socket = await connect('socket.io', place, client);
    expect(await socket.ask('late')).toMatchObject({ id: client.sessionId });
    await end(place, client);
    void socket.ask('late').catch(() => undefined);
    expect(await socket.closed).toEqual({ told: { reason: 'admin', endedAt: ISO } });
    expect(handled).toBe(1);
  });
});

describe('closeWhenEnded()', () => {
  it.each([undefined, null, {}, 'socket', { close: () => undefined }])(
    'refuses what is no socket: %p',
    async (client) => {
      const sessions = (await start('ws')).app.get(SingleSessionService);
      await expect(sessions.closeWhenEnded(client, {})).rejects.toThrow('handleConnection(client, request)');
    },
  );

  it('says what to write when a socket of ws comes without its request', async () => {
    const sessions = (await start('ws')).app.get(SingleSessionService);
    const client = { readyState: 1, close: () => undefined, once: () => undefined };
    await expect(sessions.closeWhenEnded(client)).rejects.toThrow('closeWhenEnded(client, request)');
  });
});
