import { expect, it, jest } from '@jest/globals';
import { CarriedSessions } from '../../src/http/carried-sessions.js';
import { SessionStoreUnavailableException } from '../../src/http/exceptions.js';
import { Logins } from '../../src/http/logins.js';
import type { Rebinder } from '../../src/http/rebinder.js';
import type { SessionRequest } from '../../src/http/request.js';
import { NoRoomError, type Admissions } from '../../src/session/admissions.js';
import type { Policy } from '../../src/session/policy.js';
import { StoreUnavailableError } from '../../src/session/session-store.js';
import type { Sessions } from '../../src/session/sessions.js';

/** A login that the store refuses with this error, in a browser whose session `leaveArrived` is to end. */
function refused(error: Error, leaveArrived: Rebinder['leaveArrived']): Promise<unknown> {
  const admissions = { admit: () => Promise.reject(error) } as unknown as Admissions;
  const logins = new Logins({} as Sessions, admissions, {} as Policy, new CarriedSessions(), {
    leaveArrived,
  } as Rebinder);
  const request: SessionRequest = {
    headers: {},
    sessionID: 'a new secret',
    session: { save: () => undefined, destroy: (done) => done() },
  };
  return logins.admitNew({ id: 1 }, request, 'cookie', undefined);
}

it('a login without room is answered when the session has ended that the browser gave up: the next try has room', async () => {
  let hasLeft = false;
  const leaveArrived = async (): Promise<void> => {
    await new Promise(setImmediate);
    hasLeft = true;
  };
  const noRoom = new NoRoomError(1);
  await expect(refused(noRoom, leaveArrived)).rejects.toMatchObject({ status: 409 });
  expect(hasLeft).toBe(true);
});

it('a login that the store does not answer waits for it only once', async () => {
  const leaveArrived = jest.fn(() => new Promise<void>(() => undefined));
  const away = new StoreUnavailableError('The database does not answer.');
  await expect(refused(away, leaveArrived)).rejects.toBeInstanceOf(SessionStoreUnavailableException);
  expect(leaveArrived).toHaveBeenCalledTimes(1);
});
