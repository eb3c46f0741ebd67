import type { DataSource } from 'typeorm';
import {
  isEndReason,
  UNKNOWN_SESSION,
  type Admission,
  type AdmissionResult,
  type Admitted,
  type Check,
  type CheckResult,
  type EndedSession,
  type EndOrder,
  type ShareOrder,
} from '../session/session.js';
import { SessionStore, type Sweep } from '../session/session-store.js';
import { checkSchema } from './check-schema.js';
import { LateEnds } from './late-ends.js';
import { toEndedSession, type EndedRow } from './ended-row.js';
import { PrimaryDatabase, type Result } from './primary-database.js';
import { admissionStatement, type AdmissionSettings, type Statement } from './admission-statement.js';
import { statements, type Statements, type StatementSettings } from './statements.js';
import { Sweeping } from './sweeping.js';
import { quotedTableNames, type TableNames } from './table-names.js';

export type StoreSettings = Omit<StatementSettings & AdmissionSettings, keyof TableNames> & {
  /** Whether checks and admissions are named statements, which PostgreSQL plans once for each connection. Default `false`. */
  preparedStatements?: boolean;
};

interface VerifyRow {
  id: string | null;
  user_id: string;
  ended_at: Date | null;
  over: string | null;
  place: number | null;
  unseen: boolean;
  roles: string;
  administrator: boolean;
}

/** `late`: not in sight of the statement that ended it. */
type EndRow = EndedRow & { late?: boolean };

type AdmittedRow = Pick<Admitted, 'first' | 'exempt' | 'logins'>;

const UNIQUE_VIOLATION = '23505';
const NO_LIMIT = 2 ** 31 - 1;

/** Sessions in PostgreSQL, through the application's TypeORM data source. Each method is one statement. */
export class TypeOrmSessionStore extends SessionStore {
  private readonly sql: Statements;
  private readonly admission: (admission: Admission) => Statement;
  private readonly database: PrimaryDatabase;
  private readonly sweeping: Sweeping;
  private readonly lateEnds: LateEnds;

  constructor(
    private readonly dataSource: DataSource,
    settings: StoreSettings,
  ) {
    super();
    const names = quotedTableNames(dataSource);
    this.sql = statements({ ...settings, ...names });
    this.admission = admissionStatement({ ...settings, ...names });
    this.database = new PrimaryDatabase(dataSource, settings.preparedStatements);
    this.sweeping = new Sweeping(this.database, this.sql, settings.idleTimeout);
    this.lateEnds = new LateEnds(this.database, names.sessions);
  }

  async prepare(): Promise<void> {
    await checkSchema(this.dataSource);
  }

  async admit(admission: Admission): Promise<AdmissionResult> {
    const { sql, parameters } = this.admission(admission);
    try {
      const { records } = await this.database.runOften<AdmittedRow>(sql, parameters);
      return records[0] === undefined ? { outcome: 'no-room' } : { outcome: 'admitted', ...records[0] };
    } catch (error) {
      // The only unique key that the statement does not handle itself is the session's id.
      if ((error as { code?: unknown }).code === UNIQUE_VIOLATION) return { outcome: 'exists' };
      throw error;
    }
  }

  async share({ ids, loginId, userId, limit }: ShareOrder): Promise<string | undefined> {
    const { records } = await this.database.run<{ id: string }>(this.sql.share, [
      ids,
      userId,
      limit,
      loginId,
    ]);
    return records[0]?.id;
  }

  async verify(checks: readonly Check[]): Promise<CheckResult[]> {
    const ids = checks.map(({ id }) => id.toLowerCase());
    const { records } = await this.rowsOf(ids);
    const rows = new Map(records.map((row) => [row.id, row]));
    const unknown = ids.filter((id) => !rows.has(id));
    if (unknown.length > 0) for (const row of await this.confirmUnknown(unknown)) rows.set(row.id, row);
    return checks.map(({ limit }, place) => toCheckResult(rows.get(ids[place]!), limit));
  }

  // PostgreSQL keeps the plan for one id; for a few in an array it makes a new one each time, prepared or not.
  private rowsOf(ids: readonly string[]): Promise<Result<VerifyRow>> {
    return ids.length === 1
      ? this.database.runOften(this.sql.verifyOne, [ids[0]])
      : this.database.runOften(this.sql.verify, [ids]);
  }

  private async confirmUnknown(ids: readonly string[]): Promise<VerifyRow[]> {
    const { records } = await this.database.run<VerifyRow>(this.sql.verifyUnknown, [ids]);
    const asked = records.pop();
    if (asked?.id !== null || asked.place !== ids.length) throw new Error('the answer is not whole');
    return records;
  }

  async end({ target, reason, by, limit = NO_LIMIT }: EndOrder): Promise<EndedSession[]> {
    const parameters =
      target.scope === 'user'
        ? [target.userId, reason, by]
        : [
            target.sessionId,
            reason,
            by,
            target.userId ?? null,
            limit,
            ...(target.scope === 'login' ? [target.loginId] : []),
          ];
    const { records } = await this.database.run<EndRow>(this.sql.end[target.scope], parameters);
    const ended = records.filter(({ late }) => !late);
    const late = records.filter((row) => row.late).map(({ id }) => id);
    const lateReason = target.scope === 'everywhere' ? 'logout-everywhere' : reason;
    return [...ended, ...(await this.lateEnds.write(late, lateReason, by))].map(toEndedSession);
  }

  async markUsers(userIds: readonly string[]): Promise<EndedSession[]> {
    const { records } = await this.database.run<EndedRow>(this.sql.markUsers, [userIds]);
    return records.map(toEndedSession);
  }

  async markChecked({ id, limit }: Check): Promise<EndedSession[]> {
    const { records } = await this.database.run<EndedRow>(this.sql.markChecked, [id, limit]);
    return records.map(toEndedSession);
  }

  async refresh({ id, roles, administrator }: Parameters<SessionStore['refresh']>[0]): Promise<void> {
    await this.database.run(this.sql.refresh, [id, roles, administrator]);
  }

  async seen(ids: readonly string[]): Promise<void> {
    await this.database.run(this.sql.seen, [ids]);
  }

  sweep(): Promise<Sweep> {
    return this.sweeping.batch();
  }
}

/** @throws Error for a row that is none of ours: what cannot be read is not taken for a yes */
function toCheckResult(row: VerifyRow | undefined, limit: number): CheckResult {
  if (row === undefined) return UNKNOWN_SESSION;
  const { user_id: userId, ended_at: endedAt, over, place, unseen, roles, administrator } = row;
  if (typeof userId !== 'string' || typeof roles !== 'string' || !isPlace(place) || !isEnd(over, endedAt))
    throw new Error('the row of a session is not readable');
  if (over === null && place !== null && place >= 1 && place <= limit)
    return { live: true, userId, unmarked: false, unseen, roles, administrator };
  // A reason that a newer version wrote is a reason all the same.
  const reason = over === null ? 'superseded' : isEndReason(over) ? over : 'unknown';
  const unmarked = endedAt === null;
  return { live: false, reason, endedAt, userId, unmarked, unseen: false, roles, administrator };
}

const isPlace = (place: unknown): place is number | null => place === null || Number.isInteger(place);

function isEnd(over: unknown, endedAt: unknown): boolean {
  if (endedAt === null) return over === null || isEndReason(over);
  return endedAt instanceof Date && typeof over === 'string';
}
