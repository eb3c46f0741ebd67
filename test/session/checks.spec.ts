import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { ANSWER_WITHIN_MS } from '../../src/session/answered.js';
import { Checks } from '../../src/session/checks.js';
import type { Check, CheckResult } from '../../src/session/session.js';
import { StoreUnavailableError } from '../../src/session/session-store.js';
import { liveOf } from '../support/fake-store.js';
import { times } from '../support/store.js';

interface Question {
  checks: readonly Check[];
  answer: (answers?: CheckResult[]) => void;
  fail: (error: Error) => void;
}

/** A store whose answers come when the test says so. */
class Desk {
  readonly questions: Question[] = [];
  readonly checks = new Checks((checks) => this.ask(checks));

  verify(id: string, limit = 1): Promise<CheckResult> {
    return this.checks.verify({ id, limit });
  }

  get asked(): string[][] {
    return this.questions.map(({ checks }) => checks.map(({ id }) => id));
  }

  private ask(checks: readonly Check[]): Promise<CheckResult[]> {
    return new Promise((resolve, reject) => {
      this.questions.push({
        checks,
        answer: (answers = checks.map(liveAs)) => resolve(answers),
        fail: reject,
      });
    });
  }
}

const liveAs = ({ id }: Check): CheckResult => liveOf(`user of ${id}`);

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

async function turns(count = 5): Promise<void> {
  for (let place = 0; place < count; place++) await turn();
}

/** What became of a promise up to now. */
function watched(promise: Promise<unknown>): { state: string; error?: unknown } {
  const seen: { state: string; error?: unknown } = { state: 'waiting' };
  promise.then(
    () => (seen.state = 'answered'),
    (error: unknown) => Object.assign(seen, { state: 'failed', error }),
  );
  return seen;
}

let desk: Desk;

beforeEach(() => {
  desk = new Desk();
});

afterEach(() => {
  jest.useRealTimers();
});

describe('checks of one turn', () => {
  it('go in one question, each answered with its own answer', async () => {
    const answers = Promise.all(times(7, (n) => desk.verify(`s${n}`)));
    expect(desk.questions).toHaveLength(0);
    await turns();
    expect(desk.asked).toEqual([times(7, (n) => `s${n}`)]);
    desk.questions[0]!.answer();
    expect((await answers).map((answer) => answer.userId)).toEqual(times(7, (n) => `user of s${n}`));
  });

  it('of which there are many go in two: the first eight at once, while the others still arrive', async () => {
    const answers = Promise.all(times(100, (n) => desk.verify(`s${n}`)));
    expect(desk.asked).toEqual([times(8, (n) => `s${n}`)]);
    await turns();
    expect(desk.asked.slice(1)).toEqual([times(92, (n) => `s${n + 8}`)]);
    for (const question of desk.questions.toReversed()) question.answer();
    expect((await answers).map((answer) => answer.userId)).toEqual(times(100, (n) => `user of s${n}`));
  });

  it('go in one, however many, while a question is under way: the database has something to do', async () => {
    const first = desk.verify('first');
    await turns();
    const answers = Promise.all(times(100, (n) => desk.verify(`s${n}`)));
    expect(desk.asked).toEqual([['first']]);
    await turns();
    expect(desk.asked.slice(1)).toEqual([times(100, (n) => `s${n}`)]);
    for (const question of desk.questions) question.answer();
    await Promise.all([first, answers]);
  });

  it('ask the same thing once, and different limits of the same session each', async () => {
    const answers = Promise.all([
      desk.verify('a'),
      desk.verify('b'),
      desk.verify('a'),
      desk.verify('a', 2),
      desk.verify('b'),
    ]);
    await turns();
    expect(desk.questions.map(({ checks }) => checks)).toEqual([
      [
        { id: 'a', limit: 1 },
        { id: 'b', limit: 1 },
        { id: 'a', limit: 2 },
      ],
    ]);
    desk.questions[0]!.answer();
    expect((await answers).map(({ userId }) => userId)).toEqual(
      ['a', 'b', 'a', 'a', 'b'].map((id) => `user of ${id}`),
    );
  });

  it('that are more than 500 are split, none lost', async () => {
    const answers = Promise.all(times(1_201, (n) => desk.verify(`s${n}`)));
    await turns();
    expect(desk.asked.map((ids) => ids.length)).toEqual([8, 500, 500, 193]);
    for (const question of desk.questions.toReversed()) question.answer();
    expect((await answers).map((answer) => answer.userId)).toEqual(times(1_201, (n) => `user of s${n}`));
  });
});

