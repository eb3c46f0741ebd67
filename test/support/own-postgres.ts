import type { DevPostgres } from '../../tools/dev-postgres.mjs';

/** For what the database of the other specs must not go through. */
export async function startOwnPostgres(): Promise<DevPostgres> {
  const { startDevPostgres } = await import('../../tools/dev-postgres.mjs');
  const given = process.env['DATABASE_URL'];
  delete process.env['DATABASE_URL'];
  const starting = startDevPostgres();
  process.env['DATABASE_URL'] = given;
  return starting;
}
