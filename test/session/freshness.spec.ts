import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { ANSWER_WITHIN_MS } from '../../src/session/answered.js';
import { Freshness } from '../../src/session/freshness.js';
import { topicOf } from '../../src/session/verdicts.js';
import { FakeSignal } from '../support/fake-signal.js';
import { liveOf } from '../support/fake-store.js';

const MAX_STALENESS_MS = 1_000;

let signal: FakeSignal;
let freshness: Freshness;

beforeEach(async () => {
  jest.useFakeTimers({ doNotFake: ['setImmediate', 'nextTick'] });
  signal = new FakeSignal();
  freshness = new Freshness(signal, { maxStalenessMs: MAX_STALENESS_MS });
  await freshness.start();
});

afterEach(() => {
  jest.useRealTimers();
});

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** A session named as its user was found live just now. */
function learn(...users: string[]): void {
  const checks = users.map((id) => ({ id, limit: 1 }));
  freshness.learn(
    checks,
    users.map((user) => liveOf(user)),
    freshness.moment(),
  );
}

const recalls = (user: string): boolean => freshness.recall({ id: user, limit: 1 }) !== undefined;

function listens(): void {
  freshness.hearing();
  freshness.proven(performance.now());
}

describe('memory', () => {
  it('is not used before it is proved that changes are heard', () => {
    learn('a');
    expect(recalls('a')).toBe(false);
    freshness.hearing();
    learn('a');
    expect(recalls('a')).toBe(false);
    freshness.proven(performance.now());
    expect(recalls('a')).toBe(true);
  });

  it('is not used when the last proof was asked for too long ago, however late its answer came [P4]', () => {
    const sentAt = performance.now();
    freshness.hearing();
    jest.advanceTimersByTime(600);
    freshness.proven(sentAt);
    learn('a');
    jest.advanceTimersByTime(399);
    expect(recalls('a')).toBe(true);
    jest.advanceTimersByTime(1);
    expect(recalls('a')).toBe(false);
    learn('a');
    expect(recalls('a')).toBe(false);
  });

  it('is not used any more when its own age is over, however often the way is proved [P4]', () => {
    listens();
    learn('a');
    for (let ms = 0; ms < MAX_STALENESS_MS; ms += 100) {
      expect(recalls('a')).toBe(true);
      jest.advanceTimersByTime(100);
      freshness.proven(performance.now());
    }
    expect(recalls('a')).toBe(false);
  });

  it('does not heed a wall clock that is set [S16]', () => {
    listens();
    learn('a');
    jest.setSystemTime(Date.now() - 3_600_000);
    expect(recalls('a')).toBe(true);
    jest.setSystemTime(Date.now() + 7_200_000);
    expect(recalls('a')).toBe(true);
    jest.setSystemTime(Date.now() - 3_600_000);
    jest.advanceTimersByTime(MAX_STALENESS_MS);
    expect(recalls('a')).toBe(false);
  });

  it('is not used while changes are not heard, and is empty when they are heard again [lesson 24]', () => {
    listens();
    learn('a');
    freshness.deaf();
    expect(recalls('a')).toBe(false);
    const early = freshness.moment();
    listens();
    expect(recalls('a')).toBe(false);
    freshness.learn([{ id: 'a', limit: 1 }], [liveOf('a')], early);
    expect(recalls('a')).toBe(false);
    learn('a');
    expect(recalls('a')).toBe(true);
  });

  it('forgets whom another process names, and leaves the others alone', () => {
    listens();
    learn('a', 'b');
    freshness.heard(new Set([topicOf('a')]));
    expect(['a', 'b'].map(recalls)).toEqual([false, true]);
    freshness.heard('everything');
    expect(recalls('b')).toBe(false);
  });
});

