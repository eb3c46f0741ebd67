import { randomBytes } from 'node:crypto';
import pg from 'pg';

const IN_USE = '55006';

/** A database of its own for one spec file, so that spec files can run side by side. */
export async function freshDatabase(settings = ''): Promise<string> {
  const name = `test_${randomBytes(6).toString('hex')}`;
  await onServer((client) => client.query(`CREATE DATABASE ${name} ${settings}`));
  const url = new URL(serverUrl());
  url.pathname = `/${name}`;
  return url.href;
}

/** Drops what freshDatabase() made. Throws when somebody still holds a connection: that is a leak of the test or of the code. */
export async function dropDatabase(url: string): Promise<void> {
  const name = new URL(url).pathname.slice(1);
  await onServer(async (client) => {
    try {
      await client.query(`DROP DATABASE IF EXISTS ${name}`);
    } catch (error) {
      if (!isInUse(error)) throw error;
      const holders = await connectionsTo(client, name);
      await client.query(`DROP DATABASE IF EXISTS ${name} WITH (FORCE)`);
      throw new Error(`Connections were left open, which last ran:\n${holders.join('\n')}`, { cause: error });
    }
  });
}

function serverUrl(): string {
  const url = process.env['DATABASE_URL'];
  if (!url)
    throw new Error('DATABASE_URL is not set: run the tests with `npm test`, whose global set-up sets it.');
  return url;
}

async function onServer(work: (client: pg.Client) => Promise<unknown>): Promise<void> {
  const client = new pg.Client({ connectionString: serverUrl() });
  await client.connect();
  try {
    await work(client);
  } finally {
    await client.end();
  }
}

/** PostgreSQL waits five seconds for connections that are just closing before it says so. */
function isInUse(error: unknown): boolean {
  return error instanceof pg.DatabaseError && error.code === IN_USE;
}

async function connectionsTo(client: pg.Client, name: string): Promise<string[]> {
  const { rows } = await client.query<{ application_name: string; query: string }>(
    'SELECT application_name, query FROM pg_stat_activity WHERE datname = $1',
    [name],
  );
  return rows.map(
    ({ application_name, query }) => `  ${application_name || '(no application_name)'}: ${query}`,
  );
}
