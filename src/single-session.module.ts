import {
  Inject,
  Logger,
  Module,
  type DynamicModule,
  type OnApplicationBootstrap,
  type OnModuleDestroy,
  type Provider,
  type Type,
} from '@nestjs/common';
import { APP_GUARD, DiscoveryModule } from '@nestjs/core';
import { getDataSourceToken, TypeOrmModule } from '@nestjs/typeorm';
import type { DataSource } from 'typeorm';
import { adminController } from './admin/admin.controller.js';
import { pageController } from './admin/page.controller.js';
import { selfServiceController } from './admin/self-service.controller.js';
import { EventEmitterBridge } from './event-emitter.bridge.js';
import { ArrivalGuard } from './http/arrival.guard.js';
import { Backstop } from './http/backstop.js';
import { PassportLogins } from './http/passport-logins.js';
import { PlatformCheck } from './http/platform.check.js';
import { SingleSessionLoginInterceptor } from './http/login.interceptor.js';
import { Logins } from './http/logins.js';
import { SingleSessionLogoutInterceptor } from './http/logout.interceptor.js';
import { RequestCheck } from './http/request-check.js';
import { SingleSessionGuard } from './http/single-session.guard.js';
import { SingleSessionService } from './http/single-session.service.js';
import { Administration } from './session/administration.js';
import { Admissions } from './session/admissions.js';
import { AdministrationStore } from './session/administration-store.js';
import { AnnouncingStore } from './session/announcing-store.js';
import { Bookkeeper } from './session/bookkeeper.js';
import { SingleSessionEvents } from './session/events.js';
import { RunTimeExemptions } from './session/exemptions.js';
import { Explainer } from './session/explainer.js';
import { Freshness } from './session/freshness.js';
import { Permissions } from './session/permissions.js';
import { Policy } from './session/policy.js';
import { RememberingStore } from './session/remembering-store.js';
import { SessionStore } from './session/session-store.js';
import { Sessions } from './session/sessions.js';
import { Sweeper } from './session/sweeper.js';
import { Watches } from './session/watches.js';
import {
  ASYNC_OPTIONS_TYPE,
  ConfigurableModuleClass,
  MODULE_OPTIONS_TOKEN,
  OPTIONS_TYPE,
} from './single-session.module-definition.js';
import {
  checkAsyncKeys,
  resolveExtras,
  type ResolvedExtras,
  type SingleSessionModuleExtras,
} from './single-session.extras.js';
import {
  DEFAULT_MAX_AGE,
  resolveOptions,
  type ResolvedOptions,
  type SingleSessionOptions,
} from './single-session.options.js';
import { singleSessionEntities } from './typeorm/check-schema.js';
import { PostgresSignal } from './typeorm/postgres-signal.js';
import { TypeOrmAdministrationStore } from './typeorm/typeorm-administration-store.js';
import { TypeOrmSessionStore } from './typeorm/typeorm-session-store.js';

const RESOLVED_OPTIONS = Symbol('nestjs-single-session:options');
const RESOLVED_EXTRAS = Symbol('nestjs-single-session:extras');
const LONGEST_SEEN_INTERVAL_MS = 60_000;
const LOOK_EVERY_MS = 1_000;

/**
 * Limits how many sessions a user may have at once. A login that is admitted evicts the user's older sessions; the
 * guard refuses an evicted session on its next request and says why.
 */
@Module({})
export class SingleSessionModule
  extends ConfigurableModuleClass
  implements OnApplicationBootstrap, OnModuleDestroy
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
    const { dataSource, isGlobal, enforceGlobally, admin, selfService, ...rest } = options;
    resolveOptions(rest);
    const extras = { dataSource, isGlobal, enforceGlobally, admin, selfService };
    return compose(super.forRoot(options), extras);
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
    this.events.close();
  }
}

