import type { MigrationInterface, QueryRunner } from 'typeorm';
import { tableNames } from '../src/typeorm/table-names.js';

const FILLED = 85;

/**
 * Leaves room in each page for new versions of its rows (https://www.postgresql.org/docs/current/storage-hot.html): what is
 * written most often, last-seen and slots, then touches no index. It counts for pages from now on, and nobody waits.
 */
export class LeaveRoomInPages1764100000000 implements MigrationInterface {
  readonly name = 'LeaveRoomInPages1764100000000';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query("SELECT pg_advisory_xact_lock(hashtext('nestjs-single-session:migrate'))");
    for (const table of tablesOf(runner))
      await runner.query(`ALTER TABLE ${table} SET (fillfactor = ${FILLED})`);
  }

  async down(runner: QueryRunner): Promise<void> {
    for (const table of tablesOf(runner)) await runner.query(`ALTER TABLE ${table} RESET (fillfactor)`);
  }
}

function tablesOf({ connection }: QueryRunner): string[] {
  const { sessions, slots } = tableNames(connection);
  return [sessions.sql, slots.sql];
}
