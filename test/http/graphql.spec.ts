import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import { Injectable, Module, UseGuards, type CanActivate, type ExecutionContext } from '@nestjs/common';
import { ApolloDriver, type ApolloDriverConfig } from '@nestjs/apollo';
import {
  Args,
  GqlExecutionContext,
  GraphQLModule,
  Int,
  Mutation,
  Query,
  Resolver,
  Subscription,
} from '@nestjs/graphql';
import { JwtService } from '@nestjs/jwt';
import { AuthGuard } from '@nestjs/passport';
import { createClient, type Client } from 'graphql-ws';
import { EventEmitter, on } from 'node:events';
import type { IncomingMessage } from 'node:http';
import WebSocket from 'ws';
import {
  CurrentSession,
  SingleSessionLogin,
  SingleSessionLogout,
  SingleSessionService,
  SkipSingleSession,
} from '../../src/index.js';
import { startApplication, Users, type TestApplication, type TestUser } from '../support/application.js';
import { Browser, TokenClient, type Answer } from '../support/client.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { platform } from '../support/platform.js';
import { liveSessionsOf, newUser, rowsOf } from '../support/sessions.js';
import { logIn, type UserRequest } from '../support/ways-in.js';

@Injectable()
class TokenGuard extends AuthGuard('jwt') {
  override getRequest(context: ExecutionContext): unknown {
    return GqlExecutionContext.create(context).getContext<{ req: unknown }>().req;
  }
}

let newsEnded: Promise<void> | undefined;

interface Form {
  username: string;
  code: string;
}

/** The first factor. */
@Injectable()
class LoginGuard implements CanActivate {
  constructor(private readonly users: Users) {}

  async canActivate(context: ExecutionContext): Promise<boolean> {
    const operation = GqlExecutionContext.create(context);
    const { username } = operation.getArgs<Form>();
    await logIn(operation.getContext<{ req: UserRequest }>().req, this.users.get(username)!);
    return true;
  }
}

/** The second. */
@Injectable()
class CodeGuard implements CanActivate {
  canActivate(context: ExecutionContext): boolean {
    return GqlExecutionContext.create(context).getArgs<Form>().code === 'right';
  }
}

@Resolver()
class SessionsResolver {
  @UseGuards(LoginGuard, CodeGuard)
  @SingleSessionLogin()
  @Mutation(() => String, { nullable: true })
  login(@Args('username') username: string, @Args('code') code: string): string {
    return `${username}: ${code}`;
  }

  @Query(() => String, { nullable: true })
  sessionOfCookie(@CurrentSession() current?: CurrentSession): string | null {
    return current?.id ?? null;
  }

  /** Its guard sets the user after the global guards have run. */
  @UseGuards(TokenGuard)
  @Query(() => String)
  sessionOfToken(@CurrentSession() current: CurrentSession): string {
    return current.id;
  }

  @Subscription(() => Int)
  async *ticks(): AsyncGenerator<object> {
    yield { ticks: 1 };
  }

  /** Goes on until it is closed. */
  @Subscription(() => String, { resolve: ([text]: [string]) => text })
  news(): AsyncIterableIterator<unknown> {
    const source = new EventEmitter();
    newsEnded = new Promise((resolve) => source.once('removeListener', () => resolve()));
    const news = on(source, 'news');
    source.emit('news', 'a secret');
    return news;
  }

  @SingleSessionLogout()
  @Mutation(() => Boolean)
  logout(): boolean {
    return true;
  }

  @Mutation(() => String)
  transfer(): string {
    return 'the money is gone';
  }

  @SkipSingleSession()
  @Query(() => String)
  open(): string {
    return 'to all';
  }
}

@Resolver()
class ByFactory {
  @UseGuards(TokenGuard)
  @Query(() => String)
  byFactory(): string {
    return 'a secret';
  }
}

abstract class Inherited {
  @UseGuards(TokenGuard)
  @Query(() => String)
  byValue(): string {
    return 'a secret';
  }
}

@Resolver()
class ByValue extends Inherited {}

interface Upgrade {
  socket: WebSocket;
  request: IncomingMessage & { user?: unknown };
}

interface Connection {
  connectionParams?: { token?: string; closes?: boolean };
  extra: unknown;
}

/** As an application does it: once for the socket, whose operations all have this request. */
async function authenticate({ connectionParams, extra }: Connection): Promise<void> {
  const { token, closes } = connectionParams ?? {};
  const { socket, request } = extra as Upgrade;
  const { sub: id, ...claims } = application.app.get(JwtService).verify<{ sub: string }>(token!);
  request.user = { id, ...claims };
  if (closes) await application.app.get(SingleSessionService).closeWhenEnded(socket, request);
}

let databaseUrl: string;
let application: TestApplication;

