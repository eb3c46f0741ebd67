import { randomUUID } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { Policy } from '../../src/session/policy.js';
import { StoreUnavailableError } from '../../src/session/session-store.js';
import type { AdmissionResult, EndedSession, EndOrder } from '../../src/session/session.js';
import { resolveOptions } from '../../src/single-session.options.js';
import { FakeStore, gate } from '../support/fake-store.js';

/** The milliseconds of each rest, none of which takes any time. */
let rests: number[];
let onRest: () => void;

jest.unstable_mockModule('node:timers/promises', () => ({
  setTimeout: async (ms: number, _value: undefined, { signal }: { signal?: AbortSignal }) => {
    if (signal?.aborted) return;
    rests.push(ms);
    onRest();
  },
}));
// Fake timers do not reach that module. Whoever rests is loaded after this.
const { Admissions } = await import('../../src/session/admissions.js');
const { ANSWER_WITHIN_MS } = await import('../../src/session/answered.js');
const { Bookkeeper } = await import('../../src/session/bookkeeper.js');
const { Sessions } = await import('../../src/session/sessions.js');
const { Sweeper } = await import('../../src/session/sweeper.js');
const { NOWHERE } = await import('../support/store.js');

beforeEach(() => {
  rests = [];
  onRest = () => undefined;
});

afterEach(() => {
  jest.useRealTimers();
  jest.restoreAllMocks();
});

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe('a login that was answered with an error', () => {
  const options = resolveOptions({});
  const admissionsOf = (store: FakeStore) => {
    const [policy, bookkeeper] = [new Policy(options), new Bookkeeper(store)];
    const sessions = new Sessions(store, policy, bookkeeper, options);
    return new Admissions(store, policy, bookkeeper, sessions, options);
  };
  const login = { user: { id: 1 }, origin: NOWHERE };

  /** A store whose admission is not answered before the test says so, and which finds the login at this look. */
  class Slow extends FakeStore {
    readonly answer = gate<AdmissionResult>();
    readonly looks: EndOrder[] = [];
    constructor(private readonly foundAt = Infinity) {
      super();
    }

    override admit(): Promise<AdmissionResult> {
      return this.answer.promise;
    }

    override async end(...given: [] | [EndOrder]): Promise<EndedSession[]> {
      this.looks.push(given[0]!);
      if (this.looks.length < this.foundAt) return [];
      const session = { id: randomUUID(), userId: '1', username: '1', by: null, replacedBy: null };
      return [{ ...session, reason: 'logout', endedAt: new Date() }];
    }
  }

  it('since its statement took too long is taken back when that is carried out after all, however much later [P5]', async () => {
    jest.useFakeTimers({ doNotFake: ['setImmediate', 'nextTick'] });
    const store = new Slow(1);
    const outcome = admissionsOf(store)
      .admit(login)
      .catch((error: unknown) => error);
    await turn();
    jest.advanceTimersByTime(ANSWER_WITHIN_MS);
    expect(await outcome).toBeInstanceOf(StoreUnavailableError);
    await turn();
    expect(store.looks).toEqual([]);
    store.answer.open({ outcome: 'admitted', first: true, exempt: false, logins: 1 });
    await turn();
    expect(store.looks.map(({ target }) => target.scope)).toEqual(['login']);
  });

  it('since the connection was lost is looked for for a minute: its statement may be on its way still [P5]', async () => {
    const store = new Slow();
    store.answer.fail(new Error('gone'));
    await expect(admissionsOf(store).admit(login)).rejects.toThrow(StoreUnavailableError);
    await turn();
    expect(rests[0]).toBe(0);
    expect(store.looks).toHaveLength(rests.length);
    expect(rests.reduce((sum, ms) => sum + ms)).toBeGreaterThanOrEqual(60_000);
    expect(Math.max(...rests)).toBeLessThanOrEqual(30_000);
  });

  it('is looked for no more when it is taken back', async () => {
    const store = new Slow(3);
    store.answer.fail(new Error('gone'));
    await expect(admissionsOf(store).admit(login)).rejects.toThrow(StoreUnavailableError);
    await turn();
    expect(store.looks).toHaveLength(3);
  });
});

describe('the sweeper', () => {
  const MINUTE = 60_000;
  const DAY = 24 * 60 * MINUTE;

  /** How long it rests before a sweep, when chance says this. */
  async function restOf(retentionMs: number, chance: number): Promise<number> {
    jest.spyOn(Math, 'random').mockReturnValue(chance);
    const sweeper = new Sweeper(new FakeStore(), retentionMs);
    rests = [];
    onRest = () => void sweeper.stop();
    sweeper.start();
    await turn();
    return rests[0]!;
  }

  it('sweeps every ten minutes however long ended sessions are kept: who expires is told by it', async () => {
    expect(await restOf(30 * DAY, 0.5)).toBe(10 * MINUTE);
    expect(await restOf(365 * DAY, 0.5)).toBe(10 * MINUTE);
  });

  it('sweeps more often where they are kept for a short time, but never without a pause', async () => {
    expect(await restOf(10 * MINUTE, 0.5)).toBe(MINUTE);
    expect(await restOf(1, 0.5)).toBe(1_000);
  });

  it('does not sweep at the same moment as those of processes that started together', async () => {
    expect([await restOf(DAY, 0), await restOf(DAY, 1)]).toEqual([5 * MINUTE, 15 * MINUTE]);
  });

  it('leaves the database a pause between batches', async () => {
    const store = new FakeStore();
    let batches = 0;
    jest.spyOn(store, 'sweep').mockImplementation(async () => ({ more: ++batches < 3, ended: [] }));
    await new Sweeper(store, DAY).sweep();
    expect(rests).toEqual([50, 50]);
  });
});
