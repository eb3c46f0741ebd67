import { answered } from '../session/answered.js';
import type { CurrentSession } from '../session/session.js';
import { isSessionId } from '../session/session-id.js';
import { isGone, onceClosed } from './once-closed.js';
import { sessionIdOf, type CookieSession, type SessionRequest } from './request.js';
import { responseTo } from './request-state.js';
import { nodeResponseOf, type SessionResponse } from './response.js';

/** How long an answer waits until a cookie session is destroyed, in milliseconds. */
const DESTROYED_WITHIN_MS = 2_000;

/** In place of an id that cannot be one of ours: a session that nobody knows. */
export const UNREADABLE = 'unreadable';

/** Writes the session's id into the cookie session and saves it, so that an answer is never ahead of the store. */
export async function stamp(cookieSession: CookieSession, id: string): Promise<void> {
  cookieSession.singleSession = id;
  await called((done) => cookieSession.save(done));
}

/** A store of cookie sessions may stand still for long: the session keeps its place no longer than `response` is waited for. */
export async function carry(
  request: SessionRequest,
  { id }: CurrentSession,
  response: SessionResponse | undefined,
  undo: () => Promise<void>,
): Promise<void> {
  let isCarried = false;
  if (response) onceClosed(response, () => void (isCarried || undo()));
  try {
    await stamp(request.session!, id);
  } catch (error) {
    await undo();
    // It would leave with its cookie, and Passport knows its user.
    await destroyCookieSession(request);
    throw error;
  }
  isCarried = true;
}

/**
 * Removes the cookie session, so that the browser's next request is anonymous. Hygiene: the session in it is dead already,
 * so a store that does not do it is not waited for.
 */
export async function destroyCookieSession(request: SessionRequest): Promise<void> {
  const { session } = request;
  const response = responseTo(request);
  if (!session || response === undefined) return destroy(request, false);
  // Where the client is gone, the handler does not know it, and goes on with the cookie session.
  await destroy(request, isGone(nodeResponseOf(response)));
  // Nor does a handler that a time limit has answered for: it finds the cookie session again when that answer is over.
  onceClosed(response, () => void (request.session ??= session));
}

/**
 * The same for an answer that is about to leave. The cookie session is missing from the request only until it has left:
 * its middleware, which saves what it finds then, must not find it. Resolves to what puts it back.
 */
export async function takeOutCookieSession(request: SessionRequest): Promise<() => void> {
  const { session } = request;
  await destroy(request, true);
  // The handler may have begun another one, which is none of ours.
  if (request.session !== session) return () => undefined;
  request.session = null;
  return () => void (request.session ??= session);
}

/** For the head of an answer that goes on: the cookie session is missing while it leaves, so its middleware sends no cookie. */
export function withoutCookieSession<Result>(request: SessionRequest, act: () => Result): Result {
  const { session } = request;
  request.session = null;
  try {
    return act();
  } finally {
    request.session = session;
  }
}

/** `stays`: keeps it in the request meanwhile, for callbacks of a handler that would end the process if they did not find it. */
async function destroy(request: SessionRequest, stays: boolean): Promise<void> {
  const { session } = request;
  if (!session) return;
  const stay = (): void => void (stays && (request.session ??= session));
  const destroyed = called((done) => session.destroy(done)).finally(stay);
  stay();
  await answered(destroyed, DESTROYED_WITHIN_MS).catch(() => undefined);
}

/** The id of the cookie session, if that carries this session. */
export const carrierOf = (request: SessionRequest, id: string): string | undefined =>
  stampOf(request) === id ? sessionIdOf(request) : undefined;

/** What the cookie session is stamped with; a stamp that cannot be ours is still a stamp. */
export function stampOf({ session }: SessionRequest): string | undefined {
  const found = session?.singleSession;
  if (found === undefined) return undefined;
  return isSessionId(found) ? found : UNREADABLE;
}

/** Whether the cookie session carries a session of ours, live or not. */
export const carriesSession = ({ session }: SessionRequest): boolean => isSessionId(session?.singleSession);

/** Whether somebody is signed in in the cookie session, were it by a login from the time before this module. */
export const isOfSomebody = ({ session }: SessionRequest): boolean =>
  session?.singleSession !== undefined || session?.passport?.user !== undefined;

function called(call: (done: (error?: unknown) => void) => unknown): Promise<void> {
  return new Promise((resolve, reject) => call((error) => (error ? reject(error as Error) : resolve())));
}
