import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { Logger } from '@nestjs/common';
import { firstValueFrom, Subject } from 'rxjs';
import { SingleSessionEvents } from '../../src/session/events.js';
import { Policy } from '../../src/session/policy.js';
import type { Changes } from '../../src/session/signal.js';
import type { SessionEnd } from '../../src/session/session.js';
import { Watches } from '../../src/session/watches.js';
import { resolveOptions } from '../../src/single-session.options.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { someone, StoreBench, type TestSessions } from '../support/store.js';

const HOUR = 3_600_000;

interface Customer {
  id: string;
  username: string;
  mayHave: number;
}

const options = { maxSessions: (user: unknown) => (user as Customer).mayHave };
const customer = (id: string, mayHave: number): Customer => ({ id, username: id, mayHave });

let url: string;
let bench: StoreBench;
let sessions: TestSessions;
let changes: Subject<Changes>;
let watches: Watches;

beforeAll(async () => {
  url = await freshDatabase();
  bench = await StoreBench.open(url, { idleTimeout: HOUR });
  sessions = bench.sessions(options);
});

beforeEach(() => {
  changes = new Subject();
  const policy = new Policy(resolveOptions(options));
  watches = new Watches(sessions, policy, new SingleSessionEvents(), { everyMs: HOUR, changes });
});

afterEach(() => {
  watches.close();
  jest.restoreAllMocks();
});

afterAll(async () => {
  await bench?.close();
  await dropDatabase(url);
});

interface Open {
  end: Promise<SessionEnd>;
  lookAgain: () => void;
}

/** Something that was opened with this session, found live, when its user was this one; and what is told to it. */
async function opened(id: string, user: Customer): Promise<Open> {
  const end = firstValueFrom(watches.whenEnded({ id, user }));
  // Answered together with the first look of the watch.
  expect((await sessions.look({ id, limit: user.mayHave })).live).toBe(true);
  return { end, lookAgain: () => changes.next('everything') };
}

describe('what stays open while the limit of its user is raised', () => {
  it('may be closed by the limit of before, which ends no session: requests are judged by the present one', async () => {
    const id = someone();
    const first = await sessions.login(customer(id, 1));
    const { end, lookAgain } = await opened(first, customer(id, 1));
    const second = await sessions.login(customer(id, 3));
    lookAgain();
    expect(await end).toEqual({ reason: 'superseded', endedAt: null });
    expect(await sessions.liveOf([first, second])).toEqual([first, second]);
    expect(await bench.row(first)).toMatchObject({ ended_at: null, end_reason: null });
  });

  it('may be refused a message by the limit of before, which ends no session either', async () => {
    const id = someone();
    const first = await sessions.login(customer(id, 1));
    const second = await sessions.login(customer(id, 3));
    const over = { live: false, reason: 'superseded', endedAt: null };
    expect(await sessions.verifyAgain({ id: first, limit: 1 })).toMatchObject(over);
    expect(await sessions.liveOf([first, second])).toEqual([first, second]);
  });

  it('is closed, and its session recorded, by a request that is judged by the limit of before [P2]', async () => {
    const id = someone();
    const first = await sessions.login(customer(id, 3));
    await sessions.login(customer(id, 3));
    expect(await sessions.verify({ id: first, limit: 1 })).toMatchObject({
      reason: 'superseded',
      endedAt: expect.any(Date),
    });
    expect(await sessions.state(first)).toBe('superseded');
  });
});

describe('a look records what is dead whatever the limit', () => {
  it('with all others that are found dead at the same moment', async () => {
    const users = [someone(), someone(), someone()].map((id) => customer(id, 1));
    const ids = await Promise.all(users.map((user) => sessions.login(user)));
    const open = await Promise.all(ids.map((id, place) => opened(id, users[place]!)));
    const together = jest.spyOn(bench.store, 'markUsers');
    const alone = jest.spyOn(bench.store, 'markChecked');
    for (const id of ids) await bench.age(id, HOUR);
    open[0]!.lookAgain();
    const ends = await Promise.all(open.map(({ end }) => end));
    expect(ends.map(({ reason }) => reason)).toEqual(['idle', 'idle', 'idle']);
    expect(together.mock.calls).toEqual([[users.map(({ id }) => id)]]);
    expect(alone).not.toHaveBeenCalled();
  });

  it('what a login has displaced', async () => {
    const id = someone();
    const first = await sessions.login(customer(id, 1));
    // The process that admits the next one dies before it marks this one.
    const marks = jest.spyOn(sessions.keeper, 'markLater').mockResolvedValueOnce();
    const { end, lookAgain } = await opened(first, customer(id, 1));
    await sessions.login(customer(id, 1));
    lookAgain();
    expect(await end).toEqual({ reason: 'superseded', endedAt: (await bench.row(first))!.ended_at });
    expect(marks).toHaveBeenCalledTimes(2);
  });

  it.each(['idle', 'superseded'] as const)(
    'what is %s, also when its user could not be marked together with others',
    async (reason) => {
      const id = someone();
      const first = await sessions.login(customer(id, 1));
      jest.spyOn(bench.store, 'markUsers').mockRejectedValue(new Error('gone'));
      jest.spyOn(Logger.prototype, 'warn').mockReturnValue();
      const { end, lookAgain } = await opened(first, customer(id, 1));
      if (reason === 'superseded') await sessions.login(customer(id, 1));
      else await bench.age(first, HOUR + 1);
      lookAgain();
      expect(await end).toEqual({ reason, endedAt: expect.any(Date) });
      expect(await bench.row(first)).toMatchObject({ end_reason: reason });
    },
  );
});
