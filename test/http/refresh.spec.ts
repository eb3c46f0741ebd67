import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import {
  Controller,
  HttpCode,
  Injectable,
  Post,
  Req,
  UnauthorizedException,
  UseGuards,
} from '@nestjs/common';
import { JwtService } from '@nestjs/jwt';
import { AuthGuard, PassportStrategy } from '@nestjs/passport';
import pg from 'pg';
import { ExtractJwt, Strategy } from 'passport-jwt';
import {
  CurrentSession,
  SingleSessionGuard,
  SingleSessionLogin,
  SingleSessionService,
} from '../../src/index.js';
import { contentOf, eventsOf, sql } from '../support/administration.js';
import {
  LocalGuard,
  startApplication,
  Users,
  type TestApplication,
  type TestApplicationSettings,
  type TestUser,
} from '../support/application.js';
import { Browser, TokenClient, type Answer } from '../support/client.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { eventually, liveSessionsOf, newUser, rowsOf } from '../support/sessions.js';
import { SignalLink } from '../support/signal-link.js';
import { CHECK, watchStatements, type StatementWatch } from '../support/statements.js';

// The access tokens are those of test/support/application.ts. The refresh tokens have a key of their own here; those of
// the demo have an audience of their own: test/e2e/refresh.spec.ts.

const REFRESH_SECRET = 'a secret for refresh tokens of tests only';

/** Passport's strategies are shared by all applications of a file, so its users are too. */
const users = new Users();

/** Holds a handler back after its guards, once. */
let handlerGate: { entered: () => void; opened: Promise<void> } | undefined;

@Injectable()
class RefreshStrategy extends PassportStrategy(Strategy, 'refresh') {
  constructor() {
    super({ jwtFromRequest: ExtractJwt.fromBodyField('refreshToken'), secretOrKey: REFRESH_SECRET });
  }

  validate({ username, sid }: { username: string; sid: unknown }): object {
    const user = users.get(username);
    if (user === undefined) throw new UnauthorizedException();
    return { ...user, sid };
  }
}

@Controller('pair')
class PairController {
  constructor(private readonly jwt: JwtService) {}

  @UseGuards(LocalGuard)
  @SingleSessionLogin({ credential: 'token' })
  @Post()
  @HttpCode(200)
  signIn(@Req() { user }: { user: TestUser }, @CurrentSession() session: CurrentSession): object {
    return this.issue(user, { sid: session.id });
  }

  @UseGuards(AuthGuard('refresh'))
  @Post('refresh')
  @HttpCode(200)
  async refresh(@Req() { user }: { user: TestUser }, @CurrentSession() session: CurrentSession) {
    const gate = handlerGate;
    handlerGate = undefined;
    gate?.entered();
    await gate?.opened;
    return this.issue(user, { sid: session.id });
  }

  /** Where the guard is not global. */
  @UseGuards(AuthGuard('refresh'), SingleSessionGuard)
  @Post('refresh/guarded')
  @HttpCode(200)
  guarded(@Req() { user }: { user: TestUser }, @CurrentSession() session: CurrentSession): object {
    return this.issue(user, { sid: session.id });
  }

  issue(user: TestUser, claims: object, expiresIn = 60): object {
    const payload = { sub: String(user.id), username: user.username, roles: user.roles, ...claims };
    return {
      accessToken: this.jwt.sign(payload),
      refreshToken: this.jwt.sign(payload, { secret: REFRESH_SECRET, expiresIn }),
    };
  }
}

/** A client with two tokens. */
class Pair {
  constructor(
    readonly url: string,
    readonly accessToken: string,
    readonly refreshToken: string,
  ) {}

  static async signIn(application: TestApplication, { username }: TestUser): Promise<Pair> {
    return Pair.of(application, await new Browser(application.url).login(username, '/pair'));
  }

  /** What an answer has brought. */
  static of({ url }: { url: string }, { status, body }: Answer): Pair {
    if (status !== 200) throw new Error(`It brought no tokens: ${status} ${JSON.stringify(body)}`);
    return new Pair(url, body.accessToken, body.refreshToken);
  }

