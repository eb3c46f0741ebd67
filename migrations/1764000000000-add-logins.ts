import { TableColumn, type MigrationInterface, type QueryRunner } from 'typeorm';
import { tableNames } from '../src/typeorm/table-names.js';
import { column, list } from './column.js';

const LOGINS = new TableColumn(column('logins', 'uuid', { ...list, default: "'{}'" }));

/** The logins that carry a session. No row is rewritten. */
export class AddLogins1764000000000 implements MigrationInterface {
  readonly name = 'AddLogins1764000000000';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query("SELECT pg_advisory_xact_lock(hashtext('nestjs-single-session:migrate'))");
    const { sessions } = tableNames(runner.connection);
    if (await runner.hasColumn(sessions.path, LOGINS.name)) return;
    await runner.addColumn(sessions.path, LOGINS);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.dropColumn(tableNames(runner.connection).sessions.path, LOGINS.name);
  }
}
