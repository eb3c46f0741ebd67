import { EventEmitter } from 'node:events';
import { afterEach, expect, it, jest } from '@jest/globals';
import { Rebinder } from '../../src/http/rebinder.js';
import type { CookieSession, SessionRequest } from '../../src/http/request.js';
import { isChecked, reach, setChecked, setLogin, stateOf } from '../../src/http/request-state.js';
import type { SessionResponse } from '../../src/http/response.js';
import { DEFAULT_POLICY, Policy } from '../../src/session/policy.js';
import type { Sessions } from '../../src/session/sessions.js';
import { gate } from '../support/fake-store.js';

const ID = '00000000-0000-4000-8000-000000000001';
const ann = { id: 'ann', username: 'ann', roles: [] };

afterEach(() => {
  jest.useRealTimers();
});

/** The request of one click, whose handler has begun a new cookie session with this secret. */
function click(secret: string, save: CookieSession['save']) {
  const head = { headersSent: false, writableFinished: false, destroyed: false, end: () => undefined };
  const response = Object.assign(new EventEmitter(), head);
  const destroy: CookieSession['destroy'] = (done) => done();
  const before = { singleSession: ID, save, destroy };
  const request: SessionRequest = { headers: {}, user: ann, sessionID: 'before', session: before };
  reach(request, { response: response as unknown as SessionResponse });
  setChecked(request, { id: ID, userId: 'ann' });
  Object.assign(request, { sessionID: secret, session: { save, destroy } });
  return {
    request,
    signInAgain(secretOfAgain: string) {
      Object.assign(request, { sessionID: secretOfAgain, session: { save, destroy } });
    },
    /** Sends the head of the answer, with the cookie of the cookie session that the request has by now. */
    sendHead() {
      Object.assign(response, { headersSent: true, getHeader: () => `sid=${request.sessionID}; Path=/` });
    },
    leave() {
      response.destroyed = true;
      response.emit('close');
    },
  };
}

it('a click whose browser has left gives the session up once: not when its store answers at last, long after another click', async () => {
  jest.useFakeTimers();
  const giveUp = jest.fn<Sessions['giveUp']>().mockResolvedValue();
  const rebinder = new Rebinder({ giveUp } as unknown as Sessions, new Policy(DEFAULT_POLICY));
  const save = jest.fn<CookieSession['save']>();
  const first = click('first', save);
  const rebinding = rebinder.rebind(first.request);
  await jest.advanceTimersByTimeAsync(0);
  expect(save).toHaveBeenCalledTimes(1);
  await rebinder.rebind(click('second', (done) => done()).request);
  first.leave();
  await jest.advanceTimersByTimeAsync(60_000);
  save.mock.calls[0]![0]();
  await rebinding;
  await jest.advanceTimersByTimeAsync(0);
  expect(giveUp).not.toHaveBeenCalled();
});

it('a click that signs in twice on one request keeps the session when its browser leaves amid the answer, however late: it has the cookie', async () => {
  jest.useFakeTimers();
  const giveUp = jest.fn<Sessions['giveUp']>().mockResolvedValue();
  const rebinder = new Rebinder({ giveUp } as unknown as Sessions, new Policy(DEFAULT_POLICY));
  const twice = click('first', (done) => done());
  await rebinder.rebind(twice.request);
  twice.signInAgain('second');
  await rebinder.rebind(twice.request);
  twice.sendHead();
  await jest.advanceTimersByTimeAsync(60_000);
  twice.leave();
  await jest.advanceTimersByTimeAsync(0);
  expect(giveUp).not.toHaveBeenCalled();
});

it('a click that comes while the session is being given up for another asks whether it is live when that is done', async () => {
  const ending = gate<void>();
  const giveUp = jest.fn<Sessions['giveUp']>().mockReturnValue(ending.promise);
  const isStillLive = jest.fn<Sessions['isStillLive']>().mockResolvedValue(false);
  const rebinder = new Rebinder({ giveUp, isStillLive } as unknown as Sessions, new Policy(DEFAULT_POLICY));
  const [first, second] = ['first', 'second'].map((secret) => click(secret, (done) => done()));
  await rebinder.rebind(first!.request);
  first!.leave();
  expect(giveUp).toHaveBeenCalledTimes(1);
  const rebinding = rebinder.tryToRebind(second!.request, { id: ID, userId: 'ann' }, ann);
  await new Promise((resolve) => setImmediate(resolve));
  expect(isStillLive).not.toHaveBeenCalled();
  ending.open();
  expect(await rebinding).toBe(false);
  expect(isStillLive).toHaveBeenCalledTimes(1);
});

it.each([
  ['that the request came with', false],
  ['that the request was to carry on', true],
])('the session %s, and that nobody holds any more, has ended when it is left', async (_, hasJoined) => {
  const ending = gate<void>();
  const giveUp = jest.fn<Sessions['giveUp']>().mockReturnValue(ending.promise);
  const rebinder = new Rebinder({ giveUp } as unknown as Sessions, new Policy(DEFAULT_POLICY));
  const { request } = click('first', (done) => done());
  if (hasJoined) await rebinder.rebind(request);
  let isLeft = false;
  const leaving = rebinder.leaveArrived(request).then(() => (isLeft = true));
  await new Promise((resolve) => setImmediate(resolve));
  expect(giveUp).toHaveBeenCalledWith(ID);
  expect(isLeft).toBe(false);
  ending.open();
  await leaving;
});

it('a request whose session is carried on is checked as it is then: whoever asks next asks no store', async () => {
  const isStillLive = jest.fn<Sessions['isStillLive']>().mockResolvedValue(true);
  const rebinder = new Rebinder({ isStillLive } as unknown as Sessions, new Policy(DEFAULT_POLICY));
  const { request } = click('first', (done) => done());
  request.user = { ...ann };
  expect(await rebinder.tryToRebind(request, { id: ID, userId: 'ann' }, request.user)).toBe(true);
  expect(isChecked(request, stateOf(request))).toBe(true);
});

it('a request whose session could not be carried on passes for nobody, though its handler goes on', async () => {
  const giveUp = jest.fn<Sessions['giveUp']>().mockResolvedValue();
  const rebinder = new Rebinder({ giveUp } as unknown as Sessions, new Policy(DEFAULT_POLICY));
  const { request } = click('first', (done) => done(new Error('The store is full.')));
  request.session!.destroy = (done) => {
    delete request.session;
    done();
  };
  await expect(rebinder.rebind(request)).rejects.toThrow('The store is full.');
  expect(isChecked(request, stateOf(request))).toBe(false);
  expect(giveUp.mock.calls).toEqual([[ID]]);
});

it('a login once more on the request of a login does not ask whether that is live: whoever has ended it since has come later', async () => {
  const isStillLive = jest.fn<Sessions['isStillLive']>().mockResolvedValue(false);
  const rebinder = new Rebinder({ isStillLive } as unknown as Sessions, new Policy(DEFAULT_POLICY));
  const { request } = click('first', (done) => done());
  const session = { id: ID, userId: 'ann' };
  const takeBack = (): Promise<void> => Promise.resolve();
  setLogin(request, { session, credential: 'cookie', route: undefined, takeBack });
  expect(await rebinder.tryToRebind(request, session, ann)).toBe(true);
  expect(request.session).toMatchObject({ singleSession: ID });
  expect(isStillLive).not.toHaveBeenCalled();
});
