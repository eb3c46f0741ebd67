import { setTimeout as sleep } from 'node:timers/promises';
import { MigrationExecutor, type DataSource, type QueryRunner } from 'typeorm';
import { CreateSingleSession1763700000000 } from './1763700000000-create-single-session.js';
import { AddAdministration1763900000000 } from './1763900000000-add-administration.js';
import { AddLogins1764000000000 } from './1764000000000-add-logins.js';
import { LeaveRoomInPages1764100000000 } from './1764100000000-leave-room-in-pages.js';
import { AddCheckFunction1764500000000 } from './1764500000000-add-check-function.js';
import { AddLimited1764600000000 } from './1764600000000-add-limited.js';
import { LookAfterWaiting1764700000000 } from './1764700000000-look-after-waiting.js';

/** Spread into the `migrations` of your data source. */
export const singleSessionMigrations = [
  CreateSingleSession1763700000000,
  AddAdministration1763900000000,
  AddLogins1764000000000,
  LeaveRoomInPages1764100000000,
  AddCheckFunction1764500000000,
  AddLimited1764600000000,
  LookAfterWaiting1764700000000,
];

const LOCK = "hashtext('nestjs-single-session:run-migrations')";
const LOOK_AGAIN_MS = 100;

/**
 * Runs all pending migrations of an initialized data source, yours and ours, under an advisory lock of the database, so
 * that processes which start at the same moment on an empty database wait for each other. TypeORM itself takes no lock.
 * Needs a direct connection: a pooler in transaction mode breaks locks that outlive a statement.
 */
export async function runMigrationsOnce(dataSource: DataSource): Promise<void> {
  const runner = dataSource.createQueryRunner('master');
  try {
    await lock(runner);
    // Over the connection that holds the lock: a pool may have no second one.
    const executor = new MigrationExecutor(dataSource, runner);
    executor.transaction = dataSource.options.migrationsTransactionMode ?? 'all';
    await executor.executePendingMigrations();
  } finally {
    // A connection that is gone has let go of the lock, and must not hide what failed.
    await runner.query(`SELECT pg_advisory_unlock(${LOCK})`).catch(() => undefined);
    await runner.release();
  }
}

// Who waited in a statement would hold a snapshot, and CREATE INDEX CONCURRENTLY of a migration waits until that is gone.
async function lock(runner: QueryRunner): Promise<void> {
  const isLocked = async (): Promise<boolean> => {
    const [row] = (await runner.query(`SELECT pg_try_advisory_lock(${LOCK}) AS locked`)) as [
      { locked: boolean },
    ];
    return row.locked;
  };
  while (!(await isLocked())) await sleep(LOOK_AGAIN_MS);
}