  get sid(): string {
    return claimsOf(this.accessToken)['sid'] as string;
  }

  /** The same tokens at another process. */
  at({ url }: TestApplication): Pair {
    return new Pair(url, this.accessToken, this.refreshToken);
  }

  me(): Promise<Answer> {
    return new TokenClient(this.url, this.accessToken).get();
  }

  refresh(): Promise<Answer> {
    return refresh({ url: this.url }, this.refreshToken);
  }

  /** The tokens that a refresh gives. */
  async refreshed(): Promise<Pair> {
    return Pair.of(this, await this.refresh());
  }

  logout(): Promise<Answer> {
    return new TokenClient(this.url, this.accessToken).post('/token/logout');
  }
}

const refresh = ({ url }: { url: string }, refreshToken: unknown): Promise<Answer> =>
  new Browser(url).post('/pair/refresh', { refreshToken });

const claimsOf = (token: string): Record<string, unknown> =>
  JSON.parse(Buffer.from(token.split('.')[1]!, 'base64url').toString());

const outcome = ({ status, body }: Answer) => ({ status, code: body?.code, reason: body?.reason });
const ended = (reason: string) => ({ status: 401, code: 'SESSION_ENDED', reason });
const SUPERSEDED = ended('superseded');
const NOT_AUTHENTICATED = { status: 401, code: undefined, reason: undefined };
const UNKNOWN = { status: 401, code: 'SESSION_UNKNOWN', reason: undefined };

const outcomesOf = async (pair: Pair): Promise<object[]> =>
  (await Promise.all([pair.me(), pair.refresh()])).map(outcome);

let databaseUrl: string;
let watch: StatementWatch;
/** Two processes with a limit of one. */
let one: TestApplication;
let two: TestApplication;
let user: TestUser;
const others: TestApplication[] = [];

beforeAll(async () => {
  databaseUrl = await freshDatabase();
  watch = await watchStatements(databaseUrl);
  [one, two] = [await launch({}), await launch({})];
});

beforeEach(() => {
  user = newUser({ users });
});

afterEach(async () => {
  for (const application of others.splice(0)) await application.close();
});

afterAll(async () => {
  await one?.close();
  await two?.close();
  await watch?.stop();
  await dropDatabase(databaseUrl);
});

const launch = (
  options: NonNullable<TestApplicationSettings['options']>,
  url = databaseUrl,
  settings: TestApplicationSettings = {},
): Promise<TestApplication> =>
  startApplication(url, {
    users,
    options,
    controllers: [PairController],
    providers: [RefreshStrategy],
    ...settings,
  });

async function start(...given: Parameters<typeof launch>): Promise<TestApplication> {
  const application = await launch(...given);
  others.push(application);
  return application;
}

const issue = ({ app }: TestApplication, of: TestUser, claims: object, expiresIn?: number) =>
  app.get(PairController).issue(of, claims, expiresIn) as { accessToken: string; refreshToken: string };

