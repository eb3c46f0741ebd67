import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import {
  Injectable,
  UseGuards,
  type CanActivate,
  type ExecutionContext,
  Logger,
  type INestApplication,
} from '@nestjs/common';
import { JwtService } from '@nestjs/jwt';
import { IoAdapter } from '@nestjs/platform-socket.io';
import { WsAdapter } from '@nestjs/platform-ws';
import { SubscribeMessage, WebSocketGateway } from '@nestjs/websockets';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, jest } from '@jest/globals';
import type { RequestHandler } from 'express';
import session, { MemoryStore } from 'express-session';
import passport from 'passport';
import { Subject } from 'rxjs';
import type { Namespace, Server, Socket } from 'socket.io';
import { WebSocket } from 'ws';
import { CurrentSession, SingleSessionService, SkipSingleSession } from '../../src/index.js';
import { Client, someoneNew, sql, type Kind } from '../support/administration.js';
import { startApplication, Users, type TestApplication } from '../support/application.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import {
  LiveConnection,
  openSocket,
  SOCKET_PATH,
  type Library,
  type LiveSocket,
} from '../support/live-sockets.js';
import { GuardedMessages, isNest12 } from '../support/nest.js';
import { FASTIFY_SECRET, platform } from '../support/platform.js';
import { SessionStoreUnavailableException } from '../../src/http/exceptions.js';
import { RequestCheck } from '../../src/http/request-check.js';
import { Sessions } from '../../src/session/sessions.js';
import { eventually } from '../support/sessions.js';
import { CHECK, watchStatements, type StatementWatch } from '../support/statements.js';

const ISO = expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
const KINDS: Kind[] = ['cookie', 'token'];

