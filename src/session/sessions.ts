import { answered, unavailable } from './answered.js';
import type { Bookkeeper } from './bookkeeper.js';
import { Checks, type Pace } from './checks.js';
import type { Freshness } from './freshness.js';
import { LARGEST_LIMIT, type Policy } from './policy.js';
import {
  UNKNOWN_SESSION,
  type Check,
  type CheckResult,
  type EndedSession,
  type EndOrder,
  type EndTarget,
  type LiveResult,
  type Origin,
} from './session.js';
import { isSessionId } from './session-id.js';
import type { SessionStore } from './session-store.js';
import { A_MINUTE_MS, ThrottledLogger } from './throttled-logger.js';
import { UnfinishedEnds } from './unfinished-ends.js';

export interface SessionsSettings {
  logoutEverywhere: boolean;
  unregistered: 'reject' | 'adopt';
}

/** A credential that was issued before this module watched, by the session that it would be adopted as, or was a moment ago. */
export interface Unadopted {
  id: string;
  /** `undefined` when not known. */
  user: unknown;
}

/** For looks at the sessions of open streams and sockets: they come all at the same moment, and may wait. */
const OF_ROUNDS: Pace = { mostInFlight: 2, headStart: Infinity };

/**
 * What happens to sessions that were admitted: they are checked, and they are ended. Logouts, logins that failed and the
 * application's code all go through `end`; what administrators order, and logging out everyone, goes through
 * `Administration`. Whether a session is live is computed by the store from the user's slots row. What it said is used
 * again only by {@link remembered}.
 */
export class Sessions {
  private readonly checks: Checks;
  // Apart from `checks`, so that no request waits behind a round of looks at everything that is open.
  private readonly looks: Checks;
  private readonly unfinished = new UnfinishedEnds();
  private readonly logger = new ThrottledLogger(A_MINUTE_MS);

  constructor(
    private readonly store: SessionStore,
    private readonly policy: Policy,
    private readonly bookkeeper: Bookkeeper,
    private readonly settings: SessionsSettings,
    private readonly freshness?: Freshness,
  ) {
    const ask: SessionStore['verify'] = (checks) => this.store.verify(checks);
    this.checks = new Checks(ask);
    this.looks = new Checks(ask, OF_ROUNDS);
  }

  /** Ends the session of a login, unless another login carries it, too. */
  takeBack(sessionId: string, loginId: string): Promise<EndedSession[]> {
    return this.end({ target: { scope: 'login', sessionId, loginId }, reason: 'logout', by: null });
  }

  /** As {@link takeBack}. Never fails: what the store cannot carry out now it is asked for again. */
  giveUpLogin(sessionId: string, loginId: string): Promise<void> {
    return this.nowOrLater(sessionId, () => this.takeBack(sessionId, loginId));
  }

  /** Ends a session whose browser has lost the only credential for it. Never fails: what the store cannot carry out now it is asked for again. */
  giveUp(sessionId: string, reason: 'superseded' | 'logout' = 'superseded'): Promise<void> {
    return this.nowOrLater(sessionId, () => this.endAlone(sessionId, reason));
  }

  /** As {@link logout}, of a session whose browser has lost the only credential for it. Never fails, but later it ends no other session: that may have begun since. */
  giveUpByLogout(sessionId: string, user: unknown): Promise<void> {
    return this.nowOrLater(
      sessionId,
      () => this.endAlone(sessionId, 'logout'),
      this.logout(sessionId, user, false),
    );
  }

  /** Ends no more what could not be ended yet. */
  close(): void {
    this.unfinished.close();
  }

  /** Whether the options allow answers from memory. */
  get remembers(): boolean {
    return this.freshness !== undefined;
  }

  /** What is remembered of the session, where the options allow an answer that old: that it is live, or nothing. Asks nobody. */
  remembered(check: Check): CheckResult | undefined {
    // Whoever is absent must not use up the one answer from memory that says that last-seen is due.
    if (check.isAbsent) return undefined;
    const result = this.freshness?.recall(check);
    // What is remembered may come from a look, which does not count as a use and wrote nothing down.
    if (result?.unseen) this.bookkeeper.seen(check.id);
    return result;
  }

  /** Whether the session is live now. A session met dead is recorded as ended before this says so, so that it stays dead when a limit is raised or others end. */
  async verify(check: Check): Promise<CheckResult> {
    const result = await this.use(check);
    if (!result.unmarked) return result;
    const recorded = await this.recorded(check, result, this.checks);
    // It was live when it was to be recorded, and is now beyond the limit again. To answer that it has ended would be too
    // early: unrecorded, it may come back to life when others end.
    if (recorded.unmarked) throw unavailable('sessions came and went while one was recorded as ended');
    return recorded;
  }

  /**
   * As {@link verify}, for a message on a connection. Its limit is that of a user object as old as the connection, so what
   * is dead only by the limit is not recorded, as in {@link look}.
   */
  async verifyAgain(check: Check): Promise<CheckResult> {
    return this.recorded(check, await this.use(check), this.checks, LARGEST_LIMIT);
  }

  /**
   * As {@link verify}, of a session that nobody is using at the moment: it does not postpone the idle timeout. What is dead
   * only by the limit is not recorded: the limit may be that of the user as long ago as when a watch began, and requests
   * are judged by the present one.
   */
  async look(check: Check): Promise<CheckResult> {
    if (!isSessionId(check.id)) return UNKNOWN_SESSION;
    const result = await this.looks.verify(check);
    if (!result.unmarked || result.userId === null) return result;
    // Many may have ended at once, as at a cut-off: they are recorded together.
    await this.bookkeeper.markLater(result.userId);
    return this.recorded(check, await this.looks.verify(check), this.looks, LARGEST_LIMIT);
  }

