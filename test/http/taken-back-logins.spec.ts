import { describe, expect, it, jest } from '@jest/globals';
import { CarriedSessions } from '../../src/http/carried-sessions.js';
import { Logins } from '../../src/http/logins.js';
import type { Rebinder } from '../../src/http/rebinder.js';
import type { CookieSession, SessionRequest } from '../../src/http/request.js';
import { NoRoomError, NotEntitledError, type Admissions } from '../../src/session/admissions.js';
import { DEFAULT_POLICY, Policy } from '../../src/session/policy.js';
import type { Sessions } from '../../src/session/sessions.js';

const ID = '00000000-0000-4000-8000-000000000001';
const ann = { id: 'ann', username: 'ann', roles: [] };
const bob = { id: 'bob', username: 'bob', roles: [] };

const giveUp = jest.fn(() => Promise.resolve());
const sessions = {
  giveUp,
  giveUpLogin: giveUp,
  verify: () => Promise.resolve({ live: false, reason: 'admin', endedAt: null }),
} as unknown as Sessions;

/** Logins to which the store answers this, one after the other. */
function loginsWhere(...answers: Promise<unknown>[]): Logins {
  const admissions = { admit: () => answers.shift() } as unknown as Admissions;
  const rebinder = { leaveArrived: () => Promise.resolve() } as unknown as Rebinder;
  return new Logins(sessions, admissions, new Policy(DEFAULT_POLICY), new CarriedSessions(), rebinder);
}

const admitted = (userId: string): Promise<unknown> => Promise.resolve({ id: ID, userId });

/** What nothing of ours has seen: a middleware signs somebody in. */
function requestWith(destroy: CookieSession['destroy'], stamp?: string): SessionRequest {
  const session: CookieSession = { save: (done) => done(), destroy };
  if (stamp !== undefined) session.singleSession = stamp;
  return { headers: {}, sessionID: 'a new secret', session };
}

describe('the answer waits until the cookie session is destroyed, so that the next request is anonymous', () => {
  it.each<[string, (request: SessionRequest) => Promise<unknown>, string | undefined]>([
    [
      'of a login that is taken back',
      async (request) => (await loginsWhere(admitted('ann')).admit(ann, request)).takeBack(),
      undefined,
    ],
    [
      'of one that came with a token in place of a password, whose session has ended',
      (request) =>
        loginsWhere(Promise.reject(new NotEntitledError(ID)))
          .admit({ ...ann, sid: ID }, request, { credential: 'token' })
          .catch((error: unknown) => error),
      ID,
    ],
  ])('%s', async (_, login, stamp) => {
    const destroy = jest.fn<CookieSession['destroy']>();
    let isOver = false;
    const over = login(requestWith(destroy, stamp)).then(() => (isOver = true));
    await new Promise(setImmediate);
    expect(destroy).toHaveBeenCalledTimes(1);
    expect(isOver).toBe(false);
    destroy.mock.calls[0]![0]();
    await over;
  });
});

it('a login whose cookie session cannot be saved fails when its session has ended: the next try has room', async () => {
  let end!: () => void;
  giveUp.mockClear();
  giveUp.mockReturnValueOnce(new Promise((resolve) => (end = resolve)));
  const request = requestWith((done) => done());
  request.session!.save = (done) => done(new Error('the store is full'));
  const failed = jest.fn();
  const login = loginsWhere(admitted('ann')).admit(ann, request).catch(failed);
  await new Promise(setImmediate);
  expect(giveUp).toHaveBeenCalledTimes(1);
  expect(failed).not.toHaveBeenCalled();
  end();
  await login;
  expect(failed).toHaveBeenCalledWith(expect.objectContaining({ message: 'the store is full' }));
});

it('a login that has made room for one that failed on the same request is taken back without an error, which would cost the answer', async () => {
  const logins = loginsWhere(admitted('ann'), Promise.reject(new NoRoomError(1)));
  const request = requestWith((done) => done());
  const first = await logins.admit(ann, request, { credential: 'token' });
  await logins.abandon(request, first);
  await expect(logins.admit(bob, request, { credential: 'token' })).rejects.toMatchObject({ status: 409 });
  await expect(first.takeBack()).resolves.toBeUndefined();
});

it('a login of a request that nothing of ours has seen is carried by its cookie session, if it has one', async () => {
  const request = requestWith((done) => done());
  await loginsWhere(admitted('ann')).admit(ann, request);
  expect(request.session!.singleSession).toBe(ID);
  const bare: SessionRequest = { headers: {} };
  expect((await loginsWhere(admitted('ann')).admit(ann, bare)).session).toMatchObject({ id: ID });
});
