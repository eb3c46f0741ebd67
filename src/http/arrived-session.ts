import { idOfCredential } from '../session/session-id.js';
import type { Unadopted } from '../session/sessions.js';
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

/** What the cookie session with which the request arrived would be adopted as, if it is from the time before this module. */
export function arrivedUnadopted(request: SessionRequest): Unadopted | undefined {
  const { arrivedStamp, arrivedSessionId: secret, arrivedUser: user } = knownStateOf(request) ?? {};
  if (arrivedStamp !== undefined || secret === undefined || !user) return undefined;
  return { id: idOfCredential(secret), user };
}
