import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';
import type { CheckResult } from '../../src/session/session.js';
import { topicOf, TOPICS, Verdicts, type Moment } from '../../src/session/verdicts.js';
import { liveOf } from '../support/fake-store.js';
import { usedHeap } from '../support/heap.js';
import { times } from '../support/store.js';

const MAX_AGE_MS = 1_000;
const CHECK = { id: 's', limit: 1 };
const ALICE = 'alice';

const live = (userId = ALICE): CheckResult => liveOf(userId, { unseen: true });
const dead = (userId: string | null = ALICE): CheckResult => ({
  live: false,
  reason: 'superseded',
  endedAt: new Date(),
  userId,
  unmarked: false,
  unseen: false,
  roles: '',
  administrator: false,
});

let verdicts: Verdicts;

beforeEach(() => {
  jest.useFakeTimers();
  verdicts = new Verdicts(MAX_AGE_MS);
});

afterEach(() => {
  jest.useRealTimers();
});

const recalls = (id = 's', limit = 1): boolean =>
  verdicts.recall({ id, limit }, performance.now()) !== undefined;
const learn = (id = 's', userId = ALICE, limit = 1): void =>
  verdicts.remember({ id, limit }, live(userId), verdicts.moment());

describe('a verdict', () => {
  it('is recalled as it was, but says only once that its last-seen time is due', () => {
    learn();
    expect(verdicts.recall(CHECK, performance.now())).toEqual({ ...live(), unseen: true });
    expect(verdicts.recall(CHECK, performance.now())).toEqual({ ...live(), unseen: false });
    expect(recalls('another')).toBe(false);
  });

  it('counts until it is as old as it may be, to the millisecond, and not from when its answer came [P4]', () => {
    const moment = verdicts.moment();
    jest.advanceTimersByTime(400);
    verdicts.remember(CHECK, live(), moment);
    jest.advanceTimersByTime(MAX_AGE_MS - 401);
    expect(recalls()).toBe(true);
    jest.advanceTimersByTime(1);
    expect(recalls()).toBe(false);
  });

  it('does not grow younger by being used [P4]', () => {
    learn();
    for (let ms = 0; ms < MAX_AGE_MS; ms += 100) {
      expect(recalls()).toBe(true);
      jest.advanceTimersByTime(100);
    }
    expect(recalls()).toBe(false);
  });

  it('that was checked by a limit says nothing about a lower one, and all about a higher one [lesson 8]', () => {
    learn('s', ALICE, 2);
    expect([1, 2, 3].map((limit) => recalls('s', limit))).toEqual([false, true, true]);
  });

  it('is never kept of a session that nobody knows: it may be admitted a moment later', () => {
    verdicts.remember(CHECK, dead(null), verdicts.moment());
    expect(verdicts.size).toBe(0);
    learn();
    expect(recalls()).toBe(true);
  });

  it('is not recalled any more when the store knows no such session, though no notification came [P2]', () => {
    learn();
    verdicts.remember(CHECK, dead(null), verdicts.moment());
    expect(recalls()).toBe(false);
  });

  it('of a dead session is never recalled: only the store says why it ended', () => {
    learn();
    verdicts.remember(CHECK, dead(), verdicts.moment());
    expect(recalls()).toBe(false);
  });
});

describe('forgetting', () => {
  it('a user forgets all sessions of this user, at once, and leaves the others alone', () => {
    for (const id of ['a', 'b']) learn(id);
    learn('c', 'bob');
    verdicts.forget(topicOf(ALICE));
    expect(['a', 'b', 'c'].map((id) => recalls(id))).toEqual([false, false, true]);
    learn('a');
    expect(recalls('a')).toBe(true);
  });

  it('everything forgets everybody, and what is learned afterwards counts', () => {
    learn('a');
    learn('c', 'bob');
    const before = verdicts.moment();
    verdicts.forgetEverything();
    expect(['a', 'c'].map((id) => recalls(id))).toEqual([false, false]);
    verdicts.remember({ id: 'a', limit: 1 }, live(), before);
    expect(recalls('a')).toBe(false);
    learn('a');
    expect(recalls('a')).toBe(true);
  });

  it('everything takes no time, however much there is room for: who misbehaves may say so by thousands', () => {
    jest.useRealTimers();
    const began = performance.now();
    times(20_000, () => verdicts.forgetEverything());
    expect(performance.now() - began).toBeLessThan(1_000);
  });
});

/** Every order of the steps in which each list keeps its own order. */
function* interleavings<Step>(...lists: Step[][]): Generator<Step[]> {
  if (lists.every((list) => list.length === 0)) yield [];
  for (const [place, list] of lists.entries()) {
    if (list.length === 0) continue;
    const rest = lists.map((other, at) => (at === place ? other.slice(1) : other));
    for (const others of interleavings(...rest)) yield [list[0]!, ...others];
  }
}

