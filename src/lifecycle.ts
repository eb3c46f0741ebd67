import { Logger } from '@nestjs/common';
import type { PlatformCheck } from './http/platform.check.js';
import type { Bookkeeper } from './session/bookkeeper.js';
import type { SingleSessionEvents } from './session/events.js';
import type { Freshness } from './session/freshness.js';
import type { SessionStore } from './session/session-store.js';
import type { Sessions } from './session/sessions.js';
import type { Sweeper } from './session/sweeper.js';
import type { Watches } from './session/watches.js';
import type { ResolvedExtras } from './single-session.extras.js';
import { DEFAULT_MAX_AGE, type ResolvedOptions } from './single-session.options.js';

/** What begins with the application and ends with it, in this order. */
export class Lifecycle {
  private readonly logger = new Logger('SingleSession');

  constructor(
    private readonly options: ResolvedOptions,
    private readonly extras: ResolvedExtras,
    private readonly platformCheck: PlatformCheck,
    private readonly store: SessionStore,
    private readonly freshness: Freshness | undefined,
    private readonly sweeper: Sweeper,
    private readonly watches: Watches,
    private readonly sessions: Sessions,
    private readonly bookkeeper: Bookkeeper,
    private readonly events: SingleSessionEvents,
  ) {}

  /** Stops the start when the application is not fit to hold the limit. */
  async begin(): Promise<void> {
    await this.platformCheck.run(this.extras.enforceGlobally);
    this.warnOfLockOut();
    this.warnOfNoAdministrators();
    await this.store.prepare();
    await this.freshness?.start();
    this.sweeper.start();
  }

  private warnOfLockOut(): void {
    const { onLimit, idleTimeout, maxAge } = this.options;
    if (onLimit !== 'reject' || idleTimeout !== undefined || maxAge < DEFAULT_MAX_AGE) return;
    this.logger.warn(
      "onLimit: 'reject' without idleTimeout: a user who closes the browser, or whose token expires, cannot sign in again for " +
        `${Math.round(maxAge / 86_400_000)} days. Set idleTimeout, or a maxAge as long as your cookies or tokens live.`,
    );
  }

  private warnOfNoAdministrators(): void {
    const { admin } = this.extras;
    if (admin === undefined || admin.isMounted) return;
    this.logger.warn(
      `admin names nobody who may use it, so nothing is mounted at ${admin.path}. Write admin: { roles: ['admin'] }.`,
    );
  }

  /** Ends what waits and what listens. */
  async end(): Promise<void> {
    this.watches.close();
    await Promise.all([this.sweeper.stop(), this.bookkeeper.close()]);
    await this.freshness?.stop();
  }

  /**
   * Not earlier: until now there were requests to answer. What they did is told, and written down unless the data source
   * is gone already, as it is where TypeOrmModule is imported after this module.
   */
  async afterLastAnswer(): Promise<void> {
    this.sessions.close();
    await this.bookkeeper.close();
    this.events.close();
  }
}