describe('a check that arrives while a question is under way', () => {
  it('is not answered by it, but by one that started later [P4]', async () => {
    const early = watched(desk.verify('a'));
    await turns();
    const late = watched(desk.verify('a'));
    desk.questions[0]!.answer();
    await turns();
    expect([early.state, late.state]).toEqual(['answered', 'waiting']);
    expect(desk.asked).toEqual([['a'], ['a']]);
    desk.questions[1]!.answer();
    await turns();
    expect(late.state).toBe('answered');
  });

  it('gets the later answer, and never the earlier one [P4]', async () => {
    const early = desk.verify('a');
    await turns();
    const late = desk.verify('a');
    await turns();
    const dead: CheckResult = {
      live: false,
      reason: 'superseded',
      endedAt: null,
      userId: 'u',
      unmarked: false,
      unseen: false,
      roles: '',
      administrator: false,
    };
    desk.questions[1]!.answer([dead]);
    desk.questions[0]!.answer();
    expect((await early).live).toBe(true);
    expect((await late).live).toBe(false);
  });

  it('is held back while four are under way, gathers with the others, and goes when one is back', async () => {
    const first = times(4, async (n) => {
      await turns(n * 3);
      return desk.verify(`first ${n}`);
    });
    await turns(20);
    expect(desk.questions).toHaveLength(4);
    const second = times(3, async (n) => {
      await turns(n * 3);
      return desk.verify(`second ${n}`);
    });
    await turns(20);
    expect(desk.questions).toHaveLength(4);
    desk.questions[2]!.answer();
    await turns();
    expect(desk.asked[4]).toEqual(['second 0', 'second 1', 'second 2']);
    for (const question of desk.questions) question.answer();
    await Promise.all([...first, ...second]);
    expect(desk.questions).toHaveLength(5);
  });

  it('never finds more than four under way, however many batches wait', async () => {
    const answers = Promise.all(times(5_000, (n) => desk.verify(`s${n}`)));
    let done = 0;
    for (await turns(); done < desk.questions.length; await turns()) {
      expect(desk.questions.length - done).toBeLessThanOrEqual(4);
      desk.questions[done++]!.answer();
    }
    expect(done).toBe(11);
    expect(await answers).toHaveLength(5_000);
  });
});

