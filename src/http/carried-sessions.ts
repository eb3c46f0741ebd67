import type { Browser, Replaced } from '../session/admissions.js';
import { A_MOMENT_MS } from '../session/session.js';

/**
 * Which session a browser carried before a login that has just begun. The login takes away the cookie session that said so,
 * and another click of the same browser, which still sends the cookie of that, finds nothing there.
 */
export class CarriedSessions {
  private readonly bySecret = new Map<string, Replaced>();

  /** What the browser with this secret carries. To be called before its cookie session is gone. */
  remember(secret: string, carried: Replaced): void {
    this.bySecret.set(secret, carried);
    const forget = (): unknown => this.bySecret.get(secret) === carried && this.bySecret.delete(secret);
    setTimeout(forget, A_MOMENT_MS).unref();
  }

  /** What the browser carried before a login of it that began a moment ago. */
  by(browser: Browser | undefined): Replaced | undefined {
    return browser && this.bySecret.get(browser.secret);
  }
}
