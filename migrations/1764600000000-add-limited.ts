import { TableColumn, type MigrationInterface, type QueryRunner } from 'typeorm';
import { tableNames } from '../src/typeorm/table-names.js';
import { column } from './column.js';

const LIMITED = new TableColumn(column('limited', 'bigint', { default: "'0'" }));

/** The count of logins that were limited. No row is rewritten. */
export class AddLimited1764600000000 implements MigrationInterface {
  readonly name = 'AddLimited1764600000000';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query("SELECT pg_advisory_xact_lock(hashtext('nestjs-single-session:migrate'))");
    const { slots } = tableNames(runner.connection);
    if (await runner.hasColumn(slots.path, LIMITED.name)) return;
    await runner.addColumn(slots.path, LIMITED);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.dropColumn(tableNames(runner.connection).slots.path, LIMITED.name);
  }
}
