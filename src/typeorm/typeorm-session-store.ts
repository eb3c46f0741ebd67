import type { DataSource } from 'typeorm';
import {
  type Admission,
  type AdmissionResult,
  type Admitted,
  type Check,
  type CheckResult,
  type EndedSession,
  type EndedUnknown,
  type EndOrder,
  type RefreshOrder,
  type Refused,
  type ShareOrder,
} from '../session/session.js';
import { SessionStore, type Sweep } from '../session/session-store.js';
import { checkSchema } from './check-schema.js';
import { Checking } from './checking.js';
import { LateEnds } from './late-ends.js';
import { toEndedSession, type EndedRow } from './ended-row.js';
import { PrimaryDatabase, TIME_LEFT } from './primary-database.js';
import { admissionStatement, type AdmissionSettings, type Statement } from './admission-statement.js';
import { endingStatements } from './ending-statements.js';
import { markingStatements, type MarkingSettings } from './marking-statements.js';
import { sweepStatements, type SweepSettings } from './sweep-statements.js';
import { Sweeping } from './sweeping.js';
import { checkFunctionName, quotedTableNames, type Tables } from './table-names.js';

export type StoreSettings = Omit<AdmissionSettings & MarkingSettings & SweepSettings, keyof Tables>;

/** `late`: not in the snapshot of the statement that ended it, see {@link LateEnds}. */
type EndRow = EndedRow & { late?: boolean };

type AdmittedRow = Pick<Admitted, 'first' | 'exempt' | 'logins'> & Pick<Refused, 'displaces'>;

const UNIQUE_VIOLATION = '23505';

const statements = (settings: MarkingSettings) => ({
  ...endingStatements(settings),
  ...markingStatements(settings),
});

/**
 * Sessions in PostgreSQL, through the application's TypeORM data source. Each method decides in one statement; what is dead stays
 * dead whatever snapshot it is read from. Locks are taken in one order, so that statements wait for each other and never
 * deadlock: first the slots row, then session rows by id.
 */
export class TypeOrmSessionStore extends SessionStore {
  private readonly sql: ReturnType<typeof statements>;
  private readonly admission: (admission: Admission) => Statement;
  private readonly database: PrimaryDatabase;
  private readonly checking: Checking;
  private readonly sweeping: Sweeping;
  private readonly lateEnds: LateEnds;

  constructor(
    private readonly dataSource: DataSource,
    given: StoreSettings,
  ) {
    super();
    const settings = { ...given, ...quotedTableNames(dataSource) };
    this.sql = statements(settings);
    this.admission = admissionStatement(settings);
    this.database = new PrimaryDatabase(dataSource);
    this.checking = new Checking(this.database, settings, checkFunctionName(dataSource));
    this.sweeping = new Sweeping(this.database, sweepStatements(settings), settings.idleTimeout);
    this.lateEnds = new LateEnds(this.database, settings.sessions);
  }

  async prepare(): Promise<void> {
    await checkSchema(this.dataSource);
    await this.checking.prepare();
  }

  async admit(admission: Admission): Promise<AdmissionResult> {
    const { sql, parameters } = this.admission(admission);
    try {
      const [row] = await this.database.run<AdmittedRow>(sql, parameters);
      if (row === undefined)
        return { outcome: (await this.isEntitled(admission)) ? 'no-room' : 'not-entitled' };
      const { displaces, ...admitted } = row;
      return displaces ? { outcome: 'no-room', displaces } : { outcome: 'admitted', ...admitted };
    } catch (error) {
      // The only unique key that the statement does not handle itself is the session's id.
      if ((error as { code?: unknown }).code === UNIQUE_VIOLATION) return { outcome: 'exists' };
      throw error;
    }
  }

  private async isEntitled({ identity, limit, onLimit, entitledBy }: Admission): Promise<boolean> {
    if (entitledBy === null) return true;
    if (onLimit === 'evict') return false;
    const [found] = await this.verify([{ id: entitledBy, limit }]);
    if (found instanceof Error) throw found;
    return found!.live && found!.userId === identity.id;
  }

  async share({ ids, loginId, userId, limit }: ShareOrder): Promise<string | undefined> {
    const parameters = [ids, userId, limit, loginId];
    const [shared] = await this.database.run<{ id: string }>(this.sql.share, parameters);
    return shared?.id;
  }

  verify(checks: readonly Check[]): Promise<(CheckResult | Error)[]> {
    return this.checking.verify(checks);
  }

  async end(order: EndOrder): Promise<EndedSession[]> {
    const { target, reason, by } = order;
    const rows = await this.database.run<EndRow>(this.sql.end[target.scope], parametersOf(order));
    const ended = rows.filter(({ late }) => !late);
    const late = rows.filter((row) => row.late).map(({ id }) => id);
    const lateReason = target.scope === 'everywhere' ? 'logout-everywhere' : reason;
    return [...ended, ...(await this.lateEnds.write(late, lateReason, by))].map(toEndedSession);
  }

  async recordEnded({ id, identity, origin, reason }: EndedUnknown): Promise<boolean> {
    const { id: userId, username, roles } = identity;
    const parameters = [id, userId, username, roles, origin.ip, origin.userAgent, reason];
    return (await this.database.run(this.sql.recordEnded, parameters)).length > 0;
  }

  async markUsers(userIds: readonly string[]): Promise<EndedSession[]> {
    return (await this.database.run<EndedRow>(this.sql.markUsers, [userIds])).map(toEndedSession);
  }

  async markChecked({ id, limit }: Check): Promise<EndedSession[]> {
    return (await this.database.run<EndedRow>(this.sql.markChecked, [id, limit])).map(toEndedSession);
  }

  async refresh({ id, roles, administrator, protected: isProtected }: RefreshOrder): Promise<void> {
    await this.database.run(this.sql.refresh, [id, roles, administrator, isProtected]);
  }

  async seen(ids: readonly string[]): Promise<void> {
    await this.database.run(this.sql.seen, [ids]);
  }

  sweep(): Promise<Sweep> {
    return this.sweeping.batch();
  }
}

/** As the statements of {@link endingStatements} number them. */
function parametersOf({ target, reason, by, limit }: EndOrder): unknown[] {
  if (target.scope === 'user') return [target.userId, reason, by, TIME_LEFT];
  const own = [target.sessionId, reason, by, target.userId ?? null, limit];
  if (target.scope === 'session') return own;
  if (target.scope === 'login') return [...own, target.loginId];
  return target.scope === 'others' ? [...own, TIME_LEFT] : [...own, TIME_LEFT, target.roles ?? null];
}
