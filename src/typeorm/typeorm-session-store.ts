import type { DataSource } from 'typeorm';
import {
  isEndReason,
  type Admission,
  type AdmissionResult,
  type Check,
  type CheckResult,
  type EndedSession,
  type EndOrder,
  type EndReason,
} from '../session/session.js';
import { ANSWER_WITHIN_MS } from '../session/answered.js';
import { SessionStore } from '../session/session-store.js';
import { checkSchema } from './check-schema.js';
import { hangingUpAt } from './hang-up.js';
import { BATCH, statements, type Statements, type StatementSettings } from './statements.js';
import { tableNames } from './table-names.js';

export type StoreSettings = Omit<StatementSettings, 'sessions' | 'slots'>;

interface VerifyRow {
  id: string | null;
  user_id: string;
  ended_at: Date | null;
  over: string | null;
  place: number | null;
  unseen: boolean;
}

interface EndedRow {
  id: string;
  user_id: string;
  end_reason: EndReason;
  /** Not in sight of the statement that ended it. */
  late?: boolean;
}

const UNIQUE_VIOLATION = '23505';
const NO_LIMIT = 2 ** 31 - 1;

/** Sessions in PostgreSQL, through the application's TypeORM data source. Each method is one statement. */
export class TypeOrmSessionStore extends SessionStore {
  private readonly sql: Statements;

  constructor(
    private readonly dataSource: DataSource,
    settings: StoreSettings,
  ) {
    super();
    const names = tableNames(dataSource);
    this.sql = statements({ ...settings, sessions: names.sessions.sql, slots: names.slots.sql });
  }

  async prepare(): Promise<void> {
    await checkSchema(this.dataSource);
  }

  async admit(admission: Admission): Promise<AdmissionResult> {
    const { id, exempt, limit, replaces, entitledBy } = admission;
    const { id: userId, username, roles } = admission.identity;
    const { ip, userAgent } = admission.origin;
    const reject = admission.onLimit === 'reject';
    const parameters = [
      id,
      userId,
      exempt,
      limit,
      reject,
      username,
      replaces,
      roles,
      ip,
      userAgent,
      entitledBy ?? null,
    ];
    try {
      const { records } = await this.run<{ first: boolean }>(this.sql.admit, parameters);
      if (records[0] === undefined) return 'no-room';
      return records[0].first ? 'admitted-first' : 'admitted';
    } catch (error) {
      // The only unique key that the statement does not handle itself is the session's id.
      if ((error as { code?: unknown }).code === UNIQUE_VIOLATION) return 'exists';
      throw error;
    }
  }

  async verify(checks: readonly Check[]): Promise<CheckResult[]> {
    const { records } = await this.run<VerifyRow>(this.sql.verify, [checks.map(({ id }) => id)]);
    const asked = records.pop();
    if (asked?.id !== null || asked.place !== checks.length) throw new Error('the answer is not whole');
    const rows = new Map(records.map((row) => [row.id, row]));
    return checks.map(({ id, limit }) => toCheckResult(rows.get(id.toLowerCase()), limit));
  }

  async end({ target, reason, by, limit = NO_LIMIT }: EndOrder): Promise<EndedSession[]> {
    const parameters =
      target.scope === 'user'
        ? [target.userId, reason, by]
        : [target.sessionId, reason, by, target.userId ?? null, limit];
    const { records } = await this.run<EndedRow>(this.sql.end[target.scope], parameters);
    const ended = records.filter(({ late }) => !late);
    const late = records.filter((row) => row.late).map(({ id }) => id);
    if (late.length > 0)
      ended.push(
        ...(await this.endLate(late, target.scope === 'everywhere' ? 'logout-everywhere' : reason, by)),
      );
    return ended.map(toEndedSession);
  }

  async markUsers(userIds: readonly string[]): Promise<EndedSession[]> {
    const { records } = await this.run<EndedRow>(this.sql.markUsers, [userIds]);
    return records.map(toEndedSession);
  }

  async markChecked({ id, limit }: Check): Promise<EndedSession[]> {
    const { records } = await this.run<EndedRow>(this.sql.markChecked, [id, limit]);
    return records.map(toEndedSession);
  }

  async seen(ids: readonly string[]): Promise<void> {
    await this.run(this.sql.seen, [ids]);
  }

  async sweep(): Promise<boolean> {
    const expired = await this.run(this.sql.sweepExpired, []);
    const ended = await this.run<{ gone: number }>(this.sql.sweepEnded, []);
    return expired.affected === BATCH || ended.records[0]?.gone === BATCH;
  }

  private async endLate(ids: string[], reason: EndReason, by: string | null): Promise<EndedRow[]> {
    const { records } = await this.run<EndedRow>(this.sql.endLate, [ids, reason, by]);
    return records;
  }

  // The primary, always: with TypeORM's `replication` a replica may still show what was ended.
  private async run<Row>(sql: string, parameters: unknown[]): Promise<{ records: Row[]; affected: number }> {
    const deadline = performance.now() + ANSWER_WITHIN_MS;
    const runner = this.dataSource.createQueryRunner('master');
    try {
      const client: unknown = await runner.connect();
      const { records, affected } = await hangingUpAt(deadline, client, () =>
        runner.query(sql, parameters, true),
      );
      return { records: records as Row[], affected: affected ?? 0 };
    } finally {
      await runner.release();
    }
  }
}

const UNKNOWN: CheckResult = {
  live: false,
  reason: 'unknown',
  endedAt: null,
  userId: null,
  unmarked: false,
  unseen: false,
};

/** @throws Error for a row that is none of ours: what cannot be read is not taken for a yes */
function toCheckResult(row: VerifyRow | undefined, limit: number): CheckResult {
  if (row === undefined) return UNKNOWN;
  const { user_id: userId, ended_at: endedAt, over, place, unseen } = row;
  if (typeof userId !== 'string' || !isPlace(place) || !isEnd(over, endedAt))
    throw new Error('the row of a session is not readable');
  if (over === null && place !== null && place >= 1 && place <= limit)
    return { live: true, userId, unmarked: false, unseen };
  // A reason that a newer version wrote is a reason all the same.
  const reason = over === null ? 'superseded' : isEndReason(over) ? over : 'unknown';
  return { live: false, reason, endedAt, userId, unmarked: endedAt === null, unseen: false };
}

const isPlace = (place: unknown): place is number | null => place === null || Number.isInteger(place);

function isEnd(over: unknown, endedAt: unknown): boolean {
  if (endedAt === null) return over === null || isEndReason(over);
  return endedAt instanceof Date && typeof over === 'string';
}

const toEndedSession = ({ id, user_id, end_reason }: EndedRow): EndedSession => ({
  id,
  userId: user_id,
  reason: end_reason,
});
