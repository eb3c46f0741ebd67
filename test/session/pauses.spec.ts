import { AsyncLocalStorage } from 'node:async_hooks';
import { randomUUID } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { Logger } from '@nestjs/common';
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
const { UnfinishedEnds } = await import('../../src/session/unfinished-ends.js');
const { NOWHERE, times, until } = await import('../support/store.js');

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

describe('a session that nobody holds any more and that could not be ended', () => {
  const options = resolveOptions({ logoutEverywhere: true });
  const [id, other] = [randomUUID(), randomUUID()];
  let store: FakeStore;
  let ending: jest.SpiedFunction<FakeStore['end']>;
  let sessions: InstanceType<typeof Sessions>;

  const ended = (): unknown[] =>
    (ending.mock.calls as unknown as [EndOrder][]).map(([{ target, reason }]) => ({ ...target, reason }));

  beforeEach(() => {
    jest.spyOn(Logger.prototype, 'warn').mockImplementation(() => undefined);
    store = new FakeStore();
    ending = jest.spyOn(store, 'end');
    sessions = new Sessions(store, new Policy(options), new Bookkeeper(store), options);
  });

  const failTimes = (count: number): void => {
    for (let failure = 0; failure < count; failure++) ending.mockRejectedValueOnce(new Error('gone'));
  };

  it('ends when the store answers again, after pauses that grow up to half a minute', async () => {
    failTimes(9);
    await sessions.giveUp(id);
    await turn();
    expect(ended()).toEqual(times(10, () => ({ scope: 'session', sessionId: id, reason: 'superseded' })));
    expect(rests).toEqual([500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000]);
  });

  it('ends also when the store has failed and answered before', async () => {
    for (const one of [id, other]) {
      failTimes(1);
      await sessions.giveUp(one);
      await turn();
    }
    expect(ended()).toMatchObject([id, id, other, other].map((sessionId) => ({ sessionId })));
  });

  it('is tried again in the context of no request, which is over by then', async () => {
    const contexts = new AsyncLocalStorage<string>();
    const seen: (string | undefined)[] = [];
    ending.mockImplementation(async () => {
      seen.push(contexts.getStore());
      if (seen.length === 1) throw new Error('gone');
      return [];
    });
    await contexts.run('of a request', () => sessions.giveUp(id));
    await until(() => seen.length === 2);
    expect(seen).toEqual(['of a request', undefined]);
  });

  it('is one of 10,000 at most: the memory that an outage takes is bounded', async () => {
    const unfinished = new UnfinishedEnds();
    let asked = 0;
    const end = async (): Promise<void> => void asked++;
    for (let count = 0; count <= 10_000; count++) unfinished.add({ sessionId: id, end });
    await until(() => !unfinished.has(id));
    expect(asked).toBe(10_000);
  });

  it('is one of a login: it stays if another login carries it', async () => {
    failTimes(1);
    await sessions.giveUpLogin(id, other);
    await turn();
    expect(ended()).toEqual(
      times(2, () => ({ scope: 'login', sessionId: id, loginId: other, reason: 'logout' })),
    );
  });

  it('ends alone after a logout: those that have begun since are no part of it', async () => {
    failTimes(1);
    await sessions.giveUpByLogout(id, undefined);
    await turn();
    expect(ended()).toMatchObject([{ scope: 'everywhere' }, { scope: 'session', reason: 'logout' }]);
  });

  it('holds up no other, each of which is asked for after the one before', async () => {
    failTimes(3);
    ending.mockImplementation(async () => {
      await turn();
      return [];
    });
    await Promise.all([sessions.giveUp(id), sessions.giveUp(other)]);
    await until(() => ending.mock.calls.length === 5);
    const asked = (ended() as { sessionId: string }[]).map(({ sessionId }) => sessionId);
    expect(asked).toEqual([id, other, id, other, id]);
  });

  it('is not tried again when the application has closed', async () => {
    sessions.close();
    failTimes(1);
    await sessions.giveUp(id);
    await turn();
    expect(ending).toHaveBeenCalledTimes(1);
  });

  it('is carried on by no other cookie session meanwhile', async () => {
    const { promise, fail } = gate<EndedSession[]>();
    ending.mockRejectedValueOnce(new Error('gone')).mockReturnValueOnce(promise);
    expect(await sessions.isStillLive(id, { id: 1 })).toBe(true);
    await sessions.giveUp(id);
    expect(await sessions.isStillLive(id, { id: 1 })).toBe(false);
    sessions.close();
    fail(new Error('gone'));
    await turn();
    expect(ending).toHaveBeenCalledTimes(2);
    expect(await sessions.isStillLive(id, { id: 1 })).toBe(true);
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
