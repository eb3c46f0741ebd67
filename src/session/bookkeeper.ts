import { setImmediate } from 'node:timers';
import { answered } from './answered.js';
import { apart } from './apart.js';
import type { SessionStore } from './session-store.js';
import { A_MINUTE_MS, ThrottledLogger } from './throttled-logger.js';

const LONGEST_DELAY_MS = 1_000;

/**
 * Writes what people want to know later: why a session ended, when it was last used. It decides nothing; what it loses
 * in a crash, the next login, the next check or the sweeper writes.
 */
export class Bookkeeper {
  private readonly logger = new ThrottledLogger(A_MINUTE_MS);
  private readonly seenIds = new Set<string>();
  private seenTimer: NodeJS.Timeout | undefined;
  private readonly unmarked = new Set<string>();
  private marking: Promise<void> | undefined;
  private readonly underWay = new Set<Promise<unknown>>();

  private readonly seenDelayMs: number;

  /** `seenIntervalMs`: how often at most a session's last-seen time is written. */
  constructor(
    private readonly store: SessionStore,
    seenIntervalMs = Infinity,
  ) {
    this.seenDelayMs = Math.min(LONGEST_DELAY_MS, seenIntervalMs / 2);
  }

  /** Marks the user's dead sessions, together with those of all others of this turn. Resolves when that is done or has failed. */
  markLater(userId: string): Promise<void> {
    this.unmarked.add(userId);
    this.marking ??= apart(() =>
      this.track(new Promise((resolve) => setImmediate(() => resolve(this.writeMarks())))),
    );
    return this.marking;
  }

  /** Notes that a session was used. Written in batches, off the request's path. */
  seen(id: string): void {
    this.seenIds.add(id);
    this.seenTimer ??= apart(() =>
      setTimeout(() => void this.track(this.writeSeen()), this.seenDelayMs).unref(),
    );
  }

  /** Writes what is waiting, and waits for what is under way. */
  async close(): Promise<void> {
    clearTimeout(this.seenTimer);
    void this.track(this.writeSeen());
    await Promise.allSettled(this.underWay);
  }

  private track<Work extends Promise<unknown>>(work: Work): Work {
    this.underWay.add(work);
    const done = (): void => void this.underWay.delete(work);
    work.then(done, done);
    return work;
  }

  private async writeMarks(): Promise<void> {
    const userIds = [...this.unmarked];
    this.unmarked.clear();
    this.marking = undefined;
    await answered(this.store.markUsers(userIds)).catch((error: Error) =>
      this.logger.warn(
        'not marked',
        `Evicted sessions were not marked as ended; they are dead all the same. ${error.message}`,
      ),
    );
  }

  private async writeSeen(): Promise<void> {
    this.seenTimer = undefined;
    const ids = [...this.seenIds];
    this.seenIds.clear();
    if (ids.length === 0) return;
    await answered(this.store.seen(ids)).catch((error: Error) =>
      this.logger.warn(
        'not seen',
        `Last-seen times were not written; the next requests will try again. ${error.message}`,
      ),
    );
  }
}
