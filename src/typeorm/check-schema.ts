import { Logger } from '@nestjs/common';
import type { DataSource } from 'typeorm';
import { ENTITIES, singleSessionEntities } from './entities.js';
import { newClient } from './pool.js';
import { PrimaryDatabase } from './primary-database.js';
import { tableNames, type TableName, type TableNames } from './table-names.js';
import { toDate } from './to-date.js';

const UNDEFINED_TABLE = '42P01';
const UNDEFINED_COLUMN = '42703';
const INSUFFICIENT_PRIVILEGE = '42501';

/** @throws Error when the data source cannot hold sessions, saying what to write */
export async function checkSchema(dataSource: DataSource): Promise<void> {
  checkDriver(dataSource);
  for (const entity of singleSessionEntities) checkEntity(dataSource, entity);
  const names = tableNames(dataSource);
  for (const [table, entity] of Object.entries(ENTITIES))
    await checkTable(dataSource, entity, names[table as keyof TableNames]);
  await checkRights(dataSource, Object.values(names));
  await checkRowSecurity(dataSource, Object.values(names));
  await checkPrimary(dataSource);
  await checkTimes(dataSource);
  await checkValues(dataSource);
  await checkIsolation(dataSource);
  await checkEncoding(dataSource);
  checkHangingUp(dataSource);
}

function checkDriver({ options }: DataSource): void {
  if (options.type === 'postgres') return;
  throw new Error(
    `nestjs-single-session keeps sessions in PostgreSQL, but this data source is of type "${options.type}". ` +
      "Add a data source with TypeOrmModule.forRoot({ name: 'sessions', type: 'postgres', ... }) and write SingleSessionModule.forRoot({ dataSource: 'sessions' }).",
  );
}

function checkEntity(dataSource: DataSource, entity: Function): void {
  if (dataSource.hasMetadata(entity)) return;
  throw new Error(
    `The entity ${entity.name} of nestjs-single-session is not in your data source. Write \`autoLoadEntities: true\`, or ` +
      "`entities: [..., ...singleSessionEntities]` with `import { singleSessionEntities } from 'nestjs-single-session'`, in TypeOrmModule.forRoot(). If you mean another data source, name it: SingleSessionModule.forRoot({ dataSource: '<its name>' }).",
  );
}

async function checkTable(dataSource: DataSource, entity: Function, table: TableName): Promise<void> {
  const { columns } = dataSource.getMetadata(entity);
  const names = columns.map(
    ({ givenDatabaseName, propertyName }) => `"${givenDatabaseName ?? propertyName}"`,
  );
  await onPrimary(dataSource, `SELECT ${names.join(', ')} FROM ${table.sql} LIMIT 0`).catch(
    (error: unknown) => {
      // `checkRights` says which right.
      if ((error as { code?: string }).code !== INSUFFICIENT_PRIVILEGE) throw explained(error, table.path);
    },
  );
}

function explained(error: unknown, table: string): unknown {
  const { code, message } = error as { code?: string; message: string };
  if (code !== UNDEFINED_TABLE && code !== UNDEFINED_COLUMN) return error;
  return new Error(
    `The table ${table} of nestjs-single-session is missing or out of date (${message}). Add ` +
      "`migrations: [...singleSessionMigrations]` with `import { singleSessionMigrations } from 'nestjs-single-session/migrations'` to your data source, " +
      'and run them: `migrationsRun: true`, or `npx typeorm migration:run -d <your data source>`.',
    { cause: error },
  );
}

const RIGHTS = ['SELECT', 'INSERT', 'UPDATE', 'DELETE'];

async function checkRights(dataSource: DataSource, tables: TableName[]): Promise<void> {
  const [missing] = await new PrimaryDatabase(dataSource).run<{ role: string; name: string; rights: string }>(
    `SELECT quote_ident(current_user) AS role, t.name, string_agg(r.name, ', ') AS rights
      FROM unnest($1::text[]) AS t (name), unnest($2::text[]) AS r (name)
      WHERE NOT has_table_privilege(t.name, r.name) GROUP BY t.name ORDER BY t.name`,
    [tables.map(({ sql }) => sql), RIGHTS],
  );
  if (missing === undefined) return;
  const { role, name, rights } = missing;
  throw new Error(
    `The role ${role} of your data source has no right to ${rights} on the table ${name} of nestjs-single-session. Run as its owner: ` +
      `GRANT ${RIGHTS.join(', ')} ON ${tables.map(({ sql }) => sql).join(', ')} TO ${role}.`,
  );
}

// What a policy hides is neither checked nor ended, and the statements would not know.
async function checkRowSecurity(dataSource: DataSource, tables: TableName[]): Promise<void> {
  const [found] = await new PrimaryDatabase(dataSource).run<{ role: string; name: string }>(
    'SELECT quote_ident(current_user) AS role, t.name FROM unnest($1::text[]) AS t (name) WHERE row_security_active(t.name)',
    [tables.map(({ sql }) => sql)],
  );
  if (found === undefined) return;
  const { role, name } = found;
  throw new Error(
    `The table ${name} of nestjs-single-session has row-level security that applies to the role ${role} of your data source: sessions that a policy hides would not be ended. ` +
      `Run as its owner: ALTER TABLE ${name} DISABLE ROW LEVEL SECURITY; or as a superuser: ALTER ROLE ${role} BYPASSRLS.`,
  );
}

