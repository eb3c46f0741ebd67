import { afterEach, expect, it, jest } from '@jest/globals';
import { Bookkeeper } from '../../src/session/bookkeeper.js';
import { Policy } from '../../src/session/policy.js';
import { Sessions } from '../../src/session/sessions.js';
import { resolveOptions } from '../../src/single-session.options.js';
import { FakeStore } from '../support/fake-store.js';

afterEach(() => {
  jest.useRealTimers();
});

const carried = { id: 'session', user: { id: 1 }, givenUp: false };

function made(): Sessions {
  const store = new FakeStore();
  const options = resolveOptions({});
  return new Sessions(store, new Policy(options), new Bookkeeper(store), options);
}

it('what a browser carried to a login is known for ten seconds, and kept no longer [lesson 4]', () => {
  jest.useFakeTimers();
  const sessions = made();
  sessions.beginLogin('secret', carried);
  const browser = { secret: 'secret', perhaps: [] };
  jest.advanceTimersByTime(9_900);
  expect(sessions.carriedBy(browser)).toEqual(carried);
  expect(sessions.carriedBy({ secret: 'another', perhaps: ['secret'] })).toBeUndefined();
  expect(sessions.carriedBy(undefined)).toBeUndefined();
  jest.advanceTimersByTime(200);
  expect(sessions.carriedBy(browser)).toBeUndefined();
});

it('is what it carried last, when it logs in again meanwhile [lesson 4]', () => {
  jest.useFakeTimers();
  const sessions = made();
  const browser = { secret: 'secret', perhaps: [] };
  sessions.beginLogin('secret', { ...carried, id: 'first' });
  jest.advanceTimersByTime(5_000);
  sessions.beginLogin('secret', carried);
  jest.advanceTimersByTime(9_900);
  expect(sessions.carriedBy(browser)).toEqual(carried);
});
