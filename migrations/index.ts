import { MigrationExecutor, type DataSource } from 'typeorm';
import { CreateSingleSession1763700000000 } from './1763700000000-create-single-session.js';
import { AddAdministration1763900000000 } from './1763900000000-add-administration.js';
import { AddLogins1764000000000 } from './1764000000000-add-logins.js';
import { LeaveRoomInPages1764100000000 } from './1764100000000-leave-room-in-pages.js';
import { AddCheckFunction1764300000000 } from './1764300000000-add-check-function.js';

/** Spread into the `migrations` of your data source. */
export const singleSessionMigrations = [
  CreateSingleSession1763700000000,
  AddAdministration1763900000000,
  AddLogins1764000000000,
  LeaveRoomInPages1764100000000,
  AddCheckFunction1764300000000,
];

const LOCK = "hashtext('nestjs-single-session:run-migrations')";

/**
 * Runs all pending migrations of an initialized data source, yours and ours, under an advisory lock of the database, so
 * that processes which start at the same moment on an empty database wait for each other. TypeORM itself takes no lock.
 * Needs a direct connection: a pooler in transaction mode breaks locks that outlive a statement.
 */
export async function runMigrationsOnce(dataSource: DataSource): Promise<void> {
  const runner = dataSource.createQueryRunner('master');
  try {
    await runner.query(`SELECT pg_advisory_lock(${LOCK})`);
    // Over the connection that holds the lock: a pool may have no second one.
    await new MigrationExecutor(dataSource, runner).executePendingMigrations();
  } finally {
    // A connection that is gone has let go of the lock, and must not hide what failed.
    await runner.query(`SELECT pg_advisory_unlock(${LOCK})`).catch(() => undefined);
    await runner.release();
  }
}
