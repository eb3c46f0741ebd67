import { Admissions } from '../../src/session/admissions.js';
import { Bookkeeper } from '../../src/session/bookkeeper.js';
import type { CutOff, EndUsersOrder, EndUsersResult } from '../../src/session/administration-store.js';
import type { Spared } from '../../src/session/events.js';
import { Permissions } from '../../src/session/permissions.js';
import { Policy } from '../../src/session/policy.js';
import { Sessions } from '../../src/session/sessions.js';
import { resolveOptions, type SingleSessionOptions } from '../../src/single-session.options.js';
import { TypeOrmAdministrationStore } from '../../src/typeorm/typeorm-administration-store.js';
import { readable, StoreBench } from '../support/store.js';
import type { StoreSettings } from '../../src/typeorm/typeorm-session-store.js';
import { NOWHERE } from '../support/store.js';

export const ADMINISTRATOR_ROLES = ['admin', 'superadmin'];
export const SIGNATURE = { by: 'root', ip: null, note: null };
const PERMISSIONS = new Permissions({ roles: ['admin'], superRoles: ['superadmin'] });
const NOBODY: Spared = { administrators: false, roles: [], usernames: [], userIds: [] };
const LARGEST = 1_000;

export interface Person {
  id: string;
  username: string;
  roles: string[];
}

export const person = (id: string, ...roles: string[]): Person => ({ id, username: id, roles });

/** One process with its sessions and its administration. Two of them on one database are two processes. */
export class Process {
  private constructor(
    readonly bench: StoreBench,
    readonly store: TypeOrmAdministrationStore,
  ) {}

  static async open(url: string, settings: Partial<StoreSettings> = {}): Promise<Process> {
    const bench = await StoreBench.open(url, settings);
    const { dataSource } = bench;
    const store = new TypeOrmAdministrationStore(dataSource, {
      administratorRoles: ADMINISTRATOR_ROLES,
      idleTimeout: settings.idleTimeout,
      stormThreshold: 10,
      stormWindow: 60_000,
    });
    return new Process(bench, store);
  }

  /** Logins of this process, by the rules of these options; nothing is marked in the background. */
  logins(options: SingleSessionOptions = {}): (user: Person) => Promise<string> {
    const resolved = resolveOptions(options);
    const silent = new Bookkeeper(this.bench.store);
    silent.markLater = async () => undefined;
    const policy = new Policy(resolved, PERMISSIONS);
    const sessions = new Sessions(this.bench.store, policy, silent, resolved);
    const admissions = new Admissions(this.bench.store, policy, silent, sessions, resolved);
    return async (user) => (await admissions.admit({ user, origin: NOWHERE })).id;
  }

  /** Ends everyone except. */
  cutOff(spared: Partial<Spared> = {}): Promise<CutOff> {
    return this.store.cutOff({ spared: { ...NOBODY, ...spared }, signature: SIGNATURE, target: {} });
  }

  count(
    cutOff: CutOff | undefined,
    spared: Partial<Spared> = {},
  ): ReturnType<TypeOrmAdministrationStore['countCutOff']> {
    return this.store.countCutOff({ ...NOBODY, ...spared }, cutOff);
  }

  /** Ends users as an administrator does who may not log out administrators, unless `protect` is false. */
  endUsers(whom: Partial<EndUsersOrder>): Promise<EndUsersResult> {
    const nobody = { userIds: [], usernames: [], sessionId: null };
    return this.store.endUsers({ ...nobody, protect: true, dryRun: false, signature: SIGNATURE, ...whom });
  }

  /** A request of the session whose user has these roles now. */
  become(id: string, roles: readonly string[], administrator = false): Promise<void> {
    const isProtected = PERMISSIONS.hasAdministratorRole(roles);
    return this.bench.store.refresh({ id, roles, administrator, protected: isProtected });
  }

  /** What the check says of each, without writing anything down. */
  async states(ids: readonly string[], limit = LARGEST): Promise<string[]> {
    const results = await readable(this.bench.store.verify(ids.map((id) => ({ id, limit }))));
    return results.map((result) => (result.live ? 'live' : result.reason));
  }

  async liveOf(ids: readonly string[]): Promise<string[]> {
    const states = await this.states(ids);
    return ids.filter((_, place) => states[place] === 'live');
  }

  /** Sweeps until nothing is left to do. */
  async sweepAll(): Promise<void> {
    while ((await this.bench.store.sweep()).more);
  }

  close(): Promise<void> {
    return this.bench.close();
  }
}

/** Holds back statements that write the slots row of these users, so that what begins meanwhile queues behind. */
export async function whileSlotsAreHeld(
  { bench }: Process,
  users: readonly string[],
  act: (queued: (count: number) => Promise<void>) => Promise<void>,
): Promise<void> {
  const runner = bench.dataSource.createQueryRunner();
  await runner.startTransaction();
  await runner.query('SELECT FROM user_session_slots WHERE user_id = ANY($1) ORDER BY user_id FOR UPDATE', [
    users,
  ]);
  try {
    await act((count) => waiting(bench, count));
  } finally {
    await runner.rollbackTransaction();
    await runner.release();
  }
}

/** Until so many statements wait for a lock in this database. */
export async function waiting(bench: StoreBench, count: number): Promise<void> {
  const sql = `SELECT count(*)::int AS count FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`;
  const deadline = performance.now() + 5_000;
  for (;;) {
    const [row] = await bench.query<{ count: number }>(sql);
    if (row!.count >= count) return;
    if (performance.now() > deadline)
      throw new Error(`${row!.count} statements wait for a lock, not ${count}`);
  }
}
