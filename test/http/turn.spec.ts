import { setImmediate } from 'node:timers';
import { afterEach, expect, it, jest } from '@jest/globals';
import { Turn } from '../../src/http/turn.js';

const anImmediate = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

afterEach(() => {
  jest.useRealTimers();
});

it('all who wait in one turn of the event loop wait for the same: its end, and not the next', async () => {
  const turn = new Turn();
  let isOver = false;
  const end = turn.end().then(() => (isOver = true));
  expect(turn.end()).toBe(turn.end());
  await Promise.resolve();
  expect(isOver).toBe(false);
  await anImmediate();
  expect(isOver).toBe(true);
  await end;
});

it('whoever comes later waits for the end of a later turn', async () => {
  const turn = new Turn();
  await turn.end();
  let isOver = false;
  const end = turn.end().then(() => (isOver = true));
  await Promise.resolve();
  expect(isOver).toBe(false);
  await end;
});

it('a turn ends where a test has stopped the timers', async () => {
  jest.useFakeTimers();
  await expect(new Turn().end()).resolves.toBeUndefined();
});
