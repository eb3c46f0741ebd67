import { type DynamicModule, Module } from '@nestjs/common';
import { APP_FILTER } from '@nestjs/core';
import { SingleSessionModule } from 'nestjs-single-session';
import { AuthModule } from './auth/auth.module.js';
import { CookieOrBearerGuard } from './auth/cookie-or-bearer.guard.js';
import { databaseModule } from './database.js';
import type { Environment } from './environment.js';
import { HealthController } from './health.controller.js';
import { pageController } from './page.controller.js';
import { SessionEndedFilter } from './session-ended.filter.js';
import { StoreUnavailableFilter } from './store-unavailable.filter.js';
import { Users } from './users.js';

/** The whole demo. */
@Module({})
export class AppModule {
  static register(environment: Environment, databaseUrl: string): DynamicModule {
    const users = new Users();
    return {
      module: AppModule,
      imports: [
        databaseModule(databaseUrl),
        SingleSessionModule.forRoot({
          maxSessions: environment.maxSessions,
          onLimit: environment.onLimit,
          exempt: { usernames: environment.exemptUsernames, roles: environment.exemptRoles },
          logoutEverywhere: environment.logoutEverywhere,
          unregistered: environment.unregistered,
          freshness: environment.freshness,
          findUser: (username) => users.findByUsername(username),
          admin: { roles: ['admin'], superRoles: ['superadmin'], guards: [CookieOrBearerGuard] },
          selfService: { guards: [CookieOrBearerGuard] },
        }),
        AuthModule.register(environment.sessionSecret),
      ],
      controllers: [HealthController, pageController(environment)],
      providers: [
        { provide: APP_FILTER, useClass: SessionEndedFilter },
        { provide: APP_FILTER, useClass: StoreUnavailableFilter },
      ],
    };
  }
}
