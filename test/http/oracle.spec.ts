import { deepStrictEqual } from 'node:assert';
import { randomUUID } from 'node:crypto';
import { isDeepStrictEqual } from 'node:util';
import { afterAll, beforeAll, describe, it } from '@jest/globals';
import { MemoryStore } from 'express-session';
import { firstValueFrom } from 'rxjs';
import {
  SingleSessionEvents,
  SingleSessionService,
  type EndReason,
  type FreshnessSettings,
  type SingleSessionEvent,
} from '../../src/index.js';
import { AdministrationStore } from '../../src/session/administration-store.js';
import { Bookkeeper } from '../../src/session/bookkeeper.js';
import { Freshness } from '../../src/session/freshness.js';
import { Sweeper } from '../../src/session/sweeper.js';
import { topicOf } from '../../src/session/verdicts.js';
import { ADMIN, ADMIN_OPTIONS, sql } from '../support/administration.js';
import { startApplication, Users, type TestApplication, type TestUser } from '../support/application.js';
import { Browser, TokenClient, type Answer } from '../support/client.js';
import { Dice } from '../support/dice.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { eventually } from '../support/sessions.js';
import {
  CODE,
  Oracle,
  type Caller,
  type Everyone,
  type ExemptionKind,
  type Logout,
  type Person,
  type Rules,
  type Session,
} from './oracle.js';

// Whatever happens by chance to the sessions of six people on two applications, one thing after the other, an oracle in
// memory says beforehand: the answer, and then the list, the summary, the limits, the events and the record. A walk that
// fails tells its steps; its seed gives the same again. Where the applications remember what was live, for longer than the
// walk lasts, each step waits until both have heard of the one before: a change that one does not tell is met as a wrong yes.

const STEPS = 120;
const A_DAY_MS = 86_400_000;
const WINDOW_MS = 3_600_000;
/** The longest that there is. */
const AN_HOUR: FreshnessSettings = { maxStalenessMs: 3_600_000 };
/** Larger than any limit. */
const UNLIMITED = 1_000;

const RULES: Omit<Rules, 'onLimit' | 'logoutEverywhere'> = {
  exempt: { usernames: ['fixed'], roles: ['service'] },
  admin: { roles: ['admin'], superRoles: ['superadmin'] },
  stormThreshold: 3,
};
const ROLES = [['user'], ['user', 'editor'], ['admin'], ['superadmin'], ['admin', 'editor'], ['service'], []];

const users = new Users();
const limits = new Map<string, Person>();

/** Two applications with the same database and the same cookie sessions. */
class World {
  readonly applications: TestApplication[] = [];
  readonly events: SingleSessionEvent[] = [];
  private readonly cookieSessions = new MemoryStore();

  constructor(
    private readonly databaseUrl: string,
    readonly rules: Rules,
    readonly freshness: 'strong' | FreshnessSettings,
  ) {}

  async start(place: number): Promise<void> {
    const { onLimit, logoutEverywhere, exempt, admin, stormThreshold } = this.rules;
    const application = await startApplication(this.databaseUrl, {
      users,
      session: { store: this.cookieSessions },
      options: {
        ...ADMIN_OPTIONS,
        admin: { ...ADMIN_OPTIONS.admin, ...admin },
        maxSessions: ({ username }: TestUser) => limits.get(username)!.limit,
        onLimit,
        logoutEverywhere,
        exempt,
        idleTimeout: A_DAY_MS,
        freshness: this.freshness,
        storm: { threshold: stormThreshold, windowMs: WINDOW_MS },
      },
    });
    application.app.get(SingleSessionEvents).all.subscribe((event) => void this.events.push(event));
    this.applications[place] = application;
  }

  sql<Row>(text: string, parameters: unknown[] = []): Promise<Row[]> {
    return sql<Row>(this.applications[0]!, text, parameters);
  }

  /** What is written in the background is written then. */
  async settle(): Promise<void> {
    for (const { app } of this.applications) await app.get(Bookkeeper).close();
  }

