import { filter, Subject, type Observable } from 'rxjs';
import type { EndedSession, EndReason } from './session.js';

/** A login was admitted. Emitted by the process that admitted it. */
export interface AdmittedEvent {
  type: 'admitted';
  at: Date;
  sessionId: string;
  userId: string;
  username: string;
  roles: readonly string[];
  /** The limit does not apply to this session. */
  exempt: boolean;
  ip: string | null;
  userAgent: string | null;
}

/** Who is behind the end of a session: the values of `initiating_entity` in OpenID CAEP 1.0, section 2. */
export type Initiator = 'admin' | 'user' | 'policy' | 'system';

/** A session ended. Emitted once in the cluster, by the process that recorded it; for expired ones that is the sweeper, some minutes later. */
export interface EndedEvent {
  type: 'ended';
  /** When it ended. */
  at: Date;
  sessionId: string;
  userId: string;
  username: string;
  reason: EndReason;
  initiatedBy: Initiator;
  /** A username; `null` when nobody in particular ended it. */
  by: string | null;
  /** The id of the newer session that took its place; `null` for every other reason than `superseded`, and where none did. */
  replacedBy: string | null;
}

/** A login was refused with 409: `onLimit` is `'reject'` and there was no room. */
export interface LimitReachedEvent {
  type: 'limit-reached';
  at: Date;
  userId: string;
  username: string;
  /** The limit of this user. */
  maxSessions: number;
  ip: string | null;
  userAgent: string | null;
}

/** Whom "log out everyone except ..." spares. */
export interface Spared {
  /** Sessions of administrators. */
  administrators: boolean;
  roles: readonly string[];
  usernames: readonly string[];
  userIds: readonly string[];
}

/** Everyone was logged out, except those that are spared. An `ended` event for each session follows as they are recorded. */
export interface CutOffEvent {
  type: 'cut-off';
  at: Date;
  /** A username; `null` when nobody in particular did it. */
  by: string | null;
  note: string | null;
  except: Spared;
}

/** An exemption was added or removed at run time. */
export interface ExemptionChangedEvent {
  type: 'exemption-changed';
  at: Date;
  change: 'added' | 'removed';
  kind: 'username' | 'role';
  /** The username or the role. */
  value: string;
  /** A username; `null` when nobody in particular did it. */
  by: string | null;
}

/** One account signs in so often that its sessions replace each other. Once for each window in the cluster. */
export interface StormEvent {
  type: 'storm';
  at: Date;
  userId: string;
  username: string;
  /** Logins in the window so far. */
  logins: number;
  /** The length of the window, in milliseconds. */
  windowMs: number;
}

/** Every event, told apart by its `type`. */
export type SingleSessionEvent =
  AdmittedEvent | EndedEvent | LimitReachedEvent | CutOffEvent | ExemptionChangedEvent | StormEvent;

type EventOf<Type extends SingleSessionEvent['type']> = Extract<SingleSessionEvent, { type: Type }>;

const INITIATORS: Record<EndReason, Initiator> = {
  superseded: 'policy',
  logout: 'user',
  'logout-everywhere': 'user',
  admin: 'admin',
  'cut-off': 'admin',
  expired: 'policy',
  idle: 'policy',
  unknown: 'system',
};

/** What happens to sessions, as this process sees it. Nothing in an event can be used as a session. */
export class SingleSessionEvents {
  private readonly subject = new Subject<SingleSessionEvent>();

  /** Every event. Never fails; completes when the application closes. */
  readonly all: Observable<SingleSessionEvent> = this.subject.asObservable();

  /** The events of one type. */
  on<Type extends SingleSessionEvent['type']>(type: Type): Observable<EventOf<Type>> {
    return this.all.pipe(filter((event): event is EventOf<Type> => event.type === type));
  }

  /** For this package: tells the subscribers. */
  emit(event: SingleSessionEvent): void {
    this.subject.next(event);
  }

  /** For this package: tells of sessions that a statement of this process marked as ended. */
  emitEnded(sessions: readonly EndedSession[]): void {
    for (const { id, userId, username, reason, endedAt, by, replacedBy } of sessions)
      this.emit({
        type: 'ended',
        at: endedAt,
        sessionId: id,
        userId,
        username,
        reason,
        initiatedBy: INITIATORS[reason],
        by,
        replacedBy,
      });
  }

  /** For this package: no event comes any more. */
  close(): void {
    this.subject.complete();
  }
}
