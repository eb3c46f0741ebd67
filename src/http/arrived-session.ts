import { idOfCredential } from '../session/session-id.js';
import type { SessionRequest } from './request.js';
import { knownStateOf } from './request-state.js';

/**
 * The session that the cookie session of the request carried when it arrived. A cookie session from the time before this
 * module carries none, but another request may just have adopted it and not have saved the stamp yet.
 */
export function arrivedSessionOf(request: SessionRequest): { id: string; user: unknown } | undefined {
  const { arrivedStamp: id, arrivedSessionId: secret, arrivedUser: user } = knownStateOf(request) ?? {};
  if (id !== undefined) return { id, user };
  return user && secret !== undefined ? { id: idOfCredential(secret), user } : undefined;
}
