import { randomInt } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { SingleSessionEvents, SingleSessionService } from 'nestjs-single-session';
import { firstValueFrom } from 'rxjs';
import { DataSource } from 'typeorm';
import { within } from './context.js';
import { quantile } from './figures.js';
import { fillInBulk, idOfUser } from './fill.js';
import type { Table } from './report.js';

const SIZES = [10_000, 1_000_000, 10_000_000];
const WARM_UP = 300;
const SAMPLE = 1_000;
const PAGES = 100;
const CUT_OFFS = 3;
const AT_ONCE = { logins: 16, checks: 64 };
const SLICE_MS = 3_000;
const SWEEP_MS = 5_000;
/** What Linux counts the CPU time of processes in. */
const TICK_MS = 10;

// A new one each time: a request is one login, however often it is admitted.
const newRequest = (): object => ({
  ip: '192.0.2.1',
  headers: { 'user-agent': 'Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0' },
});

interface User {
  id: string;
  username: string;
  roles: string[];
}

type Figures = Record<string, string>;
type Work = (turn: number) => Promise<unknown>;

/** What the service does beside ever more rows: half of them live, one for each user. Takes some six minutes, and 8 GB. */
export async function benchScale(databaseUrl: string): Promise<Table> {
  const columns: Figures[] = [];
  for (const size of SIZES) {
    await within(databaseUrl, () => Promise.resolve());
    columns.push(
      await onDatabase(databaseUrl, async (dataSource) => {
        const from = performance.now();
        await fillInBulk(dataSource, size);
        const seconds = ((performance.now() - from) / 1_000).toFixed(0);
        return { ...(await measureAt(databaseUrl, dataSource, size)), 'filled in, s': seconds };
      }),
    );
  }
  const names = Object.keys(columns[0]!);
  return {
    title: `bench/scale: one process, nothing else going on; medians and p99 of ${SAMPLE} one after the other, in ms`,
    columns: ['rows of sessions', ...SIZES.map((size) => size.toLocaleString('en-US'))],
    rows: names.map((name) => [name, ...columns.map((figures) => figures[name]!)]),
  };
}

/** On a database that is filled; it is spoilt afterwards. */
async function measureAt(url: string, dataSource: DataSource, size: number): Promise<Figures> {
  const figures: Figures = await bytesOf(dataSource, size);
  const add = (more: Figures): Figures => Object.assign(figures, more);
  const users = size / 2;
  const anyUser = (): User => userOf(randomInt(users) + 1);
  const newUser = (): User => userOf(randomInt(2 ** 40) + users);
  const loginOf =
    (user: () => User) =>
    (service: SingleSessionService): Work =>
    () =>
      service.admit(user(), newRequest(), { credential: 'token' });

  add(await timed(url, 'login of a new user', loginOf(newUser)));
  add(await logged(url, dataSource, 'login of a new user', loginOf(newUser)));
  add(await timed(url, 'login that evicts', loginOf(anyUser)));
  add(await logged(url, dataSource, 'login that evicts', loginOf(anyUser)));

  const ids = await liveSessions(dataSource, users, SAMPLE);
  const check =
    (service: SingleSessionService): Work =>
    (turn) =>
      service.verify(ids[turn % ids.length]!);
  add(await logged(url, dataSource, 'first check of a minute', check));
  add(await timed(url, 'check', check));
  add(await logged(url, dataSource, 'check', check));
  add(await timed(url, 'first page of list()', (service) => () => service.list(), PAGES));

  add(await loaded(url, dataSource, 'checks, 64 at once', AT_ONCE.checks, check));
  add(await loaded(url, dataSource, 'logins, 16 at once', AT_ONCE.logins, loginOf(anyUser)));
  const hot = anyUser();
  add(
    await loaded(
      url,
      dataSource,
      'logins of one account, 16 at once',
      AT_ONCE.logins,
      loginOf(() => hot),
    ),
  );
  add(
    await locksOfLogin(
      url,
      dataSource,
      loginOf(() => hot),
      hot.id,
    ),
  );
  return add(await cutOffs(url, dataSource));
}

const userOf = (n: number): User => ({ id: idOfUser(n), username: `user${n}@example.org`, roles: ['user'] });

async function onDatabase<Result>(
  url: string,
  work: (dataSource: DataSource) => Promise<Result>,
): Promise<Result> {
  const dataSource = await new DataSource({ type: 'postgres', url, poolSize: 2 }).initialize();
  return work(dataSource).finally(() => dataSource.destroy());
}