describe('what others change', () => {
  it('is forgotten at once, and passed on with all else of this turn: it may come by thousands', async () => {
    const passedOn: unknown[] = [];
    freshness.changes.subscribe((changes) => passedOn.push(changes));
    listens();
    learn('a', 'b');
    for (const user of ['a', 'b', 'a']) freshness.heard(new Set([topicOf(user)]));
    expect(['a', 'b'].map(recalls)).toEqual([false, false]);
    expect(passedOn).toEqual([]);
    await turn();
    expect(passedOn.splice(0)).toEqual(['everything']);

    for (const user of ['a', 'b', 'a']) freshness.heard(new Set([topicOf(user)]));
    await turn();
    expect(passedOn.splice(0)).toEqual([new Set(['a', 'b'].map(topicOf))]);

    freshness.heard('everything');
    freshness.heard(new Set([topicOf('a')]));
    await turn();
    freshness.heard(new Set([topicOf('b')]));
    await turn();
    expect(passedOn).toEqual(['everything', new Set([topicOf('b')])]);
  });
});

describe('what this process changes', () => {
  beforeEach(listens);

  it('is forgotten here at once, before anybody is told [lesson 22]', () => {
    learn('a', 'b');
    freshness.changed(['a']);
    expect(['a', 'b'].map(recalls)).toEqual([false, true]);
    expect(signal.told).toEqual([]);
    learn('b');
    freshness.everythingChanged();
    expect(recalls('b')).toBe(false);
  });

  it('in one turn is told in one notification, each user once', async () => {
    for (const user of ['a', 'b', 'a', 'c']) freshness.changed([user]);
    await Promise.resolve();
    freshness.changed(['d']);
    await turn();
    expect(signal.told).toEqual([['a', 'b', 'c', 'd'].map(topicOf)]);
  });

  it('is told as everything when that is part of it', async () => {
    freshness.changed(['a']);
    freshness.everythingChanged();
    freshness.changed(['b']);
    await turn();
    expect(signal.told.splice(0)).toEqual(['everything']);
    freshness.everythingChanged();
    await turn();
    expect(signal.told).toEqual(['everything']);
  });

  it('while a notification is under way gathers in the next one, and none is lost', async () => {
    const telling = signal.holdTelling();
    freshness.changed(['a']);
    await turn();
    for (const user of ['b', 'c']) {
      freshness.changed([user]);
      await turn();
    }
    expect(signal.told).toEqual([[topicOf('a')]]);
    telling.open();
    await turn();
    freshness.changed(['d']);
    await turn();
    expect(signal.told).toEqual([[topicOf('a')], ['b', 'c'].map(topicOf), [topicOf('d')]]);
  });

  // One of these moments falls between the last look at what is untold and the end.
  it.each(Array.from({ length: 10 }, (_, steps) => steps))(
    '%i steps after a notification is told too',
    async (steps) => {
      const telling = signal.holdTelling();
      freshness.changed(['a']);
      await turn();
      telling.open();
      for (let step = 0; step < steps; step++) await Promise.resolve();
      freshness.changed(['b']);
      await turn();
      await turn();
      expect(signal.told.flat()).toEqual(['a', 'b'].map(topicOf));
    },
  );

  it('tells nobody when nobody is concerned', async () => {
    freshness.changed([]);
    await turn();
    expect(signal.told).toEqual([]);
  });
});

describe('a stop', () => {
  it('tells what is not told yet, stops listening, and asks the store from then on', async () => {
    listens();
    learn('b');
    freshness.changed(['a']);
    await freshness.stop();
    expect(signal.told).toEqual([[topicOf('a')]]);
    expect(signal.stopped).toBe(true);
    expect(recalls('b')).toBe(false);
  });

  it('waits for a database that takes no notification only for a while', async () => {
    signal.holdTelling();
    freshness.changed(['a']);
    const stopped = freshness.stop();
    await turn();
    expect(signal.stopped).toBe(false);
    jest.advanceTimersByTime(ANSWER_WITHIN_MS);
    await stopped;
    expect(signal.stopped).toBe(true);
  });

  it('is over when the way on which notifications come is closed', async () => {
    const stopping = signal.holdStopping();
    let isOver = false;
    const stopped = freshness.stop().then(() => (isOver = true));
    await turn();
    expect(isOver).toBe(false);
    stopping.open();
    await stopped;
  });
});
