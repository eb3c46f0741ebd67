import { randomUUID } from 'node:crypto';
import { DataSource, type DataSourceOptions } from 'typeorm';
import { singleSessionMigrations } from '../../migrations/index.js';
import { Admissions } from '../../src/session/admissions.js';
import { Bookkeeper } from '../../src/session/bookkeeper.js';
import { Policy } from '../../src/session/policy.js';
import { SessionStore } from '../../src/session/session-store.js';
import { Sessions } from '../../src/session/sessions.js';
import {
  resolveOptions,
  type ResolvedOptions,
  type SingleSessionOptions,
} from '../../src/single-session.options.js';
import { singleSessionEntities } from '../../src/typeorm/entities.js';
import { interval } from '../../src/typeorm/sql-parts.js';
import { TypeOrmSessionStore, type StoreSettings } from '../../src/typeorm/typeorm-session-store.js';
import type { CheckResult, EndedSession, EndTarget } from '../../src/session/session.js';

type PostgresOptions = Extract<DataSourceOptions, { type: 'postgres' }>;

const DAY = 86_400_000;
export const STORE_SETTINGS: StoreSettings = {
  idleTimeout: undefined,
  maxAge: 14 * DAY,
  retention: 30 * DAY,
  seenInterval: 60_000,
  stormWindow: 60_000,
};

export const NOWHERE = { ip: null, userAgent: null };

/** A row of the sessions' table, as raw SQL gives it. */
export interface SessionRow {
  id: string;
  user_id: string;
  generation: string;
  exempt: boolean;
  created_at: Date;
  last_seen_at: Date;
  expires_at: Date;
  ended_at: Date | null;
  end_reason: string | null;
  ended_by: string | null;
  replaced_by: string | null;
}

/** A data source with our entities and migrations, not yet initialized. */
export function dataSourceOf(url: string, options: Partial<PostgresOptions> = {}): DataSource {
  return new DataSource({
    type: 'postgres',
    url,
    entities: singleSessionEntities,
    migrations: singleSessionMigrations,
    poolSize: 20,
    ...options,
  });
}

/** The store on a data source of its own with its tables made. What several of them do is what several processes do. */
export class StoreBench {
  private readonly bookkeepers: Bookkeeper[] = [];

  private constructor(
    readonly dataSource: DataSource,
    readonly store: TypeOrmSessionStore,
  ) {}

  static async open(
    url: string,
    settings: Partial<StoreSettings> = {},
    options: Partial<PostgresOptions> = {},
  ): Promise<StoreBench> {
    const dataSource = await dataSourceOf(url, { migrationsRun: true, ...options }).initialize();
    const store = new TypeOrmSessionStore(dataSource, { ...STORE_SETTINGS, ...settings });
    await store.prepare();
    return new StoreBench(dataSource, store);
  }

  /** The rules over this store. */
  sessions(options: SingleSessionOptions = {}, store: SessionStore = this.store): TestSessions {
    const bookkeeper = new Bookkeeper(store);
    this.bookkeepers.push(bookkeeper);
    return new TestSessions(store, bookkeeper, resolveOptions(options));
  }

  /** The session's row by itself. */
  async row(id: string): Promise<SessionRow | undefined> {
    const [row] = await this.query<SessionRow>('SELECT * FROM user_session WHERE id = $1', [id]);
    return row;
  }

  rowsOf(userId: string): Promise<SessionRow[]> {
    return this.query<SessionRow>('SELECT * FROM user_session WHERE user_id = $1 ORDER BY generation, id', [
      userId,
    ]);
  }

  async activeOf(userId: string): Promise<string[]> {
    const sql = 'SELECT active::text[] AS active FROM user_session_slots WHERE user_id = $1';
    const [row] = await this.query<{ active: string[] }>(sql, [userId]);
    return row?.active ?? [];
  }