const medianAndP99 = (times: number[]): string =>
  `${quantile(times, 0.5).toFixed(2)}, ${quantile(times, 0.99).toFixed(2)}`;

type Workload = (service: SingleSessionService) => Work;

/** One after the other. */
function timed(url: string, what: string, workload: Workload, sample = SAMPLE): Promise<Figures> {
  return within(url, async (app) => {
    const work = workload(app.get(SingleSessionService));
    for (let turn = 0; turn < WARM_UP; turn++) await work(turn);
    const times: number[] = [];
    for (let turn = 0; turn < sample; turn++) {
      const from = performance.now();
      await work(turn);
      times.push(performance.now() - from);
    }
    return { [what]: medianAndP99(times) };
  });
}

/** What goes to the log of PostgreSQL, with what follows in the background: the application is closed before it is read. Begins with a checkpoint, so that each page is logged whole when it is first touched. */
async function logged(
  url: string,
  dataSource: DataSource,
  what: string,
  workload: Workload,
): Promise<Figures> {
  await dataSource.query('CHECKPOINT');
  const before = await walOf(dataSource);
  await within(url, async (app) => {
    const work = workload(app.get(SingleSessionService));
    for (let turn = 0; turn < SAMPLE; turn++) await work(turn);
  });
  const after = await walOf(dataSource);
  const [bytes, pages] = [after.bytes - before.bytes, after.pages - before.pages];
  return {
    [`${what}: bytes of WAL`]: Math.round(bytes / SAMPLE).toLocaleString('en-US'),
    [`${what}: whole pages among them`]: (pages / SAMPLE).toFixed(2),
  };
}

async function walOf(dataSource: DataSource): Promise<{ bytes: number; pages: number }> {
  const [row] = (await dataSource.query(
    `SELECT pg_current_wal_insert_lsn() - '0/0' AS bytes, wal_fpi AS pages FROM pg_stat_wal`,
  )) as [{ bytes: string; pages: string }];
  return { bytes: Number(row.bytes), pages: Number(row.pages) };
}

/** So many at once for a while: the rate, and the CPU that one takes of each side. */
function loaded(
  url: string,
  dataSource: DataSource,
  what: string,
  atOnce: number,
  workload: Workload,
): Promise<Figures> {
  return within(url, async (app) => {
    const work = workload(app.get(SingleSessionService));
    let done = 0;
    const run = async (ms: number): Promise<void> => {
      const until = performance.now() + ms;
      const client = async (): Promise<void> => {
        while (performance.now() < until) await work(done++);
      };
      await Promise.all(Array.from({ length: atOnce }, client));
    };
    await run(SLICE_MS / 3);
    done = 0;
    const postgres = await cpuOfBackends(dataSource);
    const node = process.cpuUsage();
    const from = performance.now();
    await run(SLICE_MS);
    const seconds = (performance.now() - from) / 1_000;
    const { user, system } = process.cpuUsage(node);
    const ofPostgres = ((await cpuOfBackends(dataSource)) - postgres) * 1_000;
    return {
      [`${what}: in a second`]: Math.round(done / seconds).toLocaleString('en-US'),
      [`${what}: CPU of PostgreSQL, µs each`]: (ofPostgres / done).toFixed(0),
      [`${what}: CPU of Node, µs each`]: ((user + system) / done).toFixed(0),
    };
  });
}

/** Milliseconds; NaN where PostgreSQL runs elsewhere, or not on Linux. */
async function cpuOfBackends(dataSource: DataSource): Promise<number> {
  const backends: { pid: number }[] = await dataSource.query(
    'SELECT pid FROM pg_stat_activity WHERE datname = current_database()',
  );
  const ticks = backends.map(async ({ pid }) => {
    const fields = (await readFile(`/proc/${pid}/stat`, 'utf8')).replace(/^.*\) /, '').split(' ');
    return Number(fields[11]) + Number(fields[12]);
  });
  const sum = (await Promise.all(ticks).catch(() => [NaN])).reduce((a, b) => a + b, 0);
  return sum * TICK_MS;
}

