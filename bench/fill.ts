import { createHash } from 'node:crypto';
import type { DataSource } from 'typeorm';

interface Definition {
  name: string;
  table: string;
  definition: string;
}

const TABLES = "('user_session'::regclass, 'user_session_slots'::regclass)";

/** The id of the n-th user: 36 characters in no order, as UUIDs are. PostgreSQL makes the same. */
export const idOfUser = (n: number): string =>
  createHash('md5')
    .update(String(n))
    .digest('hex')
    .replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');

/**
 * So many rows of sessions, opened one after the other within twenty days: for each user one that is live and one that
 * another login displaced. Every thousandth user is an administrator. The indices are made afterwards, which takes a
 * fraction of the time.
 */
export async function fillInBulk(dataSource: DataSource, size: number): Promise<void> {
  const runner = dataSource.createQueryRunner();
  try {
    await runner.query("SET maintenance_work_mem = '1GB'");
    await runner.query('TRUNCATE user_session, user_session_slots, user_session_cutoff, user_session_action');
    const keys: Definition[] = await runner.query(
      `SELECT conname AS name, conrelid::regclass AS table, pg_get_constraintdef(oid) AS definition
       FROM pg_constraint WHERE contype = 'p' AND conrelid IN ${TABLES}`,
    );
    const indices: Definition[] = await runner.query(
      `SELECT indexrelid::regclass AS name, indrelid::regclass AS table, pg_get_indexdef(indexrelid) AS definition
       FROM pg_index WHERE NOT indisprimary AND indrelid IN ${TABLES}`,
    );
    for (const { name, table } of keys) await runner.query(`ALTER TABLE ${table} DROP CONSTRAINT "${name}"`);
    for (const { name } of indices) await runner.query(`DROP INDEX ${name}`);
    await runner.query(sessionsOf(size / 2));
    await runner.query(
      `INSERT INTO user_session_slots (user_id, generation, active, floor, succession)
       SELECT user_id, generation, ARRAY[id], 0, '{}' FROM user_session WHERE ended_at IS NULL`,
    );
    for (const { name, table, definition } of keys)
      await runner.query(`ALTER TABLE ${table} ADD CONSTRAINT "${name}" ${definition}`);
    for (const { definition } of indices) await runner.query(definition);
    await runner.query('VACUUM ANALYZE user_session, user_session_slots');
  } finally {
    await runner.query('RESET maintenance_work_mem');
    await runner.release();
  }
}

const sessionsOf = (
  users: number,
): string => `INSERT INTO user_session (id, user_id, username, roles, administrator, generation, exempt, created_at, last_seen_at, expires_at,
    ip, user_agent, ended_at, end_reason, replaced_by)
  SELECT gen_random_uuid(), md5(n::text)::uuid::text, 'user' || n || '@example.org',
    CASE WHEN n % 1000 = 0 THEN '{user,admin}'::text[] ELSE '{user}' END, n % 1000 = 0, g, false,
    at, at, at + interval '14 days', ('10.' || n / 65536 % 256 || '.' || n / 256 % 256 || '.' || n % 256)::inet,
    'Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0',
    CASE WHEN g = 1 THEN at + interval '10 days' END, CASE WHEN g = 1 THEN 'superseded' END,
    CASE WHEN g = 1 THEN gen_random_uuid() END
  FROM (SELECT n, g, now() - interval '10 days' * (2 - g + (${users} - n)::float8 / ${users}) AS at
    FROM generate_series(1, 2) g, generate_series(1, ${users}) n) s`;
