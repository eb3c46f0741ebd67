import type { Pool } from 'pg';
import type { DataSource } from 'typeorm';

/**
 * Keeps a process alive whose database is shut down in the moment in which it takes a new connection. An 'error' event
 * that nobody hears ends a process, and TypeORM listens a moment after the pool has given it the connection: too late for
 * an error that is read together with the greeting (https://github.com/brianc/node-postgres/issues/2762). What is lost is
 * noticed without it: by the query that fails, and by the pool, which gives out no connection that had an error.
 */
export function surviveLostConnections({ driver }: DataSource): void {
  const { master } = driver as unknown as { master: Pool };
  master.on('connect', (client) => client.on('error', () => undefined));
}
