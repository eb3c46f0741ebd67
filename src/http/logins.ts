import { Logger } from '@nestjs/common';
import { randomUUID } from 'node:crypto';
import type { CurrentSession } from '../session/session.js';
import { NotEntitledError, type Admissions, type Replaced } from '../session/admissions.js';
import { LARGEST_LIMIT, type Policy } from '../session/policy.js';
import { isSessionId } from '../session/session-id.js';
import type { Sessions } from '../session/sessions.js';
import { browserOf, learnCookieName, mayHaveSent } from './browser.js';
import { CarriedSessions } from './carried-sessions.js';
import { destroyCookieSession, stamp, stampOf } from './cookie-session.js';
import { SessionEndedException } from './exceptions.js';
import { originOf } from './origin.js';
import {
  arriveAtLogin,
  knownStateOf,
  setChecked,
  sessionIdOf,
  sidOf,
  stateOf,
  type AdmittedLogin,
  type SessionRequest,
  type SessionResponse,
} from './request.js';
import { nodeResponseOf } from './response.js';
import type { Credential, Route } from './route.js';
import { StoreUnavailableError } from '../session/session-store.js';
import { challengeBearer, toException } from './to-exception.js';
import { unlessAnswered, unlessCookieSent } from './unless-answered.js';

const NOT_ADMITTED = 'not admitted';

/** Turns an authenticated request into a session: admit, stamp, save; or none of them. */
export class Logins {
  private readonly logger = new Logger('SingleSession');

  private readonly carried = new CarriedSessions();

  constructor(
    private readonly sessions: Sessions,
    private readonly admissions: Admissions,
    private readonly policy: Policy,
  ) {}

  /** Admits a login whose purpose the request is: it is taken back when the answer reports a failure. */
  async admit(
    user: unknown,
    request: SessionRequest,
    given: { credential?: Credential; response?: SessionResponse } = {},
  ): Promise<AdmittedLogin> {
    const credential = given.credential ?? (request.session ? 'cookie' : 'token');
    const response = given.response ?? responseTo(request);
    const login = this.admitted(user, request) ?? (await this.admitNew(user, request, credential, response));
    if (response) unlessAnswered(response, login.takeBack);
    return login;
  }

  /** To be called before Passport gives the cookie session a new id. Whether the session that it carries ends is for this login to say, and not for another click. */
  begin(request: SessionRequest): void {
    arriveAtLogin(request);
    const { arrivedSessionId: secret, arrivedStamp: id, arrivedUser: user } = stateOf(request);
    if (secret !== undefined && id !== undefined) this.carried.remember(secret, { id, user, givenUp: false });
  }

  /**
   * Admits a login that Passport has just established, on whatever request. That may fail for reasons of its own, and the
   * browser keeps the cookie; so it is taken back only when no answer reaches the browser.
   */
  async admitEstablished(user: unknown, request: SessionRequest): Promise<void> {
    const response = responseTo(request);
    if (response && nodeResponseOf(response).headersSent) return this.refuseLate(request);
    const state = stateOf(request);
    const { login, route } = state;
    if (login !== undefined && !this.policy.isUser(user, login.session.userId))
      await this.abandon(request, login);
    if (await this.isCarriedOn(user, request)) return;
    // Its interceptor admits it after all guards: the next may ask for a second factor.
    if (route?.kind === 'login' && login?.route !== route) return this.leaveOpen(request, route, response);
    const { takeBack } = await this.admitNew(user, request, 'cookie', response);
    if (response) unlessCookieSent(response, sessionIdOf(request)!, takeBack);
  }

  private async refuseLate(request: SessionRequest): Promise<never> {
    const error = new Error(
      'request.logIn() was refused: the answer has been sent, and no browser would hold the cookie of this login. Answer in its callback, or `await` it.',
    );
    await this.discardCookieSession(request, error);
    throw error;
  }

  /**
   * What Passport has saved says that somebody is logged in, and a guard may still refuse them. So that nobody takes it
   * for a login from the time before this module, it is marked, and saved with the answer. The session that the browser
   * came with has lost its cookie session, and ends if the login does not come to take its place.
   */
  private leaveOpen(
    request: SessionRequest,
    { credential }: Route,
    response: SessionResponse | undefined,
  ): void {
    const { arrivedStamp } = stateOf(request);
    if (request.session && credential !== 'token') request.session.singleSession = NOT_ADMITTED;
    if (response === undefined || arrivedStamp === undefined) return;
    nodeResponseOf(response).once('close', () => {
      if (credential === 'token' || stateOf(request).login === undefined)
        void this.sessions.giveUp(arrivedStamp);
    });
  }

