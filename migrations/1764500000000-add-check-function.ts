import type { MigrationInterface, QueryRunner } from 'typeorm';
import { checkFunctionName, quotedTableNames } from '../src/typeorm/table-names.js';

/**
 * The check of sessions as a function, which PostgreSQL plans once for each connection and not for each check. A plan that
 * was made for some rows reads the whole table, and would be kept while that grows: 15 ms a check at 100,000 rows. It runs
 * with the rights of whoever calls it. Its text is that of `checkStatement()` in src/typeorm, and stays as it is: another
 * text is another function, in another migration, so that processes of two versions can run side by side.
 */
export class AddCheckFunction1764500000000 implements MigrationInterface {
  readonly name = 'AddCheckFunction1764500000000';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query("SELECT pg_advisory_xact_lock(hashtext('nestjs-single-session:migrate'))");
    // What empties a schema may leave its functions behind, as TypeORM's dropSchema does.
    await this.down(runner);
    await writeCheckFunction(runner, 'STABLE');
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(`DROP FUNCTION IF EXISTS ${await schemaOf(runner)}${signature(runner)}`);
  }
}

/** Makes the function, or makes it anew with the rights that roles have on it. */
export async function writeCheckFunction(
  runner: QueryRunner,
  volatility: 'STABLE' | 'VOLATILE',
): Promise<void> {
  await runner.query(
    `CREATE OR REPLACE FUNCTION ${signature(runner)} RETURNS text LANGUAGE plpgsql ${volatility} SET enable_seqscan = off AS '${body(runner).replaceAll("'", "''")}'`,
  );
}

/** Where a name without a schema is created: by name alone, DROP finds that of another application along the search path. */
async function schemaOf(runner: QueryRunner): Promise<string> {
  if ((runner.connection.options as { schema?: string }).schema) return '';
  const [row] = (await runner.query('SELECT quote_ident(current_schema()) AS schema')) as [
    { schema: string },
  ];
  return `${row.schema}.`;
}

const signature = ({ connection }: QueryRunner): string =>
  `${checkFunctionName(connection)} (uuid[], interval, interval)`;

function body({ connection }: QueryRunner): string {
  const { sessions, slots, cutoffs } = quotedTableNames(connection);
  return `BEGIN
  RETURN (SELECT CASE WHEN NOT pg_is_in_recovery() THEN to_json(ARRAY(SELECT (SELECT json_build_array(s.id, s.user_id, extract(epoch FROM s.ended_at) * 1000,
      CASE WHEN s.ended_at IS NOT NULL THEN s.end_reason ELSE CASE WHEN s.expires_at <= now() THEN 'expired' WHEN s.last_seen_at + $2::interval <= now() THEN 'idle'
        WHEN EXISTS (SELECT FROM ${cutoffs} c WHERE s.cutoff < c.id AND NOT (COALESCE(s.held_roles, s.roles) && c.roles OR (c.administrators AND s.administrator)
          OR s.user_id = ANY(c.user_ids) OR s.username = ANY(c.usernames))) THEN 'cut-off' END END,
      (SELECT CASE WHEN s.exempt THEN (s.generation > u.floor)::int ELSE array_position(u.active, s.id) END
        FROM ${slots} u WHERE u.user_id = s.user_id),
      s.last_seen_at <= now() - $3::interval, array_to_string(s.roles, chr(31)), s.administrator)
    FROM ${sessions} s WHERE s.id = asked.id) FROM unnest((SELECT $1::uuid[])) AS asked (id)))::text END AS answer);
END`;
}
