import { Logger } from '@nestjs/common';
import { answered } from './answered.js';
import { apart } from './apart.js';
import type { SessionStore } from './session-store.js';
import { rest } from './time-limit.js';

const LONGEST_INTERVAL_MS = 10 * 60_000;
const SHORTEST_INTERVAL_MS = 1_000;
const PAUSE_MS = 50;

/** Removes what ended longer ago than the retention. Hygiene only: whether a session has expired is decided when it is read. */
export class Sweeper {
  private readonly logger = new Logger('SingleSession');
  private readonly intervalMs: number;
  private readonly stopping = new AbortController();
  private running: Promise<void> | undefined;
  private sweeping: Promise<void> | undefined;

  constructor(
    private readonly store: SessionStore,
    retentionMs: number,
  ) {
    this.intervalMs = Math.min(LONGEST_INTERVAL_MS, Math.max(SHORTEST_INTERVAL_MS, retentionMs / 10));
  }

  start(): void {
    this.running ??= this.run();
  }

  /** Resolves when the batch under way, if any, is done, or the store has stopped answering. */
  async stop(): Promise<void> {
    this.stopping.abort();
    await answered(Promise.all([this.running, this.sweeping])).catch(() => undefined);
  }

  /** Batch after batch, until nothing is left to sweep. */
  async sweep(): Promise<void> {
    while (!this.stopping.signal.aborted && (await this.store.sweep()).more)
      await rest(PAUSE_MS, this.stopping.signal);
  }

  /** Begins at once, in the background: a cut-off has left much to mark. A sweep that is under way may have passed it by. */
  sweepSoon(): void {
    apart(() => void Promise.resolve(this.sweeping).then(() => this.attempt()));
  }

  private async run(): Promise<void> {
    while (!this.stopping.signal.aborted) {
      // Jittered, so that processes which started together do not sweep together.
      await rest(this.intervalMs * (0.5 + Math.random()), this.stopping.signal);
      await this.attempt();
    }
  }

  private attempt(): Promise<void> {
    this.sweeping ??= this.sweep()
      .catch((error: Error) => this.logger.warn(`Sweeping failed and will be tried again: ${error.message}`))
      .finally(() => (this.sweeping = undefined));
    return this.sweeping;
  }
}