// A replica shows for as long as it lags what was ended; a process that only checks would never notice.
async function checkPrimary(dataSource: DataSource): Promise<void> {
  const [row] = await onPrimary<{ transaction_read_only: string }>(dataSource, 'SHOW transaction_read_only');
  if (row!.transaction_read_only === 'off') return;
  throw new Error(
    'nestjs-single-session needs the primary, and this data source is read-only: it is a replica, or default_transaction_read_only is on. A replica would accept sessions that were ended. ' +
      "Give TypeOrmModule.forRoot() the address of the primary, as the `master` of `replication` where there are replicas; or name a data source that has it: SingleSessionModule.forRoot({ dataSource: '<its name>' }).",
  );
}

// At the start, and not when something was written already: what cannot be told then has happened all the same.
async function checkTimes(dataSource: DataSource): Promise<void> {
  const [row] = await onPrimary<{ time: unknown; milliseconds: string }>(
    dataSource,
    'SELECT now() AS time, (extract(epoch FROM now()) * 1000)::bigint::text AS milliseconds',
  );
  const seconds = Math.trunc((toDate(row!.time).getTime() - Number(row!.milliseconds)) / 1_000);
  if (seconds === 0) return;
  throw new Error(
    `Times are read ${seconds} s off. Was pg.types.setTypeParser() given a parser for timestamptz? Let it give a Date, or the text as it is. ` +
      "If not, set DateStyle to 'ISO, MDY' for this database and its role: the driver reads no other.",
  );
}

const SAMPLE_ID = 'a0000000-0000-4000-8000-00000000000f';

/** A value of each other type that our statements give, and whether the driver has made of it what they expect. */
const SAMPLES: { type: string; sql: string; isRead: (value: unknown) => boolean }[] = [
  { type: 'bool', sql: 'true', isRead: Boolean },
  // The text 'f' is true to JavaScript: a login that evicted somebody would be taken for the user's first, of which nobody is told.
  { type: 'bool', sql: 'false', isRead: (value) => !value },
  {
    type: 'uuid',
    sql: `'${SAMPLE_ID}'::uuid`,
    isRead: (value) => typeof value === 'string' && value.toLowerCase() === SAMPLE_ID,
  },
  { type: 'int4', sql: '1::int', isRead: (value) => typeof value === 'number' },
  { type: 'text[]', sql: "ARRAY['a']::text[]", isRead: Array.isArray },
];

async function checkValues(dataSource: DataSource): Promise<void> {
  const selected = SAMPLES.map(({ sql }, place) => `${sql} AS v${place}`);
  const [row] = await onPrimary<Record<string, unknown>>(dataSource, `SELECT ${selected.join(', ')}`);
  const wrong = SAMPLES.find(({ isRead }, place) => !isRead(row![`v${place}`]));
  if (wrong === undefined) return;
  throw new Error(
    `Values of type ${wrong.type} are not read as the driver reads them by itself. Was pg.types.setTypeParser() given a parser for ${wrong.type}, or the data source \`types\` or \`binary\` in \`extra\`? ` +
      "Leave that out, or give the module a data source without it: SingleSessionModule.forRoot({ dataSource: '<its name>' }).",
  );
}

async function checkIsolation(dataSource: DataSource): Promise<void> {
  const [row] = await onPrimary<{ default_transaction_isolation: string }>(
    dataSource,
    'SHOW default_transaction_isolation',
  );
  const isolation = row!.default_transaction_isolation;
  if (isolation === 'read committed') return;
  new Logger('SingleSession').warn(
    `default_transaction_isolation is "${isolation}". The limit holds, but logins, orders and checks that happen at the same time may fail with 503. ` +
      "Set it to 'read committed' for this data source.",
  );
}

async function checkEncoding(dataSource: DataSource): Promise<void> {
  const [row] = await onPrimary<{ server_encoding: string }>(dataSource, 'SHOW server_encoding');
  const encoding = row!.server_encoding;
  // That of SQL_ASCII is whatever it is given.
  if (encoding === 'UTF8' || encoding === 'SQL_ASCII') return;
  new Logger('SingleSession').warn(
    `The database is encoded in ${encoding}. A login gets 503 where a username, a role or the name of a browser has a character that ${encoding} does not. ` +
      "Give the module a data source whose database is in UTF8: SingleSessionModule.forRoot({ dataSource: '<its name>' }).",
  );
}

// TypeORM takes the driver in C wherever it is installed. It gives us neither a stream to break nor a way to cancel.
function checkHangingUp(dataSource: DataSource): void {
  if ('connection' in newClient(dataSource, {})) return;
  new Logger('SingleSession').warn(
    'TypeORM has found pg-native and uses it. The limit holds, but with this driver a connection on which the database falls silent is never given up: it keeps its place in the pool when the database is back, and requests get 503 until the process restarts. ' +
      'Uninstall pg-native, or with TypeORM 1 write `nativeDriver: false` in TypeOrmModule.forRoot().',
  );
}

const onPrimary = <Row>(dataSource: DataSource, sql: string): Promise<Row[]> =>
  new PrimaryDatabase(dataSource).run<Row>(sql, []);