const users = new Users();
// One store for all applications of this file.
const cookieSessions = new MemoryStore().setMaxListeners(0);
// On Fastify it reads the cookies of @fastify/session, as docs/live.md says.
const cookieMiddleware = session({
  ...(platform === 'fastify' ? { secret: FASTIFY_SECRET, name: 'sessionId' } : { secret: 'test' }),
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

@GuardedMessages()
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
@GuardedMessages()
@WebSocketGateway({ path: SOCKET_PATH })
class ForgetfulGateway {
  @SubscribeMessage('who')
  who(): object {
    handled++;
    return { event: 'answer', data: 'passed' };
  }

  @SkipSingleSession()
  @SubscribeMessage('skipped')
  skipped(): object {
    return { event: 'answer', data: 'passed' };
  }
}

/** For one application: our guard stays behind those of a handler, also where the next would not have put it there. */
@GuardedMessages()
@WebSocketGateway({ path: SOCKET_PATH })
class LateGateway {
  /** Its guard authenticates after the global guards have run. */
  @UseGuards(LateTokenGuard)
  @SubscribeMessage('late')
  late(@CurrentSession() current: CurrentSession): object {
    handled++;
    return { event: 'answer', data: current };
  }
}

/** Admits who signs in by a message, and says nothing else to our module. */
@GuardedMessages()
@WebSocketGateway({ path: SOCKET_PATH })
class SigningInGateway {
  constructor(
    private readonly sessions: SingleSessionService,
    private readonly jwt: JwtService,
  ) {}

  @SkipSingleSession()
  @SubscribeMessage('sign in')
  async signIn({ request }: Socket): Promise<object> {
    const { sub: id, username } = this.jwt.verify<{ sub: string; username: string }>(
      request.headers.authorization!.slice('Bearer '.length),
    );
    const session = await this.sessions.admit({ id, username }, request, { credential: 'token' });
    return { event: 'answer', data: session };
  }

  @SkipSingleSession()
  @SubscribeMessage('by token')
  byToken({ request }: Socket): object {
    authenticate(this.jwt, request);
    return { event: 'answer', data: null };
  }

  @SubscribeMessage('who')
  who(@CurrentSession() current?: CurrentSession): object {
    handled++;
    return { event: 'answer', data: current ?? null };
  }
}

/** Authenticates each socket by the token of its own handshake, as socket.io does it, or leaves it to the cookie session. */
@Injectable()
abstract class HandshakeGateway {
  constructor(
    private readonly sessions: SingleSessionService,
    private readonly jwt: JwtService,
  ) {}

  async handleConnection(client: Socket): Promise<void> {
    const isByCookie = client.request.headers.cookie !== undefined;
    const request = isByCookie ? undefined : this.authenticated(client, 'token');
    const session = await this.sessions.closeWhenEnded(client, request);
    client.emit('opened', session ?? null);
  }

  @SubscribeMessage('who')
  who(@CurrentSession() current?: CurrentSession): object {
    handled++;
    return { event: 'answer', data: current ?? null };
  }

  @SkipSingleSession()
  @SubscribeMessage('again')
  async again(client: Socket): Promise<object> {
    this.authenticated(client, 'other');
    return { event: 'answer', data: await this.sessions.closeWhenEnded(client) };
  }

  /** Before it waits for anything: the request is the same for all sockets of the connection. */
  private authenticated(client: Socket, name: 'token' | 'other'): object {
    const token = client.handshake.auth[name] as string | undefined;
    const { sub, ...claims } = token === undefined ? {} : this.jwt.verify<{ sub?: string }>(token);
    return Object.assign(client.request, { user: sub === undefined ? undefined : { id: sub, ...claims } });
  }
}

@GuardedMessages()
@WebSocketGateway({ path: SOCKET_PATH, namespace: 'a' })
class GatewayA extends HandshakeGateway {
  afterInit({ server }: Namespace): void {
    server.engine.use(cookieMiddleware);
    server.engine.use(passport.session());
  }
}

@GuardedMessages()
@WebSocketGateway({ path: SOCKET_PATH, namespace: 'b' })
class GatewayB extends HandshakeGateway {}

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

type Gateway = new (...parts: never[]) => object;

const ADAPTERS = { 'socket.io': IoAdapter, ws: WsAdapter } as const;

async function start(
  library: Library,
  url = databaseUrl,
  { gateways = [LiveGateway] as Gateway[], options = {} } = {},
): Promise<TestApplication> {
  const Adapter = ADAPTERS[library];
  const application = await startApplication(url, {
    users,
    options,
    session: { store: cookieSessions, cookiePrefix: 's:' },
    providers: gateways,
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

const someoneByToken = (application: TestApplication): Promise<Client> =>
  someoneNew(application, ['user'], 'token');

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

  it('stays open when a message cannot be checked for a moment, which reaches no handler [P5]', async () => {
    const client = await someoneNew(here, ['user'], 'token');
    const look = jest.spyOn(here.app.get(Sessions), 'look');
    const socket = await connect(library, here, client);
    await socket.ask('who');
    // What cannot be verified at the beginning is closed.
    await eventually(
      () => Promise.all(look.mock.results.map(({ value }) => value)),
      (looks) => looks.length > 0,
    );
    look.mockRestore();
    const checkAgain = jest.spyOn(here.app.get(RequestCheck), 'checkAgain');
    await log.cut();
    try {
      void socket.ask('who').catch(() => undefined);
      const [check] = await eventually(
        () => Promise.resolve(checkAgain.mock.results),
        ({ length }) => length > 0,
      );
      await expect(check!.value).rejects.toMatchObject({ status: 503 });
    } finally {
      checkAgain.mockRestore();
      await log.restore();
    }
    // No event: Nest 11 gives a client of ws no answer to it, and that the socket is not closed shows only when time has gone by.
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(socket.isOpen).toBe(true);
    expect(await socket.ask('who')).toMatchObject({ id: client.sessionId });
    expect(handled).toBe(2);
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

// Not with ws: its case passed without the code that it was for.
it('a message by a limit of long ago closes the socket of socket.io, and does not end the session', async () => {
  const maxSessions = ({ roles }: { roles: string[] }): number => (roles.includes('pro') ? 3 : 1);
  const place = await start('socket.io', databaseUrl, { options: { maxSessions } });
  const client = await someoneNew(place, ['user'], 'token');
  const socket = await connect('socket.io', place, client);
  await socket.ask('who');
  client.user.roles.push('pro');
  await Client.signIn(place, client.user, 'token');
  void socket.ask('who').catch(() => undefined);
  await socket.closed;
  const token = place.sign(client.user, { sid: client.sessionId });
  const answer = await client.browser.get('/token/me', { authorization: `Bearer ${token}` });
  expect(answer.status).toBe(200);
});

it('a message is checked by the limit of its user, also where that was lowered since the socket was opened', async () => {
  let maxSessions = 2;
  const place = await start('socket.io', databaseUrl, { options: { maxSessions: () => maxSessions } });
  const client = await someoneNew(place, ['user'], 'token');
  const socket = await connect('socket.io', place, client);
  await socket.ask('who');
  await Client.signIn(place, client.user, 'token');
  await socket.ask('who');
  maxSessions = 1;
  void socket.ask('who').catch(() => undefined);
  expect(await socket.closed).toMatchObject({ told: { reason: 'superseded' } });
  expect(handled).toBe(2);
});

it('a socket of ws brings no message to a handler while it is being closed', async () => {
  const place = await start('ws', databaseUrl);
  const socket = new WebSocket(place.url.replace(/^http/, 'ws') + SOCKET_PATH);
  // Before the client reads that the server closes it.
  socket.once('open', () => socket.send(JSON.stringify({ event: 'who' })));
  await once(socket, 'close');
  expect(handled).toBe(0);
});

describe('a gateway that does not say who connects', () => {
  it('with ws passes no message: enforcement is not silently absent [lesson 32]', async () => {
    const place = await start('ws', databaseUrl, { gateways: [ForgetfulGateway] });
    const socket = await connect('ws', place, await someoneNew(place, ['user'], 'token'));
    const answer = socket.ask('who');
    // Nest 11 refuses it without an answer.
    const refusal = isNest12 ? await answer : { status: 'error' };
    expect(refusal).toMatchObject({ status: 'error' });
    expect(await socket.ask('skipped')).toBe('passed');
    expect(handled).toBe(0);
  });

  it('with socket.io passes anonymous messages, as an anonymous request passes', async () => {
    const place = await start('socket.io', databaseUrl, { gateways: [ForgetfulGateway] });
    const socket = await connect('socket.io', place);
    expect(await socket.ask('who')).toBe('passed');
    expect(await socket.ask('skipped')).toBe('passed');
  });

  it('with socket.io checks whom a guard of the handler has authenticated, and closes the socket [lesson 18]', async () => {
    const place = await start('socket.io', databaseUrl, { gateways: [LateGateway] });
    const client = await someoneNew(place, ['user'], 'token');
    const socket = await connect('socket.io', place, client);
    expect(await socket.ask('late')).toMatchObject({ id: client.sessionId });
    await end(place, client);
    void socket.ask('late').catch(() => undefined);
    expect(await socket.closed).toEqual({ told: { reason: 'admin', endedAt: ISO } });
    expect(handled).toBe(1);
  });
});

it('a login by a message on a socket of socket.io is checked with each message after it, and closes the socket [P2]', async () => {
  const place = await start('socket.io', databaseUrl, { gateways: [SigningInGateway] });
  const client = await someoneNew(place, ['user'], 'token');
  const socket = await connect('socket.io', place, client);
  expect(await socket.ask('who')).toBeNull();
  const session = await socket.ask('sign in');
  expect(await socket.ask('who')).toEqual(session);
  await Client.signIn(place, client.user, 'token');
  void socket.ask('who').catch(() => undefined);
  expect(await socket.closed).toEqual({ told: { reason: 'superseded', endedAt: ISO } });
  expect(handled).toBe(2);
});

it('and so is the user whom a later message has set, whose own session counts then [P2]', async () => {
  const place = await start('socket.io', databaseUrl, { gateways: [SigningInGateway] });
  const client = await someoneNew(place, ['user'], 'token');
  const socket = await connect('socket.io', place, client);
  const session = await socket.ask('sign in');
  expect(await socket.ask('who')).toEqual(session);
  await socket.ask('by token');
  void socket.ask('who').catch(() => undefined);
  expect(await socket.closed).toEqual({ told: { reason: 'superseded', endedAt: ISO } });
  expect(handled).toBe(1);
});

describe('sockets of several namespaces on one connection of socket.io', () => {
  /** Two processes of one cluster, as far as our module can tell. */
  let here: TestApplication;
  let there: TestApplication;

  beforeAll(async () => {
    [here, there] = [
      await start('socket.io', databaseUrl, { gateways: [GatewayA, GatewayB] }),
      await start('socket.io'),
    ];
  });

  const told = (reason: string, endedAt: unknown = ISO): object => ({ told: { reason, endedAt } });
  const tokenOf = ({ headers }: Client): string => headers['authorization']!.replace('Bearer ', '');

  async function open(
    connection: LiveConnection,
    namespace: string,
    token?: string,
  ): ReturnType<LiveConnection['open']> {
    const socket = await connection.open(namespace, { token });
    sockets.push(socket);
    return socket;
  }

  it.each(['strong', { maxStalenessMs: 60_000 }] as const)(
    'are each their own user, who sign in at the same moment: freshness %j',
    async (freshness) => {
      const options = { freshness };
      const place = await start('socket.io', databaseUrl, { gateways: [GatewayA, GatewayB], options });
      const [alice, bob] = [await someoneByToken(here), await someoneByToken(here)];
      const connection = new LiveConnection(place.url);
      const [a, b] = await Promise.all([
        open(connection, '/a', tokenOf(alice)),
        open(connection, '/b', tokenOf(bob)),
      ]);
      expect(await Promise.all([a.opened, b.opened])).toMatchObject([
        { id: alice.sessionId },
        { id: bob.sessionId },
      ]);
      expect(await a.ask('who')).toMatchObject({ id: alice.sessionId });
      await end(place, alice);
      expect(await a.closed).toEqual(told('admin'));
      expect(await b.ask('who')).toMatchObject({ id: bob.sessionId });
    },
  );

  it('are closed at once where nobody is signed in, whoever is on another, who stays', async () => {
    const alice = await someoneByToken(here);
    const connection = new LiveConnection(here.url);
    const a = await open(connection, '/a', tokenOf(alice));
    expect(await a.ask('who')).toMatchObject({ id: alice.sessionId });
    const b = await open(connection, '/b');
    expect(await b.closed).toEqual(told('unknown', null));
    expect(await a.ask('who')).toMatchObject({ id: alice.sessionId });
  });

  it.each(['nobody', 'somebody else'])(
    'bring no message of an ended session to a handler, where %s came on another after it [P2]',
    async (who) => {
      const [alice, bob] = [await someoneByToken(here), await someoneByToken(here)];
      const connection = new LiveConnection(here.url);
      const a = await open(connection, '/a', tokenOf(alice));
      await a.ask('who');
      const b = await open(connection, '/b', who === 'nobody' ? undefined : tokenOf(bob));
      await (who === 'nobody' ? b.closed : b.ask('who'));
      handled = 0;
      await end(there, alice);
      const since = performance.now();
      void a.ask('who').catch(() => undefined);
      expect(await a.closed).toEqual(told('admin'));
      expect(handled).toBe(0);
      // Not by the look of every second.
      expect(performance.now() - since).toBeLessThan(500);
    },
  );

  it('belong to whom signed in last on each', async () => {
    const [alice, other] = [await someoneByToken(here), await someoneByToken(here)];
    const connection = new LiveConnection(here.url);
    const a = await connection.open('/a', { token: tokenOf(alice), other: tokenOf(other) });
    sockets.push(a);
    expect(await a.ask('again')).toMatchObject({ id: other.sessionId });
    await end(here, alice);
    expect(await a.ask('who')).toMatchObject({ id: other.sessionId });
    await end(here, other);
    expect(await a.closed).toEqual(told('admin'));
  });

  it('leave no connection open when the last is closed', async () => {
    const connection = new WebSocket(
      `${here.url.replace(/^http/, 'ws')}${SOCKET_PATH}/?EIO=4&transport=websocket`,
    );
    // The protocol of Socket.IO as it is: a client of the library would close the connection by itself.
    await once(connection, 'message');
    connection.send('40/a,');
    connection.send('40/b,');
    await once(connection, 'close');
  });

  describe('opened by cookie', () => {
    it('are each told the end of the cookie session that they have in common', async () => {
      const client = await someoneNew(here);
      const connection = new LiveConnection(here.url, { cookie: client.browser.cookie! });
      const [a, b] = [await open(connection, '/a'), await open(connection, '/b')];
      expect(await a.ask('who')).toMatchObject({ id: client.sessionId });
      expect(await b.ask('who')).toMatchObject({ id: client.sessionId });
      await end(here, client);
      expect(await Promise.all([a.closed, b.closed])).toEqual([told('admin'), told('admin')]);
    });

    it('are refused with the reason also where the connection begins by polling', async () => {
      const client = await someoneNew(here);
      await end(there, client);
      const connection = new LiveConnection(here.url, { cookie: client.browser.cookie! }, ['polling']);
      expect(await (await open(connection, '/a')).closed).toEqual(told('admin'));
    });

    it('are refused where the session of the connection has ended since', async () => {
      const place = await start('socket.io', log.url, { gateways: [GatewayA, GatewayB] });
      const client = await someoneNew(place);
      const connection = new LiveConnection(place.url, { cookie: client.browser.cookie! });
      await (await open(connection, '/a')).ask('who');
      log.clear();
      // The look of every second. The next would close the connection with the socket that is alone on it.
      await eventually(
        () => log.statements.some((text) => CHECK.test(text)),
        (isLooked) => isLooked,
      );
      await end(there, client);
      const b = await open(connection, '/b');
      const opened = await Promise.race([b.opened, b.closed]);
      expect(opened).toEqual(told('admin'));
    });

    it('do not bring back roles that were lost since the connection began [S11]', async () => {
      const client = await someoneNew(here, ['admin']);
      const connection = new LiveConnection(here.url, { cookie: client.browser.cookie! });
      await (
        await open(connection, '/a')
      ).opened;
      const demoted = here.sign({ ...client.user, roles: ['user'] }, { sid: client.sessionId });
      await client.browser.copy().get('/token/me', { authorization: `Bearer ${demoted}`, cookie: '' });
      await (
        await open(connection, '/b')
      ).opened;
      const rows = await sql(here, 'SELECT roles FROM user_session WHERE id = $1', [client.sessionId]);
      expect(rows).toEqual([{ roles: ['user'] }]);
    });
  });
});

/** A socket of socket.io on the server, which notes what its client is told. */
class FakeSocketIo {
  connected = true;
  readonly events: unknown[] = [];

  constructor(readonly request: object) {}

  emit(...event: unknown[]): void {
    this.events.push(event);
  }

  disconnect(): void {
    this.connected = false;
  }

  once(): void {}
}

/** A socket of ws on the server, which notes how it was closed. */
class FakeSocket {
  readonly readyState = 1;
  readonly closings: unknown[] = [];
  readonly listeners: (() => void)[] = [];

  close(code: number, reason: string): void {
    this.closings.push([code, reason]);
  }

  once(_: string, listener: () => void): void {
    this.listeners.push(listener);
  }
}

describe('closeWhenEnded()', () => {
  it.each(['ws', 'socket.io'] as const)(
    'says once in the log how a handshake is authenticated, where nobody looked who it is (%s) [lesson 32]',
    async (library) => {
      const sessions = (await start('ws')).app.get(SingleSessionService);
      const refused = (request: object) =>
        sessions.closeWhenEnded(library === 'ws' ? new FakeSocket() : new FakeSocketIo(request), request);
      const warn = jest.spyOn(Logger.prototype, 'warn').mockReturnValue();
      const stamped = { session: { singleSession: randomUUID() } };
      for (const request of [{ user: undefined }, stamped]) expect(await refused(request)).toBeUndefined();
      expect(warn).not.toHaveBeenCalled();
      for (const request of [{}, {}]) expect(await refused(request)).toBeUndefined();
      const warnings = warn.mock.calls.map(([text]) => String(text));
      warn.mockRestore();
      expect(warnings).toEqual([
        expect.stringMatching(
          /found nobody.*server\.engine\.use\(passport\.session\(\)\).*on Fastify.*@fastify\/session.*closeWhenEnded\(client, \{ user \}\)/,
        ),
      ]);
    },
  );

  it.each<unknown>([
    undefined,
    null,
    {},
    'socket',
    { close: () => undefined },
    // A channel of WebRTC, for one: taken for a socket that is closed already, it would not be watched.
    { close: () => undefined, readyState: 'open' },
    { disconnect: () => undefined },
  ])('refuses what is no socket: %p', async (client) => {
    const sessions = (await start('ws')).app.get(SingleSessionService);
    await expect(sessions.closeWhenEnded(client, {})).rejects.toThrow('handleConnection(client, request)');
  });

  it.each(['ws', 'socket.io'] as const)(
    'refuses a token in place of a request, and does not show it (%s)',
    async (library) => {
      const sessions = (await start('ws')).app.get(SingleSessionService);
      const client = library === 'ws' ? new FakeSocket() : new FakeSocketIo({});
      const refused = sessions.closeWhenEnded(client, 'a.good.token' as never);
      const error: unknown = await refused.catch((reason: unknown) => reason);
      expect(String(error)).toMatch(/^TypeError: .*\{ user \}/);
      expect(String(error)).not.toContain('a.good.token');
    },
  );

  it('says what to write when a socket of ws comes without its request', async () => {
    const sessions = (await start('ws')).app.get(SingleSessionService);
    const client = { readyState: 1, close: () => undefined, once: () => undefined };
    await expect(sessions.closeWhenEnded(client)).rejects.toThrow('closeWhenEnded(client, request)');
  });

  describe('with what is given in place of a request', () => {
    let place: TestApplication;
    let sessions: SingleSessionService;

    beforeAll(async () => {
      place = await start('ws');
      sessions = place.app.get(SingleSessionService);
    });

    it('needs no headers, neither of a session that is live nor of one that ended', async () => {
      const { user, sessionId: sid } = await someoneNew(place, ['user'], 'token');
      const [live, ended] = [new FakeSocket(), new FakeSocket()];
      const given = { user: { ...user, sid } };
      const error = jest.spyOn(Logger.prototype, 'error').mockReturnValue();
      expect(await sessions.closeWhenEnded(live, given)).toMatchObject({ id: sid });
      await sessions.end(sid);
      expect(await sessions.closeWhenEnded(ended, { ...given })).toBeUndefined();
      expect([live.closings, ended.closings]).toEqual([[[4401, 'admin']], [[4401, 'admin']]]);
      const ofSocketIo = new FakeSocketIo({});
      expect(await sessions.closeWhenEnded(ofSocketIo, { ...given })).toBeUndefined();
      expect(ofSocketIo.events).toEqual([['session-ended', { reason: 'admin', endedAt: expect.any(Date) }]]);
      // It is no fault.
      expect(error).not.toHaveBeenCalled();
      error.mockRestore();
    });

    it.each(['reject', 'adopt'] as const)(
      'needs none of a user whose login was not recorded: unregistered %j',
      async (unregistered) => {
        const application = await start('ws', databaseUrl, { options: { unregistered } });
        const { user } = await someoneNew(application);
        const client = new FakeSocket();
        const cookieSession = {
          sessionId: 'x'.repeat(32),
          passport: { user: user.username },
          destroy: (done: () => void) => done(),
        };
        const given = { user, session: cookieSession };
        expect(await application.app.get(SingleSessionService).closeWhenEnded(client, given)).toBeUndefined();
        expect(client.closings).toEqual([[4401, 'unknown']]);
      },
    );

    /** One socket on which `bob` signs in while the call for `alice` is still under way, which is answered after his. */
    async function overtaken(before: (service: SingleSessionService, alice: Client) => Promise<unknown>) {
      let slow: unknown;
      let release!: () => void;
      const released = new Promise<void>((resolve) => (release = resolve));
      const maxSessions = async (user: unknown): Promise<number> => {
        if (user === slow) await released;
        return 1;
      };
      const application = await start('ws', databaseUrl, { options: { maxSessions } });
      const service = application.app.get(SingleSessionService);
      const [alice, bob] = [await someoneByToken(application), await someoneByToken(application)];
      await before(service, alice);
      slow = { ...alice.user, sid: alice.sessionId };
      const client = new FakeSocket();
      const first = service.closeWhenEnded(client, { user: slow });
      await service.closeWhenEnded(client, { user: { ...bob.user, sid: bob.sessionId } });
      release();
      return { service, alice, bob, client, first: await first };
    }

    it('watches who signed in last, whoever is checked last', async () => {
      const { service, alice, bob, client } = await overtaken(async () => undefined);
      await service.end(alice.sessionId, { reason: 'logout' });
      await service.end(bob.sessionId, { reason: 'admin' });
      expect(client.closings).toEqual([[4401, 'admin']]);
    });

    it('leaves the socket open to who signed in last, whoever is refused last', async () => {
      const { client, first } = await overtaken((service, alice) => service.end(alice.sessionId));
      expect(first).toBeUndefined();
      expect(client.closings).toEqual([]);
    });

    it('waits once for the close of a socket, however often somebody signs in on it', async () => {
      const { user, sessionId: sid } = await someoneNew(place, ['user'], 'token');
      const client = new FakeSocket();
      for (let time = 0; time < 3; time++)
        expect(await sessions.closeWhenEnded(client, { user: { ...user, sid } })).toMatchObject({ id: sid });
      expect(client.listeners).toHaveLength(1);
      client.listeners[0]!();
      await sessions.end(sid);
      expect(client.closings).toEqual([]);
    });

    it('keeps sockets of socket.io apart whose cookie sessions are set on the request that they share', async () => {
      const [alice, bob] = [await someoneByToken(place), await someoneByToken(place)];
      const request = { headers: {}, session: {} };
      const [a, b] = [new FakeSocketIo(request), new FakeSocketIo(request)];
      request.session = { singleSession: alice.sessionId };
      const first = sessions.closeWhenEnded(a);
      request.session = { singleSession: bob.sessionId };
      const second = sessions.closeWhenEnded(b);
      expect(await Promise.all([first, second])).toMatchObject([
        { id: alice.sessionId },
        { id: bob.sessionId },
      ]);
      await end(place, alice);
      expect([a, b].map(({ connected }) => connected)).toEqual([false, true]);
    });

    it('closes the socket where a function of the options fails, and says so in the log alone: nobody waits for handleConnection()', async () => {
      const outage = new Error('the policy is down');
      let fails = false;
      const maxSessions = (): number => {
        if (fails) throw outage;
        return 1;
      };
      const application = await start('ws', databaseUrl, { options: { maxSessions } });
      const { user, sessionId: sid } = await someoneByToken(application);
      fails = true;
      const error = jest.spyOn(Logger.prototype, 'error').mockReturnValue();
      const client = new FakeSocket();
      const service = application.app.get(SingleSessionService);
      const opened = await service.closeWhenEnded(client, { user: { ...user, sid } });
      const errors = error.mock.calls.flat();
      error.mockRestore();
      expect(opened).toBeUndefined();
      expect(client.closings).toEqual([[1013, 'SESSION_STORE_UNAVAILABLE']]);
      expect(errors).toEqual([outage]);
    });

    it('closes the socket when its session cannot be verified any more, long after it was opened [P5]', async () => {
      const { user, sessionId: sid } = await someoneNew(place, ['user'], 'token');
      const ended = new Subject<never>();
      const whenEnded = jest.spyOn(place.app.get(RequestCheck), 'whenEnded').mockReturnValueOnce(ended);
      const client = new FakeSocket();
      expect(await sessions.closeWhenEnded(client, { user: { ...user, sid } })).toMatchObject({ id: sid });
      whenEnded.mockRestore();
      ended.error(new SessionStoreUnavailableException());
      expect(client.closings).toEqual([[1013, 'SESSION_STORE_UNAVAILABLE']]);
    });

    it('does not watch a socket that its client has closed meanwhile, which would never say so again', async () => {
      const { user, sessionId: sid } = await someoneNew(place, ['user'], 'token');
      const ofWs = Object.assign(new FakeSocket(), { readyState: 3 });
      const ofSocketIo = Object.assign(new FakeSocketIo({}), { connected: false });
      for (const client of [ofWs, ofSocketIo])
        expect(await sessions.closeWhenEnded(client, { user: { ...user, sid } })).toMatchObject({ id: sid });
      await sessions.end(sid);
      expect([ofWs.listeners, ofWs.closings, ofSocketIo.events]).toEqual([[], [], []]);
    });

    it('closes the socket of who has signed out of it', async () => {
      const { user, sessionId: sid } = await someoneNew(place, ['user'], 'token');
      const client = new FakeSocket();
      const request = { headers: {}, user: { ...user, sid } };
      expect(await sessions.closeWhenEnded(client, request)).toMatchObject({ id: sid });
      expect(
        await sessions.closeWhenEnded(client, Object.assign(request, { user: undefined })),
      ).toBeUndefined();
      expect(client.closings).toEqual([[4401, 'unknown']]);
    });
  });
});
