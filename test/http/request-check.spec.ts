import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { Logger } from '@nestjs/common';
import { of } from 'rxjs';
import { RequestCheck } from '../../src/http/request-check.js';
import type { CookieSession, SessionRequest } from '../../src/http/request.js';
import { setChecked } from '../../src/http/request-state.js';
import type { Admissions } from '../../src/session/admissions.js';
import { DEFAULT_POLICY, Policy } from '../../src/session/policy.js';
import type { CheckResult, SessionEnd } from '../../src/session/session.js';
import type { Sessions } from '../../src/session/sessions.js';

const ID = '00000000-0000-4000-8000-000000000001';
const rest = { userId: 'ann', unmarked: false, unseen: false, roles: '', administrator: false };
const LIVE: CheckResult = { live: true, ...rest };
const ENDED: CheckResult = { live: false, reason: 'cut-off', endedAt: null, ...rest };

const ann = { id: 'ann', username: 'ann', roles: [] };

/** A check to which the store answers this; and that, when it has been told that the user's roles are others now. */
function checkWhere(
  answer: CheckResult,
  later: CheckResult = answer,
  unregistered: 'reject' | 'adopt' = 'reject',
): RequestCheck {
  const sessions = {
    remembers: false,
    remembered: () => undefined,
    verify: () => Promise.resolve(answer),
    keepCurrent: () => Promise.resolve(later),
  };
  return new RequestCheck(
    sessions as unknown as Sessions,
    { adopt: () => Promise.resolve({ ...answer, id: ID }) } as unknown as Admissions,
    new Policy(DEFAULT_POLICY),
    { whenEnded: (session) => of(session as unknown as SessionEnd) },
    { unregistered },
  );
}

let warn: jest.SpiedFunction<Logger['warn']>;

beforeEach(() => {
  warn = jest.spyOn(Logger.prototype, 'warn').mockReturnValue();
});

afterEach(() => {
  jest.restoreAllMocks();
});

const warnings = (): string[] => warn.mock.calls.map(([text]) => String(text));

describe('a refusal waits until the cookie session is destroyed, so that the next request is anonymous', () => {
  it.each([
    ['of an ended session', checkWhere(ENDED), { singleSession: ID }, ann],
    [
      'of one that ends with a role',
      checkWhere(LIVE, ENDED),
      { singleSession: ID },
      { ...ann, roles: ['staff'] },
    ],
    ['of one that was never recorded', checkWhere(ENDED), {}, ann],
    [
      'of one that has ended when it is to be adopted',
      checkWhere(ENDED, ENDED, 'adopt'),
      { passport: { user: 'ann' } },
      ann,
    ],
  ])('%s', async (_, check, content, user) => {
    const destroyed = jest.fn<CookieSession['destroy']>();
    const session = { ...content, save: () => undefined, destroy: destroyed };
    const headers = { cookie: 'sid=secret' };
    const request: SessionRequest = { headers, sessionID: 'secret', user, session };
    let isRefused = false;
    const refusal = Promise.resolve(check.check(request, undefined)).catch((error: unknown) => {
      isRefused = true;
      return error;
    });
    await new Promise((resolve) => setImmediate(resolve));
    expect(isRefused).toBe(false);
    expect(destroyed).toHaveBeenCalledTimes(1);
    destroyed.mock.calls[0]![0]();
    expect(await refusal).toMatchObject({ status: 401 });
  });
});

it('a request whose cookie session is adopted waits until that says so: the answer is never ahead of its store', async () => {
  const save = jest.fn<CookieSession['save']>();
  const session = { passport: { user: 'ann' }, save, destroy: () => undefined };
  const request: SessionRequest = {
    headers: { cookie: 'sid=secret' },
    sessionID: 'secret',
    user: ann,
    session,
  };
  let hasPassed = false;
  const check = checkWhere(LIVE, LIVE, 'adopt').check(request, undefined);
  const passing = Promise.resolve(check).then(() => (hasPassed = true));
  await new Promise((resolve) => setImmediate(resolve));
  expect(hasPassed).toBe(false);
  expect(save).toHaveBeenCalledTimes(1);
  save.mock.calls[0]![0]();
  expect(await passing).toBe(true);
  expect(session).toMatchObject({ singleSession: ID });
});

describe('a request that cannot tell by what its user came is refused, and adopted by nobody', () => {
  const session = { passport: { user: 'ann' }, save: () => undefined, destroy: (done: () => void) => done() };
  it.each<[string, Partial<SessionRequest>]>([
    [
      'whose cookie session has been destroyed: the request keeps its id',
      { headers: {}, sessionID: 'a secret' },
    ],
    ['which was given in place of one and has no headers', { sessionID: 'a secret', session }],
  ])('one %s', async (_, given) => {
    const check = checkWhere(LIVE, LIVE, 'adopt').check({ ...given, user: ann } as SessionRequest, undefined);
    await expect(check).rejects.toMatchObject({ status: 401, response: { code: 'SESSION_UNKNOWN' } });
  });
});

it('a cookie session whose stamp is none of ours is refused without a word on tokens', async () => {
  const session = { singleSession: 'not ours', save: () => undefined, destroy: (done: () => void) => done() };
  const refusal = checkWhere(ENDED).check({ headers: {}, user: ann, session }, undefined);
  await expect(refusal).rejects.toMatchObject({ status: 401 });
  expect(warnings()).toEqual([]);
});

it('a token beside a cookie session without a user is no token that a guard has read', async () => {
  const clock = jest.spyOn(performance, 'now').mockReturnValue(0);
  const check = checkWhere(LIVE);
  const headers = { authorization: 'Bearer of-a-proxy' };
  expect(check.check({ headers }, undefined)).toBe(true);
  const session = { singleSession: ID, save: () => undefined, destroy: () => undefined };
  expect(await check.check({ headers, session }, undefined)).toBe(true);
  clock.mockReturnValue(60_000);
  expect(check.check({ headers }, undefined)).toBe(true);
  expect(warnings()).toEqual([expect.stringContaining("has passed as nobody's")]);
});

describe('what is open on a request ends with', () => {
  const sessionOf = (request: SessionRequest): unknown[] => {
    const watched: unknown[] = [];
    checkWhere(LIVE)
      .whenEnded(request)
      .subscribe((session) => watched.push(session));
    return watched;
  };
  const cookieSession = { singleSession: ID, save: () => undefined, destroy: () => undefined };

  it('the session that it was let pass for, as where its login is to be told by a token', () => {
    const request: SessionRequest = { headers: {}, user: ann };
    setChecked(request, { id: ID, userId: 'ann' });
    expect(sessionOf(request)).toEqual([{ user: ann, id: ID, userId: 'ann' }]);
  });

  it('the session that it claims, where no guard of ours was on its way', () => {
    const request: SessionRequest = { headers: {}, user: ann, session: cookieSession };
    expect(sessionOf(request)).toEqual([expect.objectContaining({ user: ann, id: ID })]);
  });

  it('none, where nobody is signed in', () => {
    expect(sessionOf({ headers: {} })).toEqual([]);
  });
});
