import { afterEach, beforeEach, expect, it, jest } from '@jest/globals';
import { CarriedSessions } from '../../src/http/carried-sessions.js';
import { timers } from '../support/timers.js';

const carried = { id: 'session', user: { id: 1 }, givenUp: false };
const browser = { secret: 'secret', perhaps: [] };

beforeEach(() => {
  jest.useFakeTimers();
});

afterEach(() => {
  jest.useRealTimers();
});

it('what a browser carried to a login is known for ten seconds, and kept no longer [lesson 4]', () => {
  const sessions = new CarriedSessions();
  sessions.remember('secret', carried);
  jest.advanceTimersByTime(9_900);
  expect(sessions.by(browser)).toEqual(carried);
  expect(sessions.by({ secret: 'another', perhaps: ['secret'] })).toBeUndefined();
  expect(sessions.by(undefined)).toBeUndefined();
  jest.advanceTimersByTime(200);
  expect(sessions.by(browser)).toBeUndefined();
});

it('is what it carried last, when it logs in again meanwhile [lesson 4]', () => {
  const sessions = new CarriedSessions();
  sessions.remember('secret', { ...carried, id: 'first' });
  jest.advanceTimersByTime(5_000);
  sessions.remember('secret', carried);
  jest.advanceTimersByTime(9_900);
  expect(sessions.by(browser)).toEqual(carried);
});

it('keeps no process alive', () => {
  jest.useRealTimers();
  const before = timers();
  new CarriedSessions().remember('secret', carried);
  expect(timers()).toBe(before);
});
