import type { DataSource } from 'typeorm';

const TABLES = {
  sessions: ['UserSession', 'user_session'],
  slots: ['UserSessionSlots', 'user_session_slots'],
  cutoffs: ['UserSessionCutoff', 'user_session_cutoff'],
  exemptions: ['UserSessionExemption', 'user_session_exemption'],
  actions: ['UserSessionAction', 'user_session_action'],
} as const;
const IDENTIFIER = /^[\p{L}_][\p{L}\p{N}_$-]{0,62}$/u;

/** A table as TypeORM's API takes it (`path`) and as SQL takes it (`sql`, quoted). */
export interface TableName {
  path: string;
  sql: string;
}

export type TableNames = Record<keyof typeof TABLES, TableName>;

/** The same, as the statements want them. */
export type Tables = Record<keyof typeof TABLES, string>;

/** Its number is that of its text: a process keeps asking the one it knows while others have a newer one. */
const CHECK = '_check_1';

/**
 * Our tables under the data source's `schema`, `entityPrefix` and naming strategy. They do not apply to the search
 * path, so raw SQL must name them in full.
 * @throws Error for a name that is no plain identifier: it would become part of every statement
 */
export const tableNames = (dataSource: DataSource): TableNames =>
  ofEach((table) => {
    const parts = partsOf(table, dataSource);
    return { path: parts.join('.'), sql: inSql(parts) };
  });

export const quotedTableNames = (dataSource: DataSource): Tables =>
  ofEach((table) => inSql(partsOf(table, dataSource)));

/** The function that answers checks, beside the sessions' table; quoted. */
export const checkFunctionName = (dataSource: DataSource): string =>
  inSql(partsOf(TABLES.sessions, dataSource, CHECK));

type Named = (typeof TABLES)[keyof typeof TABLES];

function ofEach<Name>(nameOf: (table: Named) => Name): Record<keyof typeof TABLES, Name> {
  const names = Object.entries(TABLES).map(([key, table]) => [key, nameOf(table)]);
  return Object.fromEntries(names) as Record<keyof typeof TABLES, Name>;
}

function partsOf([entity, given]: Named, { namingStrategy, options }: DataSource, suffix = ''): string[] {
  const { schema } = options as { schema?: string };
  const bare = namingStrategy.tableName(entity, given);
  const table = options.entityPrefix ? namingStrategy.prefixTableName(options.entityPrefix, bare) : bare;
  return [...(schema ? [schema] : []), table + suffix];
}

const inSql = (parts: string[]): string => parts.map(quoted).join('.');

function quoted(identifier: string): string {
  if (IDENTIFIER.test(identifier) && Buffer.byteLength(identifier) <= 63) return `"${identifier}"`;
  throw new Error(
    `nestjs-single-session cannot use the schema or table name ${JSON.stringify(identifier.slice(0, 80))}. ` +
      'Give the data source a `schema` and an `entityPrefix` of letters, digits, "_", "-" and "$", together at most 63 bytes long.',
  );
}
