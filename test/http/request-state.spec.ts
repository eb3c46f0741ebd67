import { randomUUID } from 'node:crypto';
import { expect, it } from '@jest/globals';
import { NEVER } from 'rxjs';
import type { CookieSession, SessionRequest } from '../../src/http/request.js';
import {
  arriveAtLogin,
  beginLogout,
  forgetLogin,
  isChecked,
  knownStateOf,
  reach,
  recognize,
  setChecked,
  setEnded,
  setLogin,
  stateOf,
} from '../../src/http/request-state.js';

const current = { id: randomUUID(), userId: 'ann' };

const login = {
  session: current,
  credential: 'cookie' as const,
  route: undefined,
  takeBack: () => Promise.resolve(),
};

const requestWith = (singleSession?: string): SessionRequest => ({
  headers: {},
  sessionID: 'a secret',
  user: { id: 'ann' },
  session: { singleSession } as CookieSession,
});

it('keeps what a request arrived with, whatever becomes of its cookie session and its user', () => {
  const request = requestWith('stamp');
  const { user } = request;
  expect(knownStateOf(request)).toBeUndefined();
  stateOf(request);
  Object.assign(request, { sessionID: 'another', user: { id: 'bob' }, session: null });
  setChecked(request, current);
  expect(knownStateOf(request)).toMatchObject({
    arrivedSessionId: 'a secret',
    arrivedStamp: 'stamp',
    arrivedUser: user,
  });
});

it('who arrives at a login has no user, though Passport has set one already; who had arrived before has', () => {
  const [late, early] = [requestWith(), requestWith()];
  stateOf(early);
  for (const request of [late, early]) {
    const { user } = request;
    arriveAtLogin(request);
    expect(request.user).toBe(user);
  }
  expect(stateOf(late).arrivedUser).toBeUndefined();
  expect(stateOf(early).arrivedUser).toBe(early.user);
});

it('who has arrived at a login is recognized by what the cookie session of before kept of them, and nobody else is', () => {
  const user = { id: 'ann' };
  const arrivals: [singleSession: string | undefined, kept: unknown, keeps: unknown][] = [
    [undefined, { key: 'ann' }, { key: 'ann' }],
    [undefined, 'bob', 'ann'],
    [undefined, undefined, undefined],
    ['stamp', 'ann', 'ann'],
  ];
  const recognized = arrivals.map(([singleSession, kept, keeps]) => {
    const request = requestWith(singleSession);
    request.session!.passport = { user: kept };
    arriveAtLogin(request);
    request.session!.passport = { user: keeps };
    recognize(request, user);
    return stateOf(request).arrivedUser;
  });
  expect(recognized).toEqual([user, undefined, undefined, undefined]);
  const early = requestWith();
  early.session!.passport = { user: 'ann' };
  stateOf(early);
  recognize(early, user);
  expect(stateOf(early).arrivedUser).toBe(early.user);
});

it('what a guard does not say of the destination stays as an earlier one has said', () => {
  const request = requestWith();
  const guard = { canActivate: () => true, whenEnded: () => NEVER };
  reach(request, { guard, isAbsent: true });
  reach(request, { route: { kind: 'login' } });
  expect(stateOf(request)).toMatchObject({ guard, isAbsent: true, route: { kind: 'login' } });
});

it('is checked for this user and this stamp, and for no other', () => {
  const request = requestWith('stamp');
  setChecked(request, current);
  expect(isChecked(request, stateOf(request))).toBe(true);
  expect(isChecked({ ...request, user: { id: 'ann' } }, stateOf(request))).toBe(false);
  expect(isChecked({ ...request, session: null }, stateOf(request))).toBe(false);
});

it('a login that is forgotten leaves nothing that was let pass', () => {
  const request = requestWith('stamp');
  setLogin(request, login);
  setChecked(request, current);
  forgetLogin(request);
  expect(stateOf(request)).toMatchObject({ login: undefined, current: undefined });
  expect(isChecked(request, stateOf(request))).toBe(false);
});

it('the handler of a logout still knows whose session it was, and what the request asks for next is checked anew', () => {
  const request = requestWith('stamp');
  setChecked(request, current);
  setEnded(request, 'stamp');
  expect(stateOf(request)).toMatchObject({ current, endedStamp: 'stamp' });
  expect(isChecked(request, stateOf(request))).toBe(false);
});

it("the end of Passport's logout can be awaited while it is under way", async () => {
  const request = requestWith('stamp');
  const end = beginLogout(request);
  const { loggedOut } = stateOf(request);
  setImmediate(end);
  await expect(loggedOut).resolves.toBeUndefined();
});
