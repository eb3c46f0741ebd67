import { createHash } from 'node:crypto';
import { Logger } from '@nestjs/common';

// What PostgreSQL answers, before it runs anything, when a name is not known on this connection (26000), is taken on it
// (42P05), or stands for a plan that the tables have outgrown (0A000): https://www.postgresql.org/docs/current/errcodes-appendix.html
const REFUSALS = new Set<unknown>(['26000', '42P05', '0A000']);

/**
 * Names for statements that run often: PostgreSQL parses and plans a named one once on each connection, not each time.
 * A pooler that hands connections around between transactions may not know the names. Then there are none any more.
 */
export class StatementNames {
  private readonly logger = new Logger('SingleSession');
  private readonly names = new Map<string, string>();

  constructor(private usable: boolean) {}

  /** The name of this text, the same in every process; `undefined` when it has to go without. */
  of(sql: string): string | undefined {
    if (!this.usable) return undefined;
    let name = this.names.get(sql);
    if (name === undefined) this.names.set(sql, (name = nameOf(sql)));
    return name;
  }

  /** From now on there are none. */
  giveUp({ message }: Error): void {
    if (!this.usable) return;
    this.usable = false;
    this.logger.warn(
      `PostgreSQL refused a prepared statement (${message}). It runs without a name now, and so do all others of this process; nothing has failed. ` +
        'The usual cause is a pooler such as PgBouncer in transaction mode: leave preparedStatements out of SingleSessionModule.forRoot(), ' +
        'or set max_prepared_statements in PgBouncer (1.21 or newer), or give the module a data source that goes past the pooler.',
    );
  }
}

/** Whether a statement did not run because of its name. */
export const isRefusal = (error: unknown): error is Error =>
  REFUSALS.has((error as { code?: unknown } | undefined)?.code);

// By its text, so that two versions of this package never mean different statements by one name.
const nameOf = (sql: string): string =>
  `nestjs-single-session:${createHash('sha256').update(sql).digest('hex').slice(0, 16)}`;
