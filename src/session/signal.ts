/**
 * Which users' sessions changed, as topics: numbers that many users share, so that they are small, bounded in number and
 * tell nothing about anybody. Or: everything may have changed.
 */
export type Changes = ReadonlySet<number> | 'everything';

/** Who wants to know what other processes change. */
export interface SignalListener {
  /** From now on changes are heard; of those before, any may have been missed. */
  hearing(): void;
  /** The way on which changes are heard has answered a question that was sent at this `performance.now()`. */
  proven(sentAt: number): void;
  heard(changes: Changes): void;
  /** Changes are not heard any more, until {@link hearing}. */
  deaf(): void;
}

/**
 * How processes tell each other that they ended something. A nudge, no more: what is lost costs latency and never
 * correctness, so it may be sent after the commit and need not be stored anywhere.
 */
export abstract class Signal {
  /** Begins to listen. Resolves when changes are heard, when it is sure that they never will be, or after a while; never fails. */
  abstract start(listener: SignalListener): Promise<void>;

  /** Tells the other processes. Never fails. */
  abstract tell(changes: Changes): Promise<void>;

  /** Stops listening; telling still works. */
  abstract stop(): Promise<void>;
}
