import { randomUUID } from 'node:crypto';
import type { Server } from 'node:http';
import {
  Controller,
  Get,
  Req,
  Res,
  Sse,
  UseGuards,
  UseInterceptors,
  type CallHandler,
  type ExecutionContext,
  type MessageEvent,
  type NestInterceptor,
} from '@nestjs/common';
import { AuthGuard } from '@nestjs/passport';
import { afterAll, afterEach, beforeAll, describe, expect, it, jest } from '@jest/globals';
import { MemoryStore } from 'express-session';
import { concat, defer, finalize, interval, map, NEVER, of, Subject, takeUntil, type Observable } from 'rxjs';
import { SessionStoreUnavailableException } from '../../src/http/exceptions.js';
import { reach, setChecked } from '../../src/http/request-state.js';
import type { SessionRequest } from '../../src/http/request.js';
import { STREAM_END } from '../../src/http/stream-end.js';
import { SingleSessionService, SkipSingleSession } from '../../src/index.js';
import { Sessions } from '../../src/session/sessions.js';
import { StoreUnavailableError } from '../../src/session/session-store.js';
import { BearerGuard, Client, someoneNew, sql, type Kind } from '../support/administration.js';
import { startApplication, Users, type TestApplication } from '../support/application.js';
import { EventStream } from '../support/event-stream.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { isNest12 } from '../support/nest.js';
import { nodeResponseOf, platform, type PlatformResponse } from '../support/platform.js';
import { eventually } from '../support/sessions.js';
import { CHECK, watchStatements, type StatementWatch } from '../support/statements.js';

const EVENTS = '/sessions/mine/events';
const ISO = expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);

const users = new Users();
const cookieSessions = new MemoryStore();
const streams: EventStream[] = [];
/** How many streams of the controller below are subscribed to. */
let open = 0;

const counted = <Value>(source: Observable<Value>): Observable<Value> =>
  defer(() => {
    open++;
    return source.pipe(finalize(() => open--));
  });

const firstOfMany = (): Observable<MessageEvent> => counted(concat(of({ data: 'first' }), NEVER));

/** Knows the events of its route, and no others. */
class Translating implements NestInterceptor {
  intercept(_: ExecutionContext, next: CallHandler<{ data: string }>): Observable<MessageEvent> {
    return next.handle().pipe(map(({ data }) => ({ data: data.toUpperCase() })));
  }
}

/** Streams as an application has them. */
@Controller('streams')
class StreamController {
  constructor(private readonly sessions: SingleSessionService) {}

  @Sse('ticks')
  ticks(): Observable<MessageEvent> {
    return firstOfMany();
  }

  /** Its guard sets the user after the global guards have run. */
  @UseGuards(AuthGuard('jwt'))
  @Sse('token')
  async token(): Promise<Observable<MessageEvent>> {
    return firstOfMany();
  }

  @Sse('short')
  short(): Observable<MessageEvent> {
    return counted(of({ data: 'first' }));
  }

  @UseInterceptors(Translating)
  @Sse('translated')
  translated(): Observable<MessageEvent> {
    return firstOfMany();
  }

  @SkipSingleSession()
  @Sse('skipped')
  skipped(): Observable<MessageEvent> {
    return firstOfMany();
  }

  /** No server-sent events, so it says itself when it ends. */
  @Get('raw')
  raw(@Req() request: object, @Res() response: PlatformResponse): void {
    const raw = nodeResponseOf(response);
    raw.writeHead(200, { 'content-type': 'text/plain' }).write('first\n');
    const until = this.sessions.whenEnded(request);
    counted(interval(10).pipe(takeUntil(until))).subscribe({ complete: () => raw.end('last\n') });
  }
}

let databaseUrl: string;
let log: StatementWatch;
/** Two processes of one cluster, as far as our module can tell. */
let here: TestApplication;
let there: TestApplication;

beforeAll(async () => {
  databaseUrl = await freshDatabase();
  log = await watchStatements(databaseUrl);
  [here, there] = [await start(log.url), await start(databaseUrl)];
});

afterEach(() => {
  for (const stream of streams.splice(0)) stream.close();
});

afterAll(async () => {
  await here?.close();
  await there?.close();
  await log?.stop();
  await dropDatabase(databaseUrl);
});

