import {
  Inject,
  Module,
  Optional,
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
import { SingleSessionLoginInterceptor } from './http/login.interceptor.js';
import { Logins } from './http/logins.js';
import { SingleSessionLogoutInterceptor } from './http/logout.interceptor.js';
import { RequestCheck } from './http/request-check.js';
import { SingleSessionGuard } from './http/single-session.guard.js';
import { SingleSessionService } from './http/single-session.service.js';
import { Lifecycle } from './lifecycle.js';
import { SingleSessionEvents } from './session/events.js';
import { Sessions } from './session/sessions.js';
import {
  ASYNC_OPTIONS_TYPE,
  ConfigurableModuleClass,
  OPTIONS_TYPE,
} from './single-session.module-definition.js';
import {
  checkAsyncOptions,
  EXTRAS,
  resolveExtras,
  type ResolvedExtras,
  type SingleSessionModuleExtras,
} from './single-session.extras.js';
import { resolveOptions } from './single-session.options.js';
import { providersOf } from './single-session.providers.js';
import { singleSessionEntities } from './typeorm/entities.js';

/**
 * Limits how many sessions a user may have at once. A login that is admitted evicts the user's older sessions; the
 * guard refuses an evicted session on its next request and says why.
 */
@Module({})
export class SingleSessionModule
  extends ConfigurableModuleClass
  implements OnApplicationBootstrap, OnModuleDestroy, OnApplicationShutdown
{
  private readonly lifecycle: Lifecycle;

  constructor(@Optional() @Inject(Lifecycle) lifecycle?: Lifecycle) {
    super();
    if (lifecycle === undefined) throw new Error(NOT_REGISTERED);
    this.lifecycle = lifecycle;
  }

  /** @throws Error that says what to write, for options that are wrong */
  static override forRoot(options: typeof OPTIONS_TYPE = {}): DynamicModule {
    resolveOptions(options, EXTRAS);
    return compose(super.forRoot(options), options);
  }

  /** Like {@link forRoot}, with the options from a factory; what shapes the module stands beside it: {@link SingleSessionModuleExtras}. */
  static override forRootAsync(options: typeof ASYNC_OPTIONS_TYPE): DynamicModule {
    checkAsyncOptions(options);
    return compose(super.forRootAsync(options), options);
  }

  onApplicationBootstrap(): Promise<void> {
    return this.lifecycle.begin();
  }

  onModuleDestroy(): Promise<void> {
    return this.lifecycle.end();
  }

  onApplicationShutdown(): Promise<void> {
    return this.lifecycle.afterLastAnswer();
  }
}

const NOT_REGISTERED =
  'SingleSessionModule stands in the imports of a module as it is. Write SingleSessionModule.forRoot({ maxSessions: 1 }), once, in your root module; ' +
  'it is global, so other modules find its service without an import. With isGlobal: false, import there what that one call gave.';

function compose(definition: DynamicModule, given: SingleSessionModuleExtras): DynamicModule {
  const extras = resolveExtras(given);
  // For `autoLoadEntities`. Nobody needs the repositories that it provides, and where the data source is missing, they would
  // fail with an error that does not say what to write.
  TypeOrmModule.forFeature(singleSessionEntities, extras.dataSource);
  return {
    ...definition,
    global: extras.isGlobal,
    imports: [...(definition.imports ?? []), BackstopModule, DiscoveryModule],
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
  if (!admin?.isMounted) return controllers;
  // The page before the REST API, whose DELETE :id knows no other words.
  return [...controllers, ...(admin.page ? [pageController(admin)] : []), adminController(admin)];
}
