import type { Spared } from './events.js';
import type { ExemptionKey } from './policy.js';
import type { EndedSession, EndReason } from './session.js';

/** Who does something, for the record. */
export interface Signature {
  /** A username; `null` when the application's own code does it. */
  by: string | null;
  ip: string | null;
  note: string | null;
}

/** Whose sessions an administrator ends. */
export interface EndUsersOrder {
  userIds: readonly string[];
  /** Of users with a session under this name. */
  usernames: readonly string[];
  /** Only this one of its user. */
  sessionId: string | null;
  /** Leaves users alone that have an administrator's session. */
  protect: boolean;
  /** Only tells what would end. */
  dryRun: boolean;
  signature: Signature;
}

export interface EndUsersResult {
  ended: EndedSession[];
  /** How many sessions were live and are dead now (or would be), and of how many users. */
  count: number;
  users: number;
  /** Who was meant, by what, and whether left alone for being an administrator. */
  found: { userId: string; username: string | null; ended: boolean; protected: boolean }[];
}

export interface CutOffOrder {
  spared: Spared;
  signature: Signature;
  /** What the record shows of it. */
  target: object;
}

/** A cut-off that is committed: what it covers is dead. */
export interface CutOff {
  id: string;
  at: Date;
  actionId: string;
}

export interface CutOffCounts {
  ended: number;
  users: number;
  spared: number;
}

type SessionState = 'active' | 'ended';

/** Which page of a list. */
export interface PageQuery {
  /** How many at most. `SingleSessionService.list()`: default 50. */
  limit: number;
  /** The `nextCursor` of the page before. Default: the first page. */
  cursor?: string | undefined;
}

/** Which sessions to list. What is left out does not narrow the list. */
export interface ListQuery extends PageQuery {
  userId?: string | undefined;
  /** The name at the login, compared exactly. */
  username?: string | undefined;
  /** One of the roles at the latest request. */
  role?: string | undefined;
  /** `SingleSessionService.list()`: default `'active'`. */
  state: SessionState | 'all';
}

/** A session as administrators see it. */
export interface ListedSession {
  id: string;
  userId: string;
  username: string;
  roles: string[];
  createdAt: Date;
  /** May be older than the last request: by a minute, or a quarter of `idleTimeout` if that is shorter; with bounded freshness by `maxStalenessMs` more. */
  lastSeenAt: Date;
  expiresAt: Date;
  ip: string | null;
  userAgent: string | null;
  /** Admitted while the limit did not apply to the user. */
  exempt: boolean;
  state: SessionState;
  /** `null` while it is active. */
  endReason: EndReason | null;
  endedAt: Date | null;
  /** A username; `null` when nobody in particular ended it. */
  endedBy: string | null;
}

/** A page of a list. */
export interface Page<Item> {
  items: Item[];
  /** `null` on the last page. */
  nextCursor: string | null;
}

export interface Summary {
  activeSessions: number;
  activeUsers: number;
  /** Users with an administrator's session. */
  administrators: number;
  exemptSessions: number;
  storms: { userId: string; username: string | null; logins: number; windowMs: number }[];
}

export interface Exemption extends ExemptionKey {
  note: string | null;
  addedBy: string | null;
  addedAt: Date | null;
  /** `null`: until it is removed. */
  expiresAt: Date | null;
}

/** One line of the record. */
export interface RecordedAction {
  id: string;
  at: Date;
  by: string | null;
  ip: string | null;
  action: 'end-session' | 'logout' | 'logout-everyone' | 'add-exemption' | 'remove-exemption';
  /** `null` where nothing was to end, or it could not be counted. */
  ended: number | null;
  users: number | null;
  note: string | null;
  target: object | null;
}

/** A cursor that none of our answers gave. */
export class CursorError extends Error {
  override readonly name = 'CursorError';
}

/** What administrators ask of the store. Each writing method is one statement and records itself. */
export abstract class AdministrationStore {
  /** Ends all sessions of these users, or one session, atomically, administrators left alone if so ordered. */
  abstract endUsers(order: EndUsersOrder): Promise<EndUsersResult>;

  /** Ends everything that was admitted before it and is not spared: one row, whatever the number of sessions. */
  abstract cutOff(order: CutOffOrder): Promise<CutOff>;

  /** Counts what a cut-off ended and spared; without one, what it would. Reads all live sessions. */
  abstract countCutOff(spared: Spared, cutOff: CutOff | undefined): Promise<CutOffCounts>;

  /**
   * Newest first.
   * @throws CursorError at once, before anything is asked: a promise that fails would be a store that cannot answer
   */
  abstract list(query: ListQuery): Promise<Page<ListedSession>>;

  abstract summary(): Promise<Summary>;

  /** The latest session under this name. */
  abstract latestOf(username: string): Promise<{ userId: string; roles: string[] } | undefined>;

  /** Exemptions made at run time that have not expired. */
  abstract exemptions(): Promise<Exemption[]>;

  /** The same, of those that apply to this user. */
  abstract exemptionsOf(user: { username: string; roles: readonly string[] }): Promise<Exemption[]>;

  abstract addExemption(
    exemption: ExemptionKey & { expiresAt: Date | null },
    signature: Signature,
  ): Promise<Exemption>;

  /** Whether there was one. */
  abstract removeExemption(exemption: ExemptionKey, signature: Signature): Promise<boolean>;

  /** As {@link list}. */
  abstract actions(query: PageQuery): Promise<Page<RecordedAction>>;
}
