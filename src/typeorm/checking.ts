import { Logger } from '@nestjs/common';
import { isEndReason, UNKNOWN_SESSION, type Check, type CheckResult } from '../session/session.js';
import { checkStatement } from './check-statement.js';
import type { StatementSettings } from './liveness.js';
import { interval } from './sql-parts.js';
import type { PrimaryDatabase } from './primary-database.js';

/** What is known of a session, as {@link checkStatement} puts it. */
type Row = [
  id: string,
  userId: string,
  endedAt: number | null,
  over: string | null,
  place: number | null,
  unseen: boolean,
  roles: string,
  administrator: boolean,
];

interface Answer {
  /** `null` from a replica. */
  answer: string | null;
}

/** What PostgreSQL answers when a function is not there, or must not be called by this role. */
const NOT_CALLABLE = new Set<unknown>(['42883', '42501']);

/** The function itself: what fails inside of it, for want of a right on a table for example, says where that was. */
function isNotCallable(error: unknown): error is Error {
  const { code, where } = (error ?? {}) as { code?: unknown; where?: string };
  return NOT_CALLABLE.has(code) && where === undefined;
}

/** Who is live: one statement for many checks. */
export class Checking {
  private readonly logger = new Logger('SingleSession');
  private readonly plain: string;
  private readonly timing: [string | null, string];
  private statement: string;

  /** `name`: of the function that runs the statement, quoted. */
  constructor(
    private readonly database: PrimaryDatabase,
    settings: StatementSettings & { seenInterval: number },
    private readonly name: string,
  ) {
    const { idleTimeout, seenInterval } = settings;
    this.plain = checkStatement(settings);
    this.statement = `SELECT ${name}($1, $2, $3) AS answer`;
    this.timing = [idleTimeout === undefined ? null : interval(idleTimeout), interval(seenInterval)];
  }

  /** @throws Error when nothing can be asked */
  async prepare(): Promise<void> {
    await this.ask([]);
  }

  async verify(checks: readonly Check[]): Promise<(CheckResult | Error)[]> {
    const ids = checks.map(({ id }) => id.toLowerCase());
    const rows = await this.ask(ids);
    return checks.map(({ limit }, place) => toCheckResult(rows[place], ids[place]!, limit));
  }

  /** One answer for each. */
  private async ask(ids: readonly string[]): Promise<unknown[]> {
    const { statement } = this;
    try {
      return await this.run(statement, ids);
    } catch (error) {
      if (statement === this.plain || !isNotCallable(error)) throw error;
      const rows = await this.run(this.plain, ids);
      // Not before: where the tables are not found either, the function is not at fault.
      this.doWithout(error);
      return rows;
    }
  }

  private async run(statement: string, ids: readonly string[]): Promise<unknown[]> {
    return rowsOf(await this.database.run<Answer>(statement, [ids, ...this.timing]), ids.length);
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
}

/** @throws Error when it is not whole: what is missing must not read as "nobody knows this session" */
function rowsOf([given]: readonly Answer[], count: number): unknown[] {
  const { answer } = given!;
  if (answer === null)
    throw new Error(
      'it is a replica, which may still show ended sessions as live; give the data source the address of the primary',
    );
  const rows: unknown = JSON.parse(answer);
  if (Array.isArray(rows) && rows.length === count) return rows;
  throw new Error('the answer is not whole');
}

/**
 * An Error for a row that is none of ours: what cannot be read is not taken for a yes. Somebody has written it by hand,
 * ended the session without a reason for example, and it must not fail the others of its batch.
 * @throws Error for what is not even the row that was asked for
 */
function toCheckResult(row: unknown, asked: string, limit: number): CheckResult | Error {
  if (row === null) return UNKNOWN_SESSION;
  if (!Array.isArray(row) || row[0] !== asked) throw new Error('the answer is not in order');
  if (!isRow(row)) return new Error(`the row of session ${asked} is not readable`);
  const [, userId, ended, over, place, unseen, roles, administrator] = row;
  if (over === null && place !== null && place >= 1 && place <= limit)
    return { live: true, userId, unmarked: false, unseen, roles, administrator };
  // A reason that a newer version wrote is a reason all the same.
  const reason = over === null ? 'superseded' : isEndReason(over) ? over : 'unknown';
  const endedAt = ended === null ? null : new Date(ended);
  return {
    live: false,
    reason,
    endedAt,
    userId,
    unmarked: ended === null,
    unseen: false,
    roles,
    administrator,
  };
}

function isRow(row: unknown[]): row is Row {
  if (row.length !== 8) return false;
  const [id, userId, endedAt, over, place, unseen, roles, administrator] = row;
  return (
    [id, userId, roles].every((text) => typeof text === 'string') &&
    [unseen, administrator].every((flag) => typeof flag === 'boolean') &&
    (place === null || Number.isInteger(place)) &&
    isEnd(over, endedAt)
  );
}

function isEnd(over: unknown, endedAt: unknown): boolean {
  if (endedAt === null) return over === null || isEndReason(over);
  return Number.isFinite(endedAt) && typeof over === 'string';
}