  /** Everybody has heard what everybody tells: a process tells one thing after the other. */
  async told(): Promise<void> {
    for (const from of this.memories)
      for (const to of this.memories.filter((other) => other !== from)) await hears(to, from);
  }

  /** What no process did. */
  forget(): void {
    for (const memory of this.memories) memory.heard('everything');
  }

  private get memories(): Freshness[] {
    return this.freshness === 'strong' ? [] : this.applications.map(({ app }) => app.get(Freshness));
  }

  async close(): Promise<void> {
    for (const application of this.applications) await application.close();
  }
}

async function hears(to: Freshness, from: Freshness): Promise<void> {
  const nobody = randomUUID();
  for (;;) {
    const changes = firstValueFrom(to.changes);
    from.changed([nobody]);
    const heard = await changes;
    // Together with a change of everything it is not told by itself.
    if (heard !== 'everything' && heard.has(topicOf(nobody))) return;
  }
}

/** With how likely it is. */
type Act = [number, () => Promise<void> | void];

class Walk {
  private readonly dice: Dice;
  private readonly oracle: Oracle;
  private readonly people: Person[];
  private readonly browsers = new Map<Session, Browser>();
  private readonly steps: string[] = [];

  constructor(
    private readonly world: World,
    private readonly seed: number,
  ) {
    this.dice = new Dice(seed);
    this.people = [
      this.person('ann', ['user'], 2),
      this.person('ben', ['user', 'editor'], 1),
      this.person('admin', ['admin'], 2),
      this.person('root', ['superadmin'], 3),
      this.person('worker', ['service'], 1),
      this.person('fixed', ['user'], 1),
    ];
    this.oracle = new Oracle(world.rules, this.people);
  }

  private person(name: string, roles: string[], limit: number): Person {
    const username = name === 'fixed' ? name : `${name}${this.seed}`;
    const person = { id: `${name} of ${this.seed}`, username, roles, limit };
    users.set(username, person);
    limits.set(username, person);
    return person;
  }

  async step(): Promise<void> {
    const acts: Act[] = [
      [20, () => this.tokenLogin()],
      [12, () => this.cookieLogin()],
      [12, () => this.request()],
      [6, () => this.verify()],
      [6, () => this.logout()],
      [4, () => this.endByCode()],
      [4, () => this.endSession()],
      [5, () => this.logoutUsers()],
      [6, () => this.logoutEveryone()],
      [5, () => this.exempt()],
      [9, () => this.change()],
      [2, () => this.timeOut()],
      [2, () => this.retentionEnds()],
      [2, () => this.windowsPass()],
      [3, () => this.ownSessions()],
      [3, () => this.sweep()],
      [1, () => this.restart()],
      ...(this.world.freshness === 'strong' ? [] : [[40, () => this.everybody()] as Act]),
    ];
    let place = this.dice.below(acts.reduce((sum, [weight]) => sum + weight, 0));
    await acts.find(([weight]) => (place -= weight) < 0)![1]();
    await this.expectAsForeseen();
    await this.world.told();
  }

  /** Everybody asks once more, and everything is swept: then each end has been told, once. */
  async end(): Promise<void> {
    for (const session of this.oracle.sessions) await this.verify(session, true);
    await this.sweep();
    await this.expectAsForeseen();
    const told = this.endedEvents().map(({ id }) => id);
    const ended = this.oracle.sessions.filter(({ end }) => end !== undefined).map(({ id }) => id);
    this.expectSame('told', told.toSorted(), ended.toSorted());
  }

  private get application(): TestApplication {
    return this.dice.of(this.world.applications);
  }

  private get service(): SingleSessionService {
    return this.application.app.get(SingleSessionService);
  }

  /** One that is live, as a rule. */
  private anySession(): Session | undefined {
    const { sessions, live } = this.oracle;
    return this.dice.of(live.length > 0 && this.dice.chance(75) ? live : sessions.slice(-12));
  }

  /** With its token; its user has the roles of now. */
  private send(session: Session, method: string, path: string, body?: object): Promise<Answer> {
    const { application } = this;
    const token = application.sign(this.oracle.userOf(session), { sid: session.id });
    return new Browser(application.url).send(method, path, body, { authorization: `Bearer ${token}` });
  }

