import { isDeepStrictEqual } from 'node:util';
import type { CanActivate } from '@nestjs/common';
import type { Observable } from 'rxjs';
import type { CurrentSession, SessionEnd } from '../session/session.js';
import { sessionIdOf, type SessionRequest } from './request.js';
import type { SessionResponse } from './response.js';
import type { Credential, Route } from './route.js';

/** A guard that can also tell when the session ends of a request that it has let pass. */
export interface RequestGuard extends CanActivate {
  whenEnded(request: SessionRequest): Observable<SessionEnd>;
}

/** An admitted login, and the way back. */
export interface AdmittedLogin {
  session: CurrentSession;
  credential: Credential;
  /** What was known of the route when it was admitted: nothing in a middleware. */
  route: Route | undefined;
  /** Ends the session and destroys its cookie session. Never fails: it is called when something else has. */
  takeBack: () => Promise<void>;
}

/** What a request brought with it, before any login of it could change that. */
interface Arrival {
  readonly arrivedSessionId: string | undefined;
  readonly arrivedStamp: string | undefined;
  arrivedUser: unknown;
  /** What its cookie session kept of whom Passport had logged in. */
  readonly arrivedKey: unknown;
}

/** Where the request goes, as far as a guard has said. A query of GraphQL goes to several fields, one after the other. */
interface Destination {
  /** The last guard of ours that it has met. */
  guard: RequestGuard | undefined;
  /** On Fastify the request does not know its response; on Express it is `request.res`. */
  response: SessionResponse | undefined;
  /** What our decorators say of the route. */
  route: Route | undefined;
  /** Nobody is there: a page has made the request on its own. */
  isAbsent: boolean;
}

/** Whose the request is. */
interface Standing {
  /** What was let pass: the backstop asks again only if a route guard has changed it. */
  checked: { readonly user: unknown; readonly stamp: unknown } | undefined;
  current: CurrentSession | undefined;
  /** The login that this request was, when it is admitted. */
  login: AdmittedLogin | undefined;
  /** Its answer is on its way without the cookie of a login. */
  isTooLate: boolean;
}

interface Logout {
  /** The end of Passport's `logout()`, which is under way or over. */
  loggedOut: Promise<void> | undefined;
  /** Whose session the logout route has ended that the request came to. */
  endedStamp: string | undefined;
}

type State = Arrival & Destination & Standing & Logout;

/** What we know of a request, from its arrival on. It changes by the functions of this file alone. */
export type RequestState = Readonly<State>;

// Beside the request and not on it: a request has so many properties that V8 takes longer for each one more.
const states = new WeakMap<SessionRequest, State>();

/** The state of the request; the first call is its arrival. */
export const stateOf = (request: SessionRequest): RequestState => changeable(request);

/** The state, unless nothing of ours has seen the request. */
export const knownStateOf = (request: SessionRequest): RequestState | undefined => states.get(request);

/** The session that the request belongs to, if it has been let pass for one. */
export const currentSessionOf = (request: SessionRequest): CurrentSession | undefined =>
  states.get(request)?.current;

function changeable(request: SessionRequest): State {
  const known = states.get(request);
  if (known !== undefined) return known;
  const state = arrivalOf(request);
  states.set(request, state);
  return state;
}

// In one piece, with all that will be known: each request makes one, and to grow it costs more than to make it.
function arrivalOf(request: SessionRequest): State {
  const { session, user } = request;
  return {
    arrivedSessionId: session ? sessionIdOf(request) : undefined,
    arrivedStamp: typeof session?.singleSession === 'string' ? session.singleSession : undefined,
    arrivedUser: user,
    arrivedKey: session?.passport?.user,
    guard: undefined,
    checked: undefined,
    current: undefined,
    login: undefined,
    isTooLate: false,
    route: undefined,
    isAbsent: false,
    response: undefined,
    loggedOut: undefined,
    endedStamp: undefined,
  };
}

/** To be called before Passport establishes a login. It has set the user already, who did not come with the request. */
export function arriveAtLogin(request: SessionRequest): void {
  if (states.has(request)) return;
  const { user } = request;
  request.user = undefined;
  stateOf(request);
  request.user = user;
}

/**
 * To be called when Passport has established a login. Where that was before any guard ({@link arriveAtLogin}), nothing tells who
 * came with a cookie session from the time before this module, unless it kept the same of them as is kept of this user.
 */
export function recognize(request: SessionRequest, user: unknown): void {
  const state = changeable(request);
  const { arrivedStamp, arrivedUser, arrivedKey } = state;
  if (arrivedStamp !== undefined || arrivedUser || arrivedKey === undefined) return;
  if (isDeepStrictEqual(request.session?.passport?.user, arrivedKey)) state.arrivedUser = user;
}

/** To be called by a guard, with what it knows of where the request goes. */
export function reach(request: SessionRequest, destination: Partial<Destination>): void {
  const { route } = destination;
  // One of its own each time: two fields of a mutation may go to the same handler, and the login of one is none of the other.
  Object.assign(changeable(request), destination, route && { route: { ...route } });
}

/** The response to a request that may not have met a guard yet. */
export const responseTo = (request: SessionRequest): SessionResponse | undefined =>
  knownStateOf(request)?.response ?? request.singleSessionReply ?? request.res ?? undefined;

/** Whether the request has been checked as it is now: with this user and this cookie session. */
export function isChecked({ user, session }: SessionRequest, { checked }: RequestState): boolean {
  return checked !== undefined && checked.user === user && checked.stamp === session?.singleSession;
}

/** To be called when the request has been checked, or its login is there to stay. */
export function setChecked(
  request: SessionRequest,
  current: CurrentSession,
  user: unknown = request.user,
  stamp: unknown = request.session?.singleSession,
): void {
  const state = changeable(request);
  state.current = current;
  state.checked = { user, stamp };
}

/** To be called when the store has admitted the login of the request, before a cookie session carries it. */
export function setLogin(request: SessionRequest, login: AdmittedLogin): void {
  changeable(request).login = login;
}

/** To be called when the answer is about to leave before the login of the request was admitted. */
export function setTooLate(request: SessionRequest): void {
  changeable(request).isTooLate = true;
}

/** To be called when the login of the request is taken back, or its session is over: it is nobody's. */
export function forgetLogin(request: SessionRequest): void {
  const state = changeable(request);
  state.checked = undefined;
  state.current = undefined;
  state.login = undefined;
}

/** To be called before Passport logs out. Gives what to call when that is over. */
export function beginLogout(request: SessionRequest): () => void {
  let end: () => void;
  changeable(request).loggedOut = new Promise((resolve) => (end = resolve));
  return end!;
}

/**
 * To be called when a logout route has ended the session of this stamp. The handler may still ask whose it was; what else
 * the same request asks for, as the next field of a GraphQL mutation, is asked by nobody any more.
 */
export function setEnded(request: SessionRequest, stamp: string | undefined): void {
  const state = changeable(request);
  state.endedStamp = stamp;
  state.checked = undefined;
}
