import type { DataSource } from 'typeorm';
import { ANSWER_WITHIN_MS } from '../session/answered.js';
import { hangingUpAt } from './hang-up.js';

/** What a statement gave. */
export interface Result<Row> {
  records: Row[];
  affected: number;
}

/** Runs statements on the primary, always: with TypeORM's `replication` a replica may still show what was ended. */
export class PrimaryDatabase {
  constructor(private readonly dataSource: DataSource) {}

  /** Hangs up after `withinMs` milliseconds: what nobody waits for any more must not run late. */
  async run<Row>(sql: string, parameters: unknown[], withinMs = ANSWER_WITHIN_MS): Promise<Result<Row>> {
    const deadline = performance.now() + withinMs;
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
