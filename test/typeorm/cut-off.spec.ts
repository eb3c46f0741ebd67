import { readFile } from 'node:fs/promises';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import type { Spared } from '../../src/session/events.js';
import { LARGEST_LIMIT } from '../../src/session/policy.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { someone, times } from '../support/store.js';
import { ADMINISTRATOR_ROLES, person, Process, SIGNATURE, type Person } from './administrators.js';

const MINUTE = 60_000;

let url: string;
let one: Process;
let other: Process;

beforeAll(async () => {
  url = await freshDatabase();
  one = await Process.open(url);
  other = await Process.open(url);
});

afterAll(async () => {
  await one?.close();
  await other?.close();
  await dropDatabase(url);
});

beforeEach(async () => {
  await one.bench.query(
    'TRUNCATE user_session, user_session_slots, user_session_cutoff, user_session_exemption',
  );
});

const cutOffs = async (): Promise<string[]> =>
  (await one.bench.query<{ id: string }>('SELECT id FROM user_session_cutoff ORDER BY id')).map(
    ({ id }) => id,
  );
const ageCutOffs = (ms: number): Promise<unknown> =>
  one.bench.query(`UPDATE user_session_cutoff SET created_at = created_at - $1::interval`, [
    `${ms} milliseconds`,
  ]);

describe('a cut-off', () => {
  const COVERAGE: [string, Partial<Spared>, Person, string][] = [
    ['an administrator by role', { administrators: true }, person('a', 'admin'), 'live'],
    ['an administrator by role, when administrators are not spared', {}, person('a', 'admin'), 'cut-off'],
    ['one of a spared role', { roles: ['service', 'x'] }, person('a', 'user', 'service'), 'live'],
    [
      'one of a role that looks like it',
      { roles: ['service'] },
      person('a', 'Service', 'service '),
      'cut-off',
    ],
    ['a spared username', { usernames: ['a'] }, person('a'), 'live'],
    ['a spared user id', { userIds: ['a'] }, person('a'), 'live'],
    [
      'a user whose id is a spared role or half a name',
      { roles: ['a'], usernames: ['aa', ''] },
      person('a'),
      'cut-off',
    ],
    [
      'anybody else',
      { administrators: true, roles: ['x'], usernames: ['b'], userIds: ['c'] },
      person('a'),
      'cut-off',
    ],
  ];
  it.each(COVERAGE)('of before, for %s', async (_, spared, user, state) => {
    const id = await one.logins()(user);
    const exempt = await one.logins({ exempt: { usernames: [user.username] } })({ ...user });
    await other.cutOff(spared);
    const [here, there] = [await one.states([id, exempt]), await other.states([id, exempt])];
    expect([here, there]).toEqual([
      [state, state],
      [state, state],
    ]);
    const later = await one.logins()(person('later'));
    expect(await one.states([later])).toEqual(['live']);
  });

  it('spares nobody who came to the role after the login, and nobody who lost it, even for a moment [S11, lesson 30]', async () => {
    const [promoted, demoted, flapped, kept] = (await Promise.all(
      [person(someone()), ...times(3, () => person(someone(), 'admin', 'x'))].map(one.logins()),
    )) as [string, string, string, string];
    const become = (id: string, ...roles: string[]): Promise<void> => other.become(id, roles);
    await become(promoted, 'admin');
    await become(demoted, 'x');
    await become(flapped, 'x');
    await become(flapped, 'admin', 'x');
    await become(kept, 'admin', 'y');
    await one.cutOff({ administrators: true });
    expect(await one.states([promoted, demoted, flapped, kept])).toEqual([
      'cut-off',
      'cut-off',
      'cut-off',
      'live',
    ]);
  });

  it('ends a session that it spared as soon as the role is lost, and no promotion brings it back [S11]', async () => {
    const id = await one.logins()(person(someone(), 'admin'));
    await one.cutOff({ administrators: true });
    await one.sweepAll();
    expect(await one.states([id])).toEqual(['live']);
    await other.become(id, ['user']);
    expect(await one.states([id])).toEqual(['cut-off']);
    for (const roles of [['admin'], ['admin', 'superadmin']]) {
      await other.become(id, roles, true);
      expect(await other.states([id])).toEqual(['cut-off']);
    }
  });
});

