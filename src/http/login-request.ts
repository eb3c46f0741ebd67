import { HttpException } from '@nestjs/common';
import type { Login, Replaced } from '../session/admissions.js';
import { isSessionId } from '../session/session-id.js';
import { arrivedSessionOf, arrivedUnadopted } from './arrived-session.js';
import { browserOf, mayHaveSent } from './browser.js';
import type { CarriedSessions } from './carried-sessions.js';
import { stampOf } from './cookie-session.js';
import { isGone } from './once-closed.js';
import { originOf } from './origin.js';
import { sessionIdOf, sidOf, type SessionRequest } from './request.js';
import { knownStateOf } from './request-state.js';
import { nodeResponseOf, type SessionResponse } from './response.js';
import type { Credential } from './route.js';
import { hasSentCookie } from './unless-answered.js';

/** As nginx logs it: no answer reaches anybody. */
const CLIENT_CLOSED_REQUEST = 499;

/** What the request says of a login: which session it takes the place of, and which was taken in place of a password. */
export function loginOf(
  user: unknown,
  request: SessionRequest,
  credential: Credential,
  carried: CarriedSessions,
): Login {
  const browser = credential === 'cookie' ? browserOf(request) : undefined;
  return {
    user,
    browser,
    origin: originOf(request),
    replaces: credential === 'cookie' ? (givenUp(request) ?? carried.by(browser)) : exchanged(user),
    before: credential === 'cookie' ? arrivedUnadopted(request) : undefined,
    entitledBy: takenForPassword(user, request, credential),
  };
}

/** The session of the cookie session that the login has taken the place of, whether it succeeds or not. */
function givenUp(request: SessionRequest): Replaced | undefined {
  const arrived = arrivedSessionOf(request);
  return arrived && { ...arrived, givenUp: true };
}

/** The session of the token that a login renews. The client still holds the token. */
function exchanged(user: unknown): Replaced | undefined {
  const id = sidOf(user);
  return isSessionId(id) ? { id, user, givenUp: false } : undefined;
}

/**
 * As a token exchange does: the session of the token that the user came from, or that of the cookie session when no guard
 * of the route has set the user of a token login.
 */
function takenForPassword(
  user: unknown,
  request: SessionRequest,
  credential: Credential,
): string | undefined {
  const sid = sidOf(user);
  if (isSessionId(sid)) return sid;
  const isOfCookieSession = Boolean(user) && user === knownStateOf(request)?.arrivedUser;
  return credential === 'token' && isOfCookieSession ? stampOf(request) : undefined;
}

/** @throws Error that says what to write, for a login that a cookie session cannot carry, or one that kept its id */
export function requireFreshCookieSession(request: SessionRequest): void {
  if (!request.session)
    throw new Error(
      "This login is to be carried by a cookie session, but the request has none. Write app.use(session({ ... })) from 'express-session', on Fastify " +
        "await app.register(fastifySession, { ... }) from '@fastify/session', before app.listen(); or @SingleSessionLogin({ credential: 'token' }) where the handler answers with a JWT.",
    );
  const id = sessionIdOf(request);
  // A save() may have been put on it for Passport's sake.
  if (typeof request.session.save !== 'function' || id === undefined)
    throw new Error(
      'This login is to be carried by a cookie session that the server keeps, but request.session is none: it has no save(), or no id. @fastify/secure-session and cookie-session keep ' +
        'everything in the cookie; use @fastify/session or express-session. With @fastify/session, the path of its cookie must cover this route.',
    );
  if (!keptItsId(request, id)) return;
  throw new Error(
    'This login did not give the cookie session a new id, so it is refused (session fixation, OWASP ASVS 7.2.4). Either nobody is logged in: ' +
      'the guard must `await super.logIn(request)`, and PassportModule.register({ session: false }) makes that do nothing. Or the id was kept: passport >= 0.6 ' +
      "changes it, without Passport call request.session.regenerate(). Where the handler answers with a JWT, write @SingleSessionLogin({ credential: 'token' }).",
  );
}

/**
 * A login may have stood still for long, in the store of the cookie sessions or with the password, and its user have tried
 * again meanwhile, on whatever process: nobody is to lose that session to a login that nobody waits for.
 *
 * @throws HttpException, of which Nest logs nothing
 */
export function requireClient(response: SessionResponse | undefined): void {
  if (response !== undefined && isGone(nodeResponseOf(response)))
    throw new HttpException('The client has left before its login was admitted.', CLIENT_CLOSED_REQUEST);
}

/**
 * The cookie comes with the head of the answer: for one that leaves without it, a login would evict others for nothing.
 *
 * @throws Error that says what to write
 */
export function requireHead(request: SessionRequest, response: SessionResponse | undefined): void {
  const hasLeft = response !== undefined && nodeResponseOf(response).headersSent;
  const isLate = hasLeft && !hasSentCookie(response, sessionIdOf(request));
  if (!isLate && knownStateOf(request)?.isTooLate !== true) return;
  throw new Error(
    'This login is refused: its answer has left without its cookie. On the login route, let nothing answer before the login is admitted: no guard, no interceptor, no time limit.',
  );
}

// In a middleware nothing of ours may have seen the request before, and only the cookie says what it came with.
function keptItsId(request: SessionRequest, id: string): boolean {
  const state = knownStateOf(request);
  return state === undefined ? mayHaveSent(request, id) : state.arrivedSessionId === id;
}