describe('a question that fails', () => {
  it('fails exactly the checks that waited for it [S26]', async () => {
    const first = times(2, () => watched(desk.verify('a')));
    await turns();
    const second = watched(desk.verify('a'));
    await turns();
    desk.questions[0]!.fail(new Error('gone'));
    await turns();
    expect([...first, second].map(({ state }) => state)).toEqual(['failed', 'failed', 'waiting']);
    for (const { error } of first) expect(error).toBeInstanceOf(StoreUnavailableError);
    desk.questions[1]!.answer();
    await turns();
    expect(second.state).toBe('answered');
  });

  it('says why, also where the database was looked for at several addresses', async () => {
    const check = desk.verify('a');
    await turns();
    desk.questions[0]!.fail(new AggregateError([new Error('connect ECONNREFUSED ::1:5432')]));
    await expect(check).rejects.toThrow(
      'The session store cannot answer: a statement failed: connect ECONNREFUSED ::1:5432',
    );
  });

  it('does not keep its place: four failures later the next check still goes', async () => {
    const checks = times(8, async (n) => {
      await turns(n * 3);
      return desk.verify(`s${n}`);
    });
    const all = Promise.allSettled(checks);
    for (let place = 0; place < 4; place++) {
      await turns(20);
      desk.questions[place]!.fail(new Error('gone'));
    }
    await turns();
    const next = desk.verify('next');
    await turns();
    for (const question of desk.questions) question.answer();
    expect((await next).live).toBe(true);
    await all;
  });

  it.each([
    ['too few', []],
    ['too many', times(3, () => liveAs({ id: 'a', limit: 1 }))],
  ])('because it has %s answers is an error for all, never a yes [S26]', async (_, answers) => {
    const checks = [watched(desk.verify('a')), watched(desk.verify('b'))];
    await turns();
    desk.questions[0]!.answer(answers as CheckResult[]);
    await turns();
    for (const check of checks) expect(check.error).toBeInstanceOf(StoreUnavailableError);
  });

  it.each([undefined, null, 7])('because it answers %p is an error, never a yes [S26]', async (answer) => {
    const checks = new Checks(async () => answer as never);
    await expect(checks.verify({ id: 'a', limit: 1 })).rejects.toBeInstanceOf(StoreUnavailableError);
  });

  it('because it throws at once is an error too', async () => {
    const checks = new Checks(() => {
      throw new Error('at once');
    });
    await expect(checks.verify({ id: 'a', limit: 1 })).rejects.toBeInstanceOf(StoreUnavailableError);
    await expect(checks.verify({ id: 'b', limit: 1 })).rejects.toThrow(/at once/);
  });
});

describe('a question that is never answered', () => {
  const settle = async (): Promise<void> => {
    await jest.advanceTimersByTimeAsync(1);
  };

  beforeEach(() => {
    jest.useFakeTimers();
  });

  it('fails within the time limit and not before it [S26]', async () => {
    const check = watched(desk.verify('a'));
    await settle();
    await jest.advanceTimersByTimeAsync(ANSWER_WITHIN_MS - 10);
    expect(check.state).toBe('waiting');
    await jest.advanceTimersByTimeAsync(10);
    expect(check.error).toBeInstanceOf(StoreUnavailableError);
  });

  it('fails those that wait behind it within the same time limit, and says for how long they have waited', async () => {
    const first = times(4, (n) => watched(desk.verify(`first ${n}`)));
    await settle();
    for (let n = 0; n < 3; n++) {
      void desk.verify(`more ${n}`).catch(() => undefined);
      await settle();
    }
    expect(desk.questions).toHaveLength(4);
    await jest.advanceTimersByTimeAsync(1_000);
    const behind = watched(desk.verify('behind'));
    await jest.advanceTimersByTimeAsync(ANSWER_WITHIN_MS + 10);
    expect(first.map(({ state }) => state)).toEqual(times(4, () => 'failed'));
    expect(behind.error).toEqual(
      new StoreUnavailableError('The session store cannot answer: no answer within 5000 ms'),
    );
  });

  it('is followed by none whose turn has not come in time', async () => {
    const checks = times(3_000, (n) => watched(desk.verify(`s${n}`)));
    await settle();
    await jest.advanceTimersByTimeAsync(ANSWER_WITHIN_MS);
    expect(new Set(checks.map(({ state }) => state))).toEqual(new Set(['failed']));
    expect(desk.questions).toHaveLength(4);
  });

  it('leaves no timer behind when it is answered', async () => {
    const check = desk.verify('a');
    await settle();
    desk.questions[0]!.answer();
    await check;
    await settle();
    expect(jest.getTimerCount()).toBe(0);
  });

  it('does not change its mind when the answer comes after all', async () => {
    const check = watched(desk.verify('a'));
    await settle();
    await jest.advanceTimersByTimeAsync(ANSWER_WITHIN_MS);
    desk.questions[0]!.answer();
    await settle();
    expect(check.state).toBe('failed');
  });
});