// Deep enough that its hooks run before ours: those of the modules that are farther from the root come first.
@Module({
  imports: [
    GraphQLModule.forRoot<ApolloDriverConfig>({
      driver: ApolloDriver,
      autoSchemaFile: true,
      graphiql: false,
      allowBatchedHttpRequests: true,
      context: (first: { req?: object; extra?: Upgrade }, reply: object) =>
        first.extra
          ? { req: first.extra.request }
          : platform === 'fastify'
            ? { req: first, reply }
            : { req: first.req },
      subscriptions: { 'graphql-ws': { onConnect: authenticate } },
    }),
  ],
})
class Api {}

@Module({ imports: [Api] })
class Feature {}

beforeAll(async () => {
  databaseUrl = await freshDatabase();
  application = await startApplication(databaseUrl, {
    imports: [Feature],
    providers: [
      SessionsResolver,
      { provide: ByFactory, useFactory: () => Promise.resolve(new ByFactory()) },
      { provide: 'BY_VALUE', useValue: new ByValue() },
    ],
  });
});

afterAll(async () => {
  await application?.close();
  await dropDatabase(databaseUrl);
});

const ask = (client: Browser | TokenClient, field: string): Promise<Answer> =>
  client instanceof Browser
    ? client.post('/graphql', { query: `{ ${field} }` })
    : new Browser(application.url).post(
        '/graphql',
        { query: `{ ${field} }` },
        { authorization: `Bearer ${client.token}` },
      );

const refusalOf = ({ body }: Answer): unknown => body.errors[0].extensions.originalError;

describe('a GraphQL operation', () => {
  it('of a cookie session is checked like a request, and a resolver knows the session', async () => {
    const { username } = newUser(application);
    const [old, current] = [new Browser(application.url), new Browser(application.url)];
    await old.login(username);
    const { body } = await current.login(username);
    const refused = await ask(old, 'sessionOfCookie');
    expect(refused.body.data?.sessionOfCookie ?? null).toBeNull();
    expect(refusalOf(refused)).toMatchObject({ code: 'SESSION_ENDED', reason: 'superseded' });
    expect((await ask(current, 'sessionOfCookie')).body).toEqual({
      data: { sessionOfCookie: body.session.id },
    });
  });

  it('that logs out in its first field is refused in its second [P2]', async () => {
    const browser = new Browser(application.url);
    await browser.login(newUser(application).username);
    const transfer = await browser.post('/graphql', { query: 'mutation { transfer }' });
    expect(transfer.body).toEqual({ data: { transfer: 'the money is gone' } });
    const refused = await browser.post('/graphql', {
      query: 'mutation { first: transfer logout second: transfer }',
    });
    expect(refused.body.errors).toMatchObject([{ path: ['second'] }]);
    expect(refusalOf(refused)).toMatchObject({ code: 'SESSION_ENDED', reason: 'logout' });
  });

  it('with a wrong second factor in its second field signs nobody in, though the first was right', async () => {
    const [user, victim] = [newUser(application), newUser(application)];
    const settled = new Browser(application.url);
    await settled.login(victim.username);
    const [before] = await liveSessionsOf(application, victim);
    const browser = new Browser(application.url);
    const { body } = await browser.post('/graphql', {
      query: `mutation { first: login(username: "${user.username}", code: "right") second: login(username: "${victim.username}", code: "wrong") }`,
    });
    expect(body.data).toEqual({ first: `${user.username}: right`, second: null });
    expect((await ask(browser, 'sessionOfCookie')).body).toEqual({ data: { sessionOfCookie: null } });
    expect(await liveSessionsOf(application, victim)).toEqual([before]);
    expect(await liveSessionsOf(application, user)).toEqual([]);
  });

  it('in a batch of two logins signs nobody in: each would be that of whom the other has established', async () => {
    const [user, victim] = [newUser(application), newUser(application)];
    const browser = new Browser(application.url);
    const login = ({ username }: TestUser, code: string) => ({
      query: `mutation { login(username: "${username}", code: "${code}") }`,
    });
    const { body } = await browser.post('/graphql', [login(user, 'right'), login(victim, 'wrong')]);
    expect(body).toMatchObject([{ data: { login: null } }, { data: { login: null } }]);
    expect((await ask(browser, 'sessionOfCookie')).body).toEqual({ data: { sessionOfCookie: null } });
    for (const one of [user, victim]) expect(await liveSessionsOf(application, one)).toEqual([]);
    expect((await browser.post('/graphql', [login(user, 'right')])).body).toHaveLength(1);
    expect(await liveSessionsOf(application, user)).toHaveLength(1);
  });

  it('of a token is checked after the guard of its resolver has authenticated', async () => {
    const { username } = newUser(application);
    const [old, current] = [new TokenClient(application.url), new TokenClient(application.url)];
    await old.login(username);
    expect((await ask(old, 'sessionOfToken')).body.errors).toBeUndefined();
    await current.login(username);
    expect(refusalOf(await ask(old, 'sessionOfToken'))).toMatchObject({
      code: 'SESSION_ENDED',
      reason: 'superseded',
    });
    expect((await ask(current, 'sessionOfToken')).body.errors).toBeUndefined();
  });

  it.each(['byFactory', 'byValue'])(
    'of a token is checked on a resolver that Nest has not made itself: %s',
    async (field) => {
      const { username } = newUser(application);
      const [old, current] = [new TokenClient(application.url), new TokenClient(application.url)];
      await old.login(username);
      expect((await ask(old, field)).body).toEqual({ data: { [field]: 'a secret' } });
      await current.login(username);
      const refused = await ask(old, field);
      expect(refused.body.data).toBeNull();
      expect(refusalOf(refused)).toMatchObject({ code: 'SESSION_ENDED', reason: 'superseded' });
      expect((await ask(current, field)).body).toEqual({ data: { [field]: 'a secret' } });
    },
  );

  it('of nobody passes where nobody has to be signed in, and an ended session passes where it is skipped', async () => {
    const { username } = newUser(application);
    const [old, visitor] = [new Browser(application.url), new Browser(application.url)];
    await old.login(username);
    await new Browser(application.url).login(username);
    expect((await ask(visitor, 'sessionOfCookie')).body).toEqual({ data: { sessionOfCookie: null } });
    expect((await ask(old, 'open')).body).toEqual({ data: { open: 'to all' } });
  });
});