  private note(...words: unknown[]): void {
    const text = words.map((word) => (typeof word === 'string' ? word : JSON.stringify(word)));
    this.steps.push(text.join(' '));
  }

  private nameOf(session: Session): string {
    return `#${this.oracle.sessions.indexOf(session)} of ${session.username}`;
  }

  private expectSame(what: string, seen: unknown, foreseen: unknown): void {
    try {
      deepStrictEqual(seen, foreseen);
    } catch (error) {
      throw new Error([`seed ${this.seed}`, ...this.steps, what, (error as Error).message].join('\n'), {
        cause: error,
      });
    }
  }

  private async tokenLogin(person = this.dice.of(this.people)): Promise<void> {
    const room = this.oracle.hasRoom(person);
    this.note('login of', person.username, { room });
    const { status, body } = await new Browser(this.application.url).login(person.username, '/token');
    this.expectSame('status', status, room ? 200 : 409);
    this.oracle.admit(person, room ? new TokenClient('', body.accessToken).sid : undefined);
  }

  /** In a new browser, or in one that carries a session of the same user, live or dead. */
  private async cookieLogin(person = this.dice.of(this.people)): Promise<void> {
    const carried = this.dice.of(
      [undefined, ...this.browsers.keys()].filter((one) => !one || one.userId === person.id),
    );
    const isLive = carried !== undefined && this.oracle.check(carried, person.limit) === 'live';
    const replaces = isLive ? carried : undefined;
    const room = this.oracle.hasRoom(person, replaces);
    this.note('login of', person.username, 'carrying', carried ? this.nameOf(carried) : 'nothing', { room });
    const { url } = this.application;
    const browser = carried ? this.browsers.get(carried)!.copy(url) : new Browser(url);
    const { status, body } = await browser.login(person.username);
    this.expectSame('status', status, room ? 200 : 409);
    const session = this.oracle.admit(person, room ? body.session.id : undefined, replaces);
    if (carried) this.browsers.delete(carried);
    if (session) this.browsers.set(session, browser);
  }

  private async everybody(): Promise<void> {
    for (const session of this.oracle.sessions.slice(-12)) await this.request(session);
  }

  private async request(session = this.anySession()): Promise<void> {
    if (!session) return;
    const state = this.oracle.request(session);
    this.note('request of', this.nameOf(session), state);
    const { status, body } = await this.send(session, 'GET', '/token/me');
    this.expectSame('state', status === 200 ? 'live' : body.reason, state);
  }

  private async verify(session = this.anySession(), asUser = this.dice.chance(50)): Promise<void> {
    if (!session) return;
    const person = this.oracle.userOf(session);
    const state = this.oracle.check(session, asUser ? person.limit : UNLIMITED);
    this.note('verify', this.nameOf(session), { asUser }, state);
    const verdict = await this.service.verify(session.id, asUser ? person : undefined);
    this.expectSame('verdict', verdict.live ? 'live' : verdict.reason, state);
  }

  private async logout(): Promise<void> {
    const session = this.anySession();
    if (!session) return;
    this.note('logout of', this.nameOf(session));
    this.oracle.logout(session);
    this.expectSame('status', (await this.send(session, 'POST', '/token/logout', {})).status, 204);
  }

  private async endByCode(): Promise<void> {
    const session = this.anySession();
    if (!session) return;
    const { id, userId } = session;
    const reason = this.dice.of<EndReason>(['admin', 'logout-everywhere']);
    const by = this.dice.of(['a job', undefined]);
    const options = { reason, ...(by && { by }) };
    const how = this.dice.of(['end', 'endUser', 'endOthers'] as const);
    this.note(how, this.nameOf(session), options);
    const ended = this.oracle[how](session, { reason, by: by ?? null });
    const { service } = this;
    const act = {
      end: () => service.end(id, options),
      endUser: () => service.endUser(userId, options),
      endOthers: () => service.endOthers(userId, id, options),
    };
    this.expectSame('answer', await act[how](), { ended });
  }