describe('a cut-off that covers nothing any more', () => {
  it('is removed, but neither before ten minutes have passed, nor while a session that it spares lives', async () => {
    const [spared, covered] = (await Promise.all([person('a', 'admin'), person('b')].map(one.logins()))) as [
      string,
      string,
    ];
    await one.cutOff({ administrators: true });
    await ageCutOffs(20 * MINUTE);
    await one.sweepAll();
    expect(await cutOffs()).toHaveLength(1);
    expect(await other.states([spared, covered])).toEqual(['live', 'cut-off']);
    await one.endUsers({ userIds: ['a'], protect: false });
    await one.bench.query('UPDATE user_session_cutoff SET created_at = now() - $1::interval', [
      `${9.9 * MINUTE} milliseconds`,
    ]);
    await one.sweepAll();
    expect(await cutOffs()).toHaveLength(1);
    await ageCutOffs(0.2 * MINUTE);
    await one.sweepAll();
    expect(await cutOffs()).toEqual([]);
    expect(await other.states([spared, covered])).toEqual(['admin', 'cut-off']);
  });

  it('is removed before newer ones, and leaves them', async () => {
    await one.logins()(person('a'));
    const first = await one.cutOff();
    await one.sweepAll();
    await one.logins()(person('b', 'admin'));
    const second = await one.cutOff({ administrators: true });
    await ageCutOffs(20 * MINUTE);
    await one.sweepAll();
    expect(await cutOffs()).toEqual([second.id]);
    expect(Number(second.id)).toBeGreaterThan(Number(first.id));
  });

  it('does not come to count for a login after it, nor a login after it for the next', async () => {
    const old = await one.logins()(person('a'));
    const first = await one.cutOff();
    await one.sweepAll();
    await ageCutOffs(20 * MINUTE);
    await one.sweepAll();
    expect(await cutOffs()).toEqual([]);
    const next = await other.logins()(person('a'));
    expect(await one.states([old, next])).toEqual(['cut-off', 'live']);
    const second = await one.cutOff();
    expect(Number(second.id)).toBeGreaterThan(Number(first.id));
    expect(await one.states([old, next])).toEqual(['cut-off', 'cut-off']);
  });
});

describe('a cut-off in a database whose sequences were left behind', () => {
  it('ends everyone after what docs/production.md says', async () => {
    const user = person('a');
    await one.logins()(user);
    for (let n = 0; n < 2; n++) await one.cutOff();
    const live = await one.logins()(user);
    await one.sweepAll();
    await ageCutOffs(20 * MINUTE);
    await one.sweepAll();
    for (const table of ['user_session_cutoff', 'user_session_action'])
      await one.bench.query(`ALTER TABLE ${table} ALTER COLUMN id RESTART WITH 1`);
    const document = await readFile(new URL('../../docs/production.md', import.meta.url), 'utf8');
    await one.bench.query(/```sql\n(SELECT setval.*?)```/s.exec(document)![1]!);
    await one.cutOff();
    expect(await one.states([live])).toEqual(['cut-off']);
  });
});