describe('a refresh', () => {
  it.each([1, 2])(
    'is no login where %d may be signed in: nothing is written, nothing is told, and the session keeps its place',
    async (maxSessions) => {
      // More logins than that in a minute would be a storm.
      const application = await start({
        maxSessions,
        storm: { threshold: maxSessions + 1, windowMs: 60_000 },
      });
      const pairs: Pair[] = [];
      for (let n = 0; n < maxSessions; n++) pairs.push(await Pair.signIn(application, user));
      const events = eventsOf(application);
      const before = await contentOf(application);
      for (let n = 0; n < 5; n++) expect((await pairs[0]!.refreshed()).sid).toBe(pairs[0]!.sid);
      expect(await contentOf(application)).toBe(before);
      expect(events).toEqual([]);

      // Of two sessions the one that was refreshed is still the older one.
      const winner = await Pair.signIn(application, user);
      expect(await outcomesOf(pairs[0]!)).toEqual([SUPERSEDED, SUPERSEDED]);
      expect(await liveSessionsOf(application, user)).toEqual(
        [...pairs.slice(1), winner].map(({ sid }) => sid),
      );
      expect(events.map(({ type }) => type)).not.toContain('storm');
    },
  );

  it('is one statement on the wire, which checks', async () => {
    const application = await launch({}, watch.url);
    try {
      const pair = await Pair.signIn(application, user);
      watch.clear();
      await pair.refreshed();
    } finally {
      // Whatever it has still to write is written then.
      await application.close();
    }
    expect(watch.statements).toEqual([expect.stringMatching(CHECK)]);
  });

  it('is no login for an exempt user either', async () => {
    const application = await start({ exempt: { roles: ['service'] } });
    const worker = newUser({ users }, { roles: ['service'] });
    const pairs = [await Pair.signIn(application, worker), await Pair.signIn(application, worker)];
    for (const pair of pairs) await pair.refreshed();
    expect(await liveSessionsOf(application, worker)).toEqual(pairs.map(({ sid }) => sid));
  });

  it('needs no room where a login is rejected', async () => {
    const application = await start({ onLimit: 'reject' });
    const pair = await Pair.signIn(application, user);
    expect((await new Browser(application.url).login(user.username, '/pair')).status).toBe(409);
    expect((await (await pair.refreshed()).me()).status).toBe(200);
  });

  it('signs what the user is now: other roles are in the new token and in the record, and who is gone gets none [lesson 30]', async () => {
    const pair = await Pair.signIn(one, user);
    users.set(user.username, { ...user, roles: ['editor'] });
    const { accessToken } = await pair.refreshed();
    expect(claimsOf(accessToken)['roles']).toEqual(['editor']);
    expect((await rowsOf(one, user)).map(({ roles }) => roles)).toEqual([['editor']]);
    users.delete(user.username);
    expect(outcome(await pair.refresh())).toEqual(NOT_AUTHENTICATED);
  });

  it('does not lengthen the session, which ends at its maxAge although the refresh token has not expired', async () => {
    const pair = await Pair.signIn(one, user);
    const last = await pair.refreshed();
    await sql(one, "UPDATE user_session SET expires_at = now() - interval '1 s' WHERE id = $1", [pair.sid]);
    for (const each of [pair, last])
      expect(await outcomesOf(each)).toEqual([ended('expired'), ended('expired')]);
  });

  it('counts as use: it keeps a session from becoming idle, and comes too late once it is', async () => {
    const idleTimeout = 60_000;
    const application = await start({ idleTimeout });
    const pair = await Pair.signIn(application, user);
    const pass = (ms: number): Promise<unknown> =>
      sql(
        application,
        "UPDATE user_session SET last_seen_at = last_seen_at - $1::int * interval '1 ms' WHERE id = $2",
        [ms, pair.sid],
      );
    const idleFor = async (): Promise<number> =>
      Date.now() - (await rowsOf(one, user))[0]!.lastSeenAt.getTime();

    await pass(idleTimeout - 10_000);
    await pair.refreshed();
    await eventually(idleFor, (ms) => ms < 10_000);
    await pass(idleTimeout - 10_000);
    expect((await pair.refresh()).status).toBe(200);
    await eventually(idleFor, (ms) => ms < 10_000);
    await pass(idleTimeout + 1_000);
    expect(await outcomesOf(pair)).toEqual([ended('idle'), ended('idle')]);
  });

  it('gets 503 and no 401 while the database cannot answer, so that no client throws its token away [P5]', async () => {
    const application = await start({}, watch.url);
    const pair = await Pair.signIn(application, user);
    await watch.cut();
    const answer = await pair.refresh();
    await watch.restore();
    expect(answer.status).toBe(503);
    expect(answer.headers.get('retry-after')).toBe('1');
    expect((await pair.refresh()).status).toBe(200);
  });
});