describe('an operation on a WebSocket', () => {
  let socket: Client | undefined;
  afterEach(() => socket?.dispose());

  /** Resolves to how it is closed. */
  function connect({ token }: TokenClient, how: { closes?: boolean } = {}): Promise<CloseEvent> {
    return new Promise((resolve) => {
      socket = createClient({
        url: `${application.url.replace('http', 'ws')}/graphql`,
        webSocketImpl: WebSocket,
        connectionParams: { token, ...how },
        lazy: false,
        onNonLazyError: () => undefined,
        on: { closed: (event) => resolve(event as CloseEvent) },
      });
    });
  }

  const resultsOf = (query: string): AsyncIterableIterator<Result> =>
    socket!.iterate<Record<string, unknown>>({ query }) as AsyncIterableIterator<Result>;

  /** Its result, or why it has none. */
  const first = async (query: string): Promise<Result> => (await resultsOf(query).next()).value as Result;

  it('is checked each time, not only the first that came on the socket', async () => {
    const { username } = newUser(application);
    const client = new TokenClient(application.url);
    await client.login(username);
    const { sid } = application.app.get(JwtService).decode<{ sid: string }>(client.token!);
    void connect(client);
    expect(await first('{ sessionOfCookie }')).toEqual({ data: { sessionOfCookie: sid } });
    await new TokenClient(application.url).login(username);
    for (const query of ['{ sessionOfCookie }', 'subscription { ticks }']) {
      const { data, errors } = await first(query);
      expect(Object.values(data ?? {})).not.toContain(sid);
      expect(errors?.[0]?.message).toMatch(/ended because the account signed in elsewhere/);
    }
    expect(await first('{ open }')).toEqual({ data: { open: 'to all' } });
  });

  it('does not bring back roles that were lost since its socket was given to closeWhenEnded() [S11]', async () => {
    const user = newUser(application, { roles: ['admin'] });
    const client = new TokenClient(application.url);
    await client.login(user.username);
    void connect(client, { closes: true });
    // The socket is open: it was checked, with the roles that it came with.
    expect(await first('{ open }')).toEqual({ data: { open: 'to all' } });
    const demoted = application.sign({ ...user, roles: ['user'] }, { sid: client.sid });
    await new TokenClient(application.url, demoted).get();
    expect(await first('{ sessionOfCookie }')).toEqual({ data: { sessionOfCookie: client.sid } });
    expect(await rowsOf(application, user)).toMatchObject([{ roles: ['user'] }]);
  });

  it('that is a subscription ends with its session where the socket is given to closeWhenEnded()', async () => {
    const { username } = newUser(application);
    const client = new TokenClient(application.url);
    await client.login(username);
    const closed = connect(client, { closes: true });
    const results = resultsOf('subscription { news }');
    expect((await results.next()).value).toEqual({ data: { news: 'a secret' } });
    const next = results.next().catch((error: unknown) => error);
    await new TokenClient(application.url).login(username);
    expect(await closed).toMatchObject({ code: 4401, reason: 'superseded' });
    expect(await next).toMatchObject({ code: 4401, reason: 'superseded' });
    await newsEnded;
  });

  it('does not come to be on the socket of an ended session that is given to closeWhenEnded()', async () => {
    const { username } = newUser(application);
    const client = new TokenClient(application.url);
    await client.login(username);
    await new TokenClient(application.url).login(username);
    const closed = connect(client, { closes: true });
    await expect(first('{ open }')).rejects.toMatchObject({ code: 4401, reason: 'superseded' });
    expect(await closed).toMatchObject({ code: 4401, reason: 'superseded' });
  });
});

interface Result {
  data?: Record<string, unknown> | null;
  errors?: { message: string }[];
}

interface CloseEvent {
  code: number;
  reason: string;
}