describe('the counts of a cut-off', () => {
  const SPARED = { administrators: true };
  const COUNTS = { ended: 5, users: 4, spared: 2 };

  /** Five sessions of four users that a cut-off ends, two that it spares, and some that are dead already. */
  async function populated(): Promise<string[]> {
    const login = one.logins({ maxSessions: 2 });
    const users = [
      ...times(4, (place) => person(`u${place}`)),
      person('u0'),
      ...times(2, (place) => person(`a${place}`, 'admin')),
    ];
    const ids: string[] = [];
    for (const user of users) ids.push(await login(user));
    for (const user of [person('gone'), person('late'), person('late')]) await one.logins()(user);
    await one.endUsers({ userIds: ['gone', 'late'] });
    await one.bench.store.markUsers(['late']);
    await one.bench.age(await login(person('expired')), 15 * 24 * 60 * MINUTE);
    return ids;
  }

  it('are those of the dry run, which ends nothing', async () => {
    const ids = await populated();
    expect(await one.count(undefined, SPARED)).toEqual(COUNTS);
    expect(await one.states(ids)).toEqual(ids.map(() => 'live'));
    expect(await one.count(await one.cutOff(SPARED), SPARED)).toEqual(COUNTS);
    expect(await one.count(undefined, SPARED)).toEqual({ ended: 0, users: 0, spared: 2 });
  });

  it('are the same however much of it was marked before it was counted', async () => {
    const ids = await populated();
    const cutOff = await one.cutOff(SPARED);
    await other.bench.store.markChecked({ id: ids[0]!, limit: 2 });
    await other.bench.store.markUsers(['u1', 'a0']);
    expect(await one.count(cutOff, SPARED)).toEqual(COUNTS);
    await one.sweepAll();
    expect(await one.count(cutOff, SPARED)).toEqual(COUNTS);
  });

  it('count nothing that was admitted afterwards, and nothing that an earlier cut-off ended', async () => {
    await populated();
    const first = await one.cutOff(SPARED);
    await one.logins()(person('new'));
    const second = await one.cutOff(SPARED);
    expect(await one.count(second, SPARED)).toEqual({ ended: 1, users: 1, spared: 2 });
    expect(await one.count(first, SPARED)).toEqual(COUNTS);
  });

  it('are on the record with who did it', async () => {
    await populated();
    const cutOff = await one.cutOff(SPARED);
    const [before] = (await one.store.actions({ limit: 1 })).items;
    expect(before).toMatchObject({ action: 'logout-everyone', by: SIGNATURE.by, ended: null, users: null });
    await one.count(cutOff, SPARED);
    const [after] = (await one.store.actions({ limit: 1 })).items;
    expect(after).toMatchObject({ id: before!.id, ended: 5, users: 4 });
  });
});

describe('the list right after a cut-off, swept or not', () => {
  it('shows as active exactly those that are live, and as ended all others', async () => {
    const login = one.logins({ maxSessions: 3 });
    const before = [person('a', 'admin'), person('b'), person('c', 'x'), person('d'), person('e')];
    const ids: string[] = [];
    for (const user of before) ids.push(await login(user));
    await one.bench.query(`UPDATE user_session SET administrator = true WHERE user_id = 'e'`);
    await one.cutOff({ administrators: true, roles: ['x'] });
    for (const user of [person('b'), person('f')]) ids.push(await login(user));
    const listed = async (state: 'active' | 'ended' | 'all', more = {}): Promise<string[]> =>
      (await other.store.list({ state, limit: 50, ...more })).items.map(({ id }) => id);
    const [a, b, c, d, e, laterB, f] = ids as [string, string, string, string, string, string, string];
    for (const sweep of [async () => {}, () => one.bench.store.markUsers(['d']), () => one.sweepAll()]) {
      await sweep();
      expect(await listed('active')).toEqual([f, laterB, e, c, a]);
      expect(await listed('ended')).toEqual([d, b]);
      expect(await listed('all')).toEqual([f, laterB, e, d, c, b, a]);
      expect(await listed('active', { role: 'x' })).toEqual([c]);
      expect(await listed('active', { username: 'b' })).toEqual([laterB]);
      expect(await listed('ended', { userId: 'b' })).toEqual([b]);
    }
    const pages: string[] = [];
    for (let cursor: string | undefined; ;) {
      const { items, nextCursor } = await one.store.list({ state: 'active', limit: 2, cursor });
      pages.push(...items.map(({ id }) => id));
      if (nextCursor === null) break;
      cursor = nextCursor;
    }
    expect(pages).toEqual([f, laterB, e, c, a]);
  });
});