async function bytesOf(dataSource: DataSource, size: number): Promise<Figures> {
  const figures: Figures = {};
  for (const [table, rows, row] of [
    ['user_session', size, 'session'],
    ['user_session_slots', size / 2, 'user'],
  ] as const) {
    const [bytes] = (await dataSource.query(
      `SELECT pg_table_size('${table}') AS heap, pg_indexes_size('${table}') AS indices`,
    )) as [{ heap: string; indices: string }];
    figures[`bytes of a ${row}'s row`] = (Number(bytes.heap) / rows).toFixed(0);
    figures[`bytes of its indices, row of a ${row}`] = (Number(bytes.indices) / rows).toFixed(0);
  }
  return figures;
}

async function liveSessions(dataSource: DataSource, users: number, count: number): Promise<string[]> {
  const ids = Array.from({ length: count }, () => idOfUser(randomInt(users) + 1));
  const rows: { id: string }[] = await dataSource.query(
    'SELECT active[1] AS id FROM user_session_slots WHERE user_id = ANY($1)',
    [ids],
  );
  return rows.map(({ id }) => id);
}

/** Read while the login waits for the row of its user. It locks the indices of the sessions when it has that row. */
async function locksOfLogin(
  url: string,
  dataSource: DataSource,
  workload: Workload,
  userId: string,
): Promise<Figures> {
  const holder = dataSource.createQueryRunner();
  await holder.startTransaction();
  await holder.query('SELECT FROM user_session_slots WHERE user_id = $1 FOR UPDATE', [userId]);
  return within(url, async (app) => {
    let waits = true;
    const login = workload(app.get(SingleSessionService))(0).finally(() => (waits = false));
    while (waits) {
      const [locks] = (await dataSource.query(
        `SELECT count(*) FILTER (WHERE l.locktype = 'relation') AS relations, count(*) FILTER (WHERE l.fastpath) AS fast,
           string_agg(DISTINCT l.mode, ', ') FILTER (WHERE l.locktype = 'relation') AS modes
         FROM pg_stat_activity a JOIN pg_locks l ON l.pid = a.pid
         WHERE a.datname = current_database() AND a.wait_event_type = 'Lock'`,
      )) as [{ relations: string; fast: string; modes: string }];
      if (Number(locks.relations) === 0) continue;
      await holder.rollbackTransaction();
      await holder.release();
      await login;
      return {
        'locks of a login': `${locks.relations} on tables and indices (${locks.modes}), ${locks.fast} of all by the fast path`,
      };
    }
    throw new Error('The login did not wait for the row of its user.');
  });
}

/** The time until it is committed is also the time until it is in force. Ends with everyone logged out. */
async function cutOffs(url: string, dataSource: DataSource): Promise<Figures> {
  return within(url, async (app) => {
    const service = app.get(SingleSessionService);
    const events = app.get(SingleSessionEvents);
    const times: number[] = [];
    let counted = '';
    for (let turn = 0; turn < WARM_UP; turn++) await service.endUser('nobody');
    for (let run = 1; run <= CUT_OFFS; run++) {
      await dataSource.query('TRUNCATE user_session_cutoff');
      const committed = firstValueFrom(events.on('cut-off'));
      const from = performance.now();
      // The first ones spare everyone, and are taken back.
      const answer = service.endEveryone({ except: { roles: run < CUT_OFFS ? ['user'] : [] } });
      await committed;
      times.push(performance.now() - from);
      if (run < CUT_OFFS) await answer;
      else
        counted = `${(await answer).ended?.toLocaleString('en-US') ?? 'not counted'} in ${((performance.now() - from) / 1_000).toFixed(1)} s`;
    }
    const { rate, bytes } = await sweeping(dataSource, events);
    return {
      'endEveryone() until committed': times.map((time) => time.toFixed(1)).join(', '),
      'counted by it': counted,
      'swept after it, sessions in a second': rate,
      'swept after it, bytes of WAL for each': bytes,
    };
  });
}

async function sweeping(
  dataSource: DataSource,
  events: SingleSessionEvents,
): Promise<{ rate: string; bytes: string }> {
  let swept = 0;
  const subscription = events.on('ended').subscribe(() => swept++);
  const before = await walOf(dataSource);
  const from = performance.now();
  await new Promise((resolve) => setTimeout(resolve, SWEEP_MS));
  const seconds = (performance.now() - from) / 1_000;
  subscription.unsubscribe();
  const { bytes } = await walOf(dataSource);
  return {
    rate: Math.round(swept / seconds).toLocaleString('en-US'),
    bytes: swept === 0 ? 'all done before' : ((bytes - before.bytes) / swept).toFixed(0),
  };
}