describe('the end of a session', () => {
  const service = (): SingleSessionService => one.app.get(SingleSessionService);
  const ENDS: [reason: string, how: string, end: (pair: Pair) => Promise<unknown>][] = [
    ['superseded', 'a login elsewhere', () => Pair.signIn(two, user)],
    ['logout', 'its own logout', (pair) => pair.logout()],
    ['admin', 'an administrator, by session', ({ sid }) => service().end(sid)],
    ['admin', 'an administrator, by user', () => service().endUser(user.id)],
    ['cut-off', 'a log-out of everyone', () => service().endEveryone()],
    [
      'expired',
      'its maxAge',
      ({ sid }) => sql(one, 'UPDATE user_session SET expires_at = now() WHERE id = $1', [sid]),
    ],
  ];

  it.each(ENDS)(
    '(%s, by %s) ends both tokens and those that were refreshed, on each process, and a refresh brings nothing back [lessons 15 and 17, S14, P2]',
    async (reason, _, end) => {
      const pair = await Pair.signIn(one, user);
      const pairs = [pair, await pair.refreshed(), await pair.at(two).refreshed()];
      await end(pair);
      const live = await liveSessionsOf(one, user);
      expect(live).not.toContain(pair.sid);
      for (const each of pairs.flatMap((some) => [some.at(one), some.at(two)]))
        expect(await outcomesOf(each)).toEqual([ended(reason), ended(reason)]);
      expect(await liveSessionsOf(one, user)).toEqual(live);
    },
  );

  it('is told to a refresh in the body of a 401, and challenges nobody who brought no bearer token', async () => {
    const pair = await Pair.signIn(one, user);
    await service().end(pair.sid);
    const answer = await pair.refresh();
    expect(answer.body).toMatchObject({ statusCode: 401, endedAt: expect.any(String) });
    expect(answer.headers.get('www-authenticate')).toBeNull();
    expect((await pair.me()).headers.get('www-authenticate')).toBe('Bearer error="invalid_token"');
  });

  it('is what the loser is told at each refresh, and the winner goes on [P3]', async () => {
    const loser = await Pair.signIn(one, user);
    const winner = await Pair.signIn(one, user);
    for (let n = 0; n < 3; n++) expect(outcome(await loser.refresh())).toEqual(SUPERSEDED);
    expect(await liveSessionsOf(one, user)).toEqual([winner.sid]);
    expect((await (await winner.refreshed()).me()).status).toBe(200);
  });
});

describe('parallel refreshes', () => {
  const PARALLEL = 16;
  const ROUNDS = 8;

  /** At both processes, with one and the same token. */
  const refreshAtOnce = (pair: Pair): Promise<Answer>[] =>
    Array.from({ length: PARALLEL }, (_, index) => pair.at(index % 2 ? one : two).refresh());

  it('of one client all succeed, all their tokens work, and it is still the one session', async () => {
    const pair = await Pair.signIn(one, user);
    const before = await contentOf(one);
    const answers = await Promise.all(refreshAtOnce(pair));
    const pairs = answers.map((answer) => Pair.of(one, answer));
    for (const each of pairs) {
      expect((await each.me()).body.session.id).toBe(pair.sid);
      expect((await each.refresh()).status).toBe(200);
    }
    expect(await contentOf(one)).toBe(before);
  });

  it(`beside a login elsewhere leave that login alone and nothing else, whichever came first, in each of ${ROUNDS} rounds [lesson 15, S13, P2]`, async () => {
    for (let round = 0; round < ROUNDS; round++) {
      user = newUser({ users });
      const pair = await Pair.signIn(one, user);
      const early = round % 2 ? refreshAtOnce(pair) : [];
      const login = Pair.signIn(two, user);
      const late = round % 2 ? [] : refreshAtOnce(pair);
      const [winner, answers] = [await login, await Promise.all([...early, ...late])];
      const given = answers.filter(({ status }) => status === 200).map((answer) => Pair.of(one, answer));
      const refused = answers.filter(({ status }) => status !== 200).map(outcome);
      const outcomes = [...refused, ...(await Promise.all(given.map(outcomesOf))).flat()];
      expect(outcomes).toEqual(outcomes.map(() => SUPERSEDED));
      expect(await liveSessionsOf(one, user)).toEqual([winner.sid]);
    }
  });
});

