import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { Body, Controller, HttpCode, Post, Req, UseGuards } from '@nestjs/common';
import { MemoryStore, type SessionData } from 'express-session';
import { SingleSessionLogin } from '../../src/index.js';
import { LocalLoginGuard, Users, type TestApplication, type TestUser } from '../support/application.js';
import { Browser, TokenClient, type Answer } from '../support/client.js';
import { Dice } from '../support/dice.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { startProvider, type OAuthProvider } from '../support/oauth-provider.js';
import { eventually, liveSessionsOf, newUser } from '../support/sessions.js';
import { times } from '../support/store.js';
import { logIn, logOut, startWays, type Form, type UserRequest } from '../support/ways-in.js';

// Clients of two users do what clients do, by chance and several at a time, on two applications that share their database
// and their cookie sessions. After each step every live session has somebody who holds it, and nobody has too many. A walk
// that fails tells its steps; its seed gives the same steps again, though not the same order of what happens at once.

const WALKS = 5;
const STEPS = 20;

const users = new Users();

@Controller('walk')
class WalkController {
  @Post('out')
  @HttpCode(204)
  out(@Req() request: UserRequest): Promise<void> {
    return logOut(request);
  }

  @UseGuards(LocalLoginGuard)
  @SingleSessionLogin()
  @Post('in-fails')
  failsMarked(): never {
    throw new Error('after the login');
  }

  @Post('in-by-handler-fails')
  async fails(@Req() request: UserRequest, @Body() form: Form): Promise<void> {
    await logIn(request, users.checked(form));
    throw new Error('after the login');
  }

  @Post('in-keeping-info')
  async inKeepingInfo(@Req() request: UserRequest, @Body() form: Form): Promise<void> {
    await logIn(request, users.checked(form), { keepSessionInfo: true });
  }

  @Post('in-twice')
  async inTwice(@Req() request: UserRequest, @Body() form: Form): Promise<void> {
    await logIn(request, users.checked(form));
    await logIn(request, users.checked(form));
  }

  @Post('out-and-in')
  async outAndIn(@Req() request: UserRequest, @Body() form: Form): Promise<void> {
    await logOut(request);
    await logIn(request, users.checked(form));
  }

  @Post('in-as-another')
  async inAsAnother(@Req() request: UserRequest, @Body() form: Form): Promise<void> {
    await logIn(request, users.checked(form));
    await logIn(request, users.get('alice')!);
  }

  @Post('in-and-out')
  async inAndOut(@Req() request: UserRequest, @Body() form: Form): Promise<void> {
    await logIn(request, users.checked(form));
    await logOut(request);
  }
}

/** Where nobody is signed in afterwards who walks here. */
const NOBODYS = ['/walk/in-and-out', '/walk/in-as-another'];

const FORMS = [
  '/login',
  '/ways/handler',
  '/ways/guard',
  '/ways/res',
  '/walk/in-keeping-info',
  '/walk/in-twice',
  '/walk/out-and-in',
  ...NOBODYS,
  '/walk/in-fails',
  '/walk/in-by-handler-fails',
];

/** What somebody did, and how it was answered. */
interface Deed {
  by: string;
  what: string;
  status: number;
  /** The session that it must have, if nobody else did anything. */
  gained?: () => Promise<string | undefined>;
}

interface Actor {
  act(user: TestUser): Promise<Deed>;
}

/** Two applications with the same cookie sessions. */
interface Place {
  applications: TestApplication[];
  cookieSessions: MemoryStore;
  limit: number;
}

class BrowserActor implements Actor {
  readonly browser: Browser;
  constructor(
    private readonly name: string,
    { url }: TestApplication,
    private readonly store: MemoryStore,
    private readonly dice: Dice,
  ) {
    this.browser = new Browser(url);
  }

  async act({ username }: TestUser): Promise<Deed> {
    const path = this.dice.of([...FORMS, '/logout', '/walk/out', '/me']);
    if (path === '/me') return this.deed(path, await this.browser.get(path));
    if (!FORMS.includes(path)) return this.deed(path, await this.browser.post(path));
    const answer = await this.browser.login(username, path);
    const isLoggedIn = answer.status < 400 && !NOBODYS.includes(path);
    return {
      ...this.deed(`${path} as ${username}`, answer),
      ...(isLoggedIn && { gained: () => this.holds() }),
    };
  }

  /** The session that its cookie stands for. */
  async holds(): Promise<string | undefined> {
    const cookie = decodeURIComponent(this.browser.cookie ?? '');
    const [found] = Object.entries(await allOf(this.store)).filter(([sid]) => cookie.includes(sid));
    return found?.[1].singleSession;
  }

  private deed(what: string, { status }: Answer): Deed {
    return { by: this.name, what, status };
  }
}

