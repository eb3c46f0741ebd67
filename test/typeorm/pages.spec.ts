import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { someone, StoreBench, times, until } from '../support/store.js';

const USERS = 1_000;
/** More rows than a page holds: with so many between them, no two are in one page. */
const PAGE = 100;

interface Updates {
  updates: number;
  /** Of these, how many made a new entry in an index. */
  indexed: number;
}

let url: string;
let bench: StoreBench;

beforeAll(async () => {
  url = await freshDatabase();
  bench = await StoreBench.open(url, { seenInterval: 0 }, { poolSize: 4 });
});
afterAll(async () => {
  await bench?.close();
  await dropDatabase(url);
});

async function updatesOf(table: string): Promise<Updates> {
  const [row] = await bench.query<Updates>(
    `SELECT n_tup_upd::int AS updates, (n_tup_upd - n_tup_hot_upd)::int AS indexed
     FROM pg_stat_user_tables WHERE relname = $1`,
    [table],
  );
  return row!;
}

/** What this made of updates, when PostgreSQL has counted them: each connection says it when it is idle for a second, or asked. */
async function during(table: string, expected: number, work: () => Promise<unknown>): Promise<Updates> {
  const before = await updatesOf(table);
  await work();
  let after = before;
  await until(async () => {
    await Promise.all(times(8, () => bench.query('SELECT pg_stat_force_next_flush()')));
    after = await updatesOf(table);
    return after.updates - before.updates >= expected;
  });
  return { updates: after.updates - before.updates, indexed: after.indexed - before.indexed };
}

const onePerPage = <Item>(items: readonly Item[]): Item[] => items.filter((_, place) => place % PAGE === 0);

it('what is written most often finds room in its page and touches no index: last-seen, and the slots at a login', async () => {
  const sessions = bench.sessions();
  const users = times(USERS, () => someone());
  const ids: string[] = [];
  // One after the other, as pages are filled in life.
  for (const user of users) ids.push(await sessions.login(user));

  const seen = await during('user_session', USERS / PAGE, () => bench.store.seen(onePerPage(ids)));
  expect(seen).toEqual({ updates: USERS / PAGE, indexed: 0 });

  const slots = await during('user_session_slots', USERS / PAGE, async () => {
    for (const user of onePerPage(users)) await sessions.login(user);
  });
  expect(slots).toEqual({ updates: USERS / PAGE, indexed: 0 });
});
