import { Logger } from '@nestjs/common';
import { isEndReason, UNKNOWN_SESSION, type Check, type CheckResult } from '../session/session.js';
import { checkStatement, type CheckSettings } from './check-statement.js';
import { interval } from './liveness.js';
import type { PrimaryDatabase } from './primary-database.js';

interface Settings extends CheckSettings {
  /** Milliseconds. */
  idleTimeout: number | undefined;
  seenInterval: number;
}

interface Row {
  id: string | null;
  user_id: string;
  ended_at: Date | null;
  over: string | null;
  place: number | null;
  unseen: boolean;
  roles: string;
  administrator: boolean;
}

/** What PostgreSQL answers when a function is not there, or must not be called by this role. */
const NOT_CALLABLE = new Set<unknown>(['42883', '42501']);

const isNotCallable = (error: unknown): error is Error =>
  NOT_CALLABLE.has((error as { code?: unknown } | undefined)?.code);

/** Who is live: one statement for many checks. */
export class Checking {
  private readonly logger = new Logger('SingleSession');
  private readonly plain: string;
  private readonly timing: [string | null, string];
  private statement: string;

  /** `name`: of the function that runs the statement, quoted. */
  constructor(
    private readonly database: PrimaryDatabase,
    settings: Settings,
    private readonly name: string,
  ) {
    const { idleTimeout, seenInterval } = settings;
    this.plain = checkStatement(settings);
    this.statement = `SELECT * FROM ${name}($1, $2, $3)`;
    this.timing = [idleTimeout === undefined ? null : interval(idleTimeout), interval(seenInterval)];
  }

  /** @throws Error when nothing can be asked */
  async prepare(): Promise<void> {
    await this.rowsOf([]);
  }

  async verify(checks: readonly Check[]): Promise<CheckResult[]> {
    const ids = checks.map(({ id }) => id.toLowerCase());
    const rows = new Map((await this.rowsOf(ids)).map((row) => [row.id, row]));
    const unknown = ids.filter((id) => !rows.has(id));
    if (unknown.length > 0) for (const row of await this.confirmUnknown(unknown)) rows.set(row.id, row);
    return checks.map(({ limit }, place) => toCheckResult(rows.get(ids[place]!), limit));
  }

  private async rowsOf(ids: readonly string[]): Promise<Row[]> {
    const { statement } = this;
    try {
      return (await this.database.run<Row>(statement, [ids, ...this.timing])).records;
    } catch (error) {
      if (statement === this.plain || !isNotCallable(error)) throw error;
      this.doWithout(error);
      return this.rowsOf(ids);
    }
  }

  private doWithout({ message }: Error): void {
    if (this.statement === this.plain) return;
    this.statement = this.plain;
    this.logger.warn(
      `Checks run as a plain statement from now on, which PostgreSQL plans anew each time, because their function cannot be called (${message}). ` +
        "They decide the same and take longer. Run the migrations of 'nestjs-single-session/migrations', also where `synchronize: true` made the tables, " +
        `let the role of this data source call it, GRANT EXECUTE ON FUNCTION ${this.name} TO <role>, and restart.`,
    );
  }

  // With a last row that repeats how many were asked: an answer that was cut short must not read as "nobody knows these sessions".
  private async confirmUnknown(ids: readonly string[]): Promise<Row[]> {
    const { records } = await this.database.run<Row>(
      `${this.statement} UNION ALL SELECT NULL, NULL, NULL, NULL, cardinality($1), NULL, NULL, NULL`,
      [ids, ...this.timing],
    );
    const asked = records.pop();
    if (asked?.id !== null || asked.place !== ids.length) throw new Error('the answer is not whole');
    return records;
  }
}

/** @throws Error for a row that is none of ours: what cannot be read is not taken for a yes */
function toCheckResult(row: Row | undefined, limit: number): CheckResult {
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