const start = (url: string, options: object = {}): Promise<TestApplication> =>
  startApplication(url, {
    users,
    session: { store: cookieSessions },
    options: { selfService: { guards: [BearerGuard] }, ...options },
    controllers: [StreamController],
  });

async function listen(client: Client, path = EVENTS, { url } = here): Promise<EventStream> {
  const { cookie } = client.browser;
  const stream = await EventStream.open(url + path, {
    ...client.headers,
    ...(cookie !== undefined && { cookie }),
  });
  streams.push(stream);
  if (stream.status === 200 && path === EVENTS) await stream.beat();
  return stream;
}

const endAt = ({ app }: TestApplication, client: Client, reason: 'admin' | 'logout' = 'admin') =>
  app.get(SingleSessionService).end(client.sessionId, { reason });

describe.each(['cookie', 'token'] as Kind[])('GET sessions/mine/events, signed in by %s', (kind) => {
  it('says nothing while the session lives, is told its end the moment it happens, and closes [lesson 26]', async () => {
    const [client, other] = [await someoneNew(here, ['user'], kind), await someoneNew(here, ['user'], kind)];
    const [stream, otherStream] = [await listen(client), await listen(other)];
    expect(stream.events).toEqual([]);
    await Client.signIn(here, client.user, kind);
    expect(await stream.next('ended')).toEqual({ reason: 'superseded', endedAt: ISO });
    await stream.ended;
    expect(stream.events).toHaveLength(1);
    expect(otherStream.events).toEqual([]);
  });

  it('is told of an end on another process, with no notification to hear of it', async () => {
    const client = await someoneNew(here, ['user'], kind);
    const stream = await listen(client);
    await Client.signIn(there, client.user, kind);
    expect(await stream.next('ended')).toMatchObject({ reason: 'superseded' });
    await stream.ended;
  });

  it('is refused to an ended session like everything else', async () => {
    const client = await someoneNew(here, ['user'], kind);
    await endAt(there, client);
    const stream = await listen(client);
    expect(stream.status).toBe(401);
    expect(stream.body).toMatchObject({ code: 'SESSION_ENDED', reason: 'admin', endedAt: ISO });
  });

  it('tells all the tabs of a session', async () => {
    const client = await someoneNew(here, ['user'], kind);
    const tabs = await Promise.all([listen(client), listen(client), listen(client, EVENTS, there)]);
    await endAt(there, client, 'logout');
    const told = await Promise.all(tabs.map((tab) => tab.next('ended')));
    expect(told).toEqual(Array(3).fill({ reason: 'logout', endedAt: ISO }));
  });
});