describe('a refresh that an eviction overtakes', () => {
  it('after its check may finish, and its tokens are dead when they arrive [S13, P2]', async () => {
    const pair = await Pair.signIn(one, user);
    let open!: () => void;
    const entered = new Promise<void>((resolve) => {
      handlerGate = { entered: resolve, opened: new Promise((opened) => (open = opened)) };
    });
    const overtaken = pair.refreshed();
    await entered;
    const winner = await Pair.signIn(two, user);
    open();
    expect(await outcomesOf(await overtaken)).toEqual([SUPERSEDED, SUPERSEDED]);
    expect(await liveSessionsOf(one, user)).toEqual([winner.sid]);
  });

  it('waits for no login: its tokens work until that is committed, and not a moment longer', async () => {
    const pair = await Pair.signIn(one, user);
    const [holder, observer] = [new pg.Client(databaseUrl), new pg.Client(databaseUrl)];
    await Promise.all([holder.connect(), observer.connect()]);
    try {
      await holder.query('BEGIN');
      await holder.query('SELECT FROM user_session_slots WHERE user_id = $1 FOR UPDATE', [String(user.id)]);
      const login = Pair.signIn(two, user);
      await eventually(
        () => waitingForLocks(observer),
        (count) => count === 1,
      );
      const last = await pair.refreshed();
      expect((await last.me()).status).toBe(200);
      await holder.query('COMMIT');
      const winner = await login;
      expect(await outcomesOf(last)).toEqual([SUPERSEDED, SUPERSEDED]);
      expect((await winner.me()).status).toBe(200);
    } finally {
      await holder.end();
      await observer.end();
    }
  });

  async function waitingForLocks(observer: pg.Client): Promise<number> {
    const { rows } = await observer.query<{ count: number }>(
      "SELECT count(*)::int FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'",
    );
    return rows[0]!.count;
  }
});

describe('what is no refresh token', () => {
  it('is answered with a plain 401, whether it is forged, expired, of the other kind or nothing at all [S15]', async () => {
    const pair = await Pair.signIn(one, user);
    const [header, payload] = pair.refreshToken.split('.') as [string, string];
    const unsigned = Buffer.from('{"alg":"none","typ":"JWT"}').toString('base64url');
    const given: unknown[] = [
      pair.accessToken,
      issue(one, user, { sid: pair.sid }, -1).refreshToken,
      `${unsigned}.${payload}.`,
      `${header}.${payload}.`,
      [pair.refreshToken],
      { toString: pair.refreshToken },
      '',
      7,
      undefined,
    ];
    for (const token of given) expect(outcome(await refresh(one, token))).toEqual(NOT_AUTHENTICATED);
    expect((await new TokenClient(one.url, pair.refreshToken).get()).status).toBe(401);
    expect((await pair.refresh()).status).toBe(200);
  });

  it("is one with another user's session, which goes on [S15]", async () => {
    const owner = await Pair.signIn(one, user);
    const thief = newUser({ users });
    const { refreshToken } = issue(one, thief, { sid: owner.sid });
    expect(outcome(await refresh(one, refreshToken))).toEqual(ended('unknown'));
    expect((await owner.refresh()).status).toBe(200);
  });
});

