import { expect, it, jest } from '@jest/globals';
import { Logger } from '@nestjs/common';
import { randomUUID } from 'node:crypto';
import { Bookkeeper } from '../../src/session/bookkeeper.js';
import { Policy } from '../../src/session/policy.js';
import { Sessions } from '../../src/session/sessions.js';
import { resolveOptions } from '../../src/single-session.options.js';
import { FakeStore } from '../support/fake-store.js';

it('what browsers give up while the database is gone fails nobody, and is one line in the log', async () => {
  const warn = jest.spyOn(Logger.prototype, 'warn').mockImplementation(() => undefined);
  const store = new FakeStore();
  const ending = jest.spyOn(store, 'end').mockRejectedValue(new Error('gone'));
  const options = resolveOptions({});
  const sessions = new Sessions(store, new Policy(options), new Bookkeeper(store), options);
  await Promise.all([sessions.giveUp(randomUUID()), sessions.giveUpByLogout(randomUUID(), { id: 1 })]);
  expect(ending).toHaveBeenCalledTimes(2);
  expect(warn.mock.calls).toEqual([[expect.stringMatching(/was not ended.*gone/)]]);
  warn.mockRestore();
});
