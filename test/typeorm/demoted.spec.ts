import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from '@jest/globals';
import pg from 'pg';
import type { DevPostgres } from '../../tools/dev-postgres.mjs';
import { Checks } from '../../src/session/checks.js';
import { StoreUnavailableError } from '../../src/session/session-store.js';
import { startOwnPostgres } from '../support/own-postgres.js';
import { someone, StoreBench, until } from '../support/store.js';

let postgres: DevPostgres;
let observer: pg.Pool;
let bench: StoreBench;

beforeAll(async () => {
  postgres = await startOwnPostgres();
  observer = new pg.Pool({ connectionString: postgres.url, max: 1 }).on('error', () => undefined);
  bench = await StoreBench.open(postgres.url);
}, 60_000);

afterAll(async () => {
  await bench?.close();
  await observer?.end();
  await postgres?.stop();
}, 30_000);

/** Makes a replica of it that has lost its primary, as after a failover that the address did not follow. */
async function demote(): Promise<void> {
  const { rows } = await observer.query<{ data_directory: string }>('SHOW data_directory');
  await writeFile(join(rows[0]!.data_directory, 'standby.signal'), '');
  await postgres.restart!();
}

async function promote(): Promise<void> {
  await observer.query('SELECT pg_promote()');
  await until(async () => {
    const { rows } = await observer.query<{ replica: boolean }>('SELECT pg_is_in_recovery() AS replica');
    return !rows[0]!.replica;
  });
}

const check = (id: string) => new Checks((checks) => bench.store.verify(checks)).verify({ id, limit: 1 });

it.each([
  ['by the function', async () => undefined],
  [
    'by the plain statement, where there is no function',
    () => bench.query('DROP FUNCTION user_session_check_1'),
  ],
])(
  'a primary that has become a replica answers no check: it may still show what was ended (%s) [P2, P8]',
  async (_, prepare) => {
    const id = await bench.sessions().login(someone());
    await prepare();
    await expect(check(id)).resolves.toMatchObject({ live: true });
    await demote();
    await expect(check(id)).rejects.toThrow(StoreUnavailableError);
    await expect(check(id)).rejects.toThrow(/replica.*primary/);
    await promote();
    await expect(check(id)).resolves.toMatchObject({ live: true });
  },
);
