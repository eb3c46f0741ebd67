import { Logger } from '@nestjs/common';
import { randomUUID } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import { answered } from './answered.js';
import type { Bookkeeper } from './bookkeeper.js';
import { Checks } from './checks.js';
import type { Freshness } from './freshness.js';
import { rolesIn, rolesKey, sameRoles } from './identity.js';
import { LARGEST_LIMIT, type Policy, type Ruling } from './policy.js';
import {
  UNKNOWN_SESSION,
  type AdmissionResult,
  type Check,
  type CheckResult,
  type CurrentSession,
  type EndedSession,
  type EndOrder,
  type Origin,
} from './session.js';
import { idOfCredential, idOfLogin, isSessionId } from './session-id.js';
import type { SessionStore } from './session-store.js';

/** A login, as the outside tells it. */
export interface Login {
  user: unknown;
  origin: Origin;
  /** The session that the same client carried, if any. */
  replaces?: Replaced | undefined;
  /** The live session that was taken in place of a password. */
  entitledBy?: string | undefined;
  /** By which it can be taken back: a UUID of its own. Default: made here. */
  loginId?: string;
  /** Given when the same credential must always become the same session. */
  id?: string | undefined;
  browser?: Browser | undefined;
}

type Identified = Login & { loginId: string };

/** What logins of one browser at the same moment have in common. */
export interface Browser {
  /** What nobody else holds. */
  secret: string;
  /** What may be the secret of another login of this browser. It names no session: other browsers may hold it as well. */
  perhaps: readonly string[];
}

/** The session that a client carried to a login. */
export interface Replaced {
  id: string;
  /** `undefined` when not known. */
  user: unknown;
  /** The client has lost its credential for it: it must end even where the login makes no room of it. */
  givenUp: boolean;
}

export interface SessionsSettings {
  onLimit: 'evict' | 'reject';
  logoutEverywhere: boolean;
}

/** A login had no room and `onLimit` is `'reject'`. */
export class NoRoomError extends Error {
  override readonly name = 'NoRoomError';
  constructor(readonly maxSessions: number) {
    super(`The user has reached the limit of ${maxSessions} session(s).`);
  }
}

/** A login took a session in place of a password, and that session has ended. */
export class NotEntitledError extends Error {
  override readonly name = 'NotEntitledError';
  constructor(readonly sessionId: string) {
    super('The session that was to renew a login has ended.');
  }
}

const MOST_LOOKS_IN_FLIGHT = 2;
const A_MOMENT_MS = 10_000;
const TAKE_BACK_AFTER_MS = [0, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000];

/**
 * What happens to sessions, in two writing verbs: `admit` and `end`. Logins, logouts, administrators and failures all go
 * through them. Whether a session is live is computed by the store from the user's slots row. What it said is used again
 * only by {@link remembered}.
 */
export class Sessions {
  private readonly checks: Checks;
  // Apart, so that no request waits behind a round of looking after everything that is open.
  private readonly looks: Checks;
  // What browsers carried that have just begun to log in, by their secrets.
  private readonly carried = new Map<string, Replaced>();
  private readonly logger = new Logger('SingleSession');

  constructor(
    private readonly store: SessionStore,
    private readonly policy: Policy,
    private readonly bookkeeper: Bookkeeper,
    private readonly settings: SessionsSettings,
    private readonly freshness?: Freshness,
  ) {
    const ask = (checks: readonly Check[]): Promise<CheckResult[]> => this.store.verify(checks);
    this.checks = new Checks(ask);
    this.looks = new Checks(ask, MOST_LOOKS_IN_FLIGHT);
  }

  /** What the browser with this secret carries. To be called before a login takes its cookie session away: another click of the browser then finds nothing where that was. */
  beginLogin(secret: string, carried: Replaced): void {
    this.carried.set(secret, carried);
    const forget = (): unknown => this.carried.get(secret) === carried && this.carried.delete(secret);
    setTimeout(forget, A_MOMENT_MS).unref();
  }

  /** What the browser carried before a login of it that began a moment ago. */
  carriedBy(browser: Browser | undefined): Replaced | undefined {
    return browser && this.carried.get(browser.secret);
  }

  /**
   * Records a login; the user's surplus sessions are dead when this resolves.
   * @throws NoRoomError, StoreUnavailableError, and what the application's policy functions throw; then nothing was admitted
   */
  async admit(login: Login): Promise<CurrentSession> {
    const { user } = login;
    const replaces = login.replaces ?? this.carriedBy(login.browser);
    const ruling = await this.policy.rule(user);
    const userId = ruling.identity.id;
    const { id, result } = await this.admitOrShare(ruling, { loginId: randomUUID(), ...login, replaces });
    if (result === undefined) return { id, userId };
    const enforced = result.outcome !== 'admitted' || !result.exempt;
    if (result.outcome === 'admitted' && enforced && !result.first) void this.bookkeeper.markLater(userId);
    const replaced = enforced && this.isUser(replaces?.user, userId);
    if (replaces?.givenUp && !replaced) void this.giveUp(replaces.id);
    return { id, userId };
  }

