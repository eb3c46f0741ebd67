import { Inject, Injectable } from '@nestjs/common';
import { catchError, throwError, type Observable } from 'rxjs';
import { actorOfCode } from '../session/actor.js';
import {
  Administration,
  type LogoutEveryoneOrder,
  type LogoutEveryoneResult,
} from '../session/administration.js';
import type { ListedSession, ListQuery, Page } from '../session/administration-store.js';
import { Explainer, type Explanation } from '../session/explainer.js';
import { toUserId } from '../session/identity.js';
import { Policy } from '../session/policy.js';
import {
  END_REASONS,
  isEndReason,
  type EndReason,
  type EndTarget,
  type SessionEnd,
  type Verdict,
} from '../session/session.js';
import { Sessions } from '../session/sessions.js';
import { Watches } from '../session/watches.js';
import type { CurrentSession } from './decorators.js';
import { checkEveryoneOrder } from './everyone-order.js';
import { toListQuery } from './list-query.js';
import { Logins } from './logins.js';
import { OpenSockets } from './open-sockets.js';
import { Rebinder } from './rebinder.js';
import { RequestCheck } from './request-check.js';
import type { SessionRequest } from './request.js';
import type { Credential } from './route.js';
import { orException, toException } from './to-exception.js';

/** Who or what ends sessions, for the record and for the answer to the ended client. */
export interface EndOptions {
  /** Default `'admin'`. */
  reason?: EndReason;
  /** A username, not a credential. Default: nobody in particular. */
  by?: string;
}

/**
 * The verbs of the decorators, for code that they do not reach: logins by hand, jobs, administration. All of them fail with
 * SessionStoreUnavailableException, which Nest answers with 503, when the store cannot answer.
 */
@Injectable()
export class SingleSessionService {
  private readonly sockets: OpenSockets;

  constructor(
    @Inject(Sessions) private readonly sessions: Sessions,
    @Inject(Policy) private readonly policy: Policy,
    @Inject(Logins) private readonly logins: Logins,
    @Inject(Rebinder) private readonly rebinder: Rebinder,
    @Inject(Administration) private readonly administration: Administration,
    @Inject(Explainer) private readonly explainer: Explainer,
    @Inject(RequestCheck) private readonly requestCheck: RequestCheck,
    @Inject(Watches) private readonly watches: Watches,
  ) {
    this.sockets = new OpenSockets(requestCheck);
  }

  /**
   * Admits a login: call it after `request.logIn()` or before signing a JWT with the returned `id` as `sid`. A cookie
   * session is stamped and saved; if this throws, or the answer to the request reports a failure, the session is ended
   * and the cookie session destroyed.
   *
   * `credential`: what carries the session. Default `'cookie'` where the request has a cookie session, else `'token'`.
   * @throws SessionLimitReachedException when `onLimit` is `'reject'` and there is no room; SessionEndedException when the
   * user came with a token in place of a password, and its session has ended; Error, which says what to write, when a
   * cookie session is missing or has kept its id; HttpException, which nobody reads, when the client has left; and what the
   * functions of the options throw
   */
  async admit(
    user: unknown,
    request: unknown,
    options: { credential?: Credential } = {},
  ): Promise<CurrentSession> {
    const { session } = await this.logins.admit(user, request as SessionRequest, options);
    return session;
  }

  /**
   * Lets the request's new cookie session carry its session on: after `request.session.regenerate()` at a change of
   * password or of privileges (OWASP ASVS 7.2.4). The session keeps its id and its place. Not needed after
   * `request.logIn()` of the same user, which does it by itself.
   * @throws Error when the request came with no live session, or that session belongs to another user than `request.user`
   */
  async rebind(request: unknown): Promise<CurrentSession> {
    return this.rebinder.rebind(request as SessionRequest);
  }

  /**
   * Whether a session is live now; one that has no id of ours is not. Give its user where `maxSessions` is a function:
   * without, only the slots that its last login left are looked at.
   */
  async verify(sessionId: string, user?: unknown): Promise<Verdict> {
    const limit = await this.policy.limitAtCheck(user);
    const result = await orException(this.sessions.verify({ id: sessionId, limit }));
    if (result.live) return { live: true, userId: result.userId };
    const { reason, endedAt, userId } = result;
    return { live: false, reason, endedAt, userId };
  }

