import { apart } from './apart.js';
import { rest } from './time-limit.js';

const SHORTEST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 30_000;
/** What more of them leave behind expires. */
const MOST = 10_000;

interface UnfinishedEnd {
  sessionId: string;
  end: () => Promise<unknown>;
}

/**
 * Ends of sessions that nobody holds a credential for any more, which the store could not carry out: each is tried again
 * until it does, or the process stops. Without that such a session keeps its place until it expires, and with
 * `onLimit: 'reject'` its user is locked out. One after the other, for a store that has just come back is asked by all
 * that it failed.
 */
export class UnfinishedEnds {
  private readonly waiting = new Set<UnfinishedEnd>();
  private isWorking = false;
  private isClosed = false;

  add(unfinished: UnfinishedEnd): void {
    if (this.isClosed) return;
    if (this.waiting.size < MOST) this.waiting.add(unfinished);
    if (!this.isWorking) void apart(() => this.work());
  }

  has(sessionId: string): boolean {
    return [...this.waiting].some((unfinished) => unfinished.sessionId === sessionId);
  }

  /** What waits, and what comes later, expires: the data source is gone. */
  close(): void {
    this.isClosed = true;
    this.waiting.clear();
  }

  private async work(): Promise<void> {
    this.isWorking = true;
    for (
      let pause = SHORTEST_PAUSE_MS;
      this.waiting.size > 0;
      pause = Math.min(2 * pause, LONGEST_PAUSE_MS)
    ) {
      await rest(pause);
      await this.tryAll();
    }
    this.isWorking = false;
  }

  /** The first that fails is tried last the next time, so that one that always fails holds up no other. */
  private async tryAll(): Promise<void> {
    for (const unfinished of this.waiting) {
      const isDone = await unfinished.end().then(
        () => true,
        () => false,
      );
      const isStillAsked = this.waiting.delete(unfinished);
      if (!isDone) return void (isStillAsked && this.waiting.add(unfinished));
    }
  }
}