class TokenActor implements Actor {
  private readonly client: TokenClient;
  /** The sessions of all tokens that it ever had. */
  readonly held: string[] = [];
  constructor(
    private readonly name: string,
    { url }: TestApplication,
    private readonly dice: Dice,
  ) {
    this.client = new TokenClient(url);
  }

  async act({ username }: TestUser): Promise<Deed> {
    const by = this.name;
    const what = this.dice.of(['/token', '/token/me', '/token/logout']);
    if (what === '/token/me') return { by, what, status: (await this.client.get()).status };
    if (what === '/token/logout') return { by, what, status: (await this.client.post(what)).status };
    const { status } = await this.client.login(username);
    const login = { by, what: `${what} as ${username}`, status };
    if (status >= 400) return login;
    const { sid } = this.client;
    this.held.push(sid);
    return { ...login, gained: async () => sid };
  }
}

type CookieSessions = Record<string, SessionData & { singleSession?: string }>;

const allOf = (store: MemoryStore): Promise<CookieSessions> =>
  new Promise((resolve, reject) =>
    store.all((error, sessions) =>
      error ? reject(error as Error) : resolve((sessions ?? {}) as CookieSessions),
    ),
  );

class Walk {
  private readonly dice: Dice;
  private readonly people: TestUser[];
  private readonly browsers: BrowserActor[];
  private readonly tokens: TokenActor[];
  private readonly steps: string[] = [];

  constructor(
    private readonly place: Place,
    seed: number,
  ) {
    const { applications, cookieSessions } = place;
    const dice = (this.dice = new Dice(seed));
    const at = (n: number): TestApplication => applications[n % applications.length]!;
    this.people = times(2, () => newUser({ users }));
    this.browsers = times(3, (n) => new BrowserActor(`browser ${n}`, at(n), cookieSessions, dice));
    this.tokens = times(2, (n) => new TokenActor(`token ${n}`, at(n), dice));
  }

  /** Resolves to what is wrong then, if anything. */
  async step(): Promise<string | undefined> {
    const actors: Actor[] = [...this.browsers, ...this.tokens];
    const together = times(
      this.dice.of([1, 1, 2, 3]),
      () => actors.splice(this.dice.below(actors.length), 1)[0]!,
    );
    const [often, seldom] = this.people as [TestUser, TestUser];
    const deeds = await Promise.all(
      together.map((actor) => actor.act(this.dice.below(5) > 0 ? often : seldom)),
    );
    this.steps.push(deeds.map(({ by, what, status }) => `${by}: ${what} -> ${status}`).join(', '));
    // What a browser has given up may end a moment later.
    return eventually(
      () => this.whatIsWrong(deeds),
      (wrong) => wrong === undefined,
    ).catch((error: Error) => [error.message, ...this.steps].join('\n'));
  }

  private async whatIsWrong([deed, ...others]: Deed[]): Promise<string | undefined> {
    const [application] = this.place.applications as [TestApplication];
    const held = [
      ...(await Promise.all(this.browsers.map((one) => one.holds()))),
      ...this.tokens.flatMap((one) => one.held),
    ];
    const live = await Promise.all(this.people.map((user) => liveSessionsOf(application, user)));
    if (live.some(({ length }) => length > this.place.limit)) return 'too many sessions are live';
    const gained = others.length === 0 && deed!.gained;
    if (gained && !live.flat().includes((await gained()) ?? 'none')) return 'a login has no live session';
    const idle = live.flat().find((id) => !held.includes(id));
    return idle && `nobody holds session ${idle}`;
  }
}

const MODES = [
  { onLimit: 'evict', maxSessions: 1 },
  { onLimit: 'evict', maxSessions: 2 },
  { onLimit: 'reject', maxSessions: 1 },
  { onLimit: 'reject', maxSessions: 2 },
] as const;

let databaseUrl: string;
let provider: OAuthProvider;

beforeAll(async () => {
  [databaseUrl, provider] = await Promise.all([freshDatabase(), startProvider()]);
});

afterAll(async () => {
  await provider?.stop();
  await dropDatabase(databaseUrl);
});

describe.each(MODES)(
  'whatever clients do, at most so many sessions are live, each of them held: %j',
  (options) => {
    let place: Place;

    beforeAll(async () => {
      const cookieSessions = new MemoryStore();
      const settings = {
        users,
        provider,
        options,
        session: { store: cookieSessions },
        controllers: [WalkController],
      };
      const applications = [await startWays(databaseUrl, settings), await startWays(databaseUrl, settings)];
      place = { applications, cookieSessions, limit: options.maxSessions };
    });

    afterAll(async () => {
      for (const application of place?.applications ?? []) await application.close();
    });

    it.each(times(WALKS, (n) => n))('walk %i [P1, lesson 4]', async (seed) => {
      const walk = new Walk(place, seed);
      for (let step = 0; step < STEPS; step++) expect(await walk.step()).toBeUndefined();
    });
  },
);
