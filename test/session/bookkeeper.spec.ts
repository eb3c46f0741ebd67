import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { Logger } from '@nestjs/common';
import { ANSWER_WITHIN_MS } from '../../src/session/answered.js';
import { Bookkeeper } from '../../src/session/bookkeeper.js';
import { gate, FakeStore, type Gate } from '../support/fake-store.js';
import { times } from '../support/store.js';
import { timers } from '../support/timers.js';
import type { EndedSession } from '../../src/session/session.js';

class Ledger extends FakeStore {
  readonly marked: string[][] = [];
  readonly written: string[][] = [];
  marking: Gate<EndedSession[]> | undefined;
  writing: Gate<void> | undefined;

  override async markUsers(userIds: readonly string[]): Promise<EndedSession[]> {
    this.marked.push([...userIds]);
    return this.marking?.promise ?? [];
  }

  override async seen(ids: readonly string[]): Promise<void> {
    this.written.push([...ids]);
    return this.writing?.promise;
  }
}

let ledger: Ledger;
let warn: jest.SpiedFunction<Logger['warn']>;
let bookkeeper: Bookkeeper;

beforeEach(() => {
  ledger = new Ledger();
  bookkeeper = new Bookkeeper(ledger);
  warn = jest.spyOn(Logger.prototype, 'warn').mockImplementation(() => undefined);
});

afterEach(() => {
  jest.useRealTimers();
  jest.restoreAllMocks();
});

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

async function hasSettled(promise: Promise<unknown>): Promise<boolean> {
  for (let count = 0; count < 3; count++) await turn();
  return Promise.race([promise.then(() => true), turn().then(() => false)]);
}

describe('marks', () => {
  it('of one turn are written together, each user once', async () => {
    for (const user of ['a', 'b', 'a', 'c']) void bookkeeper.markLater(user);
    await turn();
    expect(ledger.marked).toEqual([['a', 'b', 'c']]);
  });

  it('that are asked for while some are under way are written after, not forgotten', async () => {
    ledger.marking = gate();
    void bookkeeper.markLater('a');
    await turn();
    void bookkeeper.markLater('a');
    await turn();
    expect(ledger.marked).toEqual([['a'], ['a']]);
    ledger.marking.open([]);
    await bookkeeper.close();
  });

  it('that fail only warn: nobody waits for them, and nothing depends on them', async () => {
    const marking = (ledger.marking = gate());
    void bookkeeper.markLater('a');
    await turn();
    marking.fail(new Error('gone'));
    await bookkeeper.close();
    expect(warn).toHaveBeenCalledTimes(1);
    expect(warn.mock.calls[0]![0]).toMatch(/gone/);
  });

  it('that fail at each login while the database is gone warn once', async () => {
    const marking = jest.spyOn(ledger, 'markUsers').mockRejectedValue(new Error('gone'));
    for (const user of ['a', 'b', 'c']) await bookkeeper.markLater(user);
    expect(marking).toHaveBeenCalledTimes(3);
    expect(warn).toHaveBeenCalledTimes(1);
  });
});

describe('last-seen times', () => {
  it('are written in one batch a second, each session once, not on the way of the request', async () => {
    jest.useFakeTimers();
    for (const id of ['a', 'b', 'a']) bookkeeper.seen(id);
    await jest.advanceTimersByTimeAsync(999);
    expect(ledger.written).toEqual([]);
    await jest.advanceTimersByTimeAsync(1);
    expect(ledger.written).toEqual([['a', 'b']]);
    await jest.advanceTimersByTimeAsync(10_000);
    expect(ledger.written).toHaveLength(1);
  });

  it('are written before they are due again, however short that is', async () => {
    jest.useFakeTimers();
    new Bookkeeper(ledger, 100).seen('a');
    await jest.advanceTimersByTimeAsync(50);
    expect(ledger.written).toEqual([['a']]);
  });

  it('that cannot be written stop nothing, and the next are written', async () => {
    jest.useFakeTimers();
    ledger.writing = gate();
    ledger.writing.fail(new Error('gone'));
    bookkeeper.seen('a');
    await jest.advanceTimersByTimeAsync(1_000);
    ledger.writing = undefined;
    bookkeeper.seen('b');
    await jest.advanceTimersByTimeAsync(1_000);
    expect(ledger.written).toEqual([['a'], ['b']]);
    expect(warn).toHaveBeenCalledTimes(1);
  });

  it('that wait keep no process alive', async () => {
    const before = timers();
    bookkeeper.seen('a');
    expect(timers()).toBe(before);
    await bookkeeper.close();
  });
});

describe('close', () => {
  it('writes what waits, and leaves no timer', async () => {
    jest.useFakeTimers({ doNotFake: ['setImmediate'] });
    for (const id of times(3, String)) bookkeeper.seen(id);
    void bookkeeper.markLater('a');
    await bookkeeper.close();
    expect(ledger.written).toEqual([['0', '1', '2']]);
    expect(ledger.marked).toHaveLength(1);
    expect(jest.getTimerCount()).toBe(0);
  });

  it('waits for marks that are under way, so that the data source is not destroyed under them', async () => {
    ledger.marking = gate();
    void bookkeeper.markLater('a');
    await turn();
    expect(ledger.marked).toHaveLength(1);
    const closed = bookkeeper.close();
    expect(await hasSettled(closed)).toBe(false);
    ledger.marking.open([]);
    await closed;
  });

  it('waits for last-seen times that are under way', async () => {
    jest.useFakeTimers({ doNotFake: ['setImmediate'] });
    ledger.writing = gate();
    bookkeeper.seen('a');
    await jest.advanceTimersByTimeAsync(1_000);
    expect(ledger.written).toHaveLength(1);
    const closed = bookkeeper.close();
    expect(await hasSettled(closed)).toBe(false);
    ledger.writing.open();
    await closed;
  });

  it('asks nothing of the database where nothing waits', async () => {
    await bookkeeper.close();
    expect([ledger.marked, ledger.written]).toEqual([[], []]);
  });

  it('waits for a database that says nothing only for a while', async () => {
    jest.useFakeTimers({ doNotFake: ['setImmediate'] });
    ledger.marking = gate();
    ledger.writing = gate();
    void bookkeeper.markLater('a');
    bookkeeper.seen('a');
    await turn();
    const closed = bookkeeper.close();
    await jest.advanceTimersByTimeAsync(ANSWER_WITHIN_MS - 1);
    expect(await hasSettled(closed)).toBe(false);
    await jest.advanceTimersByTimeAsync(1);
    expect(await hasSettled(closed)).toBe(true);
    expect(warn).toHaveBeenCalledTimes(2);
  });
});