/** A store with one session, and queries whose steps the test orders: sent, read, answered. */
class Schedule {
  refused = false;
  readonly end = (): void => void (this.isLive = false);
  private isLive = true;
  private readonly moments: Moment[] = [];
  private readonly readings: boolean[] = [];

  steps(query: number): (() => void)[] {
    return [
      () => void (this.moments[query] = verdicts.moment()),
      () => void (this.readings[query] = this.isLive),
      () => {
        verdicts.remember(CHECK, this.readings[query] ? live() : dead(), this.moments[query]!);
        this.refused ||= !this.readings[query];
      },
    ];
  }
}

/** Takes the steps in this order. Time goes on between them, as it does. */
function play(steps: (() => void)[], order: number[], afterEachStep: () => void): void {
  for (const place of order) {
    steps[place]!();
    jest.advanceTimersByTime(1);
    afterEachStep();
  }
}

describe('two queries, an end and its notification, in each of their orders', () => {
  it('never leave the ended session remembered as live once the notification was handled [lesson 23, S24]', () => {
    let orders = 0;
    const wrong: string[] = [];
    for (const order of interleavings([0, 1, 2], [3, 4, 5], [6, 7])) {
      verdicts = new Verdicts(MAX_AGE_MS, 10);
      const schedule = new Schedule();
      let notified = false;
      const notify = (): void => {
        verdicts.forget(topicOf(ALICE));
        notified = true;
      };
      play([...schedule.steps(0), ...schedule.steps(1), schedule.end, notify], order, () => {
        if (notified && recalls()) wrong.push(order.join());
      });
      orders++;
    }
    expect(orders).toBe(560);
    expect(wrong).toEqual([]);
  });

  it('never accept a session that was refused a moment ago, even when the notification is lost [P2]', () => {
    const wrong: string[] = [];
    for (const order of interleavings([0, 1, 2], [3, 4, 5], [6])) {
      verdicts = new Verdicts(MAX_AGE_MS, 10);
      const schedule = new Schedule();
      play([...schedule.steps(0), ...schedule.steps(1), schedule.end], order, () => {
        if (schedule.refused && recalls()) wrong.push(order.join());
      });
    }
    expect(wrong).toEqual([]);
  });
});

describe('what is remembered', () => {
  const BOUND = 1_000;

  it('is bounded: the session used longest ago makes room', () => {
    verdicts = new Verdicts(MAX_AGE_MS, BOUND);
    times(BOUND, (n) => learn(`s${n}`, `user${n}`));
    expect(recalls('s0')).toBe(true);
    learn('one more');
    expect(verdicts.size).toBe(BOUND);
    expect(['s0', 's1', 's2', 'one more'].map((id) => recalls(id))).toEqual([true, false, true, true]);
  });

  it('does not grow with a million short-lived sessions, some ended, some refused', () => {
    jest.useRealTimers();
    verdicts = new Verdicts(MAX_AGE_MS, BOUND);
    churn(200_000);
    const before = usedHeap();
    churn(800_000);
    const grown = usedHeap() - before;
    expect(verdicts.size).toBe(BOUND);
    expect(grown).toBeLessThan(1_000_000);
  });

  let next = 0;
  function churn(count: number): void {
    for (let n = 0; n < count; n++, next++) {
      const userId = `user${next}`;
      const check = { id: `session-${next}`, limit: 1 };
      verdicts.remember(check, next % 10 === 0 ? dead(userId) : live(userId), verdicts.moment());
      if (next % 3 === 0) verdicts.forget(topicOf(userId));
    }
  }
});

describe('the topic of a user', () => {
  it('is the same in every process and version: a change here needs a new version of the notification', () => {
    expect(['', 'alice', '7', 'Ωmega', 'x'.repeat(255)].map(topicOf)).toEqual([
      7385, 38085, 37370, 23358, 62759,
    ]);
  });

  it('is one of few, and spreads users evenly', () => {
    const counts = new Map<number, number>();
    times(TOPICS, (n) => topicOf(`user${n}`)).forEach((topic) =>
      counts.set(topic, (counts.get(topic) ?? 0) + 1),
    );
    expect([...counts.keys()].every((topic) => Number.isInteger(topic) && topic >= 0 && topic < TOPICS)).toBe(
      true,
    );
    expect(Math.max(...counts.values())).toBeLessThan(12);
    expect(counts.size).toBeGreaterThan(TOPICS / 2);
  });
});
