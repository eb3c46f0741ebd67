import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { Logger } from '@nestjs/common';
import type { DataSource } from 'typeorm';
import type { Changes, SignalListener } from '../../src/session/signal.js';
import { TOPICS } from '../../src/session/verdicts.js';
import { ListeningConnection, SIGNAL_APPLICATION_NAME } from '../../src/typeorm/listening-connection.js';
import { channelOf, PostgresSignal } from '../../src/typeorm/postgres-signal.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { usedHeap } from '../support/heap.js';
import { SignalLink } from '../support/signal-link.js';
import { dataSourceOf, times, until } from '../support/store.js';

const MAX_STALENESS_MS = 400;

const inDist = (file: string): string => new URL(`../../dist/src/${file}`, import.meta.url).href;

/** A process that ends by itself once its connection has proved itself: nothing else keeps it alive. */
const DONE = `
  import { DataSource } from 'typeorm';
  import { singleSessionEntities as entities } from '${inDist('index.js')}';
  import { PostgresSignal } from '${inDist('typeorm/postgres-signal.js')}';
  const url = process.env.DATABASE_URL;
  const dataSource = new DataSource({ type: 'postgres', url, entities, extra: { allowExitOnIdle: true } });
  await dataSource.initialize();
  let proofs = 0;
  const proven = () => ++proofs === 1 && console.log('proven');
  await new PostgresSignal(dataSource, 60_000).start({ hearing() {}, proven, heard() {}, deaf() {} });
`;

/** What a process hears. */
class Ear implements SignalListener {
  readonly events: string[] = [];
  readonly changes: (number[] | 'everything')[] = [];
  provenAt = -Infinity;
  proofs = 0;
  isHearing = false;

  hearing(): void {
    this.isHearing = true;
    this.events.push('hearing');
  }
  proven(sentAt: number): void {
    this.provenAt = sentAt;
    this.proofs++;
  }
  heard(changes: Changes): void {
    this.changes.push(changes === 'everything' ? changes : [...changes]);
  }
  deaf(): void {
    this.isHearing = false;
    this.events.push('deaf');
  }

  /** How many times it began to hear. */
  get beginnings(): number {
    return this.events.filter((event) => event === 'hearing').length;
  }
}

let databaseUrl: string;
let observer: DataSource;
let link: SignalLink;
let warn: jest.SpiedFunction<Logger['warn']>;
const open: { stop(): Promise<void> }[] = [];

beforeAll(async () => {
  databaseUrl = await freshDatabase();
  observer = await dataSourceOf(databaseUrl, { poolSize: 2 }).initialize();
});

afterAll(async () => {
  await observer.destroy();
  await dropDatabase(databaseUrl);
});

beforeEach(async () => {
  link = await SignalLink.open(databaseUrl);
  warn = jest.spyOn(Logger.prototype, 'warn').mockImplementation(() => undefined);
});

afterEach(async () => {
  for (const process of open.splice(0)) await process.stop();
  await link.cut();
  await until(async () => (await listeners()) === 0);
  jest.restoreAllMocks();
});

/** A process with a signal of its own. */
async function startSignal(
  url = databaseUrl,
  {
    maxStalenessMs = MAX_STALENESS_MS,
    ...options
  }: Parameters<typeof dataSourceOf>[1] & {
    maxStalenessMs?: number;
  } = {},
) {
  const dataSource = await dataSourceOf(url, { poolSize: 2, ...options }).initialize();
  const signal = new PostgresSignal(dataSource, maxStalenessMs);
  const ear = new Ear();
  const stop = async (): Promise<void> => {
    await signal.stop();
    if (dataSource.isInitialized) await dataSource.destroy();
  };
  open.push({ stop });
  await signal.start(ear);
  return { signal, ear, dataSource, channel: channelOf(dataSource) };
}

async function listeners(): Promise<number> {
  const sql = `SELECT FROM pg_stat_activity WHERE datname = current_database() AND application_name = '${SIGNAL_APPLICATION_NAME}'`;
  return ((await observer.query(sql)) as unknown[]).length;
}

const terminate = (): Promise<unknown> =>
  observer.query(
    `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name = '${SIGNAL_APPLICATION_NAME}'`,
  );

