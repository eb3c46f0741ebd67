import { Logger } from '@nestjs/common';
import type { CurrentSession } from '../session/session.js';
import { isSessionId, type Replaced, type Sessions } from '../session/sessions.js';
import { destroyCookieSession, stamp, stampOf } from './cookie-session.js';
import { originOf } from './origin.js';
import { knownStateOf, sidOf, stateOf, type SessionRequest, type SessionResponse } from './request.js';
import type { RequestCheck } from './request-check.js';
import type { Credential } from './route.js';
import { toException } from './to-exception.js';
import { unlessAnswered } from './unless-answered.js';

/** An admitted login, and the way back. */
export interface AdmittedLogin {
  session: CurrentSession;
  /** Ends the session and destroys its cookie session. Never fails: it is called when something else has. */
  takeBack: () => Promise<void>;
}

/** Turns an authenticated request into a session: admit, stamp, save; or none of them. */
export class Logins {
  private readonly logger = new Logger('SingleSession');

  constructor(
    private readonly sessions: Sessions,
    private readonly requestCheck: RequestCheck,
  ) {}

  async admit(
    user: unknown,
    request: SessionRequest,
    given: { credential?: Credential; response?: SessionResponse },
  ): Promise<AdmittedLogin> {
    const credential = given.credential ?? (request.session ? 'cookie' : 'token');
    const response = given.response ?? request.res;
    const replaces = credential === 'cookie' ? givenUp(request) : exchanged(request);
    try {
      if (credential === 'cookie') requireFreshCookieSession(request);
      else if (replaces || isOfCookieSession(request)) await this.requestCheck.check(request, response);
      const session = await this.sessions.admit({ user, origin: originOf(request), replaces });
      const takeBack = once(() => this.takeBack(session, request, credential));
      if (response) unlessAnswered(response, takeBack);
      if (credential === 'cookie') await this.carry(request, session, takeBack);
      Object.assign(stateOf(request), { current: session, checked: { user, stamp: stampOf(request) } });
      return { session, takeBack };
    } catch (error) {
      if (credential === 'cookie') await destroyCookieSession(request);
      if (replaces?.givenUp) await this.sessions.giveUp(replaces.id);
      throw toException(error, response);
    }
  }

  private async carry(
    request: SessionRequest,
    { id }: CurrentSession,
    takeBack: () => Promise<void>,
  ): Promise<void> {
    try {
      await stamp(request.session!, id);
    } catch (error) {
      await takeBack();
      throw error;
    }
  }

  private async takeBack(
    { id }: CurrentSession,
    request: SessionRequest,
    credential: Credential,
  ): Promise<void> {
    stateOf(request).current = undefined;
    await this.sessions
      .end({ target: { scope: 'session', sessionId: id }, reason: 'logout', by: null })
      .catch((error: Error) =>
        this.logger.error(
          `A login failed after it was admitted, and session ${id} could not be ended. ${error.message}`,
        ),
      );
    if (credential === 'cookie') await destroyCookieSession(request);
  }
}

/** The session of the cookie session that the login has taken the place of, whether it succeeds or not. */
function givenUp(request: SessionRequest): Replaced | undefined {
  const { sessionID, stamp: id, user } = knownStateOf(request)?.arrivedWith ?? {};
  return id === undefined || sessionID === request.sessionID ? undefined : { id, user, givenUp: true };
}

/** The session of the token that a login takes in place of a password, as a token exchange does. */
function exchanged({ user }: SessionRequest): Replaced | undefined {
  const id = sidOf(user);
  return isSessionId(id) ? { id, user, givenUp: false } : undefined;
}

/** Whether a token login takes the cookie session in place of a password: no guard of the route has set the user. */
function isOfCookieSession(request: SessionRequest): boolean {
  const { user } = request;
  return Boolean(user) && user === knownStateOf(request)?.arrivedWith.user && stampOf(request) !== undefined;
}

function requireFreshCookieSession(request: SessionRequest): void {
  const arrivedSessionId = knownStateOf(request)?.arrivedWith.sessionID;
  if (!request.session)
    throw new Error(
      "This login is to be carried by a cookie session, but the request has none. Write app.use(session({ ... })) from 'express-session' before " +
        "app.listen(), or @SingleSessionLogin({ credential: 'token' }) where the handler answers with a JWT.",
    );
  if (arrivedSessionId === undefined || arrivedSessionId !== request.sessionID) return;
  throw new Error(
    'This login did not give the cookie session a new id, so it is refused (session fixation, OWASP ASVS 7.2.4). Either nobody is logged in: ' +
      'the guard must `await super.logIn(request)`, and PassportModule.register({ session: false }) makes that do nothing. Or the id was kept: passport >= 0.6 ' +
      "changes it, without Passport call request.session.regenerate(). Where the handler answers with a JWT, write @SingleSessionLogin({ credential: 'token' }).",
  );
}

function once(action: () => Promise<void>): () => Promise<void> {
  let done: Promise<void> | undefined;
  return () => (done ??= action());
}
