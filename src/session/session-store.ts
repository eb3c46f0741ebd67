import type {
  Admission,
  AdmissionResult,
  Check,
  CheckResult,
  EndedSession,
  EndedUnknown,
  EndOrder,
  RefreshOrder,
  ShareOrder,
} from './session.js';

/**
 * Where sessions live. Each method carries its whole invariant: there is no list-then-save, so that no
 * implementation can lose a race between two calls. Methods reject when the store cannot answer.
 */
export abstract class SessionStore {
  /** Stops the start, with a message that says what to write, when the store is not fit to hold the promises. */
  abstract prepare(): Promise<void>;

  /** Records a login and decides what it displaces, atomically: afterwards at most `limit` sessions of an enforced user are live. */
  abstract admit(admission: Admission): Promise<AdmissionResult>;

  /** Lets one more login carry a session of the user, if it is live: atomically, so that it is not ended meanwhile by the login that it was admitted for. Resolves to its id. */
  abstract share(order: ShareOrder): Promise<string | undefined>;

  /** Answers every check, in order, from the primary, as of a moment after the call. An Error is in the place of a session whose record cannot be read. */
  abstract verify(checks: readonly Check[]): Promise<(CheckResult | Error)[]>;

  /** Ends what the target says and is live, atomically. */
  abstract end(order: EndOrder): Promise<EndedSession[]>;

  /** Records a session as one that has ended, unless there is one of this id. Resolves to whether it did. */
  abstract recordEnded(session: EndedUnknown): Promise<boolean>;

  /** Writes reason and time on the rows of these users' dead sessions that do not say so yet. Idempotent; tells what it marked. */
  abstract markUsers(userIds: readonly string[]): Promise<EndedSession[]>;

  /** The same for one session that was checked, with the limit that it was checked against. */
  abstract markChecked(check: Check): Promise<EndedSession[]>;

  /** Writes the roles that the session's user has now. What a cut-off may spare it for can only shrink. */
  abstract refresh(order: RefreshOrder): Promise<void>;

  /** Records that these sessions were used just now, where that is due. */
  abstract seen(ids: readonly string[]): Promise<void>;

  /** Marks up to a batch of dead sessions, and removes up to a batch of those that ended longer ago than the retention. */
  abstract sweep(): Promise<Sweep>;
}

export interface Sweep {
  /** Whether there may be more to do now. */
  more: boolean;
  /** What was marked. */
  ended: EndedSession[];
}

/** The store cannot answer: neither yes nor no is known. */
export class StoreUnavailableError extends Error {
  override readonly name = 'StoreUnavailableError';
}
