import type { MigrationInterface, QueryRunner } from 'typeorm';
import { writeCheckFunction } from './1764500000000-add-check-function.js';

/**
 * Lets the check look at what is there once it has the locks of its tables. A function that is stable looks through the
 * snapshot of its caller, which was taken before the wait, and there a table that was rewritten meanwhile is empty
 * (https://www.postgresql.org/docs/current/mvcc-caveats.html): sessions were unknown, and cut-offs did not count. Its text
 * stays as it is.
 */
export class LookAfterWaiting1764700000000 implements MigrationInterface {
  readonly name = 'LookAfterWaiting1764700000000';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query("SELECT pg_advisory_xact_lock(hashtext('nestjs-single-session:migrate'))");
    await writeCheckFunction(runner, 'VOLATILE');
  }

  async down(runner: QueryRunner): Promise<void> {
    await writeCheckFunction(runner, 'STABLE');
  }
}
