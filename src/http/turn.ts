/** Brings together what waits in the same turn of the event loop. */
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