  userIdOf(user: unknown): string {
    return this.policy.userIdOf(user);
  }

  /** Whether two user objects are one user. Nobody is somebody else. */
  isSameUser(user: unknown, other: unknown): boolean {
    return user === other || this.isUser(user, this.policy.userIdOf(other));
  }

  /** Somebody who cannot be identified is somebody else: this must not fail the login of the one who can. */
  isUser(user: unknown, userId: string): boolean {
    try {
      return Boolean(user) && this.policy.userIdOf(user) === userId;
    } catch {
      return false;
    }
  }

  /** Ends the session of a login, unless another login carries it, too. */
  takeBack(sessionId: string, loginId: string): Promise<EndedSession[]> {
    return this.end({ target: { scope: 'login', sessionId, loginId }, reason: 'logout', by: null });
  }

  /** Ends a session whose browser has lost the only credential for it. Never fails: where it cannot be ended, it expires. */
  async giveUp(sessionId: string): Promise<void> {
    await this.end({ target: { scope: 'session', sessionId }, reason: 'superseded', by: null }).catch(
      (error: Error) =>
        this.logger.warn(`The session that a browser gave up was not ended. ${error.message}`),
    );
  }

  /**
   * The session of a credential that was issued before this module watched: made at its first request, the same one
   * ever after, whatever the number of requests that bring it at once. Its row is never swept, so that it cannot come
   * back as a new one.
   */
  async adopt(secret: string, user: unknown, origin: Origin): Promise<CheckResult & { id: string }> {
    const id = idOfCredential(secret);
    const limit = await this.policy.limitAtCheck(user);
    const known = await this.verify({ id, limit });
    if (known.live || known.reason !== 'unknown') return { ...known, id };
    await this.admit({ user, origin, id, replaces: { id, user, givenUp: false } });
    return { ...(await this.verify({ id, limit })), id };
  }

  /** Whether the options allow answers from memory. */
  get remembers(): boolean {
    return this.freshness !== undefined;
  }

  /** What is remembered of the session, where the options allow an answer that old: that it is live, or nothing. Asks nobody. */
  remembered(check: Check): CheckResult | undefined {
    return this.freshness?.recall(check);
  }

  /** Whether the session is live now. A session met dead is recorded as ended before this says so, so that it stays dead when a limit is raised. */
  async verify(check: Check): Promise<CheckResult> {
    if (!isSessionId(check.id)) return UNKNOWN_SESSION;
    const result = await this.checks.verify(check);
    if (result.unseen) this.bookkeeper.seen(check.id);
    return this.recorded(check, result, this.checks);
  }

  /** As {@link verify}, of a session that nobody is using at the moment: it does not postpone the idle timeout. */
  async look(check: Check): Promise<CheckResult> {
    if (!isSessionId(check.id)) return UNKNOWN_SESSION;
    const result = await this.looks.verify(check);
    if (!result.unmarked || result.userId === null) return result;
    // Many may have ended at once, as at a cut-off: they are recorded together.
    await this.bookkeeper.markLater(result.userId);
    return this.recorded(check, await this.looks.verify(check), this.looks);
  }

  /** Whether the session is live, as far as can be told: the database is asked. */
  async isStillLive(id: string, user: unknown): Promise<boolean> {
    try {
      return (await this.verify({ id, limit: await this.policy.limitAtCheck(user) })).live;
    } catch {
      return false;
    }
  }

  /** Whether a live session is that of the user, and says of the user's roles what is true now, as far as nobody has to be asked. */
  compare(verdict: Extract<CheckResult, { live: true }>, user: unknown): 'same' | 'changed' | 'foreign' {
    const { userId, roles } = this.policy.subjectOf(user);
    if (userId !== verdict.userId) return 'foreign';
    const isSame = roles === undefined || sameRoles(rolesKey(roles), verdict.roles);
    return isSame && !verdict.administrator ? 'same' : 'changed';
  }

  /**
   * Writes down that the user has other roles now than the session says, and checks it again: a cut-off may have spared
   * it for a role that is lost.
   */
  async keepCurrent(check: Check, verdict: CheckResult, user: unknown): Promise<CheckResult> {
    const roles = this.policy.subjectOf(user).roles ?? rolesIn(verdict.roles);
    const administrator = verdict.administrator && (await this.policy.isAdministrator(user));
    if (administrator === verdict.administrator && sameRoles(rolesKey(roles), verdict.roles)) return verdict;
    await answered(this.store.refresh({ id: check.id, roles, administrator }));
    return this.verify(check);
  }

