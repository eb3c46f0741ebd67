import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import type { QueryRunner } from 'typeorm';
import { interval } from '../../src/typeorm/sql-parts.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { NOWHERE, readable, someone, StoreBench, times, until, type TestSessions } from '../support/store.js';

const DAY = 86_400_000;
const MINUTE = 60_000;

let url: string;
let bench: StoreBench;
let other: StoreBench;
let sessions: TestSessions;

beforeAll(async () => {
  url = await freshDatabase();
  bench = await StoreBench.open(url, { retention: 30 * DAY });
  other = await StoreBench.open(url, { retention: 30 * DAY });
  sessions = bench.sessions({ maxSessions: 3 });
});

afterAll(async () => {
  await bench?.close();
  await other?.close();
  await dropDatabase(url);
});

beforeEach(async () => {
  await bench.query('TRUNCATE user_session, user_session_slots, user_session_cutoff');
});

/** Rows by the thousand, ended or expired so long ago. */
async function rows(count: number, kind: 'ended' | 'expired', ageMs: number): Promise<void> {
  const ended = kind === 'ended' ? `now() - interval '${interval(ageMs)}'` : 'NULL';
  await bench.query(
    `INSERT INTO user_session (id, user_id, username, roles, generation, exempt, created_at, last_seen_at, expires_at, ended_at)
     SELECT gen_random_uuid(), 'u' || n, 'u', '{}', n, false, now(), now(), now() - interval '${interval(ageMs)}', ${ended}
     FROM generate_series(1, $1::int) n`,
    [count],
  );
}

const count = async (condition = 'true'): Promise<number> => {
  const [row] = await bench.query<{ count: number }>(
    `SELECT count(*)::int AS count FROM user_session WHERE ${condition}`,
  );
  return row!.count;
};

/** A session that ended long ago and has kept its place: nobody has signed in since. */
async function overLongAgo(user: string): Promise<string> {
  const id = await sessions.login(user);
  await bench.age(id, 60 * DAY);
  await sessions.state(id);
  expect(await bench.activeOf(user)).toEqual([id]);
  return id;
}

/** Holds these rows, as a statement does that is under way. */
async function whileHeld(which: string, act: (holder: QueryRunner) => Promise<void>): Promise<void> {
  const holder = bench.dataSource.createQueryRunner();
  await holder.startTransaction();
  try {
    await holder.query(`SELECT FROM ${which} FOR UPDATE`);
    await act(holder);
  } finally {
    if (holder.isTransactionActive) await holder.rollbackTransaction();
    await holder.release();
  }
}

/** How many statements wait for a lock. */
async function waiting(): Promise<number> {
  const [row] = await bench.query<{ count: number }>(
    "SELECT count(*)::int AS count FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'",
  );
  return row!.count;
}

