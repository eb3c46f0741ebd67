import { isSessionId } from '../session/session-id.js';
import type { CookieSession, SessionRequest } from './request.js';

/** Writes the session's id into the cookie session and saves it, so that an answer is never ahead of the store. */
export async function stamp(cookieSession: CookieSession, id: string): Promise<void> {
  cookieSession.singleSession = id;
  await called((done) => cookieSession.save(done));
}

/** Removes the cookie session, so that the browser's next request is anonymous. Hygiene: the session in it is dead already. */
export async function destroyCookieSession(request: SessionRequest): Promise<void> {
  const { session } = request;
  if (session) await called((done) => session.destroy(done)).catch(() => undefined);
}

/** What the cookie session is stamped with; a stamp that cannot be ours is still a stamp. */
export function stampOf({ session }: SessionRequest): string | undefined {
  const found = session?.singleSession;
  if (found === undefined) return undefined;
  return isSessionId(found) ? found : 'unreadable';
}

function called(call: (done: (error?: unknown) => void) => unknown): Promise<void> {
  return new Promise((resolve, reject) => call((error) => (error ? reject(error as Error) : resolve())));
}
