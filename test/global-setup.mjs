import { startDevPostgres } from '../tools/dev-postgres.mjs';

/** One PostgreSQL for the whole run; every spec file makes a database of its own in it. */
export default async function globalSetup() {
  const postgres = await startDevPostgres();
  process.env.DATABASE_URL = postgres.url;
  globalThis.devPostgres = postgres;
}