  /** Makes the session as old as if it had been opened, and last used, `ms` earlier. */
  async age(id: string, ms: number): Promise<void> {
    await this.query(
      `UPDATE user_session SET created_at = created_at - $2::interval, last_seen_at = last_seen_at - $2::interval,
        expires_at = expires_at - $2::interval, ended_at = ended_at - $2::interval WHERE id = $1`,
      [id, interval(ms)],
    );
  }

  async query<Row = unknown>(sql: string, parameters: unknown[] = []): Promise<Row[]> {
    return (await this.dataSource.query(sql, parameters)) as Row[];
  }

  /** Waits until everything that is written in the background is written. */
  async settled(): Promise<void> {
    await Promise.all(this.bookkeepers.map((bookkeeper) => bookkeeper.close()));
  }

  async close(): Promise<void> {
    await this.settled();
    await this.dataSource.destroy();
  }
}

interface TestLogin {
  replaces?: unknown;
  of?: unknown;
  id?: string;
  entitledBy?: string;
}

/** Sessions with the words of a test. */
export class TestSessions extends Sessions {
  readonly admissions: Admissions;
  private readonly rules: Policy;

  constructor(
    store: SessionStore,
    readonly keeper: Bookkeeper,
    readonly options: ResolvedOptions,
  ) {
    const policy = new Policy(options);
    super(store, policy, keeper, options);
    this.rules = policy;
    this.admissions = new Admissions(store, policy, keeper, this, options);
  }

  /** A login of this user, told by the id of its session. The browser carries `replaces`, of the same user unless said. */
  async login(user: unknown, { replaces, of = user, ...more }: TestLogin = {}): Promise<string> {
    const carried =
      replaces === undefined ? undefined : { id: replaces as string, user: userOf(of), givenUp: true };
    const { id } = await this.admissions.admit({
      user: userOf(user),
      origin: NOWHERE,
      replaces: carried,
      ...more,
    });
    return id;
  }

  /** A logout of the own session, or of one whose user is not at hand. */
  logsOut(sessionId: string, user?: unknown): Promise<EndedSession[]> {
    return this.logout(sessionId, user, user !== undefined);
  }

  async isLive(id: string): Promise<boolean> {
    return (await this.state(id)) === 'live';
  }

  /** `'live'`, or why not. */
  async state(id: string): Promise<string> {
    const verdict = await this.verify({ id, limit: await this.rules.limitAtCheck(undefined) });
    return verdict.live ? 'live' : verdict.reason;
  }

  /** In the order of the ids. */
  async states(ids: readonly string[]): Promise<string[]> {
    return Promise.all(ids.map((id) => this.state(id)));
  }

  async liveOf(ids: readonly string[]): Promise<string[]> {
    const states = await this.states(ids);
    return ids.filter((_, place) => states[place] === 'live');
  }

  /** Ends, told by the ids that ended, sorted. */
  async ends(
    target: EndTarget,
    reason: EndedSession['reason'] = 'admin',
    by: string | null = null,
  ): Promise<string[]> {
    return idsOf(await this.end({ target, reason, by }));
  }
}

export const idsOf = (ended: readonly EndedSession[]): string[] => ended.map(({ id }) => id).sort();

const userOf = (user: unknown): unknown =>
  typeof user === 'string' ? { id: user, username: user, roles: [] } : user;

/** The answers of a store that can read all of its records. */
export async function readable(answers: Promise<(CheckResult | Error)[]>): Promise<CheckResult[]> {
  return (await answers).map((answer) => {
    if (answer instanceof Error) throw answer;
    return answer;
  });
}

/** A name that no other test uses. */
export const someone = (name = 'user'): string => `${name}-${randomUUID().slice(0, 8)}`;

/** Waits for a condition that no event announces. */
export async function until(condition: () => Promise<boolean> | boolean, withinMs = 5_000): Promise<void> {
  const deadline = performance.now() + withinMs;
  while (!(await condition())) {
    if (performance.now() > deadline)
      throw new Error(`It did not come true within ${withinMs} ms: ${condition.toString()}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

export const times = <Result>(count: number, action: (place: number) => Result): Result[] =>
  Array.from({ length: count }, (_, place) => action(place));
