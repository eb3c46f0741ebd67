import {
  Inject,
  Logger,
  Module,
  type DynamicModule,
  type OnApplicationBootstrap,
  type OnApplicationShutdown,
  type OnModuleDestroy,
  type Type,
} from '@nestjs/common';
import { DiscoveryModule } from '@nestjs/core';
import { TypeOrmModule } from '@nestjs/typeorm';
import { adminController } from './admin/admin.controller.js';
import { pageController } from './admin/page.controller.js';
import { selfServiceController } from './admin/self-service.controller.js';
import { BackstopModule } from './http/backstop.js';
import { PlatformCheck } from './http/platform.check.js';
import { SingleSessionLoginInterceptor } from './http/login.interceptor.js';
import { Logins } from './http/logins.js';
import { SingleSessionLogoutInterceptor } from './http/logout.interceptor.js';
import { RequestCheck } from './http/request-check.js';
import { SingleSessionGuard } from './http/single-session.guard.js';
import { SingleSessionService } from './http/single-session.service.js';
import { Bookkeeper } from './session/bookkeeper.js';
import { SingleSessionEvents } from './session/events.js';
import { Freshness } from './session/freshness.js';
import { SessionStore } from './session/session-store.js';
import { Sessions } from './session/sessions.js';
import { Sweeper } from './session/sweeper.js';
import { Watches } from './session/watches.js';
import {
  ASYNC_OPTIONS_TYPE,
  ConfigurableModuleClass,
  OPTIONS_TYPE,
} from './single-session.module-definition.js';
import {
  checkAsyncKeys,
  EXTRAS,
  hasAdministrators,
  resolveExtras,
  type ResolvedExtras,
  type SingleSessionModuleExtras,
} from './single-session.extras.js';
import { DEFAULT_MAX_AGE, resolveOptions, type ResolvedOptions } from './single-session.options.js';
import { providersOf, RESOLVED_EXTRAS, RESOLVED_OPTIONS } from './single-session.providers.js';
import { singleSessionEntities } from './typeorm/check-schema.js';

/**
 * Limits how many sessions a user may have at once. A login that is admitted evicts the user's older sessions; the
 * guard refuses an evicted session on its next request and says why.
 */
@Module({})
export class SingleSessionModule
  extends ConfigurableModuleClass
  implements OnApplicationBootstrap, OnModuleDestroy, OnApplicationShutdown
{
  constructor(
    @Inject(SessionStore) private readonly store: SessionStore,
    @Inject(Bookkeeper) private readonly bookkeeper: Bookkeeper,
    @Inject(Sweeper) private readonly sweeper: Sweeper,
    @Inject(RESOLVED_OPTIONS) private readonly options: ResolvedOptions,
    @Inject(PlatformCheck) private readonly platformCheck: PlatformCheck,
    @Inject(SingleSessionEvents) private readonly events: SingleSessionEvents,
    @Inject(RESOLVED_EXTRAS) private readonly extras: ResolvedExtras,
    @Inject(Freshness) private readonly freshness: Freshness | undefined,
    @Inject(Watches) private readonly watches: Watches,
  ) {
    super();
  }

  /** @throws Error that says what to write, for options that are wrong */
  static override forRoot(options: typeof OPTIONS_TYPE = {}): DynamicModule {
    resolveOptions(options, EXTRAS);
    return compose(super.forRoot(options), options);
  }

  /** Like {@link forRoot}, with the options from a factory; what shapes the module stands beside it: {@link SingleSessionModuleExtras}. */
  static override forRootAsync(options: typeof ASYNC_OPTIONS_TYPE): DynamicModule {
    checkAsyncKeys(options);
    return compose(super.forRootAsync(options), options);
  }

  /** Stops the start when the application is not fit to hold the limit. */
  async onApplicationBootstrap(): Promise<void> {
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
    new Logger('SingleSession').warn(
      "onLimit: 'reject' without idleTimeout: who closes the browser, or whose token runs out, cannot sign in again for " +
        `${Math.round(maxAge / 86_400_000)} days. Give idleTimeout, or a maxAge as long as your cookies or tokens live.`,
    );
  }

  private warnOfNoAdministrators(): void {
    const { admin } = this.extras;
    if (admin === undefined || hasAdministrators(admin)) return;
    new Logger('SingleSession').warn(
      `admin names nobody who may use it, so nothing is mounted at ${admin.path}. Write admin: { roles: ['admin'] }.`,
    );
  }

  async onModuleDestroy(): Promise<void> {
    this.watches.close();
    await Promise.all([this.sweeper.stop(), this.bookkeeper.close()]);
    await this.freshness?.stop();
  }

  /**
   * Not earlier: until now there were requests to answer. What they did is told, and written down unless the data source
   * is gone already, as it is where TypeOrmModule is imported after this module.
   */
  async onApplicationShutdown(): Promise<void> {
    await this.bookkeeper.close();
    this.events.close();
  }
}

function compose(definition: DynamicModule, given: SingleSessionModuleExtras): DynamicModule {
  const extras = resolveExtras(given);
  return {
    ...definition,
    imports: [
      ...(definition.imports ?? []),
      BackstopModule,
      DiscoveryModule,
      TypeOrmModule.forFeature(singleSessionEntities, extras.dataSource),
    ],
    controllers: controllersOf(extras),
    providers: [...(definition.providers ?? []), ...providersOf(extras)],
    // Logins, Sessions and RequestCheck are not public: Nest makes the guard and the interceptors of a route anew in the
    // module of its controller, which must find what they ask for.
    exports: [
      SingleSessionService,
      SingleSessionEvents,
      SingleSessionGuard,
      SingleSessionLoginInterceptor,
      SingleSessionLogoutInterceptor,
      Logins,
      Sessions,
      RequestCheck,
    ],
  };
}

function controllersOf({ admin, selfService }: ResolvedExtras): Type[] {
  const controllers = selfService ? [selfServiceController(selfService)] : [];
  if (admin === undefined || !hasAdministrators(admin)) return controllers;
  // The page before the REST API, whose DELETE :id knows no other words.
  return [...controllers, ...(admin.page ? [pageController(admin)] : []), adminController(admin)];
}