/** What is told now is heard, so what was told before is heard or lost. */
async function hearsNow(teller: PostgresSignal, { changes }: Ear): Promise<void> {
  await teller.tell(new Set([4_711]));
  await until(() => changes.some((topics) => topics !== 'everything' && topics.includes(4_711)));
}

describe('a change', () => {
  it('is heard by the other processes, not by the one that tells it and knows it already', async () => {
    const [a, b, c] = [await startSignal(), await startSignal(), await startSignal()];
    await a.signal.tell(new Set([1, 2]));
    await until(() => b.ear.changes.length > 0 && c.ear.changes.length > 0);
    expect([b.ear.changes, c.ear.changes]).toEqual([[[1, 2]], [[1, 2]]]);
    await hearsNow(b.signal, a.ear);
    expect(a.ear.changes).toEqual([[4_711]]);
  });

  it('of more users than fit into a notification is heard as a change of everything', async () => {
    const [a, b] = [await startSignal(), await startSignal()];
    await a.signal.tell(new Set(times(TOPICS, (n) => n)));
    await until(() => b.ear.changes.length > 0);
    expect(b.ear.changes).toEqual(['everything']);
    expect(warn).not.toHaveBeenCalled();
  });

  it('that a newer version tells in its own words is heard as a change of everything', async () => {
    const { ear, channel } = await startSignal();
    await observer.query('SELECT pg_notify($1, $2)', [channel, '2 someone {"users":["x"]}']);
    await until(() => ear.changes.length > 0);
    expect(ear.changes).toEqual(['everything']);
  });

  it('is not heard by an application that keeps its sessions in other tables of the same database', async () => {
    const [a, b, other] = [
      await startSignal(),
      await startSignal(),
      await startSignal(databaseUrl, { entityPrefix: 'other_' }),
    ];
    // Also by what another version calls it.
    expect([a.channel, b.channel]).toEqual(Array(2).fill('nestjs-single-session:3ab42730d4d47c56'));
    await a.signal.tell('everything');
    await hearsNow(a.signal, b.ear);
    expect(other.ear.changes).toEqual([]);
  });

  it('is told also by a process that does not listen, or not any more', async () => {
    const [a, b] = [await startSignal(), await startSignal()];
    await a.signal.stop();
    await hearsNow(a.signal, b.ear);
  });

  // What tells waits for no disk; what the application commits over the same connection later must.
  it('leaves the connection that it was told over as it was', async () => {
    const { signal, dataSource } = await startSignal(databaseUrl, { poolSize: 1 });
    await signal.tell('everything');
    const changed = `SELECT name, setting FROM pg_settings WHERE source = 'session'`;
    expect(await dataSource.query(changed)).toEqual([]);
  });

  it('that cannot be told only warns, once for all that fail in a minute', async () => {
    const { signal } = await startSignal(link.url);
    await link.cut();
    for (let change = 0; change < 5; change++) await signal.tell(new Set([change]));
    const told = warn.mock.calls.filter(([text]) => /were not told/.test(String(text)));
    expect(told).toHaveLength(1);
  });
});

