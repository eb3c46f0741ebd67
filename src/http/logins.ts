import { randomUUID } from 'node:crypto';
import { NotEntitledError, type Admissions } from '../session/admissions.js';
import { ThrottledLogger } from '../session/throttled-logger.js';
import { LARGEST_LIMIT, type Policy } from '../session/policy.js';
import type { CurrentSession } from '../session/session.js';
import { StoreUnavailableError } from '../session/session-store.js';
import type { Sessions } from '../session/sessions.js';
import { learnCookieName } from './browser.js';
import type { CarriedSessions } from './carried-sessions.js';
import { carry, destroyCookieSession, stampOf } from './cookie-session.js';
import { SessionEndedException } from './exceptions.js';
import { loginOf, requireClient, requireFreshCookieSession, requireHead } from './login-request.js';
import { once } from './once.js';
import type { Rebinder } from './rebinder.js';
import { sessionIdOf, type SessionRequest } from './request.js';
import {
  forgetLogin,
  knownStateOf,
  responseTo,
  setChecked,
  setLogin,
  stateOf,
  type AdmittedLogin,
} from './request-state.js';
import type { SessionResponse } from './response.js';
import type { Credential } from './route.js';
import { challengeBearer, toException } from './to-exception.js';
import { unlessAnswered } from './unless-answered.js';

const HINT_FOR_SIDS =
  'A login was refused because its user has a `sid` that is no session of this application. A user with a `sid` signs in by that session in place of a password, as the user of a token does. ' +
  'If the `sid` is a claim of somebody else, such as an OpenID provider, let validate() return it by another name.';

/** Turns an authenticated request into a session: admit, stamp, save; or none of them. */
export class Logins {
  private readonly hints = new ThrottledLogger();

  constructor(
    private readonly sessions: Sessions,
    private readonly admissions: Admissions,
    private readonly policy: Policy,
    private readonly carried: CarriedSessions,
    private readonly rebinder: Rebinder,
  ) {}

  /** Admits a login whose purpose the request is: it is taken back when the answer reports a failure. */
  async admit(
    user: unknown,
    request: SessionRequest,
    given: { credential?: Credential; response?: SessionResponse } = {},
  ): Promise<AdmittedLogin> {
    const credential = given.credential ?? (cameWithCookies(request) ? 'cookie' : 'token');
    const response = given.response ?? responseTo(request);
    const login =
      (await this.admittedBefore(user, request, credential)) ??
      (await this.admitNew(user, request, credential, response));
    if (response) unlessAnswered(response, login.takeBack);
    return login;
  }

  // The request may have been admitted before its handler says so once more, with another cookie session where it is tried again.
  private async admittedBefore(
    user: unknown,
    request: SessionRequest,
    credential: Credential,
  ): Promise<AdmittedLogin | undefined> {
    const login = knownStateOf(request)?.login;
    if (login === undefined) return undefined;
    const isSame = this.policy.isUser(user, login.session.userId);
    const isOfToken = credential === 'token' || login.route?.credential === 'token';
    if (isOfToken) return isSame ? login : undefined;
    if (!isSame) return this.abandon(request, login);
    if (stampOf(request) === login.session.id) return login;
    requireFreshCookieSession(request);
    await this.rebinder.tryToRebind(request, login.session, user);
    return login;
  }

  /** Ends a login whose cookie session is gone already: the same request signs in somebody else. */
  async abandon(request: SessionRequest, { session }: AdmittedLogin): Promise<undefined> {
    // What `keepSessionInfo` has copied.
    if (stampOf(request) === session.id) delete request.session!.singleSession;
    forgetLogin(request);
    await this.sessions.giveUp(session.id);
  }

  /** Without a response nothing tells that the answer failed, and nothing takes the login back. */
  async admitNew(
    user: unknown,
    request: SessionRequest,
    credential: Credential,
    response: SessionResponse | undefined,
  ): Promise<AdmittedLogin> {
    try {
      if (credential === 'cookie') requireFreshCookieSession(request);
      requireClient(response);
      if (credential === 'cookie') requireHead(request, response);
      const login = await this.record(user, request, credential);
      if (credential === 'cookie') {
        if (response) learnCookieName(response, sessionIdOf(request)!);
        await carry(request, login.session, response, login.takeBack);
      }
      // Otherwise it is taken back already.
      if (stateOf(request).login === login) setChecked(request, login.session, user);
      return login;
    } catch (error) {
      if (credential === 'cookie') await this.discardCookieSession(request, error);
      throw await this.exceptionOf(error, request, response);
    }
  }

  private async record(
    user: unknown,
    request: SessionRequest,
    credential: Credential,
  ): Promise<AdmittedLogin> {
    const loginId = randomUUID();
    const session = await this.admissions.admit({
      ...loginOf(user, request, credential, this.carried),
      loginId,
    });
    const login = {
      session,
      credential,
      route: stateOf(request).route,
      takeBack: once(() => this.takeBack(session, loginId, request, credential)),
    };
    setLogin(request, login);
    return login;
  }

  /** With it goes the session that the browser came with, live or not. */
  async discardCookieSession(request: SessionRequest, error: unknown): Promise<void> {
    await destroyCookieSession(request);
    const left = this.rebinder.leaveArrived(request);
    // A store that has just not answered is not waited for again.
    if (!(error instanceof StoreUnavailableError)) await left;
  }

  private async exceptionOf(
    error: unknown,
    request: SessionRequest,
    response: SessionResponse | undefined,
  ): Promise<unknown> {
    if (!(error instanceof NotEntitledError)) return toException(error, response);
    challengeBearer(request, response);
    return this.endedException(error.sessionId, request).catch((reason: unknown) =>
      toException(reason, response),
    );
  }

  private async endedException(sessionId: string, request: SessionRequest): Promise<SessionEndedException> {
    const verdict = await this.sessions.verify({ id: sessionId, limit: LARGEST_LIMIT });
    if (verdict.live) return new SessionEndedException('unknown', null);
    // Whoever has just signed in is told that their session has ended, and nothing that they can do helps.
    if (verdict.reason === 'unknown') this.hints.warn('sid', HINT_FOR_SIDS);
    if (stampOf(request) === sessionId) await destroyCookieSession(request);
    return new SessionEndedException(verdict.reason, verdict.endedAt);
  }

  private async takeBack(
    { id }: CurrentSession,
    loginId: string,
    request: SessionRequest,
    credential: Credential,
  ): Promise<void> {
    const { login } = stateOf(request);
    // Then the cookie session is of another login on the same request.
    const isReplaced = login !== undefined && login.session.id !== id;
    if (!isReplaced) forgetLogin(request);
    await this.sessions.giveUpLogin(id, loginId);
    if (credential === 'cookie' && !isReplaced) await destroyCookieSession(request);
  }
}

// A login that was taken back has no cookie session any more, and must not become one with a token when it is tried again.
const cameWithCookies = (request: SessionRequest): boolean =>
  Boolean(request.session) || knownStateOf(request)?.arrivedSessionId !== undefined;
