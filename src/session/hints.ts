import { Logger } from '@nestjs/common';

/** What the client is not told, since it cannot mend it: where something is not wired, only the log can say so. Each once. */
export class Hints {
  private readonly logger = new Logger('SingleSession');
  private readonly given = new Set<string>();

  give(what: string, text: string): void {
    if (this.given.has(what)) return;
    this.given.add(what);
    this.logger.warn(text);
  }
}
