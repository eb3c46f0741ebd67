import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { afterEach, describe, expect, it, jest } from '@jest/globals';
import { Logger } from '@nestjs/common';
import { ANSWER_WITHIN_MS } from '../../src/session/answered.js';
import type { Sweep } from '../../src/session/session-store.js';
import { Sweeper } from '../../src/session/sweeper.js';
import { FakeStore, gate, type Gate } from '../support/fake-store.js';
import { until } from '../support/store.js';

/** A store with so many batches to sweep. */
class Dusty extends FakeStore {
  swept = 0;
  under = 0;
  most = 0;
  gate: Gate<void> | undefined;

  constructor(private batches: number) {
    super();
  }

  override async sweep(): Promise<Sweep> {
    this.swept++;
    this.most = Math.max(this.most, ++this.under);
    await this.gate?.promise;
    this.under--;
    return { more: --this.batches > 0, ended: [] };
  }
}

const SOON = 1;

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

afterEach(() => {
  jest.useRealTimers();
  jest.restoreAllMocks();
});

describe('the sweeper', () => {
  it('goes on batch after batch until nothing is left, one at a time', async () => {
    const store = new Dusty(5);
    await new Sweeper(store, SOON).sweep();
    expect([store.swept, store.most]).toEqual([5, 1]);
  });

  it('sweeps by itself, again and again, after it was started, also when it was started twice', async () => {
    const store = new Dusty(0);
    const sweeper = new Sweeper(store, SOON);
    sweeper.start();
    sweeper.start();
    await until(() => store.swept >= 2);
    expect(store.most).toBe(1);
    await sweeper.stop();
  });

  it('stop waits for the batch under way and lets no other begin', async () => {
    const store = new Dusty(1_000);
    store.gate = gate();
    const sweeper = new Sweeper(store, SOON);
    sweeper.start();
    await until(() => store.swept === 1);
    let stopped = false;
    const stopping = sweeper.stop().then(() => (stopped = true));
    await turn();
    expect(stopped).toBe(false);
    store.gate.open();
    await stopping;
    expect(store.swept).toBe(1);
  });

  it('stop waits for a sweep that was ordered, too, and no longer than a database may take that says nothing', async () => {
    jest.useFakeTimers({ doNotFake: ['setImmediate'] });
    const store = new Dusty(0);
    store.gate = gate();
    const sweeper = new Sweeper(store, SOON);
    sweeper.sweepSoon();
    await turn();
    let stopped = false;
    const stopping = sweeper.stop().then(() => (stopped = true));
    await jest.advanceTimersByTimeAsync(ANSWER_WITHIN_MS - 1);
    expect([store.swept, stopped]).toEqual([1, false]);
    await jest.advanceTimersByTimeAsync(1);
    await turn();
    expect(stopped).toBe(true);
    await stopping;
  });

  it('stop does not wait for the next sweep, and needs no start', async () => {
    const sweeper = new Sweeper(new Dusty(0), 365 * 86_400_000);
    sweeper.start();
    await sweeper.stop();
    await new Sweeper(new Dusty(0), SOON).stop();
  });

  it('that is ordered to sweep while it does sweeps once more, afterwards: the sweep under way may have passed by what there is to mark', async () => {
    const store = new Dusty(0);
    store.gate = gate();
    const sweeper = new Sweeper(store, SOON);
    sweeper.sweepSoon();
    await turn();
    for (let order = 0; order < 3; order++) sweeper.sweepSoon();
    await turn();
    expect(store.swept).toBe(1);
    store.gate.open();
    await turn();
    expect([store.swept, store.most]).toEqual([2, 1]);
    await sweeper.stop();
  });

  it('goes on after a sweep that failed', async () => {
    const warn = jest.spyOn(Logger.prototype, 'warn').mockImplementation(() => undefined);
    const store = new Dusty(0);
    store.gate = gate();
    store.gate.fail(new Error('gone'));
    const sweeper = new Sweeper(store, SOON);
    sweeper.start();
    await until(() => store.swept === 1);
    store.gate = undefined;
    await until(() => store.swept === 2);
    await sweeper.stop();
    expect(warn).toHaveBeenCalledTimes(1);
  });

  it('keeps no process alive', async () => {
    const sweeper = new URL('../../dist/src/session/sweeper.js', import.meta.url).href;
    const program = `import { Sweeper } from '${sweeper}'; new Sweeper({ sweep: async () => ({ more: false, ended: [] }) }, 1).start(); console.log('started');`;
    const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', program], {
      timeout: 10_000,
    });
    expect(stdout).toBe('started\n');
  });
});
