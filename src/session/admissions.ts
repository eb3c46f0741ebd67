import { randomUUID } from 'node:crypto';
import { answered } from './answered.js';
import type { Bookkeeper } from './bookkeeper.js';
import type { Policy } from './policy.js';
import type { AdmissionResult, CheckResult, CurrentSession, Origin, Ruling } from './session.js';
import { idOfCredential, idOfLogin, isSessionId } from './session-id.js';
import type { SessionStore } from './session-store.js';
import type { Sessions, Unadopted } from './sessions.js';
import { rest } from './time-limit.js';

/** A login, as the outside tells it. */
export interface Login {
  user: unknown;
  origin: Origin;
  /** The session that the same client carried, if any. */
  replaces?: Replaced | undefined;
  /** What the cookie session would be adopted as in whose place the login comes. */
  before?: Unadopted | undefined;
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
  /** The client has lost its credential for it: it must end even where the login does not take its place. */
  givenUp: boolean;
}

export interface AdmissionsSettings {
  onLimit: 'evict' | 'reject';
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

const TAKE_BACK_AFTER_MS = [0, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000];

/** Turns logins into sessions: the one way in, whatever the credential. */
export class Admissions {
  constructor(
    private readonly store: SessionStore,
    private readonly policy: Policy,
    private readonly bookkeeper: Bookkeeper,
    private readonly sessions: Sessions,
    private readonly settings: AdmissionsSettings,
  ) {}

  /**
   * Records a login; the user's surplus sessions are dead when this resolves.
   * @throws NoRoomError, NotEntitledError, StoreUnavailableError, and what the application's policy functions throw; then nothing was admitted
   */
  async admit(login: Login): Promise<CurrentSession> {
    const { user, replaces, before } = login;
    const ruling = await this.policy.rule(user);
    if (before !== undefined) await this.sessions.endUnadopted(before, login.origin, 'superseded');
    const userId = ruling.identity.id;
    const { id, result } = await this.admitOrShare(ruling, { loginId: randomUUID(), ...login });
    if (result === undefined) {
      // The other login may have come with another cookie session, where an application has two, and has not ended this one.
      if (replaces?.givenUp && replaces.id !== id) void this.sessions.giveUp(replaces.id);
      return { id, userId };
    }
    const enforced = result.outcome !== 'admitted' || !result.exempt;
    const displaces = enforced || replaces !== undefined;
    if (result.outcome === 'admitted' && displaces && !result.first) void this.bookkeeper.markLater(userId);
    const replaced = enforced && this.policy.isUser(replaces?.user, userId);
    if (replaces?.givenUp && !replaced) void this.sessions.giveUp(replaces.id);
    return { id, userId };
  }

  /**
   * The session of a credential that was issued before this module watched: made at its first request, the same one
   * ever after, whatever the number of requests that bring it at once. Its row is never swept, so that it cannot come
   * back as a new one.
   */
  async adopt(secret: string, user: unknown, origin: Origin): Promise<CheckResult & { id: string }> {
    const id = idOfCredential(secret);
    const limit = await this.policy.limitAtCheck(user);
    const known = await this.sessions.verify({ id, limit });
    if (known.live || known.reason !== 'unknown') return { ...known, id };
    await this.admit({ user, origin, id });
    return { ...(await this.sessions.verify({ id, limit })), id };
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
    const answer = this.store.share({ ids, loginId, userId: identity.id, limit });
    return answered(answer).catch((error: unknown) => {
      void this.takeBackLater(ids, loginId, answer);
      throw error;
    });
  }

  private async admitAs(id: string, ruling: Ruling, login: Identified): Promise<AdmissionResult> {
    const { loginId, origin, replaces, entitledBy = null } = login;
    if (entitledBy !== null && !isSessionId(entitledBy)) throw new NotEntitledError(entitledBy);
    const answer = this.store.admit({
      ...ruling,
      id,
      loginId,
      origin,
      entitledBy,
      onLimit: this.settings.onLimit,
      replaces: isSessionId(replaces?.id) ? replaces.id : null,
    });
    const result = await answered(answer).catch((error: unknown) => {
      // The credential of an adopted session was good before, comes again, and would find its session ended for good.
      if (login.id === undefined) void this.takeBackLater([id], loginId, answer);
      throw error;
    });
    if (result.outcome === 'not-entitled') throw new NotEntitledError(entitledBy!);
    if (result.outcome !== 'no-room') return result;
    if (result.displaces) void this.bookkeeper.markLater(ruling.identity.id);
    throw new NoRoomError(ruling.limit);
  }

  // A login that was answered with an error must not come to life, nor keep alive what another click was admitted for. Its
  // statement may still be on its way to the database after the connection is given up, so one look is not enough.
  private async takeBackLater(
    ids: readonly string[],
    loginId: string,
    answer: Promise<unknown>,
  ): Promise<void> {
    await answer.catch(() => undefined);
    for (const wait of TAKE_BACK_AFTER_MS) {
      await rest(wait);
      // One after the other: a database that has just come back is asked by all logins that it failed.
      for (const id of ids) {
        const ended = await this.sessions.takeBack(id, loginId).catch(() => []);
        if (ended.length > 0) return;
      }
    }
  }
}
