import { NEVER, type Observable } from 'rxjs';
import type { Admissions } from '../session/admissions.js';
import { ThrottledLogger } from '../session/throttled-logger.js';
import type { Policy } from '../session/policy.js';
import type { CurrentSession, SessionEnd } from '../session/session.js';
import type { Sessions } from '../session/sessions.js';
import type { Watches } from '../session/watches.js';
import { mayHaveSent } from './browser.js';
import { claimsOf, type Claim } from './claims.js';
import { destroyCookieSession, stamp, UNREADABLE } from './cookie-session.js';
import { SessionEndedException, SessionUnknownException } from './exceptions.js';
import { originOf } from './origin.js';
import {
  isAnonymous,
  isByToken,
  sidOf,
  sessionIdOf,
  type CookieSession,
  type SessionRequest,
} from './request.js';
import { currentSessionOf, isChecked, setChecked, stateOf } from './request-state.js';
import type { SessionResponse } from './response.js';
import { challengeBearer, toException } from './to-exception.js';
import { Turn } from './turn.js';
import { UnreadTokens } from './unread-tokens.js';

const REMEDY_FOR_TOKENS =
  "put @SingleSessionLogin({ credential: 'token' }) on the route that issues the token (or call SingleSessionService.admit()), sign `sid: session.id` of its @CurrentSession() into it, " +
  'and let JwtStrategy.validate() return `sid: payload.sid`.';
const REMEDY_FOR_COOKIES =
  'put @SingleSessionLogin() on the login route (or call SingleSessionService.admit()), and call SingleSessionService.rebind(request) after a request.session.regenerate() that is no login. ' +
  "To record such sessions instead: unregistered: 'adopt'.";
const REMEDY_FOR_SIDS =
  'A token was refused because its `sid` is no id of a session. Sign `sid: session.id` of @CurrentSession(), or the `id` that SingleSessionService.admit() resolves to, and nothing else.';
const REMEDY_FOR_FOREIGN_TOKENS =
  'A token was refused because its `sid` belongs to another user than request.user. If it happens right after each login, the two have different ids: ' +
  'let the strategy of the login and that of the token return the same id, or write `identify` in the options so that they do.';

/** Decides whether a request may pass. The guard and the backstop ask it, and it asks the store once for both. */
export class RequestCheck {
  private readonly hints = new ThrottledLogger();
  private readonly unreadTokens = new UnreadTokens(this.hints);
  private readonly turn = new Turn();

  constructor(
    private readonly sessions: Sessions,
    private readonly admissions: Pick<Admissions, 'adopt'>,
    private readonly policy: Policy,
    private readonly watches: Pick<Watches, 'whenEnded'>,
    private readonly settings: { unregistered: 'reject' | 'adopt' },
  ) {}

  /** `true`, at once for an anonymous request and for one that was checked already; fails for a request that is refused. */
  check(request: SessionRequest, response: SessionResponse | undefined): true | Promise<true> {
    if (isAnonymous(request)) {
      this.unreadTokens.pass(request);
      return true;
    }
    const state = stateOf(request);
    if (isChecked(request, state)) return true;
    return this.sessions.remembers && !state.isAbsent
      ? this.checkInTurn(request, response)
      : this.ask(request, response);
  }

  // Memory could answer at once. But requests that go on together, at the end of the turn, cost less than each by itself:
  // one way back to the event loop, and code that is in the processor's caches. A strong check waits for its batch anyway.
  private async checkInTurn(request: SessionRequest, response: SessionResponse | undefined): Promise<true> {
    await this.turn.end();
    const remembered = this.recall(request);
    if (remembered === undefined) return this.ask(request, response);
    setChecked(request, remembered);
    return true;
  }

  private async ask(request: SessionRequest, response: SessionResponse | undefined): Promise<true> {
    // Several may be checked at once, as the fields of a GraphQL query are, and their guards may set other users meanwhile.
    const { user, session } = request;
    const stamp = session?.singleSession;
    if (user) this.unreadTokens.read(request);
    try {
      const [main, other] = claimsOf(request);
      if (other !== undefined && other.id !== stateOf(request).checked?.stamp)
        await this.confirm(other, undefined, request);
      if (main === undefined) setChecked(request, await this.adopt(user, request), user);
      else setChecked(request, await this.confirm(main, user, request), user, stamp);
      return true;
    } catch (error) {
      return this.refuse(error, request, response);
    }
  }

  /**
   * For a message on a connection that was checked when it began. Only whether the session is live is asked again: the
   * user of the connection is as old as the connection is, and must not overwrite what is known of its roles since.
   */
  async checkAgain(request: SessionRequest): Promise<true> {
    const state = stateOf(request);
    // A login by a message may have left its request without a user.
    const isAsKnown = isAnonymous(request) || isChecked(request, state);
    if (state.current === undefined || !isAsKnown) return this.check(request, undefined);
    const limit = await this.policy.limitAtCheck(request.user || undefined);
    const check = { id: state.current.id, limit };
    try {
      const verdict = this.sessions.remembered(check) ?? (await this.sessions.verifyAgain(check));
      if (verdict.live) return true;
      throw new SessionEndedException(verdict.reason, verdict.endedAt);
    } catch (error) {
      throw toException(error, undefined);
    }
  }

  /** The end of the session that the request belongs to, or says it does; an anonymous request has none that could end. */
  whenEnded(request: SessionRequest): Observable<SessionEnd> {
    const session = currentSessionOf(request) ?? claimsOf(request)[0];
    return session === undefined ? NEVER : this.watches.whenEnded({ user: request.user, ...session });
  }