  /** A call of the REST API, by an administrator as a rule. `act` foresees the answer: its status, or its body with 200. */
  private async order(
    method: string,
    path: string,
    body: object | undefined,
    act: (caller: Caller) => object | number,
  ): Promise<void> {
    const administrators = this.oracle.live.filter((one) => this.oracle.callerOf(one) !== undefined);
    const session = this.dice.chance(90) ? this.dice.of(administrators) : this.anySession();
    if (!session) return;
    const state = this.oracle.request(session);
    const caller = this.oracle.callerOf(session);
    const foreseen = state === 'live' ? (caller ? act(caller) : 403) : state;
    this.note(method, path, body, 'by', this.nameOf(session), foreseen);
    const answer = await this.send(session, method, ADMIN + path, body);
    const seen = answer.status === 200 ? answer.body : (answer.body.reason ?? answer.status);
    this.expectSame('answer', foreseen === 200 ? answer.status : seen, foreseen);
  }

  private async endSession(): Promise<void> {
    const session = this.anySession();
    if (!session) return;
    await this.order('DELETE', `/${session.id}`, undefined, (caller) =>
      this.oracle.endSession(session, caller),
    );
  }

  private async logoutUsers(): Promise<void> {
    const named = [...this.dice.some(this.people).slice(0, 2), { id: 'nobody', username: 'nobody' }];
    const userIds = this.dice.some(named).map(({ id }) => id);
    const usernames = this.dice.some(named).map(({ username }) => username);
    if (userIds.length + usernames.length === 0) return;
    const order: Logout = { ...this.noteAndDryRun(), userIds, usernames };
    await this.order('POST', '/logout', order, (caller) => this.oracle.logoutUsers(order, caller));
  }

  private async logoutEveryone(): Promise<void> {
    const { dice, people } = this;
    const except = {
      ...(dice.chance(50) && { administrators: dice.chance(30) }),
      ...(dice.chance(40) && { roles: dice.some(['editor', 'user', 'service', 'admin']) }),
      ...(dice.chance(40) && { usernames: dice.some(people).map(({ username }) => username) }),
      ...(dice.chance(40) && { userIds: dice.some(people).map(({ id }) => id) }),
      ...(dice.chance(40) && { me: dice.chance(40) }),
    };
    const order: Everyone = { ...this.noteAndDryRun(), ...(dice.chance(80) && { except }) };
    if (dice.chance(80))
      return this.order('POST', '/logout-everyone', order, (caller) =>
        this.oracle.logoutEveryone(order, caller),
      );
    const foreseen = this.oracle.logoutEveryone(order, CODE);
    this.note('endEveryone', order, foreseen);
    this.expectSame('answer', await this.service.endEveryone({ ...order, by: CODE.name }), foreseen);
  }

  private noteAndDryRun(): { note?: string; dryRun?: boolean } {
    return {
      ...(this.dice.chance(30) && { note: `note ${this.steps.length}` }),
      ...(this.dice.chance(35) && { dryRun: true }),
    };
  }

  private async exempt(): Promise<void> {
    const kind = this.dice.of<ExemptionKind>(['username', 'role']);
    const values =
      kind === 'role' ? ['editor', 'user'] : this.people.slice(0, 5).map(({ username }) => username);
    const fixed = kind === 'role' ? 'service' : 'fixed';
    if (this.dice.chance(45)) {
      const value = this.dice.of(values);
      return this.order('PUT', '/exemptions', { kind, value }, (caller) =>
        this.oracle.addExemption(kind, value, caller),
      );
    }
    const value = this.dice.of([...this.oracle.exemptions[kind], ...this.dice.some([...values, fixed])]);
    if (value === undefined) return;
    await this.order('DELETE', `/exemptions?kind=${kind}&value=${value}`, undefined, (caller) =>
      this.oracle.removeExemption(kind, value, caller),
    );
  }

