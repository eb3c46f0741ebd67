import { afterEach, beforeEach, expect, it, jest } from '@jest/globals';
import { Carriers } from '../../src/http/carriers.js';
import { gate, type Gate } from '../support/fake-store.js';
import { timers } from '../support/timers.js';

let ended: string[];
let ending: Gate<void> | undefined;
let carriers: Carriers;

beforeEach(() => {
  ended = [];
  ending = undefined;
  carriers = new Carriers(async (id) => {
    ended.push(id);
    await ending?.promise;
  });
});

afterEach(() => {
  jest.useRealTimers();
});

it('a session ends with the last of its cookie sessions, whichever is given up first', async () => {
  await carriers.join('one', 'first click', 'before');
  await carriers.join('one', 'second click', 'before');
  await carriers.join('another', 'elsewhere', undefined);
  await carriers.leave('one', 'second click');
  expect(ended).toEqual([]);
  await carriers.leave('one', 'first click');
  expect(ended).toEqual(['one']);
});

it('a cookie session that was replaced holds nothing any more', async () => {
  await carriers.join('one', 'first', 'before');
  await carriers.join('one', 'second', 'first');
  await carriers.leave('one', 'second');
  expect(ended).toEqual(['one']);
});

it('a cookie session that is to carry it once more holds it still', async () => {
  await carriers.join('one', 'first', 'before');
  await carriers.join('one', 'first', 'first');
  await carriers.join('one', 'second', 'before');
  await carriers.leave('one', 'second');
  expect(ended).toEqual([]);
});

it('one that was given up after another, which has waited long, ends it all the same: that may be lost since', async () => {
  jest.useFakeTimers();
  await carriers.join('one', 'first', 'before');
  await jest.advanceTimersByTimeAsync(10_000);
  await carriers.join('one', 'second', 'before');
  await carriers.leave('one', 'second');
  expect(ended).toEqual(['one']);
});

it('whoever comes while the session is being ended waits until that is done, as does whoever leaves, and is not told before', async () => {
  ending = gate();
  await carriers.join('one', 'first', 'before');
  let [hasLeft, hasJoined] = [false, false];
  const leaving = carriers.leave('one', 'first').then(() => (hasLeft = true));
  const joining = carriers.join('one', 'second', 'before').then(() => (hasJoined = true));
  await new Promise((resolve) => setImmediate(resolve));
  expect([hasLeft, hasJoined]).toEqual([false, false]);
  ending.open();
  await Promise.all([leaving, joining]);
  expect(ended).toEqual(['one']);
});

it('also when it is being ended twice: until both are done', async () => {
  const first = gate<void>();
  ending = first;
  await carriers.join('one', 'first', 'before');
  const leaving = [carriers.leave('one', 'first')];
  const second = (ending = gate<void>());
  leaving.push(carriers.leave('one', 'first'));
  first.open();
  await leaving[0];
  let hasJoined = false;
  const joining = carriers.join('one', 'second', 'before').then(() => (hasJoined = true));
  await new Promise((resolve) => setImmediate(resolve));
  expect(hasJoined).toBe(false);
  second.open();
  await Promise.all([...leaving, joining]);
  expect(ended).toEqual(['one', 'one']);
});

it('remembers nothing of what is over', async () => {
  const end = (): Promise<void> => Promise.resolve();
  const emptied = new Carriers(end);
  jest.useFakeTimers();
  await emptied.join('one', 'given up', undefined);
  await emptied.leave('one', 'given up');
  await emptied.join('another', 'kept', undefined);
  expect(emptied).not.toEqual(new Carriers(end));
  await jest.advanceTimersByTimeAsync(10_000);
  expect(emptied).toEqual(new Carriers(end));
});

it('keeps no process alive', async () => {
  const before = timers();
  await carriers.join('one', 'first', 'before');
  expect(timers()).toBe(before);
});
