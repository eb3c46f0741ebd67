import { Logger } from '@nestjs/common';
import {
  isEndReason,
  UNKNOWN_SESSION,
  type Check,
  type CheckResult,
  type EndReason,
} from '../session/session.js';
import { checkStatement, type CheckSettings } from './check-statement.js';
import { interval } from './liveness.js';
import type { PrimaryDatabase } from './primary-database.js';

interface Settings extends CheckSettings {
  /** Milliseconds. */
  idleTimeout: number | undefined;
  seenInterval: number;
}

/** What is known of a session, as {@link checkStatement} puts it. */
type Row = [
  id: string,
  userId: string,
  endedAt: number | string | null,
  over: string | null,
  place: number | null,
  unseen: boolean,
  roles: string,
  administrator: boolean,
];

interface Answer {
  answer: string;
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
    this.statement = `SELECT ${name}($1, $2, $3) AS answer`;
    this.timing = [idleTimeout === undefined ? null : interval(idleTimeout), interval(seenInterval)];
  }

  /** @throws Error when nothing can be asked */
  async prepare(): Promise<void> {
    await this.ask([]);
  }

  async verify(checks: readonly Check[]): Promise<CheckResult[]> {
    const ids = checks.map(({ id }) => id.toLowerCase());
    const rows = await this.ask(ids);
    return checks.map(({ limit }, place) => toCheckResult(rows[place], ids[place]!, limit));
  }

  /** One answer for each. */
  private async ask(ids: readonly string[]): Promise<unknown[]> {
    const { statement } = this;
    try {
      const { records } = await this.database.run<Answer>(statement, [ids, ...this.timing]);
      return rowsOf(records, ids.length);
    } catch (error) {
      if (statement === this.plain || !isNotCallable(error)) throw error;
      this.doWithout(error);
      return this.ask(ids);
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
}

/** @throws Error when it is not whole: what is missing must not read as "nobody knows this session" */
function rowsOf([record]: readonly Answer[], count: number): unknown[] {
  const rows: unknown = JSON.parse(record!.answer);
  if (Array.isArray(rows) && rows.length === count) return rows;
  throw new Error('the answer is not whole');
}

/** @throws Error for a row that is none of ours: what cannot be read is not taken for a yes */
function toCheckResult(row: unknown, asked: string, limit: number): CheckResult {
  if (row === null) return UNKNOWN_SESSION;
  if (!isRow(row) || row[0] !== asked) throw new Error('the row of a session is not readable');
  const [, userId, ended, over, place, unseen, roles, administrator] = row;
  const isMarked = ended !== null;
  if (!isMarked && over === null && place !== null && place >= 1 && place <= limit)
    return { live: true, userId, unmarked: false, unseen, roles, administrator };
  return {
    live: false,
    reason: over === null && !isMarked ? 'superseded' : toEndReason(over),
    endedAt: Number.isFinite(ended) ? new Date(ended!) : null,
    userId,
    unmarked: !isMarked,
    unseen: false,
    roles,
    administrator,
  };
}

function isRow(row: unknown): row is Row {
  if (!Array.isArray(row) || row.length !== 8) return false;
  const [id, userId, endedAt, over, place, unseen, roles, administrator] = row as unknown[];
  return (
    [id, userId, roles].every((text) => typeof text === 'string') &&
    [unseen, administrator].every((flag) => typeof flag === 'boolean') &&
    (place === null || Number.isInteger(place)) &&
    isEnd(over, endedAt)
  );
}

// Operators end sessions by hand, too: without a reason, or at a time such as 'infinity', which JSON has as a text. It
// must not fail the others of its batch.
function isEnd(over: unknown, endedAt: unknown): boolean {
  if (endedAt === null) return over === null || isEndReason(over);
  return ['number', 'string'].includes(typeof endedAt) && (over === null || typeof over === 'string');
}

/** A reason that a newer version wrote is a reason all the same. */
const toEndReason = (over: string | null): EndReason => (isEndReason(over) ? over : 'unknown');