describe('a sweep', () => {
  it('removes what ended longer ago than the retention, and nothing else', async () => {
    const [ended, just, live, expired] = (await Promise.all(times(4, () => sessions.login(someone())))) as [
      string,
      string,
      string,
      string,
    ];
    for (const id of [ended, just]) await sessions.ends({ scope: 'session', sessionId: id });
    await bench.age(ended, 30 * DAY + MINUTE);
    await bench.age(just, 30 * DAY - MINUTE);
    await bench.age(expired, 15 * DAY);
    expect((await bench.store.sweep()).more).toBe(false);
    expect(await sessions.states([ended, just, live, expired])).toEqual([
      'unknown',
      'admin',
      'live',
      'expired',
    ]);
  });

  it('leaves an adopted session, however long ago it ended: its credential would be adopted again [P2]', async () => {
    const user = { id: someone(), username: 'adopted' };
    const adopt = () => sessions.admissions.adopt(`cookie session of ${user.id}`, user, NOWHERE);
    const { id } = await adopt();
    await sessions.ends({ scope: 'session', sessionId: id }, 'logout');
    await bench.age(id, 31 * DAY);
    await bench.store.sweep();
    expect(await adopt()).toMatchObject({ id, live: false, reason: 'logout' });
  });

  it('records what expired as ended at the moment at which it expired', async () => {
    const id = await sessions.login(someone());
    await bench.age(id, 15 * DAY);
    await bench.store.sweep();
    const row = (await bench.row(id))!;
    expect(row).toMatchObject({ end_reason: 'expired', ended_at: row.expires_at, ended_by: null });
  });

  it('removes a session that expired long ago and was never met, in the end', async () => {
    const id = await sessions.login(someone());
    await bench.age(id, 60 * DAY);
    while ((await bench.store.sweep()).more);
    expect(await bench.row(id)).toBeUndefined();
  });

  it('removes exemptions that have expired, and no others', async () => {
    await bench.query(
      `INSERT INTO user_session_exemption (kind, value, added_at, expires_at)
       VALUES ('role', 'of yesterday', now(), now()), ('role', 'of today', now(), now() + interval '1 day'), ('role', 'for good', now(), NULL)`,
    );
    await bench.store.sweep();
    const left = await bench.query('SELECT value FROM user_session_exemption ORDER BY value');
    expect(left).toEqual([{ value: 'for good' }, { value: 'of today' }]);
  });

  it('that could do nothing fails: it is not one after which there is more to do at once', async () => {
    const closed = await StoreBench.open(url);
    await closed.close();
    await expect(closed.store.sweep()).rejects.toThrow('not connected');
  });

  it('that fails after it has marked tells of what it has marked, and comes back', async () => {
    const [expired, due] = [await sessions.login(someone()), await sessions.login(someone())];
    await bench.age(expired, 15 * DAY);
    await sessions.ends({ scope: 'session', sessionId: due });
    await bench.age(due, 31 * DAY);
    await bench.query(
      `CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$`,
    );
    await bench.query('CREATE TRIGGER fail BEFORE DELETE ON user_session EXECUTE FUNCTION fail()');
    try {
      expect(await bench.store.sweep()).toMatchObject({ more: true, ended: [{ id: expired }] });
      await expect(bench.store.sweep()).rejects.toThrow('no');
    } finally {
      await bench.query('DROP FUNCTION fail CASCADE');
    }
    expect(await bench.store.sweep()).toEqual({ more: false, ended: [] });
    expect(await bench.row(due)).toBeUndefined();
  });

  it('leaves the slots row, so that the next login counts on', async () => {
    const user = someone();
    const id = await sessions.login(user);
    await sessions.ends({ scope: 'user', userId: user });
    await bench.age(id, 31 * DAY);
    await bench.store.sweep();
    expect(await bench.query('SELECT FROM user_session_slots WHERE user_id = $1', [user])).toHaveLength(1);
    const next = await sessions.login(user);
    expect(await sessions.states([id, next])).toEqual(['unknown', 'live']);
  });

  it('leaves the places of the other sessions of its user in their order: the next login evicts the oldest', async () => {
    const user = someone();
    const gone = await overLongAgo(user);
    const [older, newer] = [await sessions.login(user), await sessions.login(user)];
    // Nobody has signed in since it was over.
    await bench.query('UPDATE user_session_slots SET active = $2 WHERE user_id = $1', [
      user,
      [newer, gone, older],
    ]);
    await bench.store.sweep();
    expect(await bench.activeOf(user)).toEqual([newer, older]);
  });

  it.each(['ended', 'expired'] as const)(
    'takes 2,500 %s rows in batches of 1,000 and says when it is done',
    async (kind) => {
      await rows(2_500, kind, kind === 'ended' ? 31 * DAY : MINUTE);
      const left = kind === 'ended' ? 'true' : 'ended_at IS NULL';
      for (const [more, rest] of [
        [true, 1_500],
        [true, 500],
        [false, 0],
      ] as const) {
        expect((await bench.store.sweep()).more).toBe(more);
        expect(await count(left)).toBe(rest);
      }
    },
  );

  it('walks past 2,500 sessions that live, batch by batch, to the one that nobody has used', async () => {
    const idling = await StoreBench.open(url, { retention: 30 * DAY, idleTimeout: DAY });
    try {
      await rows(2_500, 'expired', -DAY);
      await bench.query(
        "INSERT INTO user_session_slots (user_id, generation, active, floor, succession) SELECT user_id, generation, ARRAY[id], 0, '{}' FROM user_session",
      );
      const idle = await idling.sessions().login(someone());
      await idling.age(idle, DAY + MINUTE);
      for (const more of [true, true, false]) expect((await idling.store.sweep()).more).toBe(more);
      expect([await count('ended_at IS NULL'), await idling.row(idle)]).toMatchObject([
        2_500,
        { end_reason: 'idle' },
      ]);
    } finally {
      await idling.close();
    }
  });

  it('by several processes at once harms nothing and takes every row', async () => {
    await rows(3_000, 'ended', 31 * DAY);
    await rows(3_000, 'expired', MINUTE);
    const live = await sessions.login(someone());
    const sweepAll = async (process: StoreBench): Promise<void> => {
      for (let round = 0; round < 12; round++) await process.store.sweep();
    };
    await Promise.all([bench, other, bench, other].map(sweepAll));
    while ((await bench.store.sweep()).more);
    expect(await count()).toBe(3_001);
    expect(await count('ended_at IS NULL')).toBe(1);
    expect(await sessions.isLive(live)).toBe(true);
  });

  it('does nothing while another works', async () => {
    await rows(10, 'ended', 31 * DAY);
    await rows(10, 'expired', MINUTE);
    const worker = bench.dataSource.createQueryRunner();
    await worker.startTransaction();
    try {
      await worker.query(
        `SELECT pg_advisory_xact_lock(hashtext('nestjs-single-session:sweep'), hashtext('"user_session"'))`,
      );
      expect((await other.store.sweep()).more).toBe(false);
      expect([await count(), await count('ended_at IS NULL')]).toEqual([20, 10]);
    } finally {
      await worker.rollbackTransaction();
      await worker.release();
    }
    await other.store.sweep();
    expect([await count(), await count('ended_at IS NULL')]).toEqual([10, 0]);
  });

  it('waits for no row that somebody holds, and takes the others', async () => {
    await rows(10, 'ended', 31 * DAY);
    const holder = bench.dataSource.createQueryRunner();
    await holder.startTransaction();
    try {
      await holder.query(`SELECT FROM user_session WHERE user_id IN ('u1', 'u2') FOR UPDATE`);
      await other.store.sweep();
      expect(await count()).toBe(2);
    } finally {
      await holder.rollbackTransaction();
      await holder.release();
    }
  });

  it('goes on after a full batch of which it could not take all', async () => {
    await rows(2_500, 'ended', 31 * DAY);
    await whileHeld(`user_session WHERE user_id IN ('u1', 'u2')`, async () => {
      expect((await other.store.sweep()).more).toBe(true);
      while ((await other.store.sweep()).more);
      expect(await count()).toBe(2);
    });
  });

  it('has no more to do for now after a full batch of which somebody holds all', async () => {
    await rows(1_500, 'ended', 31 * DAY);
    await whileHeld('user_session', async () => {
      expect((await other.store.sweep()).more).toBe(false);
      expect(await count()).toBe(1_500);
    });
  });

  it('and a login that brings the id of a session that goes never wait for each other', async () => {
    const user = someone();
    const id = await overLongAgo(user);
    let login: Promise<unknown>;
    await whileHeld(`user_session_slots WHERE user_id = '${user}'`, async (holder) => {
      login = sessions.login(user, { id });
      await until(async () => (await waiting()) === 1);
      let done = false;
      const sweep = other.store.sweep().finally(() => (done = true));
      await until(async () => done || (await waiting()) === 2);
      await holder.rollbackTransaction();
      await sweep;
    });
    await login!;
    expect(await sessions.state(id)).toBe('unknown');
  });

  it('is not needed for anything: what should be swept is dead without it', async () => {
    const user = someone();
    const id = await sessions.login(user);
    await bench.age(id, 90 * DAY);
    expect(await bench.sessions({ onLimit: 'reject' }).login(user)).toEqual(expect.any(String));
    expect(await sessions.state(id)).toBe('expired');
  });
});