  /** As {@link Policy.fixedLimit}. */
  get fixedLimit(): number | undefined {
    return this.policy.fixedLimit;
  }

  limitAtCheck(user: unknown): number | Promise<number> {
    return this.policy.limitAtCheck(user);
  }

  /** Ends what the target says and is live. `user` is whose limit says what is live, where somebody asks in person. */
  async end(order: Omit<EndOrder, 'limit'>, user?: unknown): Promise<EndedSession[]> {
    const { target } = order;
    if (target.scope !== 'user' && !isSessionId(target.sessionId)) return [];
    const limit = await this.limitToEnd(user);
    return answered(this.store.end({ ...order, limit }));
  }

  /**
   * Ends the session, and for an enforced user all others too unless the options say otherwise. Nothing when it is dead
   * already, or not of the user when `own`: the loser harms nobody.
   */
  async logout(sessionId: string, user: unknown, own: boolean): Promise<EndedSession[]> {
    const everywhere = this.settings.logoutEverywhere && !(await this.isExempt(user));
    const userId = own ? this.policy.userIdOf(user) : undefined;
    const scope = everywhere ? 'everywhere' : 'session';
    return this.end({ target: { scope, sessionId, userId }, reason: 'logout', by: null }, user);
  }

  private async recorded(check: Check, result: CheckResult, checks: Checks): Promise<CheckResult> {
    if (!result.unmarked || result.userId === null) return result;
    await answered(this.store.markChecked(check));
    return checks.verify(check);
  }

  /** Without a result: another login of the browser was admitted a moment ago, and this one carries the same session. */
  private async admitOrShare(
    ruling: Ruling,
    login: Identified,
  ): Promise<{ id: string; result?: AdmissionResult }> {
    const { browser } = login;
    const perhaps = await this.share(browser?.perhaps ?? [], ruling, login);
    if (perhaps !== undefined) return { id: perhaps };
    const named = browser && idOfLogin(browser.secret, ruling.identity.id);
    const id = login.id ?? named ?? randomUUID();
    const result = await this.admitAs(id, ruling, login);
    if (result.outcome !== 'exists' || browser === undefined) return { id, result };
    if (await this.share([browser.secret], ruling, login)) return { id };
    // What the other login became has ended, or is older. This is a login after that.
    const another = randomUUID();
    return { id: another, result: await this.admitAs(another, ruling, login) };
  }

  private async share(
    secrets: readonly string[],
    { identity, limit }: Ruling,
    { loginId }: Identified,
  ): Promise<string | undefined> {
    if (secrets.length === 0) return undefined;
    const ids = secrets.map((secret) => idOfLogin(secret, identity.id));
    return answered(this.store.share({ ids, loginId, userId: identity.id, limit }));
  }

  private async admitAs(
    id: string,
    ruling: Ruling,
    login: Login & { loginId: string },
  ): Promise<AdmissionResult> {
    const { onLimit } = this.settings;
    const carried = login.replaces?.id;
    const replaces = isSessionId(carried) ? carried : null;
    const entitledBy = login.entitledBy ?? null;
    if (entitledBy !== null && !isSessionId(entitledBy)) throw new NotEntitledError(entitledBy);
    const { loginId, origin } = login;
    const admission = { id, loginId, ...ruling, onLimit, replaces, entitledBy, origin };
    const answer = this.store.admit(admission);
    const result = await answered(answer).catch((error: unknown) => {
      void this.takeBackLater(id, login.loginId, answer);
      throw error;
    });
    if (result.outcome !== 'no-room') return result;
    throw entitledBy === null ? new NoRoomError(ruling.limit) : new NotEntitledError(entitledBy);
  }

  // A login that was answered with an error must not come to life. Its statement may still be on its way to the database
  // after the connection is given up, so one look is not enough.
  private async takeBackLater(id: string, loginId: string, answer: Promise<unknown>): Promise<void> {
    await answer.catch(() => undefined);
    for (const wait of TAKE_BACK_AFTER_MS) {
      await pause(wait, undefined, { ref: false });
      const ended = await this.takeBack(id, loginId).catch(() => []);
      if (ended.length > 0) return;
    }
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
  private async isExempt(user: unknown): Promise<boolean> {
    if (user === undefined) return false;
    return this.policy.rule(user).then(
      ({ exempt }) => exempt,
      () => true,
    );
  }
}
