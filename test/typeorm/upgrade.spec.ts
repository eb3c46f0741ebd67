import { randomUUID } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import type { DataSource } from 'typeorm';
import { singleSessionMigrations } from '../../migrations/index.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { dataSourceOf, times } from '../support/store.js';
import { person, Process } from './administrators.js';

let url: string;

beforeEach(async () => {
  url = await freshDatabase();
});

afterEach(() => dropDatabase(url));

async function migrated<Result>(
  count: number,
  work: (dataSource: DataSource) => Promise<Result>,
): Promise<Result> {
  const migrations = singleSessionMigrations.slice(0, count);
  const dataSource = await dataSourceOf(url, { migrations, migrationsRun: true }).initialize();
  return work(dataSource).finally(() => dataSource.destroy());
}

async function takeBackTo(count: number, dataSource: DataSource): Promise<void> {
  for (const _ of singleSessionMigrations.slice(count)) await dataSource.undoLastMigration();
}

async function onProcess<Result>(work: (process: Process) => Promise<Result>): Promise<Result> {
  const process = await Process.open(url);
  return work(process).finally(() => process.close());
}

/** Sessions as the first version wrote them: enforced ones of a user and of an administrator, an exempt one, an ended one. */
async function firstVersion(dataSource: DataSource): Promise<string[]> {
  const ids = times(4, () => randomUUID());
  const [user, administrator, exempt, ended] = ids;
  await dataSource.query(
    `INSERT INTO user_session_slots (user_id, generation, active, floor, succession)
     VALUES ('u', 7, ARRAY[$1, $2]::uuid[], 3, '{}'), ('a', 5, ARRAY[$3]::uuid[], 0, '{}'), ('w', 9, '{}', 2, '{}')`,
    [user, ended, administrator],
  );
  const row = `gen.id, gen.u, gen.u, gen.roles::text[], gen.g, gen.u = 'w', now(), now(), now() + interval '1 day', gen.ended, gen.reason`;
  await dataSource.query(
    `INSERT INTO user_session (id, user_id, username, roles, generation, exempt, created_at, last_seen_at, expires_at, ended_at, end_reason)
     SELECT ${row} FROM (VALUES ($1::uuid, 'u', '{}', 7, NULL::timestamptz, NULL), ($2, 'a', '{admin}', 5, NULL, NULL),
       ($3, 'w', '{}', 9, NULL, NULL), ($4, 'u', '{}', 6, now(), 'logout')) AS gen (id, u, roles, g, ended, reason)`,
    [user, administrator, exempt, ended],
  );
  return ids;
}

const OF_FIRST_VERSION = ['live', 'live', 'live', 'logout'];

describe('the migrations after the first on a database that is in use', () => {
  it('leaves every session what it was, and what comes afterwards works on them', async () => {
    const ids = await migrated(1, firstVersion);
    await onProcess(async (process) => {
      expect(await process.states(ids)).toEqual(OF_FIRST_VERSION);
      const next = await process.logins({ maxSessions: 2 })(person('u'));
      expect(await process.states([...ids, next])).toEqual([...OF_FIRST_VERSION, 'live']);
      const ended = await process.endUsers({ userIds: ['a', 'w'] });
      expect(ended.ended.map(({ id }) => id)).toEqual([ids[2]]);
      await process.cutOff({ administrators: true });
      expect(await process.states([...ids, next])).toEqual(['cut-off', 'live', 'admin', 'logout', 'cut-off']);
    });
  });

  it('can be taken back and made again: who is live stays live, and who was logged out stays logged out [P2]', async () => {
    const ids = await migrated(1, firstVersion);
    await onProcess(async (process) => {
      ids.push(await process.logins({ maxSessions: 2 })(person('b')));
      await process.cutOff({ administrators: true, usernames: ['w'] });
      ids.push(await process.logins({ maxSessions: 2 })(person('b')));
      expect(await process.states(ids)).toEqual(['cut-off', 'live', 'live', 'logout', 'cut-off', 'live']);
      await takeBackTo(1, process.bench.dataSource);
    });
    await onProcess(async (process) =>
      expect(await process.states(ids)).toEqual(['cut-off', 'live', 'live', 'logout', 'cut-off', 'live']),
    );
  });

  it('taken back, shows the first version nobody whom a cut-off has logged out', async () => {
    const ids = await migrated(1, firstVersion);
    await onProcess(async (process) => {
      await process.cutOff({ administrators: true });
      await takeBackTo(1, process.bench.dataSource);
    });
    const live = await migrated(1, (dataSource) =>
      dataSource.query<{ id: string }[]>('SELECT id FROM user_session WHERE ended_at IS NULL'),
    );
    expect(live.map(({ id }) => id)).toEqual([ids[1]]);
  });
});