describe('GET sessions/mine/events', () => {
  it('has the head of a stream that no proxy keeps back or remembers', async () => {
    const { headers } = (await listen(await someoneNew(here))).response;
    expect(headers.get('content-type')).toMatch(/^text\/event-stream/);
    for (const word of ['no-cache', 'no-transform', 'private'])
      expect(headers.get('cache-control')).toContain(word);
    expect(headers.get('x-accel-buffering')).toBe('no');
    // On Fastify Nest 11 gives a stream none of the headers that an interceptor has set.
    const expected = isNest12 || platform === 'express' ? 'nosniff' : null;
    expect(headers.get('x-content-type-options')).toBe(expected);
  });

  it('answers 401 to nobody', async () => {
    const stream = await EventStream.open(here.url + EVENTS);
    expect(stream.status).toBe(401);
    expect(stream.response.headers.get('content-type')).toMatch(/json/);
  });

  it.each([
    ['expired', `expires_at = now()`],
    ['idle', `last_seen_at = now() - interval '1 hour'`],
  ])('tells of a session that is %s, which no process ends [lesson 5]', async (reason, change) => {
    const place = await start(databaseUrl, { idleTimeout: 1_800_000 });
    try {
      const client = await someoneNew(place);
      const stream = await listen(client, EVENTS, place);
      await sql(place, `UPDATE user_session SET ${change} WHERE id = $1`, [client.sessionId]);
      expect(await stream.next('ended')).toEqual({ reason, endedAt: ISO });
    } finally {
      await place.close();
    }
  });

  it('tells of a cut-off, everyone at once, and writes down each end', async () => {
    const clients = await Promise.all(Array.from({ length: 20 }, () => someoneNew(here)));
    const opened = await Promise.all(clients.map((client) => listen(client)));
    await there.app.get(SingleSessionService).endEveryone({ by: 'operator' });
    const told = await Promise.all(opened.map((stream) => stream.next('ended')));
    expect(told).toEqual(Array(20).fill({ reason: 'cut-off', endedAt: ISO }));
  });

  it('is no use of the session: it does not postpone the idle timeout', async () => {
    const client = await someoneNew(here);
    await listen(client);
    await sql(here, `UPDATE user_session SET last_seen_at = now() - interval '5 minutes' WHERE id = $1`, [
      client.sessionId,
    ]);
    log.clear();
    await eventually(looks, (count) => count >= 2);
    const writes = log.statements.filter((text) => /SET last_seen_at = now\(\)/.test(text));
    expect(writes).toEqual([]);
    await client.get('/me');
    await eventually(
      () => log.statements.some((text) => /SET last_seen_at = now\(\)/.test(text)),
      (isWritten) => isWritten,
    );
  });

  it('asks the database once a round for all streams together, and not at all when the last is closed', async () => {
    const clients = await Promise.all(Array.from({ length: 10 }, () => someoneNew(here)));
    const opened = await Promise.all(clients.map((client) => listen(client)));
    const since = performance.now();
    log.clear();
    await eventually(looks, (count) => count >= 6, 10_000);
    // From the first to the sixth are five rounds of a second. One by itself may be late, so that the next seems early.
    expect(performance.now() - since).toBeGreaterThan(4_200);
    for (const stream of opened) stream.close();
    await Promise.all(opened.map((stream) => stream.ended));
    await eventually(silence, (isSilent) => isSilent, 8_000);
  });
});

/** How often it was asked who is live, since the log was cleared. */
const looks = (): number => log.statements.filter((text) => CHECK.test(text)).length;

/** Whether for more than a round nothing was asked. */
async function silence(): Promise<boolean> {
  log.clear();
  // No event: that nothing is asked any more shows only when a round of a second has gone by.
  await new Promise((resolve) => setTimeout(resolve, 1_200));
  return log.statements.length === 0;
}

describe("an application's own server-sent events", () => {
  it.each(['ticks', 'token'])(
    'at /%s are closed when the session ends, with the reason in the last event, and their source is left [lesson 26]',
    async (path) => {
      const client = await someoneNew(here, ['user'], path === 'token' ? 'token' : 'cookie');
      const stream = await listen(client, `/streams/${path}`);
      expect(await stream.next('message')).toBe('first');
      expect(open).toBe(1);
      await endAt(there, client);
      expect(await stream.next('session-ended')).toEqual({ reason: 'admin', endedAt: ISO });
      await stream.ended;
      expect(open).toBe(0);
    },
  );

  it('complete by themselves as they did, and leave no watch behind', async () => {
    const stream = await listen(await someoneNew(here), '/streams/short');
    await stream.ended;
    expect(stream.events).toEqual([{ type: 'message', data: 'first' }]);
    await eventually(silence, (isSilent) => isSilent, 8_000);
  });

  it('are told their end past the interceptors of the route, through which its own events go', async () => {
    const client = await someoneNew(here);
    const stream = await listen(client, '/streams/translated');
    expect(await stream.next('message')).toBe('FIRST');
    await endAt(here, client);
    expect(await stream.next('session-ended')).toEqual({ reason: 'admin', endedAt: ISO });
    await stream.ended;
  });

  it('are left alone where nobody is signed in, and where a route is skipped', async () => {
    const client = await someoneNew(here);
    const anonymous = await EventStream.open(`${here.url}/streams/ticks`);
    streams.push(anonymous);
    const skipped = await listen(client, '/streams/skipped');
    const watched = await listen(client, '/streams/ticks');
    for (const stream of [anonymous, skipped, watched]) await stream.next('message');
    await endAt(here, client);
    await watched.ended;
    expect([anonymous, skipped].map(({ events }) => events.length)).toEqual([1, 1]);
  });
});

