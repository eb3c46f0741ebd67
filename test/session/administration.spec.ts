import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { Logger } from '@nestjs/common';
import { actorOfCode } from '../../src/session/actor.js';
import { Administration } from '../../src/session/administration.js';
import type { AdministrationStore, CutOffCounts, Summary } from '../../src/session/administration-store.js';
import { COUNT_WITHIN_MS } from '../../src/session/answered.js';
import { SingleSessionEvents } from '../../src/session/events.js';
import { gate, type Gate } from '../support/fake-store.js';
import { times } from '../support/store.js';

const SUMMARY: Summary = {
  activeSessions: 3,
  activeUsers: 2,
  administrators: 1,
  exemptSessions: 0,
  storms: [],
};
const COUNTS: CutOffCounts = { ended: 2, users: 1, spared: 1 };
const CODE = actorOfCode(undefined);

/** What reads every live session, for as long as the test says. */
let reads: Gate<never>[];
let sweeps: number;
let administration: Administration;

beforeEach(() => {
  jest.useFakeTimers({ doNotFake: ['setImmediate', 'nextTick'] });
  reads = [];
  sweeps = 0;
  const reading = (): Promise<never> => {
    const read = gate<never>();
    reads.push(read);
    return read.promise;
  };
  const store: Partial<AdministrationStore> = {
    summary: reading,
    countCutOff: reading,
    cutOff: async () => ({ id: '1', at: new Date(), actionId: '1' }),
  };
  const sweeper = { sweepSoon: () => void sweeps++ };
  administration = new Administration(store as AdministrationStore, new SingleSessionEvents(), sweeper);
});

afterEach(() => {
  jest.useRealTimers();
  jest.restoreAllMocks();
});

const pass = (ms: number): Promise<void> => jest.advanceTimersByTimeAsync(ms);
const answers = (answer: object): void => reads.at(-1)!.open(answer as never);

describe('what reads every live session', () => {
  it.each([
    ['the summary', () => administration.summary(), SUMMARY],
    ['a dry run', () => administration.logoutEveryone({ dryRun: true }, CODE), COUNTS],
    ['the counts of a cut-off', () => administration.logoutEveryone({}, CODE), COUNTS],
  ])('may take its time: %s', async (_, ask, answer) => {
    const asked = ask();
    await pass(COUNT_WITHIN_MS - 1);
    answers(answer);
    expect(await asked).toMatchObject(answer);
  });

  it('is given up some time: everyone is logged out then, and not counted', async () => {
    const error = jest.spyOn(Logger.prototype, 'error').mockImplementation(() => undefined);
    const asked = administration.logoutEveryone({}, CODE);
    await pass(0);
    await pass(COUNT_WITHIN_MS);
    expect(await asked).toEqual({ ended: null, users: null, spared: null, dryRun: false });
    expect(error.mock.calls).toEqual([[expect.stringMatching(/no answer within/)]]);
  });
});

it('a cut-off has much to mark: the sweeper begins at once, and not at a dry run', async () => {
  const counted = administration.logoutEveryone({ dryRun: true }, CODE);
  answers(COUNTS);
  await counted;
  expect(sweeps).toBe(0);
  const cutOff = administration.logoutEveryone({}, CODE);
  await pass(0);
  expect(sweeps).toBe(1);
  answers(COUNTS);
  await cutOff;
});

describe('the summary', () => {
  /** The summary, which takes so long to read. */
  async function read(ms: number): Promise<void> {
    const asked = administration.summary();
    await pass(ms);
    answers(SUMMARY);
    await asked;
    await pass(0);
  }

  it('is read once for all who ask while it is read, however long that takes', async () => {
    const asked = [administration.summary()];
    for (let second = 0; second < 20; second++) {
      await pass(1_000);
      asked.push(administration.summary());
    }
    expect(reads).toHaveLength(1);
    answers(SUMMARY);
    expect(await Promise.all(asked)).toEqual(times(21, () => SUMMARY));
  });

  it.each([
    [0, 1_000],
    [50, 1_000],
    [2_000, 20_000],
  ])('that took %d ms to read is kept for %d ms', async (took, kept) => {
    await read(took);
    await pass(kept - 1);
    expect(await administration.summary()).toBe(SUMMARY);
    expect(reads).toHaveLength(1);
    await pass(1);
    void administration.summary();
    expect(reads).toHaveLength(2);
  });

  it('that could not be read is told to who asked, and is read again for the next', async () => {
    const asked = Promise.allSettled([administration.summary(), administration.summary()]);
    reads[0]!.fail(new Error('gone'));
    expect((await asked).map(({ status }) => status)).toEqual(['rejected', 'rejected']);
    await read(1);
    expect(reads).toHaveLength(2);
  });
});
