import type { InjectionToken, Provider } from '@nestjs/common';
import { APP_GUARD, ApplicationConfig } from '@nestjs/core';
import { getDataSourceToken } from '@nestjs/typeorm';
import type { DataSource } from 'typeorm';
import { EventEmitterBridge } from './event-emitter.bridge.js';
import { ArrivalGuard } from './http/arrival.guard.js';
import { CarriedSessions } from './http/carried-sessions.js';
import { EstablishedLogins } from './http/established-logins.js';
import { SingleSessionLoginInterceptor } from './http/login.interceptor.js';
import { Logins } from './http/logins.js';
import { SingleSessionLogoutInterceptor } from './http/logout.interceptor.js';
import { PassportLogins } from './http/passport-logins.js';
import { PlatformCheck } from './http/platform.check.js';
import { Rebinder } from './http/rebinder.js';
import { RequestCheck } from './http/request-check.js';
import { SingleSessionGuard } from './http/single-session.guard.js';
import { SingleSessionService } from './http/single-session.service.js';
import { Lifecycle } from './lifecycle.js';
import { ScopeCheck } from './scope.check.js';
import { Administration } from './session/administration.js';
import { AdministrationStore } from './session/administration-store.js';
import { Admissions } from './session/admissions.js';
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
import type { ResolvedExtras } from './single-session.extras.js';
import { MODULE_OPTIONS_TOKEN } from './single-session.module-definition.js';
import { resolveOptions, type ResolvedOptions, type SingleSessionOptions } from './single-session.options.js';
import { PostgresSignal } from './typeorm/postgres-signal.js';
import { TypeOrmAdministrationStore } from './typeorm/typeorm-administration-store.js';
import { TypeOrmSessionStore } from './typeorm/typeorm-session-store.js';

const RESOLVED_OPTIONS = Symbol('nestjs-single-session:options');
const RESOLVED_EXTRAS = Symbol('nestjs-single-session:extras');
const DATA_SOURCE = Symbol('nestjs-single-session:data-source');
const LONGEST_SEEN_INTERVAL_MS = 60_000;
const LOOK_EVERY_MS = 1_000;

/** Everything that the module is made of. */
export const providersOf = (extras: ResolvedExtras): Provider[] => [
  { provide: RESOLVED_EXTRAS, useValue: extras },
  dataSourceProvider(extras),
  ...SESSION_PROVIDERS,
  ...administrationProviders(extras),
  ...HTTP_PROVIDERS,
  extras.enforceGlobally
    ? { provide: APP_GUARD, useExisting: SingleSessionGuard }
    : { provide: APP_GUARD, useClass: ArrivalGuard },
  EventEmitterBridge,
  ScopeCheck,
  made(
    Lifecycle,
    RESOLVED_OPTIONS,
    RESOLVED_EXTRAS,
    PlatformCheck,
    SessionStore,
    Freshness,
    Sweeper,
    Watches,
    Sessions,
    Bookkeeper,
    SingleSessionEvents,
  ),
];

const dataSourceProvider = ({ dataSource: name }: ResolvedExtras): Provider => ({
  provide: DATA_SOURCE,
  inject: [{ token: getDataSourceToken(name), optional: true }],
  useFactory: (dataSource?: DataSource) => {
    if (dataSource === undefined) throw new Error(noDataSource(name));
    return dataSource;
  },
});

const noDataSource = (name: string | undefined): string =>
  name === undefined
    ? "There is no TypeORM data source without a name for nestjs-single-session to keep its sessions in. Import TypeOrmModule.forRoot({ type: 'postgres', ... }); " +
      "or, where yours has a name, write SingleSessionModule.forRoot({ dataSource: '<its name>' })."
    : `There is no TypeORM data source "${name}" for nestjs-single-session to keep its sessions in. Write TypeOrmModule.forRoot({ name: '${name}', type: 'postgres', ... }), ` +
      'or the name of the one that there is, or none for the one without a name, as dataSource in the options of SingleSessionModule.';

const SESSION_PROVIDERS: Provider[] = [
  {
    provide: RESOLVED_OPTIONS,
    inject: [MODULE_OPTIONS_TOKEN],
    useFactory: (given: SingleSessionOptions) => resolveOptions(given),
  },
  {
    provide: Freshness,
    inject: [DATA_SOURCE, RESOLVED_OPTIONS],
    useFactory: createFreshness,
  },
  {
    provide: SessionStore,
    inject: [
      DATA_SOURCE,
      SingleSessionEvents,
      RESOLVED_OPTIONS,
      RESOLVED_EXTRAS,
      ApplicationConfig,
      Freshness,
    ],
    useFactory: createStore,
  },
  made(Policy, RESOLVED_OPTIONS, Permissions),
  made(SingleSessionEvents),
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
  made(Sessions, SessionStore, Policy, Bookkeeper, RESOLVED_OPTIONS, Freshness),
  made(Admissions, SessionStore, Policy, Bookkeeper, Sessions, RESOLVED_OPTIONS),
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

const administrationProviders = ({ admin }: ResolvedExtras): Provider[] => [
  { provide: Permissions, useFactory: () => new Permissions(admin?.permissions) },
  {
    provide: AdministrationStore,
    inject: [DATA_SOURCE, Permissions, RESOLVED_OPTIONS],
    useFactory: (source: DataSource, { administratorRoles }: Permissions, options: ResolvedOptions) =>
      new TypeOrmAdministrationStore(source, {
        administratorRoles,
        idleTimeout: options.idleTimeout,
        stormWindow: options.storm.windowMs,
        stormThreshold: options.storm.threshold,
      }),
  },
  made(Administration, AdministrationStore, SingleSessionEvents, Sweeper, Freshness),
  made(RunTimeExemptions, AdministrationStore, Policy, SingleSessionEvents),
  made(Explainer, Policy, AdministrationStore, RESOLVED_OPTIONS),
];

const HTTP_PROVIDERS: Provider[] = [
  made(CarriedSessions),
  made(Rebinder, Sessions, Policy),
  made(Logins, Sessions, Admissions, Policy, CarriedSessions, Rebinder),
  made(EstablishedLogins, Logins, Rebinder, Sessions, Policy, CarriedSessions),
  made(RequestCheck, Sessions, Admissions, Policy, Watches, RESOLVED_OPTIONS),
  SingleSessionService,
  SingleSessionGuard,
  SingleSessionLoginInterceptor,
  SingleSessionLogoutInterceptor,
  PlatformCheck,
  PassportLogins,
];

/** For a class that does not say by decorators what it is made of: that, in the order of its constructor. */
function made<Parts extends unknown[]>(
  type: new (...parts: Parts) => unknown,
  ...inject: InjectionToken[]
): Provider {
  return { provide: type, inject, useFactory: (...parts: Parts) => new type(...parts) };
}

function createStore(
  dataSource: DataSource,
  events: SingleSessionEvents,
  options: ResolvedOptions,
  { admin }: ResolvedExtras,
  application: ApplicationConfig,
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
  // The application says its prefix later.
  const exemptionsPath = admin?.isMounted
    ? (): string =>
        [...application.getGlobalPrefix().split('/'), admin.path, 'exemptions'].filter(Boolean).join('/')
    : undefined;
  return new AnnouncingStore(remembering, events, { ...storm, exemptionsPath });
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