function compose(definition: DynamicModule, given: SingleSessionModuleExtras): DynamicModule {
  const extras = resolveExtras(given);
  const { dataSource, enforceGlobally } = extras;
  return {
    ...definition,
    imports: [
      ...(definition.imports ?? []),
      DiscoveryModule,
      TypeOrmModule.forFeature(singleSessionEntities, dataSource),
    ],
    controllers: controllersOf(extras),
    providers: [
      ...(definition.providers ?? []),
      { provide: RESOLVED_EXTRAS, useValue: extras },
      ...sessionProviders(dataSource),
      ...administrationProviders(extras),
      ...HTTP_PROVIDERS,
      ...globalProviders(enforceGlobally),
      EventEmitterBridge,
    ],
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

const sessionProviders = (dataSource: string | undefined): Provider[] => [
  {
    provide: RESOLVED_OPTIONS,
    inject: [MODULE_OPTIONS_TOKEN],
    useFactory: (given: SingleSessionOptions) => resolveOptions(given),
  },
  {
    provide: Freshness,
    inject: [getDataSourceToken(dataSource), RESOLVED_OPTIONS],
    useFactory: createFreshness,
  },
  {
    provide: SessionStore,
    inject: [getDataSourceToken(dataSource), SingleSessionEvents, RESOLVED_OPTIONS, Freshness],
    useFactory: createStore,
  },
  {
    provide: Policy,
    inject: [RESOLVED_OPTIONS, Permissions],
    useFactory: (options: ResolvedOptions, permissions: Permissions) => new Policy(options, permissions),
  },
  { provide: SingleSessionEvents, useFactory: () => new SingleSessionEvents() },
  {
    provide: Bookkeeper,
    inject: [SessionStore, RESOLVED_OPTIONS],
    useFactory: (store: SessionStore, options: ResolvedOptions) =>
      new Bookkeeper(store, seenIntervalOf(options)),
  },
  {
    provide: Sweeper,
    inject: [SessionStore, RESOLVED_OPTIONS],
    useFactory: (store: SessionStore, { retention }: ResolvedOptions) => new Sweeper(store, retention),
  },
  {
    provide: Sessions,
    inject: [SessionStore, Policy, Bookkeeper, RESOLVED_OPTIONS, Freshness],
    useFactory: (
      store: SessionStore,
      policy: Policy,
      bookkeeper: Bookkeeper,
      options: ResolvedOptions,
      freshness?: Freshness,
    ) => new Sessions(store, policy, bookkeeper, options, freshness),
  },
  {
    provide: Admissions,
    inject: [SessionStore, Policy, Bookkeeper, Sessions, RESOLVED_OPTIONS],
    useFactory: (
      store: SessionStore,
      policy: Policy,
      bookkeeper: Bookkeeper,
      sessions: Sessions,
      { onLimit }: ResolvedOptions,
    ) => new Admissions(store, policy, bookkeeper, sessions, onLimit),
  },
  {
    provide: Watches,
    inject: [Sessions, Policy, SingleSessionEvents, RESOLVED_OPTIONS, Freshness],
    useFactory: (
      sessions: Sessions,
      policy: Policy,
      events: SingleSessionEvents,
      options: ResolvedOptions,
      freshness?: Freshness,
    ) => new Watches(sessions, policy, events, { everyMs: lookEvery(options), changes: freshness?.changes }),
  },
];

const administrationProviders = ({ dataSource, admin }: ResolvedExtras): Provider[] => [
  { provide: Permissions, useFactory: () => new Permissions(admin?.permissions) },
  {
    provide: AdministrationStore,
    inject: [getDataSourceToken(dataSource), Permissions, RESOLVED_OPTIONS],
    useFactory: (source: DataSource, { administratorRoles }: Permissions, options: ResolvedOptions) =>
      new TypeOrmAdministrationStore(source, {
        administratorRoles,
        idleTimeout: options.idleTimeout,
        stormWindow: options.storm.windowMs,
        stormThreshold: options.storm.threshold,
      }),
  },
  {
    provide: Administration,
    inject: [AdministrationStore, SingleSessionEvents, Sweeper, Freshness],
    useFactory: (...parts: ConstructorParameters<typeof Administration>) => new Administration(...parts),
  },
  {
    provide: RunTimeExemptions,
    inject: [AdministrationStore, Policy, SingleSessionEvents],
    useFactory: (store: AdministrationStore, policy: Policy, events: SingleSessionEvents) =>
      new RunTimeExemptions(store, policy, events),
  },
  {
    provide: Explainer,
    inject: [Policy, AdministrationStore, RESOLVED_OPTIONS],
    useFactory: (policy: Policy, store: AdministrationStore, options: ResolvedOptions) =>
      new Explainer(policy, store, options),
  },
];

function controllersOf({ admin, selfService }: ResolvedExtras): Type[] {
  const controllers = selfService ? [selfServiceController(selfService)] : [];
  if (admin === undefined || !hasAdministrators(admin)) return controllers;
  // The page before the REST API, whose DELETE :id knows no other words.
  return [...controllers, ...(admin.page ? [pageController(admin)] : []), adminController(admin)];
}

function hasAdministrators({ permissions }: NonNullable<ResolvedExtras['admin']>): boolean {
  const { roles, superRoles, logout, logoutAdmins } = permissions;
  return roles.length > 0 || superRoles.length > 0 || logout !== undefined || logoutAdmins !== undefined;
}

const HTTP_PROVIDERS: Provider[] = [
  {
    provide: Logins,
    inject: [Sessions, Admissions, Policy],
    useFactory: (...parts: ConstructorParameters<typeof Logins>) => new Logins(...parts),
  },
  {
    provide: RequestCheck,
    inject: [Sessions, Admissions, Policy, RESOLVED_OPTIONS, Watches],
    useFactory: (
      sessions: Sessions,
      admissions: Admissions,
      policy: Policy,
      { unregistered }: ResolvedOptions,
      watches: Watches,
    ) => new RequestCheck(sessions, admissions, policy, unregistered, watches),
  },
  SingleSessionService,
  SingleSessionGuard,
  SingleSessionLoginInterceptor,
  SingleSessionLogoutInterceptor,
  PlatformCheck,
  PassportLogins,
  Backstop,
];

const globalProviders = (enforce: boolean): Provider[] => [
  enforce
    ? { provide: APP_GUARD, useExisting: SingleSessionGuard }
    : { provide: APP_GUARD, useClass: ArrivalGuard },
];

function createStore(
  dataSource: DataSource,
  events: SingleSessionEvents,
  options: ResolvedOptions,
  freshness?: Freshness,
): SessionStore {
  const { idleTimeout, maxAge, retention, storm } = options;
  const store = new TypeOrmSessionStore(dataSource, {
    idleTimeout,
    maxAge,
    retention,
    seenInterval: seenIntervalOf(options),
    stormWindow: storm.windowMs,
  });
  const remembering = freshness === undefined ? store : new RememberingStore(store, freshness);
  return new AnnouncingStore(remembering, events, storm);
}

/** `undefined` in strong mode, in which nothing is remembered and nothing is started. */
function createFreshness(dataSource: DataSource, { freshness }: ResolvedOptions): Freshness | undefined {
  if (freshness === 'strong') return undefined;
  return new Freshness(new PostgresSignal(dataSource, freshness.maxStalenessMs), freshness);
}

/** How often what is open is looked after. In bounded mode a quarter of the staleness is left for the answer. */
const lookEvery = ({ freshness }: ResolvedOptions): number =>
  freshness === 'strong' ? LOOK_EVERY_MS : freshness.maxStalenessMs * 0.75;

/** How often at most last-seen is written, so that a session in use never looks idle. */
const seenIntervalOf = ({ idleTimeout = Infinity }: ResolvedOptions): number =>
  Math.min(LONGEST_SEEN_INTERVAL_MS, Math.ceil(idleTimeout / 4));
