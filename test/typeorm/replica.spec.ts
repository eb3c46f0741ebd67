import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import pg from 'pg';
import { UserSession } from '../../src/typeorm/user-session.entity.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { someone, StoreBench, times } from '../support/store.js';

let primary: string;
let frozen: string | undefined;
let bench: StoreBench | undefined;

const nameOf = (url: string): string => new URL(url).pathname.slice(1);

function named(name: string): string {
  const url = new URL(primary);
  url.pathname = `/${name}`;
  return url.href;
}

async function copyOf(url: string): Promise<string> {
  const client = new pg.Client({ connectionString: process.env['DATABASE_URL'] });
  await client.connect();
  const copy = `${nameOf(url)}_copy`;
  try {
    await client.query(`CREATE DATABASE ${copy} TEMPLATE ${nameOf(url)}`);
  } finally {
    await client.end();
  }
  return named(copy);
}

beforeAll(async () => {
  primary = await freshDatabase();
});

afterAll(async () => {
  await bench?.close();
  if (frozen) await dropDatabase(frozen);
  await dropDatabase(primary);
});

describe('with a replica that lags', () => {
  it('an evicted session is refused, and a new one is live at once: the primary decides [lesson 25; S23]', async () => {
    const users = times(5, () => someone());
    const before = await StoreBench.open(primary);
    const old = await Promise.all(users.map((user) => before.sessions().login(user)));
    await before.close();
    frozen = await copyOf(primary);
    bench = await StoreBench.open(primary, {}, {
      url: undefined,
      migrationsRun: false,
      replication: { master: { url: primary }, slaves: [{ url: frozen }] },
    } as never);
    const sessions = bench.sessions();
    const next = await Promise.all(users.map((user) => sessions.login(user)));
    await bench.store.prepare();
    for (let round = 0; round < 10; round++) {
      expect(await sessions.states(old)).toEqual(times(5, () => 'superseded'));
      expect(await sessions.liveOf(next)).toEqual(next);
    }
    const logout = await sessions.logsOut(next[0]!);
    expect(logout).toHaveLength(1);
    expect(await sessions.isLive(next[0]!)).toBe(false);
    // What a repository would have read:
    const read = await bench.dataSource.getRepository(UserSession).find();
    expect(read.map(({ id }) => id).toSorted()).toEqual(old.toSorted());
  });
});
