import { Inject, Injectable, type OnModuleDestroy, type OnModuleInit } from '@nestjs/common';
import { DiscoveryService, HttpAdapterHost } from '@nestjs/core';
import { learnCookieName } from './browser.js';
import { Logins } from './logins.js';
import { arriveAtLogin, type SessionRequest } from './request.js';

type Done = (error?: unknown) => void;

/** The part of Passport's session manager (0.6 and later) that we touch: every login that establishes a session goes through it. */
interface SessionManager {
  logIn(request: SessionRequest, user: unknown, options: object, done: Done): void;
  [WATCHERS]?: Set<PassportLogins>;
}

// Passport is one object per process, and serves all applications in it.
const WATCHERS = Symbol.for('nestjs-single-session:passport-logins');

/**
 * Admits what `request.logIn()` has established, whoever called it: a handler, the callback of an OAuth provider, a
 * remember-me strategy in a middleware. `logIn()` calls back when the login is admitted, or with the error when it is
 * refused; so nothing is sent before. Routes with `@SingleSessionLogin()` admit after all their guards instead.
 */
@Injectable()
export class PassportLogins implements OnModuleInit, OnModuleDestroy {
  private managers = new Set<SessionManager>();

  constructor(
    @Inject(DiscoveryService) private readonly discovery: DiscoveryService,
    @Inject(HttpAdapterHost) private readonly adapterHost: HttpAdapterHost,
    @Inject(Logins) private readonly logins: Logins,
  ) {}

  onModuleInit(): void {
    // By its shape: the strategies and serializers of @nestjs/passport know the application's copy of Passport.
    for (const { instance } of this.discovery.getProviders()) {
      const { getPassportInstance } = (instance ?? {}) as { getPassportInstance?: () => unknown };
      if (typeof getPassportInstance !== 'function') continue;
      const { _sm: manager } = getPassportInstance.call(instance) as { _sm?: SessionManager };
      if (typeof manager?.logIn === 'function') this.managers.add(manager);
    }
    for (const manager of this.managers) watchersOf(manager).add(this);
  }

  onModuleDestroy(): void {
    for (const manager of this.managers) watchersOf(manager).delete(this);
  }

  /** Whether the request is one of this application's. */
  serves({ app, server }: SessionRequest): boolean {
    const instance: unknown = this.adapterHost.httpAdapter?.getInstance();
    if (app !== undefined) return app === instance;
    // A plugin of Fastify has an instance that inherits from the application's.
    return server === instance || Object.prototype.isPrototypeOf.call(instance as object, server as object);
  }

  admit(user: unknown, request: SessionRequest): Promise<unknown> {
    return this.logins.admitEstablished(user, request);
  }
}

function watchersOf(manager: SessionManager): Set<PassportLogins> {
  const known = manager[WATCHERS];
  if (known !== undefined) return known;
  const watchers = new Set<PassportLogins>();
  const logIn = manager.logIn.bind(manager);
  Object.assign(manager, {
    [WATCHERS]: watchers,
    logIn(request: SessionRequest, user: unknown, options: object, done: Done): void {
      const watcher = [...watchers].find((one) => one.serves(request));
      if (watcher === undefined) return logIn(request, user, options, done);
      arriveAtLogin(request);
      learnCookieName(request);
      logIn(request, user, options, (error) => {
        if (error) return done(error);
        watcher.admit(user, request).then(() => done(), done);
      });
    },
  });
  return watchers;
}
