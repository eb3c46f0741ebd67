import { Table, type MigrationInterface, type QueryRunner } from 'typeorm';
import { tableNames } from '../src/typeorm/table-names.js';
import { column, list, optional } from './column.js';

/** The tables of nestjs-single-session, under the data source's schema, table prefix and naming strategy. */
export class CreateSingleSession1763700000000 implements MigrationInterface {
  readonly name = 'CreateSingleSession1763700000000';

  async up(runner: QueryRunner): Promise<void> {
    // TypeORM takes no lock: of two processes that migrate at once, the second waits here and finds the tables made.
    await runner.query("SELECT pg_advisory_xact_lock(hashtext('nestjs-single-session:migrate'))");
    const { sessions, slots } = tableNames(runner.connection);
    await runner.createTable(sessionsTable(sessions.path), true);
    await runner.createTable(slotsTable(slots.path), true);
  }

  async down(runner: QueryRunner): Promise<void> {
    const { sessions, slots } = tableNames(runner.connection);
    await runner.dropTable(slots.path, true);
    await runner.dropTable(sessions.path, true);
  }
}

const sessionsTable = (name: string): Table =>
  new Table({
    name,
    columns: [
      column('id', 'uuid', { isPrimary: true }),
      column('user_id', 'text'),
      column('username', 'text'),
      column('roles', 'text', list),
      column('generation', 'bigint'),
      column('exempt', 'boolean'),
      column('created_at', 'timestamptz'),
      column('last_seen_at', 'timestamptz'),
      column('expires_at', 'timestamptz'),
      column('ip', 'inet', optional),
      column('user_agent', 'text', optional),
      column('ended_at', 'timestamptz', optional),
      column('end_reason', 'text', optional),
      column('ended_by', 'text', optional),
      column('replaced_by', 'uuid', optional),
    ],
    indices: [
      { columnNames: ['user_id'], where: 'ended_at IS NULL' },
      { columnNames: ['expires_at'], where: 'ended_at IS NULL' },
      { columnNames: ['ended_at'], where: 'ended_at IS NOT NULL' },
    ],
  });

const slotsTable = (name: string): Table =>
  new Table({
    name,
    columns: [
      column('user_id', 'text', { isPrimary: true }),
      column('generation', 'bigint'),
      column('active', 'uuid', list),
      column('floor', 'bigint'),
      column('succession', 'uuid', list),
    ],
  });