  // Its cookie session is gone already.
  private async abandon(request: SessionRequest, { session }: AdmittedLogin): Promise<void> {
    Object.assign(stateOf(request), { current: undefined, login: undefined });
    await this.sessions.giveUp(session.id);
  }

  /** Whoever signs in once more keeps the session, unless it has ended since the request was checked. */
  private async isCarriedOn(user: unknown, request: SessionRequest): Promise<boolean> {
    const { login, ...state } = stateOf(request);
    const current = state.current ?? this.carriedBefore(request);
    if (current === undefined || !this.policy.isUser(user, current.userId)) return false;
    if (login === undefined && !(await this.sessions.isStillLive(current.id, user))) return false;
    await this.carryOn(request, current, user);
    return true;
  }

  /** The session of a browser whose other click has just taken the cookie session away that this one came with. */
  private carriedBefore(request: SessionRequest): CurrentSession | undefined {
    // The other click becomes a new session there, and this one the same.
    if (stateOf(request).route?.kind === 'login') return undefined;
    const carried = this.carried.by(browserOf(request));
    return carried?.user ? { id: carried.id, userId: this.policy.userIdOf(carried.user) } : undefined;
  }

  /** Lets the new cookie session of the request carry the session that it came with, which keeps its place. */
  async rebind(request: SessionRequest): Promise<CurrentSession> {
    const current = knownStateOf(request)?.current;
    if (current === undefined || !request.session)
      throw new Error(
        'rebind() found no live session that the request came with, or no cookie session to carry it. Call it in a handler of a signed-in request, after ' +
          'request.session.regenerate(); a login is admitted by @SingleSessionLogin() or SingleSessionService.admit().',
      );
    if (request.user && !this.policy.isUser(request.user, current.userId))
      throw new Error(
        'rebind() was called for another user than the session belongs to. Call SingleSessionService.admit(user, request) for a login as somebody else.',
      );
    await this.carryOn(request, current, request.user);
    return current;
  }

  private async carryOn(request: SessionRequest, current: CurrentSession, user: unknown): Promise<void> {
    await this.carry(request, current, () => this.sessions.giveUp(current.id));
    setChecked(request, current, user);
  }

  // The request may have been admitted before its handler says so once more.
  private admitted(user: unknown, request: SessionRequest): AdmittedLogin | undefined {
    const login = knownStateOf(request)?.login;
    return login !== undefined && this.policy.isUser(user, login.session.userId) ? login : undefined;
  }

  private async admitNew(
    user: unknown,
    request: SessionRequest,
    credential: Credential,
    response: SessionResponse | undefined,
  ): Promise<AdmittedLogin> {
    try {
      if (credential === 'cookie') requireFreshCookieSession(request);
      const loginId = randomUUID();
      const browser = credential === 'cookie' ? browserOf(request) : undefined;
      const session = await this.admissions.admit({
        user,
        loginId,
        browser,
        origin: originOf(request),
        replaces: credential === 'cookie' ? (givenUp(request) ?? this.carried.by(browser)) : exchanged(user),
        entitledBy: takenForPassword(user, request, credential),
      });
      const login = {
        session,
        route: stateOf(request).route,
        takeBack: once(() => this.takeBack(session, loginId, request, credential)),
      };
      stateOf(request).login = login;
      if (credential === 'cookie') {
        if (response) learnCookieName(response, sessionIdOf(request)!);
        await this.carry(request, session, login.takeBack);
      }
      setChecked(request, session, user);
      return login;
    } catch (error) {
      if (credential === 'cookie') await this.discardCookieSession(request, error);
      throw error instanceof NotEntitledError
        ? await this.ended(error.sessionId, request, response)
        : toException(error, response);
    }
  }

