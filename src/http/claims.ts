import { isSessionId } from '../session/session-id.js';
import { stampOf, UNREADABLE } from './cookie-session.js';
import { sidOf, type SessionRequest } from './request.js';

/** A session that a request says it belongs to. */
export interface Claim {
  id: string;
  credential: 'cookie' | 'token';
}

/**
 * The sessions that a request claims, the one its user comes from first. Each must be live: a live cookie does not
 * excuse a dead token. A `sid` that is not a session id counts where no cookie session speaks for the user, since
 * it is then the only credential; beside a cookie session it is some other field of the user. A uuid in capitals is the
 * same session, which everybody compares as the store writes it.
 */
export function claimsOf(request: SessionRequest): Claim[] {
  const stamp = stampOf(request);
  const sid = sidOf(request.user);
  const claims: Claim[] = [];
  if (isSessionId(sid)) claims.push({ id: sid.toLowerCase(), credential: 'token' });
  else if (sid !== undefined && sid !== null && stamp === undefined)
    claims.push({ id: UNREADABLE, credential: 'token' });
  if (stamp !== undefined) claims.push({ id: stamp, credential: 'cookie' });
  return claims;
}
