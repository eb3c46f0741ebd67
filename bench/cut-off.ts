import type { INestApplicationContext } from '@nestjs/common';
import { SingleSessionEvents, SingleSessionService } from 'nestjs-single-session';
import { firstValueFrom } from 'rxjs';
import { DataSource } from 'typeorm';
import { within } from './context.js';
import { median } from './figures.js';
import type { Effort } from './load.js';
import type { Table } from './report.js';

const SIZES = [1_000, 100_000, 1_000_000];
const ADMINISTRATORS = 10;
const WARM_UP = 30;
const SAMPLE = 200;
const LARGEST_UPDATE = 100_000;

/** Milliseconds. */
interface Times {
  committed: number;
  counted: number;
}

/** "Log out everyone except administrators" on ever more live sessions, beside ending them row by row. */
export async function benchCutOff(databaseUrl: string, { rounds }: Effort): Promise<Table> {
  const rows: string[][] = [];
  const medians: number[] = [];
  await within(databaseUrl, (app) => fill(app.get(DataSource), 1));
  for (const size of SIZES) {
    const { committed, counted } = await cutOffs(databaseUrl, size, rounds);
    medians.push(committed);
    const [byUser, update] = await within(databaseUrl, async (app) => [
      await perUser(app),
      await oneUpdate(app.get(DataSource)),
    ]);
    rows.push([
      size.toLocaleString('en-US'),
      committed.toFixed(1),
      counted.toFixed(0),
      ((byUser! * size) / 1_000).toFixed(1),
      ((update! * size) / 1_000).toFixed(1),
    ]);
  }
  rows.push(['largest / smallest', (medians.at(-1)! / medians[0]!).toFixed(2), '', '', '']);
  return {
    title: `bench/cut-off: everyone but ${ADMINISTRATORS} administrators, median of ${rounds}; row by row extrapolated from ${SAMPLE} users, and from at most ${LARGEST_UPDATE.toLocaleString('en-US')} sessions`,
    columns: ['live sessions', 'ended, ms', 'and counted, ms', 'user by user, s', 'one UPDATE, s'],
    rows,
  };
}

async function cutOffs(url: string, size: number, runs: number): Promise<Times> {
  const times: Times[] = [];
  await within(url, (app) => fill(app.get(DataSource), size));
  for (let run = 0; run < runs; run++) {
    times.push(await within(url, (app) => cutOff(app, size)));
    await within(url, (app) => revive(app.get(DataSource)));
  }
  return {
    committed: median(times.map(({ committed }) => committed)),
    counted: median(times.map(({ counted }) => counted)),
  };
}

// The event is emitted when the end is committed; the answer comes when it is counted.
async function cutOff(app: INestApplicationContext, size: number): Promise<Times> {
  const service = app.get(SingleSessionService);
  for (let call = 0; call < WARM_UP; call++) await service.endUser('nobody');
  const event = firstValueFrom(app.get(SingleSessionEvents).on('cut-off'));
  const from = performance.now();
  const answer = service.endEveryone();
  await event;
  const committed = performance.now() - from;
  await expectEnded(app);
  const { ended, spared } = await answer;
  const counted = performance.now() - from;
  if (ended !== size || spared !== ADMINISTRATORS)
    throw new Error(`It ended ${String(ended)} and spared ${String(spared)} of ${size}.`);
  return { committed, counted };
}

/** A figure for something that did not happen would be worth nothing. */
async function expectEnded(app: INestApplicationContext): Promise<void> {
  const service = app.get(SingleSessionService);
  for (const [administrator, live] of [
    [false, false],
    [true, true],
  ] as const) {
    const rows = await sample(app.get(DataSource), administrator ? 'u.n <= 0' : 'u.n > 0', 20);
    const verdicts = await Promise.all(rows.map(({ id }) => service.verify(id)));
    if (rows.length === 0 || verdicts.some((verdict) => verdict.live !== live))
      throw new Error(`A session that should ${live ? 'live' : 'have ended'} does not.`);
  }
}

/** Milliseconds for one user, through the package. */
async function perUser(app: INestApplicationContext): Promise<number> {
  const service = app.get(SingleSessionService);
  const users = await sample(app.get(DataSource), 'u.n > 0', SAMPLE);
  const from = performance.now();
  for (const { user_id } of users) await service.endUser(user_id);
  return (performance.now() - from) / users.length;
}

/** Milliseconds for one session of a set-based statement; nothing of it is kept. */
async function oneUpdate(dataSource: DataSource): Promise<number> {
  const runner = dataSource.createQueryRunner();
  await runner.startTransaction();
  try {
    const from = performance.now();
    const { affected } = await runner.query(
      `UPDATE user_session SET ended_at = now(), end_reason = 'cut-off' WHERE id IN (
        SELECT id FROM user_session WHERE ended_at IS NULL AND NOT roles && '{admin}' LIMIT ${LARGEST_UPDATE})`,
      [],
      true,
    );
    return (performance.now() - from) / affected!;
  } finally {
    await runner.rollbackTransaction();
    await runner.release();
  }
}

/** A session for each of so many users and for the administrators, opened one after the other within the last ten days. */
async function fill(dataSource: DataSource, size: number): Promise<void> {
  await dataSource.query('TRUNCATE user_session, user_session_slots, user_session_cutoff');
  const users = `generate_series(${1 - ADMINISTRATORS}, ${size}) AS n`;
  await dataSource.query(
    `INSERT INTO user_session (id, user_id, username, roles, generation, exempt, created_at, last_seen_at, expires_at, ip, user_agent)
     SELECT gen_random_uuid(), 'u' || n, 'user' || n, CASE WHEN n > 0 THEN '{user}'::text[] ELSE '{user,admin}' END, 1, false,
       at, at, at + interval '14 days', '192.0.2.1', 'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36'
     FROM (SELECT n, now() - interval '10 days' * (${size} - n) / ${size} AS at FROM ${users}) s`,
  );
  await dataSource.query(
    `INSERT INTO user_session_slots (user_id, generation, active, floor, succession) SELECT user_id, 1, ARRAY[id], 0, '{}' FROM user_session`,
  );
  await dataSource.query('VACUUM ANALYZE user_session, user_session_slots');
}

// What the sweeper has marked in the meantime is little.
async function revive(dataSource: DataSource): Promise<void> {
  await dataSource.query('TRUNCATE user_session_cutoff');
  await dataSource.query(
    'UPDATE user_session SET ended_at = NULL, end_reason = NULL WHERE ended_at IS NOT NULL',
  );
}

function sample(
  dataSource: DataSource,
  condition: string,
  count: number,
): Promise<{ id: string; user_id: string }[]> {
  return dataSource.query(
    `SELECT id, user_id FROM (SELECT s.id, s.user_id, substr(s.user_id, 2)::int AS n FROM user_session s) u WHERE ${condition} LIMIT ${count}`,
  );
}
