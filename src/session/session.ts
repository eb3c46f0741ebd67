import type { Identity } from './identity.js';

/** In the database and in answers, too. */
export const END_REASONS = [
  'superseded',
  'logout',
  'logout-everywhere',
  'admin',
  'cut-off',
  'expired',
  'idle',
  'unknown',
] as const;
/**
 * Why a session ended: `superseded` (a newer login took its place, or a login that failed took its cookie), `logout` (its
 * own), `logout-everywhere` (a logout elsewhere that ended all of the user's), `admin` (an administrator, or the
 * application's code), `cut-off` (everyone was logged out), `expired` (`maxAge`), `idle` (`idleTimeout`), `unknown` (there is
 * no such session, or it is somebody else's).
 */
export type EndReason = (typeof END_REASONS)[number];

export const isEndReason = (value: unknown): value is EndReason => END_REASONS.includes(value as EndReason);

/** How a session came to its end. */
export interface SessionEnd {
  reason: EndReason;
  /** `null` for a session that nobody knows, and for one that is over only by the limit that the watch asked for. */
  endedAt: Date | null;
}

/** The session of the present request. The id is public: it opens nothing. */
export interface CurrentSession {
  id: string;
  userId: string;
}

/** Where a login came from, for people to recognise it. Never used for a decision. */
export interface Origin {
  /** A textual IP address, or `null` when unknown. */
  ip: string | null;
  userAgent: string | null;
}

/** What applies to one user at one moment. */
export interface Ruling {
  identity: Identity;
  /** How many live sessions the user may have; not looked at when `exempt`. */
  limit: number;
  /** Recorded, never evicted, never evicting. */
  exempt: boolean;
  /** By a function or by a role. */
  administrator: boolean;
}

/** A login, with everything that decides its admission. */
export interface Admission extends Ruling {
  id: string;
  /** Of the login: by it, the login can be taken back, and nothing else. */
  loginId: string;
  onLimit: 'evict' | 'reject';
  /** The session that the same browser carried: its place becomes free first. `null` when there was none. */
  replaces: string | null;
  /** The session that was taken in place of a password: it must be live at the moment of the admission. */
  entitledBy: string | null;
  origin: Origin;
}

/** `not-entitled`: what was taken in place of a password is not live, or not the user's. `exists`: the id is taken. */
export type AdmissionResult = Admitted | Refused | { outcome: 'not-entitled' | 'exists' };

export interface Refused {
  outcome: 'no-room';
  /** What was opened under an exemption that has ended since is dead now. */
  displaces?: boolean;
}

export interface Admitted {
  outcome: 'admitted';
  /** The user never had a session before, so there is nothing to mark. */
  first: boolean;
  /** By the admission's own word, or by an exemption that was made at run time. */
  exempt: boolean;
  /** Enforced logins of the user in the present window, this one included. */
  logins: number;
}

/** A question to the store: is this session live, and among the first `limit` of its user? */
export interface Check {
  id: string;
  limit: number;
  /** Nobody is there: a page asks on its own, and that is no use of the session. */
  isAbsent?: boolean;
}

/** Whether a session is live, and whose it is; of one that is not, why and since when. */
export type Verdict =
  | { live: true; userId: string }
  /** `endedAt` is `null` for a session that nobody knows. */
  | { live: false; reason: EndReason; endedAt: Date | null; userId: string | null };

/** A verdict with what the bookkeeping wants to know. */
export type CheckResult = Verdict & {
  /** Dead, and its row does not say so yet. */
  unmarked: boolean;
  /** Live, and its last-seen time is due. */
  unseen: boolean;
  /** As the session's row has them: {@link rolesKey}. */
  roles: string;
  /** The user was an administrator at the login and ever since, by a function or by a role. */
  administrator: boolean;
};

export type LiveResult = Extract<CheckResult, { live: true }>;

/** The answer about a session that nobody knows. */
export const UNKNOWN_SESSION: CheckResult = Object.freeze({
  live: false,
  reason: 'unknown',
  endedAt: null,
  userId: null,
  unmarked: false,
  unseen: false,
  roles: '',
  administrator: false,
});

/**
 * Within this time, in milliseconds, two logins of one browser are one, as after a double click. Longer, and a copy of its
 * cookie elsewhere would hold a second place.
 */
export const A_MOMENT_MS = 10_000;

/** Another login of the same browser is to carry this session, too, if it was admitted within {@link A_MOMENT_MS}. */
export interface ShareOrder {
  /** The ids that the session may have: one for each secret that the other login may have come with. */
  ids: readonly string[];
  loginId: string;
  userId: string;
  limit: number;
}

/** A session that nobody knows, to be known as ended. */
export interface EndedUnknown {
  id: string;
  identity: Identity;
  origin: Origin;
  reason: EndReason;
}

/** What a session's user is now. */
export interface RefreshOrder {
  id: string;
  roles: readonly string[];
  /** By a function or by a role. */
  administrator: boolean;
  /** One of the roles makes an administrator. */
  protected: boolean;
}

/** Which sessions to end. A `userId` beside a session: nothing when the session is somebody else's. */
export type EndTarget =
  /** This one, if it is live. */
  | { scope: 'session'; sessionId: string; userId?: string }
  /** This one, unless another login carries it, too; nothing when this login does not. */
  | { scope: 'login'; sessionId: string; loginId: string; userId?: string }
  /**
   * This one and, when it was not admitted as exempt and its user is not now, all others of its user; nothing when it is dead
   * already. `roles`: what the user has now. Default: what the session says.
   */
  | { scope: 'everywhere'; sessionId: string; userId?: string; roles?: readonly string[] }
  /** All others of its user; nothing when it is dead already. */
  | { scope: 'others'; sessionId: string; userId: string }
  /** All of a user. */
  | { scope: 'user'; userId: string };

export interface EndOrder {
  target: EndTarget;
  reason: EndReason;
  /** Who ended it, for the record: a username, not a credential. */
  by: string | null;
  /** How many of the user's sessions are live: what is beyond is dead, and ends no others. */
  limit: number;
}

/** A session that a statement of this process ended or found ended. */
export interface EndedSession {
  id: string;
  userId: string;
  username: string;
  reason: EndReason;
  endedAt: Date;
  /** A username; `null` when nobody in particular ended it. */
  by: string | null;
  /** Of one that was superseded: the login of the same browser that took its place, else the user's newest live session then. */
  replacedBy: string | null;
}