describe('a refresh token without sid', () => {
  it.each(['reject', 'adopt'] as const)(
    "is refused as unknown where unregistered is '%s', and nothing is recorded [lesson 32, S15]",
    async (unregistered) => {
      const application = await start({ unregistered });
      const { refreshToken } = issue(application, user, {});
      expect(outcome(await refresh(application, refreshToken))).toEqual(UNKNOWN);
      expect(await rowsOf(application, user)).toEqual([]);
    },
  );

  it.each([
    ['/pair/refresh', true],
    ['/pair/refresh/guarded', false],
  ])(
    "is not adopted at %s beside somebody else's cookie session of before (global guard: %s) [S15]",
    async (path, enforceGlobally) => {
      const application = await start({ unregistered: 'adopt', enforceGlobally });
      const browser = new Browser(application.url);
      expect((await browser.login(newUser({ users }).username)).status).toBe(200);
      await makeOlderThanTheModule(application, browser);
      const { refreshToken } = issue(application, user, {});
      expect((await browser.post(path, { refreshToken })).status).toBe(401);
      expect(await rowsOf(application, user)).toEqual([]);
    },
  );

  /** Takes out of the cookie session what is ours. */
  async function makeOlderThanTheModule(
    { cookieSessions }: TestApplication,
    { cookie }: Browser,
  ): Promise<void> {
    const id = decodeURIComponent(cookie!)
      .replace(/^[^=]+=(s:)?/, '')
      .split('.', 1)[0]!;
    const found = await new Promise<object>((resolve, reject) =>
      cookieSessions.get(id, (error, session) => (session ? resolve(session) : reject(error as Error))),
    );
    const { singleSession, ...rest } = found as { singleSession?: string };
    if (singleSession === undefined) throw new Error('It was no session of ours.');
    await new Promise((resolve) => cookieSessions.set(id, rest as never, resolve));
  }
});

describe('with bounded freshness', () => {
  const LONG = { maxStalenessMs: 60_000 };
  let link: SignalLink;

  beforeEach(async () => {
    link = await SignalLink.open(databaseUrl);
  });

  afterEach(async () => {
    for (const application of others.splice(0)) await application.close();
    await link.cut();
  });

  it('a refresh of a session that is remembered asks the database nothing', async () => {
    const application = await start({ freshness: LONG }, watch.url);
    const pair = await Pair.signIn(application, user);
    await pair.me();
    watch.clear();
    for (let n = 0; n < 5; n++) await pair.refreshed();
    expect(watch.statements.filter((text) => text !== 'SELECT 1')).toEqual([]);
  });

  it('is refused at another process as soon as that is told of the eviction', async () => {
    const [near, far] = [await start({ freshness: LONG }), await start({ freshness: LONG }, link.url)];
    const pair = await Pair.signIn(near, user);
    const last = await pair.at(far).refreshed();
    await Pair.signIn(near, user);
    await eventually(
      () => last.refresh(),
      ({ status }) => status === 401,
    );
    expect(await outcomesOf(last)).toEqual([SUPERSEDED, SUPERSEDED]);
  });

  it('gives a process that is told nothing tokens that are no fresher than what it remembers, and dead everywhere else [P4]', async () => {
    const maxStalenessMs = 2_000;
    const [near, far] = [
      await start({ freshness: { maxStalenessMs } }),
      await start({ freshness: { maxStalenessMs } }, link.url),
    ];
    const pair = await Pair.signIn(near, user);
    await pair.at(far).refreshed();
    link.throwsAway = true;
    const winner = await Pair.signIn(near, user);
    const evictedAt = performance.now();
    const lent = await pair.at(far).refreshed();
    expect((await lent.me()).status).toBe(200);
    expect(await outcomesOf(lent.at(near))).toEqual([SUPERSEDED, SUPERSEDED]);

    // Each refresh brings new tokens; none of them brings more time.
    let [newest, acceptedAt] = [lent, evictedAt];
    for (;;) {
      const sentAt = performance.now();
      const answer = await newest.refresh();
      if (answer.status !== 200) break;
      [newest, acceptedAt] = [Pair.of(far, answer), sentAt];
    }
    expect(acceptedAt - evictedAt).toBeLessThan(maxStalenessMs);
    expect(await outcomesOf(newest)).toEqual([SUPERSEDED, SUPERSEDED]);
    expect(await liveSessionsOf(far, user)).toEqual([winner.sid]);
  });
});
