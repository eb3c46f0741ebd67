import { AsyncLocalStorage, AsyncResource } from 'node:async_hooks';
import { EventEmitter, once } from 'node:events';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { Controller, Get, HttpCode, Post, Req, Sse, type MessageEvent } from '@nestjs/common';
import { MemoryStore } from 'express-session';
import { filter, finalize, NEVER, type Observable } from 'rxjs';
import { SingleSessionEvents } from '../../src/index.js';
import { ADMIN, ADMIN_OPTIONS, Client, someoneNew, sql } from '../support/administration.js';
import { Browser } from '../support/client.js';
import { startApplication, Users, type TestApplication } from '../support/application.js';
import { EventStream } from '../support/event-stream.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { nodeResponseOf, runBefore, type PlatformResponse } from '../support/platform.js';
import { newUser } from '../support/sessions.js';
import { CHECK } from '../support/statements.js';
import { times } from '../support/store.js';
import type { UserRequest } from '../support/ways-in.js';

/** What nestjs-cls, OpenTelemetry and the like keep of a request for whatever it calls. */
interface Context {
  url: string;
  isOver: boolean;
}

interface Ran {
  sql: string;
  context: Context | undefined;
}

const contexts = new AsyncLocalStorage<Context>();
const statements = new EventEmitter<{ run: [Ran] }>();

/** Where the next statement of this kind runs. */
async function nextRun(pattern: RegExp): Promise<Ran> {
  for (;;) {
    const [ran] = (await once(statements, 'run')) as [Ran];
    if (pattern.test(ran.sql)) return ran;
  }
}

const says = (): void => undefined;
const logger = {
  logQuery: (text: string) => void statements.emit('run', { sql: text, context: contexts.getStore() }),
  logQueryError: says,
  logQuerySlow: says,
  logSchemaBuild: says,
  logMigration: says,
  log: says,
};

function keepContext(app: TestApplication['app']): void {
  runBefore(app, (request: { url: string }, response: PlatformResponse, next: () => void) => {
    const context = { url: request.url, isOver: false };
    nodeResponseOf(response).once('close', () => (context.isOver = true));
    contexts.run(context, next);
  });
}

type Callback = (error?: unknown) => void;

/** Calls back as a driver does that has one connection for all: not in the context of whoever asked. */
class SharedConnection extends MemoryStore {
  private readonly elsewhere = contexts.run(
    { url: 'elsewhere', isOver: true },
    () => new AsyncResource('test'),
  );

  override set(...[id, session, done]: Parameters<MemoryStore['set']>): void {
    super.set(id, session, this.fromElsewhere(done));
  }

  override destroy(id: string, done?: Callback): void {
    super.destroy(id, this.fromElsewhere(done));
  }

  private fromElsewhere(done?: Callback): Callback {
    return (error) => this.elsewhere.runInAsyncScope(() => done?.(error));
  }
}

@Controller('context')
class ContextController {
  @Post('in/:name')
  @HttpCode(200)
  logIn(@Req() request: UserRequest): Promise<void> {
    const user = users.get(String(request.params['name']))!;
    return new Promise((resolve, reject) =>
      request.logIn(user, (error: unknown) => (error ? reject(error as Error) : resolve())),
    );
  }

  @Post('out')
  @HttpCode(200)
  logOut(@Req() request: UserRequest): Promise<void> {
    return new Promise((resolve, reject) =>
      request.logout((error: unknown) => (error ? reject(error as Error) : resolve())),
    );
  }

  @Get(':name')
  context(): object {
    return { ...contexts.getStore() };
  }

  @Sse('of/a/stream')
  stream(): Observable<MessageEvent> {
    return NEVER.pipe(finalize(() => closedIn.push(contexts.getStore()?.url)));
  }
}

const STREAM = '/context/of/a/stream';
const EVENTS = '/sessions/mine/events';

const MARKS = /^WITH due AS[^]*unnest\(\$1::text\[\]\)/;
const SEEN = /SET last_seen_at = now\(\)/;
const SWEEPS = /SKIP LOCKED[^]*DELETE|DELETE[^]*SKIP LOCKED/;
const TELLS = /pg_notify/;
/** Of no request: it is done for several, or when none is there any more. */
const NOBODY = { context: undefined };

let databaseUrl: string;
const users = new Users();
const closedIn: (string | undefined)[] = [];
const limitAskedIn: [string, string | undefined][] = [];
let strong: TestApplication;
let bounded: TestApplication;

beforeAll(async () => {
  databaseUrl = await freshDatabase();
  strong = await start({
    maxSessions: ({ username }: { username: string }) => {
      limitAskedIn.push([username, contexts.getStore()?.url]);
      return 1;
    },
  });
  bounded = await start({ freshness: { maxStalenessMs: 2_000 } });
});

afterAll(async () => {
  await strong?.close();
  await bounded?.close();
  await dropDatabase(databaseUrl);
});

