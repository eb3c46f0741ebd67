import { Logger } from '@nestjs/common';

export const A_MINUTE_MS = 60_000;

/**
 * A log that does not repeat itself: for what would otherwise be said at every request as long as a fault lasts, and for
 * hints to the developer about requests that are refused, of which one is enough.
 */
export class ThrottledLogger {
  private readonly logger = new Logger('SingleSession');
  private readonly quietUntil = new Map<string, number>();

  /** `everyMs`: how often at most each is said, in milliseconds. Default: once. */
  constructor(private readonly everyMs = Infinity) {}

  /** `what`: names what it is about. What has the same name counts as said before, whatever the text. */
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