  private change(): void {
    const person = this.dice.of(this.people);
    if (this.dice.chance(50)) person.roles = this.dice.of(ROLES);
    else person.limit = this.dice.of([1, 2, 2, 3, 3, Infinity]);
    this.note(person.username, 'has now', person.roles, 'and may have', String(person.limit));
  }

  /** A live session has expired, or has not been used for too long. */
  private async timeOut(): Promise<void> {
    const session = this.dice.of(this.oracle.live);
    if (!session) return;
    await this.verify(session, true);
    const reason = this.dice.of(['expired', 'idle'] as const);
    this.note(reason, this.nameOf(session));
    const set =
      reason === 'expired'
        ? `expires_at = now() - interval '1 second'`
        : `last_seen_at = now() - interval '${A_DAY_MS + 1_000} milliseconds'`;
    await this.world.sql(`UPDATE user_session SET ${set} WHERE id = $1 AND ended_at IS NULL`, [session.id]);
    this.oracle.timeOut(session, reason);
    this.world.forget();
  }

  private async retentionEnds(): Promise<void> {
    const session = this.dice.of(this.oracle.sessions.filter(({ end, isGone }) => end && !isGone));
    if (!session) return;
    this.note('retention of', this.nameOf(session), 'ends');
    await this.sweep();
    await this.world.sql(`UPDATE user_session SET ended_at = ended_at - interval '31 days' WHERE id = $1`, [
      session.id,
    ]);
    await this.sweep();
    this.oracle.remove(session);
  }

  private async windowsPass(): Promise<void> {
    const { id, username } = this.dice.of(this.people);
    const windows = this.dice.of([1, 2]);
    this.note(windows, 'windows pass for', username);
    this.oracle.windowsPass(id, windows);
    await this.world.sql(
      'UPDATE user_session_slots SET storm_since = storm_since - $2::interval WHERE user_id = $1',
      [id, `${windows * WINDOW_MS + 1} milliseconds`],
    );
  }

  private async ownSessions(): Promise<void> {
    const [session, other] = [this.anySession(), this.anySession()];
    if (!session || !other) return;
    const state = this.oracle.request(session);
    const how = this.dice.of(['list', 'end', 'logout-others'] as const);
    this.note(how, 'own sessions by', this.nameOf(session), state, this.nameOf(other));
    if (how === 'list') {
      const { body } = await this.send(session, 'GET', '/sessions/mine');
      const ids = this.oracle.liveOf(session.userId).map(({ id }) => id);
      const seen = (body.items as Session[] | undefined)?.map(({ id }) => id).toReversed();
      return this.expectSame('own', seen ?? body.reason, state === 'live' ? ids : state);
    }
    const by = this.oracle.userOf(session).username;
    const isEnd = how === 'end';
    const { status, body } = isEnd
      ? await this.send(session, 'DELETE', `/sessions/mine/${other.id}`)
      : await this.send(session, 'POST', `/sessions/mine/${how}`, {});
    const end = (): object | number => {
      if (!isEnd) return { ended: this.oracle.endOthers(session, { reason: 'logout-everywhere', by }) };
      if (other.isGone || other.userId !== session.userId) return 404;
      return { ended: this.oracle.end(other, { reason: 'logout', by }) };
    };
    this.expectSame('own', status === 200 ? body : (body.reason ?? status), state === 'live' ? end() : state);
  }

  private async sweep(): Promise<void> {
    this.note('sweep');
    await this.application.app.get(Sweeper).sweep();
  }

  private async restart(): Promise<void> {
    const place = this.dice.below(this.world.applications.length);
    this.note('restart', place);
    await this.world.applications[place]!.close();
    await this.world.start(place);
  }

  /** What a browser has given up may end a moment later. */
  private async expectAsForeseen(): Promise<void> {
    const person = this.dice.of(this.people);
    const foreseen = this.oracle.foreseen(person);
    const isForeseen = (seen: unknown): boolean => isDeepStrictEqual(seen, foreseen);
    const seen = await eventually(() => this.seen(person), isForeseen).catch(() => this.seen(person));
    this.expectSame('state', seen, foreseen);
  }