  /**
   * Emits once, when the session of the request, or the one of this id, ends on whatever process, and completes; at once
   * if it has ended already. For what stays open: `stream.pipe(takeUntil(sessions.whenEnded(request)))`. Within
   * `maxStalenessMs`, by default within about a second. Watching is not using: it does not postpone the idle timeout.
   *
   * Give the user of an id where `maxSessions` is a function.
   *
   * Fails when the session cannot be verified at the beginning, or for longer than 30 seconds. Completes without an end when the application closes, and never ends for an anonymous request.
   */
  whenEnded(session: string | object, user?: unknown): Observable<SessionEnd> {
    const end =
      typeof session === 'string'
        ? this.watches.whenEnded({ id: session, user })
        : this.requestCheck.whenEnded(session as SessionRequest);
    return end.pipe(catchError((error: unknown) => throwError(() => toException(error, undefined))));
  }

  /**
   * For `handleConnection(client, request)` of a gateway, with socket.io or `ws`: closes the socket when its session ends,
   * on whatever process, and at once when the request has no live session. Resolves to the session, or to `undefined`
   * when the socket is closed; never fails because of a client. The request must be authenticated before, as for HTTP: its
   * `user`, or its cookie session. socket.io keeps the request itself, so it need not be given; but keeps one for all
   * sockets of a connection, so what it says at the moment of the call counts, for this socket alone. `{ user }` will do.
   *
   * socket.io: the event `session-ended` with `{ reason, endedAt }`, then a disconnect; `ws`: close code 4401 with the
   * reason. When the session cannot be verified: `session-unavailable`, or close code 1013.
   */
  closeWhenEnded(client: unknown, request?: object): Promise<CurrentSession | undefined> {
    return this.sockets.closeWhenEnded(client, request);
  }

  /**
   * Ends one session. Resolves to how many were live and are dead now: 0 or 1.
   * @throws TypeError for a reason that there is not, as do the next two
   */
  end(sessionId: string, options: EndOptions = {}): Promise<{ ended: number }> {
    return this.endAll({ scope: 'session', sessionId }, options);
  }

  /**
   * Ends all sessions of a user.
   * @throws TypeError also for an id that no user can have, as does the next
   */
  async endUser(userId: string | number | bigint, options: EndOptions = {}): Promise<{ ended: number }> {
    return this.endAll({ scope: 'user', userId: toUserId({ id: userId }) }, options);
  }

  /** Ends all sessions of a user but one; none when that one is not live itself. */
  async endOthers(
    userId: string | number | bigint,
    keepSessionId: string,
    options: EndOptions = {},
  ): Promise<{ ended: number }> {
    return this.endAll(
      { scope: 'others', sessionId: keepSessionId, userId: toUserId({ id: userId }) },
      options,
    );
  }

  /**
   * Ends the sessions of everyone, except those that are spared (administrators, unless you say otherwise), in the time
   * of one statement. Recorded, as what administrators do is.
   * @throws TypeError for an order that is not understood, before anybody is logged out
   */
  async endEveryone(order: LogoutEveryoneOrder & { by?: string } = {}): Promise<LogoutEveryoneResult> {
    checkEveryoneOrder(order);
    const { by, ...rest } = order;
    return orException(this.administration.logoutEveryone(rest, actorOfCode(by)));
  }

  /**
   * Sessions, newest first, in pages. Default: 50 live ones.
   * @throws BadRequestException for a limit, state or key that there is not, and for a cursor that no page gave
   */
  async list(query: Partial<ListQuery> = {}): Promise<Page<ListedSession>> {
    return orException(this.administration.list(toListQuery(query)));
  }

  /**
   * Which limit the user's next login meets, and why. Give your own user object.
   * @throws what the functions of the options throw
   */
  explain(user: unknown): Promise<Explanation> {
    return orException(this.explainer.explain(user));
  }

  private async endAll(target: EndTarget, { reason = 'admin', by }: EndOptions): Promise<{ ended: number }> {
    if (!isEndReason(reason))
      throw new TypeError(`The reason ${String(reason)} is none of ${END_REASONS.join(', ')}.`);
    const ended = await orException(this.sessions.end({ target, reason, by: by ?? null }));
    return { ended: ended.length };
  }
}
