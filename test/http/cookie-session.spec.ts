import { ServerResponse, type IncomingMessage } from 'node:http';
import { Socket } from 'node:net';
import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';
import {
  carrierOf,
  carriesSession,
  carry,
  destroyCookieSession,
  isOfSomebody,
  stampOf,
  takeOutCookieSession,
  UNREADABLE,
  withoutCookieSession,
} from '../../src/http/cookie-session.js';
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

describe('a handler that works on while its cookie session is destroyed', () => {
  /** A request whose handler works on, and its cookie session, which is taken from the request by its middleware. */
  function working() {
    const res = new ServerResponse({ socket: new Socket() } as IncomingMessage);
    const destroy = jest.fn<CookieSession['destroy']>(() => void delete request.session);
    const session: CookieSession = { save: (done) => done(), destroy };
    const request: SessionRequest = { headers: {}, res: res as unknown as NodeResponse, session };
    return {
      res,
      session,
      request,
      /** As `@fastify/session` takes it; express-session has done so at once. */
      destroyed: async (): Promise<void> => {
        if (request.session === session) delete request.session;
        destroy.mock.calls[0]![0]();
        await turn();
      },
    };
  }

  it('finds it at all times where its client has gone', async () => {
    const { res, session, request, destroyed } = working();
    res.destroy();
    void destroyCookieSession(request);
    expect(request.session).toBe(session);
    await destroyed();
    expect(request.session).toBe(session);
  });

  it('finds it again when its client goes, or when somebody else has answered for it', async () => {
    const { res, session, request, destroyed } = working();
    void destroyCookieSession(request);
    await destroyed();
    expect(request.session).toBeUndefined();
    res.emit('close');
    expect(request.session).toBe(session);
  });

  it('finds none where no answer is to come, as on a WebSocket: whoever asks next is anonymous', async () => {
    const { request, destroyed } = working();
    delete request.res;
    void destroyCookieSession(request);
    expect(request.session).toBeUndefined();
    await destroyed();
    expect(request.session).toBeUndefined();
  });

  it('finds it again where its client goes meanwhile', async () => {
    const { res, session, request, destroyed } = working();
    void destroyCookieSession(request);
    res.destroy();
    await turn();
    await destroyed();
    expect(request.session).toBe(session);
  });

  it.each(['its client has gone', 'its client is there'])(
    'keeps the one that it has begun, where %s',
    async (how) => {
      const { res, session, request, destroyed } = working();
      if (how === 'its client has gone') res.destroy();
      const other = { ...session };
      void destroyCookieSession(request);
      request.session = other;
      await destroyed();
      res.emit('close');
      expect(request.session).toBe(other);
    },
  );

  it('has it until the answer leaves, and when that has left; not the middleware, which would save it', async () => {
    const { session, request, destroyed } = working();
    const taking = takeOutCookieSession(request);
    expect(request.session).toBe(session);
    await destroyed();
    const putBack = await taking;
    expect(request.session).toBeNull();
    putBack();
    expect(request.session).toBe(session);
  });

  it('keeps the one that it has begun before the answer leaves, and after it', async () => {
    for (const isLate of [false, true]) {
      const { session, request, destroyed } = working();
      const other = { ...session };
      const taking = takeOutCookieSession(request);
      if (!isLate) request.session = other;
      await destroyed();
      const putBack = await taking;
      if (isLate) request.session = other;
      expect(request.session).toBe(other);
      putBack();
      expect(request.session).toBe(other);
    }
  });

  it('has it when the head of an answer has left without it, or could not leave', () => {
    const { session, request } = working();
    expect(withoutCookieSession(request, () => request.session)).toBeNull();
    expect(request.session).toBe(session);
    const fail = (): never => {
      throw new Error('The head has left.');
    };
    expect(() => withoutCookieSession(request, fail)).toThrow('The head has left.');
    expect(request.session).toBe(session);
  });
});

it('a session that no cookie session can carry has ended, and then the cookie session, before anybody is told', async () => {
  const done: string[] = [];
  const later = async (what: string): Promise<void> => {
    await turn();
    done.push(what);
  };
  const session: CookieSession = {
    save: (saved) => saved(new Error('The store is full.')),
    destroy: (destroyed) => void later('cookie session').then(destroyed),
  };
  const request: SessionRequest = { headers: {}, session };
  const undo = (): Promise<void> => turn().then(() => later('session'));
  const carrying = carry(request, { id: 'its-id', userId: 'ann' }, undefined, undo);
  await expect(carrying).rejects.toThrow('The store is full.');
  expect(done).toEqual(['session', 'cookie session']);
});

it('a request without a cookie session has none to destroy', async () => {
  const request: SessionRequest = { headers: {} };
  await destroyCookieSession(request);
  (await takeOutCookieSession(request))();
  expect(request.session ?? null).toBeNull();
});

it.each(['', null, 7, {}, 'not ours'])('a stamp that cannot be ours is still a stamp: %j', (found) => {
  const session = { singleSession: found } as unknown as CookieSession;
  expect(stampOf({ headers: {}, session })).toBe(UNREADABLE);
  expect(carriesSession({ headers: {}, session })).toBe(false);
  expect(isOfSomebody({ headers: {}, session })).toBe(true);
});

it.each([undefined, null, {}, { passport: {} }])(
  'nobody is signed in in the cookie session %j',
  (session) => {
    const request = { headers: {}, session } as SessionRequest;
    expect(stampOf(request)).toBeUndefined();
    expect(carriesSession(request)).toBe(false);
    expect(isOfSomebody(request)).toBe(false);
  },
);

it('somebody is signed in in a cookie session from the time before this module', () => {
  const session = { passport: { user: 'ann' } } as CookieSession;
  expect(isOfSomebody({ headers: {}, session })).toBe(true);
});

it('a cookie session carries the session that it is stamped with, and no other', () => {
  const id = '00000000-0000-4000-8000-000000000001';
  const session = { singleSession: id } as CookieSession;
  const request: SessionRequest = { headers: {}, sessionID: 'secret', session };
  expect(carrierOf(request, id)).toBe('secret');
  expect(carrierOf(request, '00000000-0000-4000-8000-000000000002')).toBeUndefined();
});