describe('dead once is never accepted again, whatever happens in whatever order', () => {
  interface Known {
    id: string;
    user: Person;
    /** Those of now. */
    roles: string[];
    /** Those of the login, never lost since. */
    held: string[];
    exempt: boolean;
    live: boolean;
  }

  /** What should be, in the words of design.md and nothing else. */
  class Model {
    readonly sessions: Known[] = [];
    readonly exemptions = new Set<string>();

    constructor(private readonly limit: number) {}

    of = (userId: string): Known[] => this.sessions.filter(({ user, live }) => live && user.id === userId);
    isExempt = ({ username, roles }: Person): boolean =>
      [`username ${username}`, ...roles.map((role) => `role ${role}`)].some((key) =>
        this.exemptions.has(key),
      );

    admit(id: string, user: Person): void {
      const exempt = this.isExempt(user);
      const others = this.of(user.id).toReversed();
      const dead = exempt
        ? []
        : [
            ...others.filter((session) => session.exempt),
            ...others.filter((session) => !session.exempt).slice(this.limit - 1),
          ];
      dead.forEach(end);
      this.sessions.push({ id, user, roles: user.roles, held: user.roles, exempt, live: true });
    }

    refresh(session: Known, roles: string[], cutOffs: Partial<Spared>[]): void {
      session.roles = roles;
      session.held = session.held.filter((role) => roles.includes(role));
      if (cutOffs.some((spared) => !isSpared(session, spared))) end(session);
    }

    isProtected = (userId: string): boolean => this.of(userId).some(({ roles }) => isAdministrator(roles));
  }

  const end = (session: Known): void => void (session.live = false);
  const isAdministrator = (roles: string[]): boolean =>
    roles.some((role) => ADMINISTRATOR_ROLES.includes(role));
  const isSpared = (
    session: Known,
    { administrators, roles = [], usernames = [], userIds = [] }: Partial<Spared>,
  ): boolean =>
    (administrators && isAdministrator(session.held)) ||
    session.held.some((role) => roles.includes(role)) ||
    usernames.includes(session.user.username) ||
    userIds.includes(session.user.id);

  /** The same numbers for the same seed. */
  function randomOf(seed: number): () => number {
    let state = seed;
    return () => {
      state = (state + 0x6d2b79f5) | 0;
      let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
      mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
      return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
    };
  }

  const ROLES = ['admin', 'superadmin', 'service', 'user'];
  const SCOPES = ['session', 'everywhere', 'others', 'user'] as const;

  async function run(seed: number, steps: number): Promise<void> {
    const random = randomOf(seed);
    const dice = (sides: number): number => Math.floor(random() * sides);
    const any = <Item>(items: readonly Item[]): Item => items[dice(items.length)]!;
    const some = <Item>(items: readonly Item[]): Item[] => items.filter(() => dice(3) === 0);
    const limit = 1 + dice(3);
    const logins = [one, other].map((process) => process.logins({ maxSessions: limit }));
    const names = times(5, () => someone());
    const model = new Model(limit);
    const cutOffsAfter = new Map<string, Partial<Spared>[]>();
    const history: string[] = [];

    const login = async (): Promise<string> => {
      const user = person(any(names), ...some(ROLES));
      const id = await any(logins)(user);
      model.admit(id, user);
      cutOffsAfter.set(id, []);
      return `login ${user.id} ${user.roles.join()}`;
    };
    const endUsers = async (): Promise<string> => {
      const protect = dice(2) === 0;
      const ids = some(names);
      const byName = dice(2) === 0;
      await any([one, other]).endUsers({ [byName ? 'usernames' : 'userIds']: ids, protect });
      for (const id of ids) if (!(protect && model.isProtected(id))) model.of(id).forEach(end);
      return `end users ${ids.join()} ${protect ? 'by a lesser administrator' : ''}`;
    };
    const endSession = async (): Promise<string> => {
      const { id, user } = any(model.sessions);
      const protect = dice(2) === 0;
      await any([one, other]).endUsers({ sessionId: id, protect });
      if (!(protect && model.isProtected(user.id)))
        model
          .of(user.id)
          .filter((session) => session.id === id)
          .forEach(end);
      return `end session ${id} ${protect ? 'by a lesser administrator' : ''}`;
    };
    const logout = async (): Promise<string> => {
      const session = any(model.sessions);
      const { id, user } = session;
      const scope = any(SCOPES);
      const target = { scope, sessionId: id, userId: user.id };
      await any([one, other]).bench.store.end({ target, reason: 'logout', by: null, limit: LARGEST_LIMIT });
      if (scope === 'user') model.of(user.id).forEach(end);
      else if (session.live) {
        // By the roles of now: the exempt are asked for then, not at the login.
        const alone = session.exempt || model.isExempt({ ...user, roles: session.roles });
        const mates = model.of(user.id).filter((mate) => mate !== session);
        if (scope === 'others' || (scope === 'everywhere' && !alone)) mates.forEach(end);
        if (scope !== 'others') end(session);
      }
      return `end ${scope} ${id}`;
    };
    const cutOff = async (): Promise<string> => {
      const spared = {
        administrators: dice(2) === 0,
        roles: some(ROLES),
        usernames: some(names),
        userIds: some(names).slice(1),
      };
      await any([one, other]).cutOff(spared);
      for (const session of model.sessions) {
        cutOffsAfter.get(session.id)!.push(spared);
        if (!isSpared(session, spared)) end(session);
      }
      return `cut-off except ${JSON.stringify(spared)}`;
    };
    const refresh = async (): Promise<string> => {
      const session = any(model.sessions);
      const roles = some(ROLES);
      await any([one, other]).become(session.id, roles);
      if (session.live) model.refresh(session, roles, cutOffsAfter.get(session.id)!);
      return `${session.id} has ${roles.join()}`;
    };
    const exemption = async (): Promise<string> => {
      const kind = any(['username', 'role'] as const);
      const value = any(kind === 'role' ? ['service', 'user'] : names);
      const add = dice(2) === 0;
      if (add) await one.store.addExemption({ kind, value, expiresAt: null }, SIGNATURE);
      else await other.store.removeExemption({ kind, value }, SIGNATURE);
      model.exemptions[add ? 'add' : 'delete'](`${kind} ${value}`);
      return `${add ? 'exempt' : 'enforce'} ${kind} ${value}`;
    };
    const bookkeeping = async (): Promise<string> => {
      const { bench } = any([one, other]);
      const which = any(['sweep', 'sweep and drop', 'mark users', 'mark one', 'seen'] as const);
      if (which === 'sweep') await bench.store.sweep();
      if (which === 'sweep and drop') {
        await ageCutOffs(20 * MINUTE);
        while ((await bench.store.sweep()).more);
      }
      if (which === 'mark users') await bench.store.markUsers(some(names));
      if (which === 'mark one' && model.sessions.length > 0)
        await bench.store.markChecked({ id: any(model.sessions).id, limit });
      if (which === 'seen') await bench.store.seen(model.sessions.map(({ id }) => id));
      return which;
    };

    const ofSessions = [endSession, logout, refresh, refresh, cutOff, endUsers];
    for (let step = 0; step < steps; step++) {
      const acts = [
        login,
        login,
        login,
        exemption,
        bookkeeping,
        ...(model.sessions.length > 0 ? ofSessions : []),
      ];
      history.push(await any(acts)());
      const ids = model.sessions.map(({ id }) => id);
      const expected = model.sessions.map(({ live }) => (live ? 'live' : 'dead'));
      const [here, there] = await Promise.all([one, other].map((process) => process.states(ids, limit)));
      const told = [here!, there!].map((states) =>
        states.map((state) => (state === 'live' ? 'live' : 'dead')),
      );
      if (told.some((states) => states.join() !== expected.join())) {
        const wrong = ids.filter((_, place) => told.some((states) => states[place] !== expected[place]));
        throw new Error(
          `seed ${seed}, limit ${limit}: ${wrong.join()} should not be what it is after\n${history.join('\n')}`,
        );
      }
    }
  }

  it.each([...times(12, (place) => place + 1), 79_812_160])(
    '70 random steps of two processes, seed %i [P2; S6, S11]',
    async (seed) => {
      await run(seed, 70);
    },
  );

  it('70 random steps of two processes, a new seed each time [P2; S6, S11]', async () => {
    await run(Math.floor(Math.random() * 2 ** 31), 70);
  });
});
