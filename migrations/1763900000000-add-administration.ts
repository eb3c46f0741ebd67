import {
  Table,
  TableColumn,
  TableIndex,
  type MigrationInterface,
  type QueryRunner,
  type TableColumnOptions,
} from 'typeorm';
import { tableNames } from '../src/typeorm/table-names.js';
import { column, list, optional } from './column.js';

const counter: TableColumnOptions = {
  name: 'id',
  type: 'bigint',
  isPrimary: true,
  isGenerated: true,
  generationStrategy: 'identity',
  generatedIdentity: 'ALWAYS',
};

const UNMARKED_BY_USER = { columnNames: ['user_id'], where: 'ended_at IS NULL' };
const LISTINGS = [
  { columnNames: ['user_id', 'ended_at'] },
  { columnNames: ['username', 'ended_at'] },
  { columnNames: ['created_at', 'id'], where: 'ended_at IS NULL' },
  { columnNames: ['created_at', 'id'], where: 'ended_at IS NOT NULL' },
  { columnNames: ['cutoff'], where: 'ended_at IS NULL' },
  { columnNames: ['administrator'], where: 'administrator' },
];
const ROLES = { columnNames: ['roles'] };

const IN_SESSIONS = [
  column('held_roles', 'text', { ...list, ...optional }),
  column('administrator', 'boolean', { default: false }),
  column('cutoff', 'bigint', { default: "'0'" }),
];
const IN_SLOTS = [
  column('protected_generation', 'bigint', { default: "'0'" }),
  column('cutoff', 'bigint', { default: "'0'" }),
  column('storm_since', 'timestamptz', { default: "'-infinity'" }),
  column('storm_logins', 'integer', { default: 0 }),
  column('storm_before', 'integer', { default: 0 }),
];

/**
 * Cut-offs, exemptions at run time, the record of actions, and what sessions and slots must carry for them. No row is
 * rewritten; the indices are built while logins wait, some seconds for a million sessions.
 */
export class AddAdministration1763900000000 implements MigrationInterface {
  readonly name = 'AddAdministration1763900000000';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query("SELECT pg_advisory_xact_lock(hashtext('nestjs-single-session:migrate'))");
    const { sessions, slots, cutoffs, exemptions, actions } = tableNames(runner.connection);
    if (await runner.hasTable(cutoffs.path)) return;
    await runner.addColumns(sessions.path, columns(IN_SESSIONS));
    await runner.addColumns(slots.path, columns(IN_SLOTS));
    await runner.dropIndex(sessions.path, await this.index(runner, UNMARKED_BY_USER));
    await runner.createIndices(
      sessions.path,
      LISTINGS.map((listing) => new TableIndex(listing)),
    );
    // TypeORM 0.3 knows no kinds of index.
    const roles = await this.index(runner, ROLES);
    await runner.query(`CREATE INDEX "${roles}" ON ${sessions.sql} USING gin (roles)`);
    await runner.createTable(cutoffsTable(cutoffs.path));
    await runner.createTable(exemptionsTable(exemptions.path));
    await runner.createTable(actionsTable(actions.path));
  }

  async down(runner: QueryRunner): Promise<void> {
    const { sessions, slots, cutoffs, exemptions, actions } = tableNames(runner.connection);
    await runner.query(endCovered(sessions.sql, cutoffs.sql));
    for (const { path } of [actions, exemptions, cutoffs]) await runner.dropTable(path, true);
    for (const listing of [...LISTINGS, ROLES])
      await runner.dropIndex(sessions.path, await this.index(runner, listing));
    await runner.createIndex(sessions.path, new TableIndex(UNMARKED_BY_USER));
    await runner.dropColumns(slots.path, columns(IN_SLOTS));
    await runner.dropColumns(sessions.path, columns(IN_SESSIONS));
  }

  /** The index as it is called under the naming strategy. */
  private async index(
    runner: QueryRunner,
    { columnNames, where }: { columnNames: string[]; where?: string },
  ): Promise<string> {
    const { sessions } = tableNames(runner.connection);
    const table = await runner.getTable(sessions.path);
    return runner.connection.namingStrategy.indexName(table ?? sessions.path, columnNames, where);
  }
}

// Whom a cut-off has logged out must not come back when the cut-offs are gone.
const endCovered = (
  sessions: string,
  cutoffs: string,
): string => `UPDATE ${sessions} s SET ended_at = now(), end_reason = 'cut-off'
  WHERE s.ended_at IS NULL AND EXISTS (SELECT FROM ${cutoffs} c WHERE s.cutoff < c.id AND NOT (
    COALESCE(s.held_roles, s.roles) && c.roles OR (c.administrators AND s.administrator)
    OR s.user_id = ANY(c.user_ids) OR s.username = ANY(c.usernames)))`;

const columns = (options: TableColumnOptions[]): TableColumn[] =>
  options.map((option) => new TableColumn(option));

const cutoffsTable = (name: string): Table =>
  new Table({
    name,
    columns: [
      counter,
      column('created_at', 'timestamptz'),
      column('created_by', 'text', optional),
      column('administrators', 'boolean'),
      column('roles', 'text', list),
      column('usernames', 'text', list),
      column('user_ids', 'text', list),
      column('swept', 'boolean', { default: false }),
    ],
  });

const exemptionsTable = (name: string): Table =>
  new Table({
    name,
    columns: [
      column('kind', 'text', { isPrimary: true }),
      column('value', 'text', { isPrimary: true }),
      column('note', 'text', optional),
      column('added_by', 'text', optional),
      column('added_at', 'timestamptz'),
      column('expires_at', 'timestamptz', optional),
    ],
  });

const actionsTable = (name: string): Table =>
  new Table({
    name,
    columns: [
      counter,
      column('at', 'timestamptz'),
      column('by', 'text', optional),
      column('ip', 'inet', optional),
      column('action', 'text'),
      column('ended', 'integer', optional),
      column('users', 'integer', optional),
      column('note', 'text', optional),
      column('target', 'jsonb', optional),
    ],
  });
