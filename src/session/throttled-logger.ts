import { Logger } from '@nestjs/common';

export const A_MINUTE_MS = 60_000;

/**
 * The log, for what would be said at every request while it lasts and would bury the rest. What the client is not told,
 * since it cannot mend it, is said here, too, and once is enough.
 */
export class ThrottledLogger {
  private readonly logger = new Logger('SingleSession');
  private readonly quietUntil = new Map<string, number>();

  /** `everyMs`: how often at most each is said, in milliseconds. Default: once. */
  constructor(private readonly everyMs = Infinity) {}

  /** `what`: by which it is the same as before, whatever the text. */
  warn(what: string, text: string): void {
    if (this.isDue(what)) this.logger.warn(text);
  }

  error(what: string, text: string): void {
    if (this.isDue(what)) this.logger.error(text);
  }

  private isDue(what: string): boolean {
    const now = performance.now();
    if (now < (this.quietUntil.get(what) ?? -Infinity)) return false;
    this.quietUntil.set(what, now + this.everyMs);
    return true;
  }
}
