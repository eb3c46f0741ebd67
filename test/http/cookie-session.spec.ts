import { ServerResponse, type IncomingMessage } from 'node:http';
import { Socket } from 'node:net';
import { afterEach, beforeEach, expect, it, jest } from '@jest/globals';
import { destroyCookieSession } from '../../src/http/cookie-session.js';
import type { CookieSession, SessionRequest } from '../../src/http/request.js';
import type { NodeResponse } from '../../src/http/response.js';

/** The store of the cookie sessions, asked to destroy one. */
const destroy = jest.fn<CookieSession['destroy']>();
let over: jest.Mock;

beforeEach(async () => {
  jest.useFakeTimers({ doNotFake: ['setImmediate', 'nextTick'] });
  destroy.mockReset();
  over = jest.fn();
  const res = new ServerResponse({ socket: new Socket() } as IncomingMessage) as unknown as NodeResponse;
  const request: SessionRequest = { headers: {}, res, session: { save: (done) => done(), destroy } };
  void destroyCookieSession(request).then(() => over('done'), over);
  await turn();
});

afterEach(() => {
  jest.useRealTimers();
});

const turn = (): Promise<void> => new Promise(setImmediate);

const answer = async (error?: unknown): Promise<void> => {
  destroy.mock.calls[0]![0](error);
  await turn();
};

it('an answer waits until the cookie session is destroyed: the next request of the browser is anonymous', async () => {
  expect(destroy).toHaveBeenCalledTimes(1);
  expect(over).not.toHaveBeenCalled();
  await answer();
  expect(over.mock.calls).toEqual([['done']]);
});

it('waits no longer than two seconds for a store that stands still', async () => {
  await jest.advanceTimersByTimeAsync(1_900);
  expect(over).not.toHaveBeenCalled();
  await jest.advanceTimersByTimeAsync(200);
  await turn();
  expect(over.mock.calls).toEqual([['done']]);
});

it('does not fail with a store that does: whose session has ended is told so', async () => {
  await answer(new Error('the store keeps it'));
  expect(over.mock.calls).toEqual([['done']]);
});