describe('the listening connection', () => {
  it('is one of its own that operators find by its name, also when the URL gives another, and goes with stop', async () => {
    const url = new URL(databaseUrl);
    url.searchParams.set('application_name', 'shop');
    const { signal, ear } = await startSignal(url.href);
    expect(ear.isHearing).toBe(true);
    expect(await listeners()).toBe(1);
    await signal.stop();
    await until(async () => (await listeners()) === 0);
    expect(ear.isHearing).toBe(false);
    expect(warn).not.toHaveBeenCalled();
  });

  it('keeps no process alive that is done', async () => {
    const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', DONE], {
      env: { ...process.env, DATABASE_URL: databaseUrl },
      timeout: 10_000,
    });
    expect(stdout).toBe('proven\n');
  });

  it('proves itself several times within the lease, each time by a question that was sent before', async () => {
    const { ear } = await startSignal();
    const inOneLease = async (): Promise<number> => {
      const known = ear.provenAt;
      const proofs = new Set<number>();
      const over = performance.now() + MAX_STALENESS_MS;
      while (performance.now() < over) {
        expect(ear.provenAt).toBeLessThan(performance.now());
        proofs.add(ear.provenAt);
        // No event tells of a proof.
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
      proofs.delete(known);
      return proofs.size;
    };
    // A machine that pauses may make it fewer, never more.
    let most = 0;
    for (let lease = 0; lease < 10 && most < 3; lease++) most = Math.max(most, await inOneLease());
    expect(most).toBeGreaterThanOrEqual(3);
    expect(most).toBeLessThanOrEqual(5);
  });

  it('is proven as of the moment at which it was asked, however long the answer was on its way [P4]', async () => {
    const dataSource = await dataSourceOf(link.url).initialize();
    open.push({ stop: () => dataSource.destroy() });
    const connection = new ListeningConnection(dataSource, () => undefined);
    await connection.open(channelOf(dataSource), 5_000);
    link.freezeListening();
    const proof = connection.prove(5_000);
    const askedBefore = performance.now();
    link.unfreeze();
    expect(await proof).toBeLessThanOrEqual(askedBefore);
    await connection.close();
  });

  // A process listens for weeks, and the shorter its lease, the more often it asks.
  it('keeps nothing of the proofs that it had', async () => {
    const { ear } = await startSignal(databaseUrl, { maxStalenessMs: 4 });
    const moreProofs = (count: number): Promise<void> => {
      const enough = ear.proofs + count;
      return until(() => ear.proofs >= enough, 30_000);
    };
    await moreProofs(300);
    const before = usedHeap();
    await moreProofs(1_000);
    expect((usedHeap() - before) / 1_000).toBeLessThan(300);
  });

  it('that the database ends is known to be deaf at once, and a new one hears again, soon each time [lesson 24]', async () => {
    const seldomProven = { maxStalenessMs: 60_000 };
    const [a, b] = [
      await startSignal(databaseUrl, seldomProven),
      await startSignal(databaseUrl, seldomProven),
    ];
    for (let round = 1; round <= 7; round++) {
      await terminate();
      await until(() => [a, b].every(({ ear }) => ear.beginnings === round + 1 && ear.isHearing), 2_500);
    }
    expect(a.ear.events).toEqual(['hearing', ...times(7, () => ['deaf', 'hearing']).flat()]);
    await hearsNow(a.signal, b.ear);
    expect(warn).toHaveBeenCalledTimes(2);
    expect(String(warn.mock.calls[0]![0])).toMatch(/cannot be heard now.*each check asks the database/);
  });

  it('that is silently dead proves nothing any more, and is replaced when the link works again', async () => {
    const { ear } = await startSignal(link.url);
    link.freezeListening();
    const frozenAt = performance.now();
    await until(() => !ear.isHearing);
    expect(ear.provenAt).toBeLessThanOrEqual(frozenAt);
    link.unfreeze();
    await until(() => ear.isHearing && ear.provenAt > frozenAt);
    expect(ear.beginnings).toBe(2);
  });

  it('that is lost while the application has destroyed its data source comes back with it', async () => {
    const { signal, ear, dataSource } = await startSignal();
    await dataSource.destroy();
    await terminate();
    // Once for the connection that was lost, and once for a try without a data source.
    await until(() => ear.events.filter((event) => event === 'deaf').length >= 2);
    expect(await listeners()).toBe(0);
    await dataSource.initialize();
    await until(() => ear.isHearing);
    await signal.stop();
  });

  it('comes back after the database was away, however long the first tries failed', async () => {
    const { signal, ear } = await startSignal(link.url);
    const cutAt = performance.now();
    await link.cut();
    await until(() => !ear.isHearing);
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(ear.beginnings).toBe(1);
    // Each pause is twice as long as the one before, and the first 50 ms at least.
    const pauses = ear.events.filter((event) => event === 'deaf').length - 1;
    expect(50 * (2 ** pauses - 1)).toBeLessThanOrEqual(performance.now() - cutAt);
    await link.restore();
    await until(() => ear.isHearing);
    const other = await startSignal();
    await hearsNow(other.signal, ear);
    await hearsNow(signal, other.ear);
  });

  it('that cannot be made at the start fails no start, and hears when it can be made', async () => {
    const dataSource = await dataSourceOf(link.url, { poolSize: 2 }).initialize();
    await link.cut();
    const signal = new PostgresSignal(dataSource, MAX_STALENESS_MS);
    const ear = new Ear();
    open.push({ stop: () => signal.stop().then(() => dataSource.destroy()) });
    await signal.start(ear);
    expect(ear.events).toEqual(['deaf']);
    await link.restore();
    await until(() => ear.isHearing);
  });

  it('is not used while nothing can be told, which fails no start and ends no process', async () => {
    await observer.query(
      `CREATE SCHEMA mute; CREATE FUNCTION mute.pg_notify(text, text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE 'muted'; END $$`,
    );
    const url = new URL(databaseUrl);
    url.searchParams.set('options', '-c search_path=mute,pg_catalog,public');
    const { ear } = await startSignal(url.href);
    expect(ear.events).toEqual(['deaf']);
    expect(warn.mock.calls.map(String)).toEqual([expect.stringMatching(/cannot be heard now.*muted/)]);
    await observer.query('DROP SCHEMA mute CASCADE');
    await until(() => ear.isHearing);
  });

  it('that takes long is waited for by a start only for a while, and fails none', async () => {
    link.freezeListening();
    const { ear } = await startSignal(link.url, { maxStalenessMs: 60_000 });
    expect(ear.events).toEqual([]);
  });

  it('that was lost while nobody asked is known to be lost by who asks then', async () => {
    const { dataSource, channel } = await startSignal();
    const connection = new ListeningConnection(dataSource, () => undefined);
    await connection.open(channel, 5_000);
    const never = new Promise<never>(() => undefined);
    const terminated = terminate();
    // Whoever asks first is told as it is lost, and as it is closed; nobody comes to tell the last.
    for (let asked = 0; asked < 3; asked++)
      await expect(connection.orLost(never)).rejects.toThrow(/terminat/);
    await terminated;
  });

  it('is stopped within a moment when its link is dead, and while it is being made', async () => {
    const { signal } = await startSignal(link.url);
    link.freezeListening();
    let began = performance.now();
    await signal.stop();
    expect(performance.now() - began).toBeLessThan(1_000);

    const dataSource = await dataSourceOf(link.url, { poolSize: 2 }).initialize();
    const second = new PostgresSignal(dataSource, 60_000);
    open.push({ stop: () => dataSource.destroy() });
    const starting = second.start(new Ear());
    await until(() => link.listening === 2);
    began = performance.now();
    await second.stop();
    expect(performance.now() - began).toBeLessThan(1_000);
    await starting;
    link.unfreeze();
  });

  it('is stopped within a moment while it waits to be tried again', async () => {
    const { signal, ear } = await startSignal(link.url);
    await link.cut();
    // The pause that follows is 1,600 ms at least.
    await until(() => ear.events.filter((event) => event === 'deaf').length === 6);
    const began = performance.now();
    await signal.stop();
    expect(performance.now() - began).toBeLessThan(1_000);
  });
});