describe('whenEnded()', () => {
  it('ends a stream of any kind, which has only to be told when', async () => {
    const client = await someoneNew(here);
    const answer = await fetch(`${here.url}/streams/raw`, { headers: { cookie: client.browser.cookie! } });
    await endAt(there, client);
    expect(await answer.text()).toBe('first\nlast\n');
    expect(open).toBe(0);
  });

  it('knows a session by its id too, tells what ended before, and what nobody knows', async () => {
    const client = await someoneNew(here);
    const sessions = here.app.get(SingleSessionService);
    await endAt(there, client);
    const told: unknown[] = [];
    for (const id of [client.sessionId, '00000000-0000-4000-8000-000000000000', 'no id'])
      await sessions.whenEnded(id).forEach((end) => void told.push(end));
    expect(told).toEqual([
      { reason: 'admin', endedAt: expect.any(Date) },
      { reason: 'unknown', endedAt: null },
      { reason: 'unknown', endedAt: null },
    ]);
  });
});

it('a stream ends with the answer for it when its session cannot be verified any more', () => {
  const watch = new Subject<never>();
  const request: SessionRequest = { headers: {} };
  reach(request, { guard: { canActivate: () => true, whenEnded: () => watch } });
  setChecked(request, { id: randomUUID(), userId: 'ann' });
  const context = {
    getType: () => 'http',
    getArgByIndex: () => request,
    getHandler: () => firstOfMany,
  } as unknown as ExecutionContext;
  const before = open;
  let failure: unknown;
  const stream = STREAM_END.intercept(context, { handle: firstOfMany }) as Observable<MessageEvent>;
  stream.subscribe({ error: (error) => (failure = error) });
  expect(open).toBe(before + 1);
  watch.error(new StoreUnavailableError('The database does not answer.'));
  expect(failure).toBeInstanceOf(SessionStoreUnavailableException);
  expect(open).toBe(before);
});

describe('an application that closes', () => {
  it('closes the streams of sessions/mine/events without an end, and keeps nobody waiting', async () => {
    const place = await start(databaseUrl);
    const client = await someoneNew(place);
    const stream = await listen(client, EVENTS, place);
    const cutOff = jest.spyOn(place.app.getHttpServer() as Server, 'closeAllConnections');
    const closing = place.close();
    await stream.ended;
    // Of itself, and not because somebody has lost patience.
    expect(cutOff).not.toHaveBeenCalled();
    // The client keeps its connection, and nobody waits here until it does not.
    (place.app.getHttpServer() as Server).closeAllConnections();
    await closing;
    expect(stream.events).toEqual([]);
    expect(await client.at(here).state()).toBe('live');
  });
});

describe('with bounded freshness', () => {
  it('a login on another process is told long before the staleness is over', async () => {
    const [one, other] = [
      await start(databaseUrl, { freshness: { maxStalenessMs: 60_000 } }),
      await start(databaseUrl, { freshness: { maxStalenessMs: 60_000 } }),
    ];
    try {
      const client = await someoneNew(one);
      const stream = await listen(client, EVENTS, one);
      await Client.signIn(other, client.user);
      expect(await stream.next('ended')).toMatchObject({ reason: 'superseded' });
    } finally {
      await Promise.all([one.close(), other.close()]);
    }
  });
});

it.each([
  ['each second in strong mode', 'strong', 1_000],
  [
    'while a quarter of the staleness is left for the answer in bounded mode',
    { maxStalenessMs: 60_000 },
    45_000,
  ],
] as const)('what is open is looked after %s, whatever is told [P4]', async (_, freshness, everyMs) => {
  const place = await start(databaseUrl, { freshness });
  try {
    const { sessionId } = await someoneNew(place);
    const look = jest.spyOn(place.app.get(Sessions), 'look');
    jest.useFakeTimers({ doNotFake: ['nextTick', 'queueMicrotask', 'setImmediate'] });
    const watch = place.app.get(SingleSessionService).whenEnded(sessionId).subscribe();
    await turn();
    await look.mock.results[0]!.value;
    jest.advanceTimersByTime(everyMs - 1);
    await turn();
    expect(look).toHaveBeenCalledTimes(1);
    jest.advanceTimersByTime(1);
    await turn();
    expect(look).toHaveBeenCalledTimes(2);
    watch.unsubscribe();
  } finally {
    jest.useRealTimers();
    await place.close();
  }
});

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