  /** As {@link Oracle.foreseen} has it. */
  private async seen(person: Person): Promise<object> {
    await this.world.settle();
    const [service, store] = [this.service, this.application.app.get(AdministrationStore)];
    const { items } = await service.list({ state: 'all', limit: 200 });
    const { items: active } = await service.list({ limit: 200 });
    const { storms, ...counts } = await store.summary();
    const { maxSessions, onLimit, exempt } = await service.explain(person);
    const record = await this.world.sql(
      'SELECT action, by, ended, users, note FROM user_session_action ORDER BY id',
    );
    return {
      sessions: items
        .map(({ id, userId, username, roles, exempt: isExempt, state, endReason: reason, endedBy: by }) => ({
          id,
          userId,
          username,
          roles,
          isExempt,
          state,
          reason,
          by,
        }))
        .toSorted(byId),
      active: active.map(({ id }) => id).toSorted(),
      counts,
      storms: storms.map(({ userId, logins }) => `${userId}: ${logins}`).toSorted(),
      limit: { maxSessions, onLimit, exempt },
      record,
      endedUnlike: this.endedUnlike(),
      admitted: this.world.events.flatMap((event) => (event.type === 'admitted' ? [event.sessionId] : [])),
      announced: this.world.events.flatMap((event) => (event.type === 'storm' ? [event.userId] : [])),
    };
  }

  /** The events of an end that came twice, or that the oracle knows nothing of. */
  private endedUnlike(): object[] {
    const events = this.endedEvents();
    return events.filter(({ id, ...told }, place) => {
      const { end, isExempt } = this.oracle.session(id);
      if (events.findIndex((other) => other.id === id) !== place || end === undefined) return true;
      // An exempt session is replaced by nobody: its browser has given it up.
      const replacedBy = isExempt || end.replacedBy === undefined ? told.replacedBy : end.replacedBy;
      return !isDeepStrictEqual(told, { reason: end.reason, by: end.by, replacedBy });
    });
  }

  private endedEvents(): { id: string; reason: EndReason; by: string | null; replacedBy: string | null }[] {
    return this.world.events.flatMap((event) => {
      if (event.type !== 'ended') return [];
      const { sessionId: id, reason, by, replacedBy } = event;
      return [{ id, reason, by, replacedBy }];
    });
  }
}

const byId = (one: { id: string }, other: { id: string }): number => (one.id < other.id ? -1 : 1);

let databaseUrl: string;

beforeAll(async () => {
  databaseUrl = await freshDatabase();
});

afterAll(() => dropDatabase(databaseUrl));

describe.each([
  { onLimit: 'evict', logoutEverywhere: true, freshness: 'strong', seeds: [5, 10] },
  { onLimit: 'reject', logoutEverywhere: true, freshness: 'strong', seeds: [16, 64] },
  { onLimit: 'evict', logoutEverywhere: false, freshness: 'strong', seeds: [3] },
  { onLimit: 'reject', logoutEverywhere: false, freshness: 'strong', seeds: [14] },
  { onLimit: 'evict', logoutEverywhere: true, freshness: AN_HOUR, seeds: [104] },
  { onLimit: 'reject', logoutEverywhere: false, freshness: AN_HOUR, seeds: [104] },
] as const)(
  'what is live, and why it ended, is as the documents say: $onLimit, $logoutEverywhere, $freshness',
  ({ seeds, freshness, ...rules }) => {
    let world: World;

    beforeAll(async () => {
      world = new World(databaseUrl, { ...RULES, ...rules }, freshness);
      for (const place of [0, 1]) await world.start(place);
    });

    afterAll(() => world?.close());

    it.each(seeds)('walk %i [P1, P2, P3, lessons 1 to 12, 27]', async (seed) => {
      await world.sql(
        'TRUNCATE user_session, user_session_slots, user_session_cutoff, user_session_action, user_session_exemption',
      );
      world.events.length = 0;
      const walk = new Walk(world, seed);
      for (let step = 0; step < STEPS; step++) await walk.step();
      await walk.end();
    });
  },
);
