import type { DataSource, QueryRunner } from 'typeorm';
import { ANSWER_WITHIN_MS } from '../session/answered.js';
import { hangingUpAt } from './hang-up.js';
import { interval } from './sql-parts.js';
import { makePoolRecover, warnOfFullPool } from './pool.js';

/** In place of a parameter: for how long the caller still waits for the answer when the statement is sent, as an interval. */
export const TIME_LEFT = Symbol('time left');

/** What it takes an answer to come back. */
const WAY_BACK_MS = 500;

/** Runs statements on the primary, always: with TypeORM's `replication` a replica may still show what was ended. */
export class PrimaryDatabase {
  constructor(private readonly dataSource: DataSource) {}

  /** The rows that the statement gives. Hangs up after `withinMs` milliseconds: what nobody waits for any more must not run late. */
  async run<Row>(sql: string, parameters: unknown[], withinMs = ANSWER_WITHIN_MS): Promise<Row[]> {
    const deadline = performance.now() + withinMs;
    makePoolRecover(this.dataSource);
    const runner = this.dataSource.createQueryRunner('master');
    try {
      const client: unknown = await this.connect(runner, withinMs);
      const { records } = await hangingUpAt(deadline, client, () =>
        runner.query(sql, timed(parameters, deadline), true),
      );
      return records as Row[];
    } finally {
      await runner.release();
    }
  }

  private connect(runner: QueryRunner, withinMs: number): Promise<unknown> {
    return runner.connect().finally(warnOfFullPool(this.dataSource, withinMs));
  }
}

function timed(parameters: unknown[], deadline: number): unknown[] {
  if (!parameters.includes(TIME_LEFT)) return parameters;
  const timeLeft = Math.max(0, Math.floor(deadline - performance.now() - WAY_BACK_MS));
  return parameters.map((parameter) => (parameter === TIME_LEFT ? interval(timeLeft) : parameter));
}
