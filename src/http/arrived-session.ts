import { idOfCredential } from '../session/session-id.js';
import type { Unadopted } from '../session/sessions.js';
import { mayHaveSent } from './browser.js';
import type { SessionRequest } from './request.js';
import { knownStateOf } from './request-state.js';

/**
 * The session that the cookie session of the request carried when it arrived. A cookie session from the time before this
 * module carries none, but another request may just have adopted it and not have saved the stamp yet.
 */
export function arrivedSessionOf(request: SessionRequest): { id: string; user: unknown } | undefined {
  const { arrivedStamp: id, arrivedUser: user } = knownStateOf(request) ?? {};
  return id === undefined ? arrivedUnadopted(request) : { id, user };
}

/**
 * What the cookie session with which the request arrived would be adopted as, if it is from the time before this module. One
 * that the browser did not send, or in which nobody is logged in, is adopted by nobody: its user came by an API key or a token,
 * and would leave behind a row that is never swept at each logout.
 */
export function arrivedUnadopted(request: SessionRequest): Unadopted | undefined {
  const { arrivedStamp, arrivedSessionId: secret, arrivedUser, arrivedKey } = knownStateOf(request) ?? {};
  if (arrivedStamp !== undefined || arrivedKey === undefined) return undefined;
  const { headers }: Partial<SessionRequest> = request;
  if (secret === undefined || !headers || !mayHaveSent(request, secret)) return undefined;
  // Unknown where Passport logs in or out in a middleware: then it can end only what it has become already.
  return { id: idOfCredential(secret), user: arrivedUser || undefined };
}
