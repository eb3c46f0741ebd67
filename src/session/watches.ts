import { AsyncResource } from 'node:async_hooks';
import { Observable, ReplaySubject, Subscription, type Subscriber } from 'rxjs';
import { ANSWER_WITHIN_MS } from './answered.js';
import { apart } from './apart.js';
import type { SingleSessionEvents } from './events.js';
import type { Policy } from './policy.js';
import type { CheckResult, SessionEnd } from './session.js';
import type { Sessions } from './sessions.js';
import type { Changes } from './signal.js';
import { within } from './time-limit.js';
import { topicOf } from './verdicts.js';
import { WatchedSessions, type Watched } from './watched-sessions.js';

/** What is open and belongs to a session. */
export interface WatchedSession {
  id: string;
  /** Whose limit says what is live, where `maxSessions` is a function. As it was when the watch began. */
  user?: unknown;
  /** If known. */
  userId?: string | undefined;
}

export interface WatchesSettings {
  /** How long after a look the next one begins, at the latest. */
  everyMs: number;
  /** What other processes change, where that is heard. */
  changes?: Observable<Changes> | undefined;
}

/** For how long at most something stays open whose session cannot be verified. */
export const UNVERIFIED_FOR_MS = 30_000;

const noLimit = (): Error => new Error(`maxSessions() gave no limit within ${ANSWER_WITHIN_MS} ms`);

/**
 * Tells what is open, a stream or a socket, that its session has ended. Of what this process ends it learns at once; of
 * what others end, by looking again: when a change of the session's user is heard, and every so often in any case, since
 * a notification may be lost and nobody tells when a session expires. While nothing is watched, nothing is asked.
 *
 * To look is not to use: an open page is nobody at the keyboard, and does not postpone the idle timeout.
 */
export class Watches {
  private readonly watched = new WatchedSessions();
  private readonly sources = new Subscription();
  private readonly closing = new ReplaySubject<void>();
  private timer: NodeJS.Timeout | undefined;
  private round: Promise<unknown> | undefined;
  private isClosed = false;

  /** Emits once, when the application closes. */
  readonly closed: Observable<void> = this.closing.asObservable();

  constructor(
    private readonly sessions: Pick<Sessions, 'look'>,
    private readonly policy: Pick<Policy, 'limitAtCheck'>,
    events: SingleSessionEvents,
    private readonly settings: WatchesSettings,
  ) {
    this.sources.add(
      events.on('ended').subscribe(({ sessionId, reason, at }) => {
        const watched = this.watched.get(sessionId);
        if (watched !== undefined) this.tell(watched, { reason, endedAt: at });
      }),
    );
    this.sources.add(events.on('admitted').subscribe(({ userId }) => this.lookAtTopics([topicOf(userId)])));
    this.sources.add(events.on('cut-off').subscribe(() => this.lookAtAll()));
    this.sources.add(settings.changes?.subscribe((changes) => this.heard(changes)));
  }

  /**
   * Emits the end of the session once, at once if it has ended already, and completes. Fails when the session cannot be
   * verified at the beginning, or for longer than {@link UNVERIFIED_FOR_MS}. Completes without an end when the application
   * closes.
   */
  whenEnded(session: WatchedSession): Observable<SessionEnd> {
    return new Observable((subscriber) => {
      if (this.isClosed) return subscriber.complete();
      // Before the look, so that no end falls between the two.
      const context = new AsyncResource('SingleSession');
      const watched = this.watch(session, context);
      watched.subscribers.set(subscriber, context);
      subscriber.add(() => this.leave(watched, subscriber));
      void this.lookAt(watched);
    });
  }

  close(): void {
    this.isClosed = true;
    this.sources.unsubscribe();
    clearTimeout(this.timer);
    for (const watched of this.watched.all) this.dismiss(watched, (subscriber) => subscriber.complete());
    this.closing.next();
    this.closing.complete();
  }

  private watch({ id: given, user, userId }: WatchedSession, context: AsyncResource): Watched {
    const id = given.toLowerCase();
    const topic = userId === undefined ? undefined : topicOf(userId);
    const watched = this.watched.get(id) ?? this.watched.add({ id, user, context, topic });
    if (user) Object.assign(watched, { user, context });
    this.lookLater();
    return watched;
  }

  private leave(watched: Watched, subscriber: Subscriber<SessionEnd>): void {
    watched.subscribers.delete(subscriber);
    if (watched.subscribers.size === 0) this.watched.remove(watched);
  }

  private heard(changes: Changes): void {
    if (changes === 'everything') this.lookAtAll();
    else this.lookAtTopics(changes);
  }

  private lookAtTopics(topics: Iterable<number>): void {
    for (const watched of this.watched.of(topics)) void this.lookAt(watched);
  }

  private lookAtAll(): void {
    for (const watched of this.watched.all) void this.lookAt(watched);
  }

  private lookLater(afterMs = this.settings.everyMs): void {
    if (this.round !== undefined || this.watched.isEmpty) return;
    this.timer ??= apart(() => setTimeout(() => void this.lookAround(), afterMs).unref());
  }

  // One round at a time, however long the store takes.
  private async lookAround(): Promise<void> {
    this.timer = undefined;
    const startedAt = performance.now();
    this.round = Promise.all(this.watched.all.map((watched) => this.lookAt(watched)));
    await this.round;
    this.round = undefined;
    this.lookLater(Math.max(0, this.settings.everyMs - (performance.now() - startedAt)));
  }

  /**
   * Resolves when it has been looked at by a look that began after this; never fails. A look that is under way may have
   * missed what this is for, so one more follows it, for all that ask meanwhile: changes may come by thousands.
   */
  private lookAt(watched: Watched): Promise<void> {
    if (watched.looking === undefined)
      return (watched.looking = apart(() => this.look(watched)).finally(() => (watched.looking = undefined)));
    return (watched.lookingAgain ??= watched.looking.then(() => {
      watched.lookingAgain = undefined;
      return this.watched.has(watched) ? this.lookAt(watched) : undefined;
    }));
  }

  private async look(watched: Watched): Promise<void> {
    const { id } = watched;
    const lookedAt = performance.now();
    try {
      const limit = await this.limitOf(watched);
      this.learn(watched, await this.sessions.look({ id, limit }), lookedAt);
    } catch (error) {
      if (performance.now() - watched.liveAt > UNVERIFIED_FOR_MS)
        this.dismiss(watched, (subscriber) => subscriber.error(error));
    }
  }

  /** In time also where the application never says: others wait for the end of the round. */
  private limitOf({ user, context }: Watched): number | Promise<number> {
    const limit = context.runInAsyncScope(() => this.policy.limitAtCheck(user));
    return typeof limit === 'number' ? limit : within(ANSWER_WITHIN_MS, limit, noLimit);
  }

  private learn(watched: Watched, result: CheckResult, lookedAt: number): void {
    if (!this.watched.has(watched)) return;
    if (!result.live) return this.tell(watched, result);
    watched.liveAt = lookedAt;
    this.watched.move(watched, topicOf(result.userId));
  }

  private tell(watched: Watched, { reason, endedAt }: SessionEnd): void {
    this.dismiss(watched, (subscriber) => {
      subscriber.next({ reason, endedAt });
      subscriber.complete();
    });
  }

  private dismiss(watched: Watched, say: (subscriber: Subscriber<SessionEnd>) => void): void {
    this.watched.remove(watched);
    for (const [subscriber, context] of watched.subscribers) context.runInAsyncScope(() => say(subscriber));
  }
}