  /** Whether the session is live and stays so, as far as can be told: the database is asked. */
  async isStillLive(id: string, user: unknown): Promise<boolean> {
    if (this.unfinished.has(id)) return false;
    try {
      return (await this.verify({ id, limit: await this.policy.limitAtCheck(user) })).live;
    } catch {
      return false;
    }
  }

  /**
   * Writes down that the user has other roles now than the session says, and checks it again: a cut-off may have spared
   * it for a role that is lost.
   */
  async keepCurrent(check: Check, verdict: LiveResult, user: unknown): Promise<CheckResult> {
    const change = await this.policy.changeOf(verdict, user);
    if (change === undefined) return verdict;
    await answered(this.store.refresh({ id: check.id, ...change }));
    return this.verify(check);
  }

  /**
   * Ends what the target says and is live. `user` is whose limit says whether a session may end others. Itself it may always:
   * beyond a limit that was lowered it is dead, but nothing says so yet, and it would come back when the limit is raised.
   */
  async end(order: Omit<EndOrder, 'limit'>, user?: unknown): Promise<EndedSession[]> {
    const { target } = order;
    if (target.scope !== 'user' && !isSessionId(target.sessionId)) return [];
    const limit = endsItself(target) ? LARGEST_LIMIT : await this.limitToEnd(user);
    return answered(this.store.end({ ...order, limit }));
  }

  /**
   * Ends the session, and for an enforced user all others too unless the options say otherwise. Nothing when it is dead
   * already, or not of the user when `own`: the loser harms nobody.
   */
  async logout(sessionId: string, user: unknown, own: boolean): Promise<EndedSession[]> {
    const { exempt, roles } = await this.atLogout(user);
    const everywhere = this.settings.logoutEverywhere && !exempt;
    const userId = own ? this.policy.userIdOf(user) : undefined;
    const endAs = (target: EndTarget): Promise<EndedSession[]> =>
      this.end({ target, reason: 'logout', by: null }, user);
    const ended = everywhere ? await endAs({ scope: 'everywhere', sessionId, userId, roles }) : [];
    return ended.length > 0 ? ended : endAs({ scope: 'session', sessionId, userId });
  }

  /** As {@link logout}, of a credential from before. One that never became a session ends no others. */
  async logoutUnadopted(before: Unadopted, origin: Origin): Promise<void> {
    if (!(await this.endUnadopted(before, origin, 'logout')))
      await this.logout(before.id, before.user, false);
  }

  /** As {@link giveUp}, of a credential from before. */
  giveUpUnadopted(
    before: Unadopted,
    origin: Origin,
    reason: 'superseded' | 'logout' = 'superseded',
  ): Promise<void> {
    return this.nowOrLater(before.id, async () => {
      if (!(await this.endUnadopted(before, origin, reason))) await this.endAlone(before.id, reason);
    });
  }

  /** Lets a credential from before become no session any more: another request may be on its way with it. False where one may have been made of it already. */
  async endUnadopted(
    { id, user }: Unadopted,
    origin: Origin,
    reason: 'superseded' | 'logout',
  ): Promise<boolean> {
    const identity = this.settings.unregistered === 'adopt' && this.policy.knownIdentityOf(user);
    // Then nobody adopts it here; but a process that is older than a change of the options may have.
    if (!identity) return false;
    return answered(this.store.recordEnded({ id, identity, origin, reason }));
  }

  private endAlone(sessionId: string, reason: 'superseded' | 'logout'): Promise<EndedSession[]> {
    return this.end({ target: { scope: 'session', sessionId }, reason, by: null });
  }

  private async nowOrLater(
    sessionId: string,
    end: () => Promise<unknown>,
    now: Promise<unknown> = end(),
  ): Promise<void> {
    await now.catch((error: Error) => {
      this.unfinished.add({ sessionId, end });
      this.logger.warn(
        'unfinished',
        `A session that nobody holds any more was not ended; that is tried again until the database does it, for 10,000 at most. ${error.message}`,
      );
    });
  }

  private async use(check: Check): Promise<CheckResult> {
    if (!isSessionId(check.id)) return UNKNOWN_SESSION;
    const result = await this.checks.verify(check);
    if (result.unseen && !check.isAbsent) this.bookkeeper.seen(check.id);
    return result;
  }

  private async recorded(
    check: Check,
    result: CheckResult,
    checks: Checks,
    limit = check.limit,
  ): Promise<CheckResult> {
    if (!result.unmarked) return result;
    await answered(this.store.markChecked({ id: check.id, limit }));
    return checks.verify(check);
  }

  // Who cannot be judged may still log out.
  private async limitToEnd(user: unknown): Promise<number> {
    try {
      return await this.policy.limitAtCheck(user);
    } catch {
      return LARGEST_LIMIT;
    }
  }

  // Who cannot be judged logs out alone: the session ends either way.
  private async atLogout(user: unknown): Promise<{ exempt: boolean; roles?: readonly string[] }> {
    if (user === undefined) return { exempt: false };
    return this.policy.rule(user).then(
      ({ exempt, identity }) => ({ exempt, roles: identity.roles }),
      () => ({ exempt: true }),
    );
  }
}

const endsItself = ({ scope }: EndTarget): boolean => scope === 'session' || scope === 'login';
