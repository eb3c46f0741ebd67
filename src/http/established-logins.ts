import type { CurrentSession } from '../session/session.js';
import type { Policy } from '../session/policy.js';
import type { Sessions } from '../session/sessions.js';
import { arrivedSessionOf, arrivedUnadopted } from './arrived-session.js';
import { browserOf } from './browser.js';
import type { CarriedSessions } from './carried-sessions.js';
import {
  carrierOf,
  carriesSession,
  isOfSomebody,
  stampOf,
  takeOutCookieSession,
  withoutCookieSession,
} from './cookie-session.js';
import type { Logins } from './logins.js';
import { onceClosed } from './once-closed.js';
import { originOf } from './origin.js';
import type { Rebinder } from './rebinder.js';
import { sessionIdOf, type SessionRequest } from './request.js';
import {
  arriveAtLogin,
  beginLogout,
  currentSessionOf,
  forgetLogin,
  recognize,
  responseTo,
  setTooLate,
  stateOf,
} from './request-state.js';
import { nodeResponseOf, type SessionResponse } from './response.js';
import type { Route } from './route.js';
import { aroundHead, beforeAnswer, unlessAnswered, unlessCookieSent } from './unless-answered.js';

const NOT_ADMITTED = 'not admitted';

/** Turns a login that Passport establishes, on whatever request, into a session, or into none: a route's interceptor does it then. */
export class EstablishedLogins {
  constructor(
    private readonly logins: Logins,
    private readonly rebinder: Rebinder,
    private readonly sessions: Sessions,
    private readonly policy: Policy,
    private readonly carried: CarriedSessions,
  ) {}

  /** To be called before Passport gives the cookie session a new id. Whether the session that it carries ends is for this login to say, and not for another click. */
  begin(request: SessionRequest): void {
    arriveAtLogin(request);
    const { arrivedSessionId: secret } = stateOf(request);
    const arrived = arrivedSessionOf(request);
    if (secret !== undefined && arrived !== undefined)
      this.carried.remember(secret, { ...arrived, givenUp: false });
  }

  /**
   * Admits a login that Passport has just established, on whatever request. That may fail for reasons of its own, and the
   * browser keeps the cookie; so it is taken back only when no answer reaches the browser.
   */
  async admit(user: unknown, request: SessionRequest): Promise<void> {
    const response = responseTo(request);
    if (response && nodeResponseOf(response).headersSent) return this.refuseLate(request);
    recognize(request, user);
    const state = stateOf(request);
    const { login, route } = state;
    if (login !== undefined && !this.policy.isUser(user, login.session.userId))
      await this.logins.abandon(request, login);
    if (await this.tryToRebind(user, request)) return;
    // Its interceptor admits it after all guards: the next may ask for a second factor.
    if (route?.kind === 'login' && login?.route !== route) return this.leaveOpen(request, route, response);
    const { session, takeBack } = await this.logins.admitNew(user, request, 'cookie', response);
    if (response === undefined) return;
    // In place of the login that its interceptor has admitted.
    if (route?.kind === 'login') unlessAnswered(response, takeBack);
    else unlessCookieSent(response, () => carrierOf(request, session.id), takeBack);
  }

  /** To be called with the error that Passport met on the way to a login. With a new id, the cookie session of before is gone. */
  async fail(error: unknown, request: SessionRequest): Promise<void> {
    const { arrivedSessionId, login } = stateOf(request);
    if (arrivedSessionId === sessionIdOf(request)) return;
    await login?.takeBack();
    await this.logins.discardCookieSession(request, error);
  }

  /** To be called before Passport logs out, and what it gives afterwards: also where that failed, for nobody is to be signed in any more. */
  beginLogout(request: SessionRequest): () => Promise<void> {
    const stamp = stampOf(request);
    const end = beginLogout(request);
    const before = arrivedUnadopted(request);
    return async () => {
      if (stamp !== undefined) await this.leave(request, stamp);
      else if (before !== undefined) await this.sessions.giveUpUnadopted(before, originOf(request), 'logout');
      end();
    };
  }

  /** Nobody holds a credential for the session any more; with `keepSessionInfo` Passport has copied it to somebody anonymous. */
  private async leave(request: SessionRequest, stamp: string): Promise<void> {
    if (stampOf(request) === stamp) delete request.session!.singleSession;
    forgetLogin(request);
    const { route, endedStamp, arrivedStamp, arrivedUser } = stateOf(request);
    if (stamp === endedStamp) return;
    // A guard of a logout route has been faster than its interceptor, which will find nobody to log out.
    if (route?.kind === 'logout' && stamp === arrivedStamp)
      await this.sessions.giveUpByLogout(stamp, arrivedUser || undefined);
    else await this.sessions.giveUp(stamp, 'logout');
  }

  private async refuseLate(request: SessionRequest): Promise<never> {
    const error = new Error(
      'request.logIn() was refused: the answer has been sent, and no browser would hold the cookie of this login. Answer in its callback, or `await` it.',
    );
    const { login } = stateOf(request);
    // Its cookie session is gone, too; a token is not.
    if (login?.credential === 'cookie') await login.takeBack();
    await this.logins.discardCookieSession(request, error);
    throw error;
  }

  /**
   * What Passport has saved says that somebody is logged in, and a guard may still refuse them: the cookie session is
   * destroyed before the answer leaves unless it carries a session by then, and a head that leaves earlier brings no cookie
   * of it. Until then it is marked, so that nobody takes it for a login from the time before this module. The session that
   * the browser came with has lost its cookie session, and ends if the login does not come to take its place.
   */
  private leaveOpen(
    request: SessionRequest,
    { credential }: Route,
    response: SessionResponse | undefined,
  ): void {
    if (request.session && credential !== 'token') request.session.singleSession = NOT_ADMITTED;
    if (response === undefined) return;
    // With `keepSessionInfo` Passport has copied the stamp of the session that ends.
    const isOld = (): boolean => stampOf(request) === stateOf(request).arrivedStamp;
    const isOpen = (): boolean => isOfSomebody(request) && (!carriesSession(request) || isOld());
    const leave = (): Promise<() => void> => {
      setTooLate(request);
      return takeOutCookieSession(request);
    };
    let leaving: Promise<() => void> | undefined;
    beforeAnswer(response, () => (leaving ??= isOpen() ? leave() : undefined));
    aroundHead(response, (send) => (isOpen() ? withoutCookieSession(request, send) : send()));
    onceClosed(response, () => {
      if (credential === 'token' || stateOf(request).login === undefined)
        void this.rebinder.leaveArrived(request);
    });
  }

  /** Whoever signs in once more keeps the session, unless it has ended since the request was checked. */
  private async tryToRebind(user: unknown, request: SessionRequest): Promise<boolean> {
    const current = currentSessionOf(request) ?? this.carriedBefore(request);
    if (current === undefined || !this.policy.isUser(user, current.userId)) return false;
    return this.rebinder.tryToRebind(request, current, user);
  }

  /** The session of a browser whose other click has just taken the cookie session away that this one came with. */
  private carriedBefore(request: SessionRequest): CurrentSession | undefined {
    // The other click becomes a new session there, and this one the same.
    if (stateOf(request).route?.kind === 'login') return undefined;
    const carried = this.carried.by(browserOf(request));
    const userId = this.policy.knownIdOf(carried?.user);
    return carried && userId !== undefined ? { id: carried.id, userId } : undefined;
  }
}
