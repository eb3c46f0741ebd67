import { expect, it, jest } from '@jest/globals';
import { Logger } from '@nestjs/common';
import { randomUUID } from 'node:crypto';
import { setImmediate as turn } from 'node:timers/promises';
import { Admissions } from '../../src/session/admissions.js';
import { Bookkeeper } from '../../src/session/bookkeeper.js';
import { Policy } from '../../src/session/policy.js';
import { Sessions } from '../../src/session/sessions.js';
import { resolveOptions } from '../../src/single-session.options.js';
import { FakeStore } from '../support/fake-store.js';
import { until } from '../support/store.js';

const options = resolveOptions({});
const policy = new Policy(options);

function sessionsOn(store: FakeStore): { sessions: Sessions; admissions: Admissions } {
  const bookkeeper = new Bookkeeper(store);
  const sessions = new Sessions(store, policy, bookkeeper, options);
  return { sessions, admissions: new Admissions(store, policy, bookkeeper, sessions, options) };
}

it('what browsers give up while the database is gone fails nobody, and is one line in the log', async () => {
  const warn = jest.spyOn(Logger.prototype, 'warn').mockImplementation(() => undefined);
  const store = new FakeStore();
  const ending = jest.spyOn(store, 'end').mockRejectedValue(new Error('gone'));
  const { sessions } = sessionsOn(store);
  await Promise.all([sessions.giveUp(randomUUID()), sessions.giveUpByLogout(randomUUID(), { id: 1 })]);
  expect(ending).toHaveBeenCalledTimes(2);
  expect(warn.mock.calls).toEqual([[expect.stringMatching(/was not ended.*gone/)]]);
  warn.mockRestore();
});

it('a login that failed takes its guesses back one after the other, for the database is asked by all that it failed', async () => {
  const store = new FakeStore();
  jest.spyOn(store, 'share').mockRejectedValue(new Error('gone'));
  let [underWay, most] = [0, 0];
  const ending = jest.spyOn(store, 'end').mockImplementation(async () => {
    most = Math.max(most, ++underWay);
    await turn();
    underWay--;
    return [];
  });
  const browser = { secret: 'a', perhaps: ['b', 'c', 'd'] };
  const login = { user: { id: 1 }, origin: { ip: null, userAgent: null }, browser };
  await expect(sessionsOn(store).admissions.admit(login)).rejects.toThrow('gone');
  await until(() => ending.mock.calls.length === browser.perhaps.length);
  expect(most).toBe(1);
});
