import type { Policy } from '../session/policy.js';
import type { CurrentSession } from '../session/session.js';
import type { Sessions } from '../session/sessions.js';
import { arrivedSessionOf, arrivedUnadopted } from './arrived-session.js';
import { Carriers } from './carriers.js';
import { carrierOf, carry } from './cookie-session.js';
import { once } from './once.js';
import { originOf } from './origin.js';
import { sessionIdOf, type SessionRequest } from './request.js';
import { currentSessionOf, knownStateOf, responseTo, setChecked, stateOf } from './request-state.js';
import { unlessCookieSent } from './unless-answered.js';

/** Lets a new cookie session carry a session that is there already, which keeps its place. */
export class Rebinder {
  private readonly carriers = new Carriers((id) => this.sessions.giveUp(id));
  /** Which session the cookie session of a request was to carry on, and its secret: one request may sign in more than once. */
  private readonly joined = new WeakMap<SessionRequest, { id: string; secret: string }>();

  constructor(
    private readonly sessions: Sessions,
    private readonly policy: Policy,
  ) {}

  /** Lets the new cookie session of the request carry the session that it came with, which keeps its place. */
  async rebind(request: SessionRequest): Promise<CurrentSession> {
    const current = currentSessionOf(request);
    if (current === undefined || !request.session)
      throw new Error(
        'rebind() found no live session that the request came with, or no cookie session to carry it. Call it in a handler of a signed-in request, after ' +
          'request.session.regenerate(); a login is admitted by @SingleSessionLogin() or SingleSessionService.admit().',
      );
    if (request.user && !this.policy.isUser(request.user, current.userId))
      throw new Error(
        'rebind() was called for another user than the session belongs to. Call SingleSessionService.admit(user, request) for a login as somebody else.',
      );
    await this.join(request, current);
    await this.carryOn(request, current, request.user);
    return current;
  }

  /** The same for a login that Passport has established once more, unless the session has ended since it was checked. */
  async tryToRebind(request: SessionRequest, current: CurrentSession, user: unknown): Promise<boolean> {
    await this.join(request, current);
    const isAdmitted = stateOf(request).login !== undefined;
    if (!isAdmitted && !(await this.sessions.isStillLive(current.id, user))) return false;
    await this.carryOn(request, current, user);
    return true;
  }

  /** Nobody holds a credential any more for the session that the request came with, but for another click that carries it. */
  async leaveArrived(request: SessionRequest): Promise<void> {
    const secret = knownStateOf(request)?.arrivedSessionId;
    const [arrived, before] = [arrivedSessionOf(request), arrivedUnadopted(request)];
    const end = before && (() => this.sessions.giveUpUnadopted(before, originOf(request)));
    if (secret !== undefined && arrived !== undefined) await this.carriers.leave(arrived.id, secret, end);
    // Its own cookie session, which was to carry it on and does not, is no other click's.
    const joined = this.joined.get(request);
    if (joined !== undefined) await this.carriers.leave(joined.id, joined.secret);
  }

  private async join(request: SessionRequest, { id }: CurrentSession): Promise<void> {
    const { login, arrivedSessionId } = stateOf(request);
    if (login !== undefined) return;
    const secret = sessionIdOf(request)!;
    const replaced = this.joined.get(request)?.secret ?? arrivedSessionId;
    this.joined.set(request, { id, secret });
    await this.carriers.join(id, secret, replaced);
  }

  /** What was admitted for this very request is given up as a login: another click may share it, as the store knows. */
  private async carryOn(request: SessionRequest, current: CurrentSession, user: unknown): Promise<void> {
    const secret = sessionIdOf(request)!;
    const { login, arrivedSessionId } = stateOf(request);
    // Once: when it is found out again, as when the store answers at last, it may be long since the other clicks came.
    const giveUp = login?.takeBack ?? once(() => this.carriers.leave(current.id, secret));
    // Otherwise the browser has the cookie already.
    const response = arrivedSessionId === secret ? undefined : responseTo(request);
    await carry(request, current, response, giveUp);
    setChecked(request, current, user);
    if (response) unlessCookieSent(response, () => carrierOf(request, current.id), giveUp);
  }
}