  /** The session, if memory says all that there is to say of the request, and nobody has to be asked for a limit. */
  private recall({ user, session }: SessionRequest): CurrentSession | undefined {
    const [stamp, sid] = [session?.singleSession, sidOf(user)];
    const id = stamp ?? sid;
    if (!user || typeof id !== 'string' || (stamp && sid)) return undefined;
    const limit = this.policy.fixedLimit;
    const verdict = limit === undefined ? undefined : this.sessions.remembered({ id, limit });
    if (!verdict?.live || this.policy.compare(verdict, user) !== 'same') return undefined;
    return { id, userId: verdict.userId };
  }

  private async confirm(
    { id, credential }: Claim,
    user: unknown,
    request: SessionRequest,
  ): Promise<CurrentSession> {
    const limit = this.policy.limitAtCheck(user || undefined);
    const { isAbsent } = stateOf(request);
    const check = { id, limit: typeof limit === 'number' ? limit : await limit, isAbsent };
    const found = this.sessions.remembered(check) ?? (await this.sessions.verify(check));
    if (id === UNREADABLE && credential === 'token') this.hints.warn(UNREADABLE, REMEDY_FOR_SIDS);
    if (!found.live) return refuseEnded(found, credential, request);
    const { userId } = found;
    if (!user) return { id, userId };
    const comparison = this.policy.compare(found, user);
    if (comparison === 'foreign') return this.refuseForeign({ id, credential }, userId, user, request);
    const verdict = comparison === 'same' ? found : await this.sessions.keepCurrent(check, found, user);
    return verdict.live ? { id, userId } : refuseEnded(verdict, credential, request);
  }

  // The session of the claim belongs to another user than request.user. Where that user was set over the one of the cookie
  // session, by an API key beside the cookie or for an administrator who acts for somebody, the owner has not left: only the
  // request is refused. Where the cookie session itself says that other user, as after a change of the users' ids, it will
  // never be good again: it is destroyed with this answer, and its session ends, or it would hold a slot for nobody.
  private async refuseForeign(
    { id, credential }: Claim,
    userId: string,
    user: unknown,
    request: SessionRequest,
  ): Promise<never> {
    const end: SessionEnd = { reason: 'unknown', endedAt: null };
    if (credential === 'token') {
      this.hints.warn('foreign token', REMEDY_FOR_FOREIGN_TOKENS);
      return refuseEnded(end, credential, request);
    }
    if (tells(request, user, this.policy.userIdOf(user))) {
      await this.sessions.giveUp(id);
      return refuseEnded(end, credential, request);
    }
    this.hints.warn(
      'foreign',
      `A request was refused because request.user is another user than the one of its cookie session, ${JSON.stringify(userId)}. Put @SkipSingleSession() on routes that ` +
        'authenticate otherwise, such as by API key; and where an administrator acts for a user, leave request.user the administrator.',
    );
    throw new SessionEndedException(end.reason, end.endedAt);
  }

  private async adopt(user: unknown, request: SessionRequest): Promise<CurrentSession> {
    const adopts =
      this.settings.unregistered === 'adopt' &&
      this.policy.isUser(stateOf(request).arrivedUser, this.policy.userIdOf(user));
    const cookieSession = adopts ? loggedInCookieSession(request) : undefined;
    if (cookieSession === undefined) return this.refuseUnknown(request);
    const verdict = await this.admissions.adopt(sessionIdOf(request)!, user, originOf(request));
    if (!verdict.live) return refuseEnded(verdict, 'cookie', request);
    await stamp(cookieSession, verdict.id);
    return { id: verdict.id, userId: verdict.userId };
  }

  private async refuseUnknown(request: SessionRequest): Promise<never> {
    const byToken = isByToken(request);
    if (!byToken) await destroyCookieSession(request);
    this.hints.warn(
      byToken ? 'token' : 'cookie',
      'A request was refused with SESSION_UNKNOWN: it is authenticated, but its login was not recorded. Expected once after switching the module on. If it goes on: ' +
        (byToken ? REMEDY_FOR_TOKENS : REMEDY_FOR_COOKIES) +
        ' And put @SkipSingleSession() on routes that authenticate without a login, such as by API key.',
    );
    throw new SessionUnknownException();
  }

  private refuse(error: unknown, request: SessionRequest, response: SessionResponse | undefined): never {
    if (error instanceof SessionEndedException || error instanceof SessionUnknownException)
      challengeBearer(request, response);
    throw toException(error, response);
  }
}

/** Whether what Passport keeps in the cookie session tells this user: most keep the id, the name or the address, or an object with the id. */
function tells({ session }: SessionRequest, user: unknown, userId: string): boolean {
  const kept = session?.passport?.user;
  const { id = kept } = (kept ?? {}) as { id?: unknown };
  if (!['string', 'number', 'bigint'].includes(typeof id)) return false;
  const { id: own, username, email } = user as Record<string, unknown>;
  return [userId, own, username, email].some((name) => String(name) === String(id));
}

async function refuseEnded(
  { reason, endedAt }: SessionEnd,
  credential: Claim['credential'],
  request: SessionRequest,
): Promise<never> {
  if (credential === 'cookie') await destroyCookieSession(request);
  throw new SessionEndedException(reason, endedAt);
}

// Only a cookie session that is surely the credential by which the user came. With any other credential beside it, an ended
// session could come back as a new one, again and again: beside each fresh cookie session, or each invented token.
function loggedInCookieSession(request: SessionRequest): CookieSession | undefined {
  const { session, headers }: Partial<SessionRequest> = request;
  const id = sessionIdOf(request);
  if (
    !session ||
    !id ||
    !headers ||
    headers.authorization !== undefined ||
    session.passport?.user === undefined
  )
    return undefined;
  return mayHaveSent(request, id) ? session : undefined;
}