describe('last-seen times', () => {
  it('are written when they are due and not before, and for nothing that ended', async () => {
    const [fresh, due, ended] = (await Promise.all(times(3, () => sessions.login(someone())))) as [
      string,
      string,
      string,
    ];
    for (const id of [due, ended]) await bench.age(id, MINUTE + 1_000);
    await sessions.ends({ scope: 'session', sessionId: ended });
    const before = await Promise.all([fresh, due, ended].map((id) => bench.row(id)));
    await bench.store.seen([fresh, due, ended]);
    const after = await Promise.all([fresh, due, ended].map((id) => bench.row(id)));
    const moved = after.map((row, place) => row!.last_seen_at > before[place]!.last_seen_at);
    expect(moved).toEqual([false, true, false]);
  });

  it('are asked for by a check that finds them due, once written no more', async () => {
    const id = await sessions.login(someone());
    const unseen = async (): Promise<boolean> =>
      (await readable(bench.store.verify([{ id, limit: 3 }])))[0]!.unseen;
    expect(await unseen()).toBe(false);
    await bench.age(id, MINUTE + 1_000);
    expect(await unseen()).toBe(true);
    await bench.store.seen([id]);
    expect(await unseen()).toBe(false);
  });

  it('wait for no row that somebody holds', async () => {
    const id = await sessions.login(someone());
    await bench.age(id, MINUTE + 1_000);
    const holder = bench.dataSource.createQueryRunner();
    await holder.startTransaction();
    try {
      await holder.query('SELECT FROM user_session WHERE id = $1 FOR UPDATE', [id]);
      await other.store.seen([id]);
    } finally {
      await holder.rollbackTransaction();
      await holder.release();
    }
    expect((await readable(bench.store.verify([{ id, limit: 3 }])))[0]!.unseen).toBe(true);
  });
});
