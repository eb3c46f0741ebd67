import { afterEach, describe, expect, it, jest } from '@jest/globals';
import { actorOfCode } from '../../src/session/actor.js';
import { Administration } from '../../src/session/administration.js';
import type { AdministrationStore, CutOff, EndUsersResult } from '../../src/session/administration-store.js';
import { ANSWER_WITHIN_MS } from '../../src/session/answered.js';
import { SingleSessionEvents, type SingleSessionEvent } from '../../src/session/events.js';
import { StoreUnavailableError } from '../../src/session/session-store.js';
import { gate } from '../support/fake-store.js';

afterEach(() => {
  jest.useRealTimers();
});

/** An administration whose store answers when the test says so, and what it tells. */
function slowly() {
  const cutOff = gate<CutOff>();
  const endUsers = gate<EndUsersResult>();
  const events = new SingleSessionEvents();
  const emitted: SingleSessionEvent['type'][] = [];
  events.all.subscribe(({ type }) => emitted.push(type));
  const changed: string[] = [];
  const freshness = {
    changed: (userIds: Iterable<string>) => void changed.push(...userIds),
    everythingChanged: () => void changed.push('everything'),
  };
  const store = { cutOff: () => cutOff.promise, endUsers: () => endUsers.promise };
  const administration = new Administration(
    store as unknown as AdministrationStore,
    events,
    { sweepSoon: () => undefined },
    freshness,
  );
  return { administration, cutOff, endUsers, emitted, changed };
}

async function givenUp(order: Promise<unknown>): Promise<void> {
  const outcome = order.catch((error: unknown) => error);
  await jest.advanceTimersByTimeAsync(ANSWER_WITHIN_MS);
  expect(await outcome).toBeInstanceOf(StoreUnavailableError);
}

describe('an answer that comes after the administrator was told that there is none', () => {
  it('is told all the same: a cut-off', async () => {
    jest.useFakeTimers({ doNotFake: ['setImmediate'] });
    const { administration, cutOff, emitted, changed } = slowly();
    await givenUp(administration.logoutEveryone({}, actorOfCode(undefined)));
    expect([emitted, changed]).toEqual([[], []]);
    cutOff.open({ id: '1', at: new Date(), actionId: '1' });
    await jest.advanceTimersByTimeAsync(0);
    expect([emitted, changed]).toEqual([['cut-off'], ['everything']]);
  });

  it('is told all the same: whose sessions were ended', async () => {
    jest.useFakeTimers({ doNotFake: ['setImmediate'] });
    const { administration, endUsers, emitted, changed } = slowly();
    await givenUp(administration.logout({ userIds: ['7'] }, actorOfCode(undefined)));
    expect([emitted, changed]).toEqual([[], []]);
    const ended = {
      id: '00000000-0000-4000-8000-000000000001',
      userId: '7',
      username: 'seven',
      reason: 'admin' as const,
      endedAt: new Date(),
      by: null,
      replacedBy: null,
    };
    endUsers.open({
      found: [{ userId: '7', username: null, protected: false, ended: true }],
      count: 1,
      users: 1,
      ended: [ended],
    });
    await jest.advanceTimersByTimeAsync(0);
    expect([emitted, changed]).toEqual([['ended'], ['7']]);
  });
});

describe('an order that failed, whose statement may have been committed all the same', () => {
  it('is no event, and everything is forgotten: a cut-off', async () => {
    const { administration, cutOff, emitted, changed } = slowly();
    cutOff.fail(new Error('gone'));
    await expect(administration.logoutEveryone({}, actorOfCode(undefined))).rejects.toThrow(
      StoreUnavailableError,
    );
    expect([emitted, changed]).toEqual([[], ['everything']]);
  });

  it('is no event, and everything is forgotten: whose sessions were to be ended', async () => {
    const { administration, endUsers, emitted, changed } = slowly();
    endUsers.fail(new Error('gone'));
    await expect(administration.logout({ usernames: ['seven'] }, actorOfCode(undefined))).rejects.toThrow(
      StoreUnavailableError,
    );
    expect([emitted, changed]).toEqual([[], ['everything']]);
  });
});
