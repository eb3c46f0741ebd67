import type pg from 'pg';
import type { DataSource, QueryRunner } from 'typeorm';
import { ANSWER_WITHIN_MS } from '../session/answered.js';
import { hangingUpAt } from './hang-up.js';
import { isRefusal, StatementNames } from './statement-names.js';

/** What a statement gave. */
export interface Result<Row> {
  records: Row[];
  affected: number;
}

/** Runs statements on the primary, always: with TypeORM's `replication` a replica may still show what was ended. */
export class PrimaryDatabase {
  private readonly names: StatementNames;

  constructor(
    private readonly dataSource: DataSource,
    preparedStatements = false,
  ) {
    this.names = new StatementNames(preparedStatements);
  }

  /** Hangs up after `withinMs` milliseconds: what nobody waits for any more must not run late. */
  run<Row>(sql: string, parameters: unknown[], withinMs = ANSWER_WITHIN_MS): Promise<Result<Row>> {
    return this.onConnection(withinMs, async (runner) => {
      const { records, affected } = await runner.query(sql, parameters, true);
      return { records: records as Row[], affected: affected ?? 0 };
    });
  }

  /** As {@link run}, for what runs at every request or login: as a prepared statement where the options allow it. */
  async runOften<Row>(sql: string, parameters: unknown[]): Promise<Result<Row>> {
    const name = this.names.of(sql);
    if (name === undefined) return this.run(sql, parameters);
    const deadline = performance.now() + ANSWER_WITHIN_MS;
    try {
      return await this.onConnection(ANSWER_WITHIN_MS, (runner, client) =>
        this.runNamed(name, sql, parameters, runner, client),
      );
    } catch (error) {
      if (!isRefusal(error)) throw error;
      this.names.giveUp(error);
      return this.run(sql, parameters, deadline - performance.now());
    }
  }

  // TypeORM knows no names. Its log shows the statement all the same.
  private async runNamed<Row>(
    name: string,
    sql: string,
    parameters: unknown[],
    runner: QueryRunner,
    client: pg.ClientBase,
  ): Promise<Result<Row>> {
    const { logger } = this.dataSource;
    logger.logQuery(sql, parameters, runner);
    try {
      const { rows, rowCount } = await client.query({ name, text: sql, values: parameters });
      return { records: rows as Row[], affected: rowCount ?? 0 };
    } catch (error) {
      logger.logQueryError(error as Error, sql, parameters, runner);
      throw error;
    }
  }

  private async onConnection<Row>(
    withinMs: number,
    query: (runner: QueryRunner, client: pg.ClientBase) => Promise<Result<Row>>,
  ): Promise<Result<Row>> {
    const deadline = performance.now() + withinMs;
    const runner = this.dataSource.createQueryRunner('master');
    try {
      const client = (await runner.connect()) as pg.ClientBase;
      return await hangingUpAt(deadline, client, () => query(runner, client));
    } finally {
      await runner.release();
    }
  }
}