const start = (options: object): Promise<TestApplication> =>
  startApplication(databaseUrl, {
    users,
    options: { ...ADMIN_OPTIONS, ...options } as never,
    controllers: [ContextController],
    configure: keepContext,
    session: { store: new SharedConnection() },
    typeorm: { logging: ['query'], logger },
  });

const listen = async ({ browser }: Client, path: string): Promise<EventStream> =>
  EventStream.open(strong.url + path, { cookie: browser.cookie! });

describe('of many requests at once', () => {
  it('each keeps its own context through the check that it shares, with its own user in the options', async () => {
    for (const place of [strong, bounded]) {
      const clients = await Promise.all(times(20, () => someoneNew(place)));
      for (let round = 0; round < 3; round++) {
        limitAskedIn.length = 0;
        const answers = await Promise.all(
          clients.map(({ user, browser }) => browser.get(`/context/${user.username}`)),
        );
        expect(answers.map(({ body }) => body.url)).toEqual(
          clients.map(({ user }) => `/context/${user.username}`),
        );
        for (const [username, url] of limitAskedIn) expect(url).toBe(`/context/${username}`);
      }
    }
  });

  it('the statement that checks runs in the context of one that waits for it, however long others have gone on before', async () => {
    const clients = await Promise.all(times(20, () => someoneNew(strong)));
    const checks: { isOver: boolean | undefined }[] = [];
    const note = ({ sql: text, context }: Ran): void => {
      if (CHECK.test(text)) checks.push({ isOver: context?.isOver });
    };
    statements.on('run', note);
    await Promise.all(
      clients.map(async ({ browser }) => {
        for (let n = 0; n < 10; n++) await browser.get('/me');
      }),
    );
    statements.off('run', note);
    expect(checks.length).toBeGreaterThan(1);
    expect(checks.filter(({ isOver }) => isOver !== false)).toEqual([]);
  });
});

describe('runs in the context of no request', () => {
  it('what marks the sessions that logins evicted, and who is told of their end', async () => {
    const first = await someoneNew(strong);
    const toldIn = new Promise<Context | undefined>((resolve) => {
      strong.app
        .get(SingleSessionEvents)
        .on('ended')
        .pipe(filter(({ sessionId }) => sessionId === first.sessionId))
        .subscribe(() => resolve(contexts.getStore()));
    });
    const marking = nextRun(MARKS);
    await Client.signIn(strong, first.user);
    expect(await marking).toMatchObject(NOBODY);
    expect(await toldIn).toBeUndefined();
  });

  it('what writes when sessions were last used', async () => {
    const client = await someoneNew(strong);
    const anHourAgo = `UPDATE user_session SET last_seen_at = now() - interval '1 hour' WHERE id = $1`;
    await sql(strong, anHourAgo, [client.sessionId]);
    const writing = nextRun(SEEN);
    await client.get('/me');
    expect(await writing).toMatchObject(NOBODY);
  });

  it('what looks after streams, which asks for the limit of each in its own', async () => {
    const [one, other] = [await someoneNew(strong), await someoneNew(strong)];
    const ofOne = await listen(one, STREAM);
    const ofOther = await listen(other, EVENTS);
    await ofOther.beat();
    await nextRun(CHECK);
    limitAskedIn.length = 0;
    expect(await nextRun(CHECK)).toMatchObject(NOBODY);
    expect(limitAskedIn).toEqual([
      [one.user.username, STREAM],
      [other.user.username, EVENTS],
    ]);
    // Nor does it go on in that of the stream that was there first.
    ofOne.close();
    expect(await nextRun(CHECK)).toMatchObject(NOBODY);
    ofOther.close();
  });

  it('what sweeps after an administrator has logged everyone out', async () => {
    const admin = await someoneNew(strong, ['superadmin']);
    const sweeping = nextRun(SWEEPS);
    await admin.post(`${ADMIN}/logout-everyone`);
    expect(await sweeping).toMatchObject(NOBODY);
  });

  it('what tells other processes', async () => {
    const { user } = await someoneNew(bounded);
    const telling = nextRun(TELLS);
    await Client.signIn(bounded, user);
    expect(await telling).toMatchObject(NOBODY);
  });
});

it('a stream is closed in its own context, whoever has ended its session', async () => {
  const client = await someoneNew(strong);
  const stream = await listen(client, STREAM);
  closedIn.length = 0;
  await (await someoneNew(strong, ['superadmin'])).delete(`${ADMIN}/${client.sessionId}`);
  await stream.ended;
  expect(closedIn).toEqual([STREAM]);
});

it('a login and a logout of Passport run in the context of their request, wherever the store of cookie sessions calls back', async () => {
  const { username } = newUser(strong);
  const browser = new Browser(strong.url);
  limitAskedIn.length = 0;
  expect((await browser.post(`/context/in/${username}`)).status).toBe(200);
  const ending = nextRun(/^WITH own AS/);
  expect((await browser.post('/context/out')).status).toBe(200);
  expect((await ending).context?.url).toBe('/context/out');
  expect(new Set(limitAskedIn.map(([, url]) => url))).toEqual(
    new Set([`/context/in/${username}`, '/context/out']),
  );
});