  // With it goes the session that the browser came with, live or not: nobody holds a credential for it any more.
  private async discardCookieSession(request: SessionRequest, error: unknown): Promise<void> {
    await destroyCookieSession(request);
    const carried = knownStateOf(request)?.arrivedStamp;
    const given = carried !== undefined && this.sessions.giveUp(carried);
    // A store that has just not answered is not waited for again.
    if (!(error instanceof StoreUnavailableError)) await given;
  }

  private async ended(
    sessionId: string,
    request: SessionRequest,
    response: SessionResponse | undefined,
  ): Promise<unknown> {
    challengeBearer(request, response);
    const verdict = await this.sessions.verify({ id: sessionId, limit: LARGEST_LIMIT });
    if (verdict.live) return new SessionEndedException('unknown', null);
    if (stampOf(request) === sessionId) await destroyCookieSession(request);
    return new SessionEndedException(verdict.reason, verdict.endedAt);
  }

  private async carry(
    request: SessionRequest,
    { id }: CurrentSession,
    undo: () => Promise<void>,
  ): Promise<void> {
    try {
      await stamp(request.session!, id);
    } catch (error) {
      await undo();
      throw error;
    }
  }

  private async takeBack(
    { id }: CurrentSession,
    loginId: string,
    request: SessionRequest,
    credential: Credential,
  ): Promise<void> {
    Object.assign(stateOf(request), { current: undefined, login: undefined });
    await this.sessions
      .takeBack(id, loginId)
      .catch((error: Error) =>
        this.logger.error(
          `A login failed after it was admitted, and session ${id} could not be ended. ${error.message}`,
        ),
      );
    if (credential === 'cookie') await destroyCookieSession(request);
  }
}

const responseTo = (request: SessionRequest): SessionResponse | undefined =>
  knownStateOf(request)?.response ?? request.singleSessionReply ?? request.res;

/** The session of the cookie session that the login has taken the place of, whether it succeeds or not. */
function givenUp(request: SessionRequest): Replaced | undefined {
  const state = knownStateOf(request);
  const id = state?.arrivedStamp;
  if (id === undefined || state?.arrivedSessionId === sessionIdOf(request)) return undefined;
  return { id, user: state?.arrivedUser, givenUp: true };
}

/** The session of the token that a login renews. The client still holds the token. */
function exchanged(user: unknown): Replaced | undefined {
  const id = sidOf(user);
  return isSessionId(id) ? { id, user, givenUp: false } : undefined;
}

/**
 * The session that a login takes in place of a password, as a token exchange does: the one of the token that the user
 * came from, or that of the cookie session when no guard of the route has set the user of a token login.
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

function requireFreshCookieSession(request: SessionRequest): void {
  if (!request.session)
    throw new Error(
      "This login is to be carried by a cookie session, but the request has none. Write app.use(session({ ... })) from 'express-session', on Fastify " +
        "await app.register(fastifySession, { ... }) from '@fastify/session', before app.listen(); or @SingleSessionLogin({ credential: 'token' }) where the handler answers with a JWT.",
    );
  if (typeof request.session.save !== 'function')
    throw new Error(
      'This login is to be carried by a cookie session that the server keeps, but request.session is none: it has no save(). @fastify/secure-session and cookie-session keep ' +
        'everything in the cookie; use @fastify/session or express-session. With @fastify/session, the path of its cookie must cover this route.',
    );
  if (!keptItsId(request)) return;
  throw new Error(
    'This login did not give the cookie session a new id, so it is refused (session fixation, OWASP ASVS 7.2.4). Either nobody is logged in: ' +
      'the guard must `await super.logIn(request)`, and PassportModule.register({ session: false }) makes that do nothing. Or the id was kept: passport >= 0.6 ' +
      "changes it, without Passport call request.session.regenerate(). Where the handler answers with a JWT, write @SingleSessionLogin({ credential: 'token' }).",
  );
}

// In a middleware nothing of ours may have seen the request before, and only the cookie says what it came with.
function keptItsId(request: SessionRequest): boolean {
  const id = sessionIdOf(request);
  const state = knownStateOf(request);
  if (state === undefined) return id !== undefined && mayHaveSent(request, id);
  return state.arrivedSessionId !== undefined && state.arrivedSessionId === id;
}

function once(action: () => Promise<void>): () => Promise<void> {
  let done: Promise<void> | undefined;
  return () => (done ??= action());
}