it('a database that stands still while a process starts is not taken for one that delivers nothing: it is tried again', async () => {
  link.delays = true;
  const { ear } = await startSignal(link.url);
  expect(ear.beginnings).toBe(0);
  expect(warn.mock.calls.map(String)).toEqual([expect.stringContaining('came late')]);
  link.delays = false;
  await until(() => ear.isHearing);
});

it('a start after the stop begins nothing, and is over at once', async () => {
  const { signal } = await startSignal();
  await signal.stop();
  const ear = new Ear();
  const began = performance.now();
  await signal.start(ear);
  expect(performance.now() - began).toBeLessThan(1_000);
  expect(ear.events).toEqual([]);
});

describe('a pooler that takes LISTEN and delivers nothing', () => {
  it('is noticed at the start, which goes on: a warning says what to write, and nothing is listened to any more', async () => {
    link.throwsAway = true;
    const { ear } = await startSignal(link.url);
    expect(link.thrownAway).toBeGreaterThan(0);
    expect(ear.beginnings).toBe(0);
    expect(ear.provenAt).toBe(-Infinity);
    expect(warn).toHaveBeenCalledTimes(1);
    expect(String(warn.mock.calls[0]![0])).toMatch(/PgBouncer.*dataSource: 'sessions'.*freshness: 'strong'/);
    await until(async () => (await listeners()) === 0);
  });

  it('that comes later is not trusted either, and the process goes on trying', async () => {
    const { ear } = await startSignal(link.url);
    link.throwsAway = true;
    await terminate();
    await until(() => link.thrownAway >= 3);
    expect(ear.isHearing).toBe(false);
    link.throwsAway = false;
    await until(() => ear.isHearing);
  });
});
