import { setImmediate } from 'node:timers';

/**
 * Brings together what waits in the same turn of the event loop. (By an immediate of Node's own, as wherever a request or
 * the application's end waits for one: that of `globalThis` may be one that a test has stopped.)
 */
export class Turn {
  private over: Promise<void> | undefined;

  /** Resolves after the poll phase, in which all requests of this turn arrive: for all who wait, one right after the other. */
  end(): Promise<void> {
    this.over ??= new Promise((resolve) =>
      setImmediate(() => {
        this.over = undefined;
        resolve();
      }),
    );
    return this.over;
  }
}
