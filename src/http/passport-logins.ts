import { AsyncResource } from 'node:async_hooks';
import { Inject, Injectable, type OnApplicationShutdown, type OnModuleInit } from '@nestjs/common';
import { DiscoveryService, HttpAdapterHost } from '@nestjs/core';
import { EstablishedLogins } from './established-logins.js';
import { hasMethods } from './has-methods.js';
import type { SessionRequest } from './request.js';
import type { Reply } from './response.js';

type Done = (error?: unknown) => void;

/** The part of Passport's session manager (0.6 and later) that we touch: every login that establishes a session goes through it. */
interface SessionManager {
  logIn: (this: SessionManager, request: SessionRequest, user: unknown, options: object, done: Done) => void;
  logOut: (this: SessionManager, request: SessionRequest, options: object | Done, done?: Done) => void;
  [HOOK]?: Hook;
}

interface Hook {
  watchers: Set<PassportLogins>;
  remove(): void;
}

/** The part of an application of Express that we touch. */
interface ExpressApplication {
  /** Where it is mounted. */
  parent?: ExpressApplication;
}

/** The part of Fastify's instance that we touch. */
interface FastifyHooks {
  addHook(name: 'onRequest', hook: (request: SessionRequest, reply: Reply, done: () => void) => void): void;
}

// Passport is one object per process, and serves all applications in it.
const HOOK = Symbol.for('nestjs-single-session:passport-logins');

/**
 * Admits what `request.logIn()` has established, whoever called it: a handler, the callback of an OAuth provider, a
 * remember-me strategy in a middleware. `logIn()` calls back when the login is admitted, or with the error when it is
 * refused; so nothing is sent before. Routes with `@SingleSessionLogin()` admit after all their guards instead.
 */
@Injectable()
export class PassportLogins implements OnModuleInit, OnApplicationShutdown {
  private managers = new Set<SessionManager>();

  constructor(
    @Inject(DiscoveryService) private readonly discovery: DiscoveryService,
    @Inject(HttpAdapterHost) private readonly adapterHost: HttpAdapterHost,
    @Inject(EstablishedLogins) readonly logins: EstablishedLogins,
  ) {}

  onModuleInit(): void {
    // By its shape: the strategies and serializers of @nestjs/passport know the application's copy of Passport.
    for (const { instance } of this.discovery.getProviders()) {
      if (!hasMethods(instance, 'getPassportInstance')) continue;
      const { _sm: manager } = (instance.getPassportInstance() ?? {}) as { _sm?: SessionManager };
      if (typeof manager?.logIn === 'function') this.managers.add(sharedPartOf(manager));
    }
    for (const manager of this.managers) hookOf(manager).watchers.add(this);
    if (this.managers.size > 0) this.introduceReplies();
  }

  // Not earlier: until now there were requests to answer.
  onApplicationShutdown(): void {
    for (const manager of this.managers) {
      const hook = hookOf(manager);
      hook.watchers.delete(this);
      if (hook.watchers.size === 0) hook.remove();
    }
  }

  // A login in a hook of Fastify comes before any guard that could tell us the reply, and the request does not know it.
  private introduceReplies(): void {
    const { httpAdapter } = this.adapterHost;
    if (httpAdapter?.getType() !== 'fastify') return;
    httpAdapter.getInstance<FastifyHooks>().addHook('onRequest', (request, reply, done) => {
      request.singleSessionReply = reply;
      done();
    });
  }

  /** Whether the request is one of this application's. */
  serves({ app, server }: SessionRequest): boolean {
    const instance = this.adapterHost.httpAdapter?.getInstance<object | undefined>();
    if (instance === undefined) return false;
    for (let one = app as ExpressApplication | undefined; one !== undefined; one = one.parent)
      if (one === instance) return true;
    // A plugin of Fastify has an instance that inherits from the application's.
    return server === instance || Object.prototype.isPrototypeOf.call(instance, server as object);
  }
}

/** What all instances of Passport share: an application may sign people in through one of its own. */
function sharedPartOf(manager: SessionManager): SessionManager {
  let part = manager;
  while (!Object.hasOwn(part, 'logIn')) part = Object.getPrototypeOf(part) as SessionManager;
  return part;
}

// The callbacks are bound to the async context of their request: a store of cookie sessions may call back in that of another
// request, whose connection it shares, and what the application is asked then, such as its limit, is about this one.
function hookOf(manager: SessionManager): Hook {
  const known = manager[HOOK];
  if (known !== undefined) return known;
  const watchers = new Set<PassportLogins>();
  const { logIn, logOut } = manager;
  const loginsOf = (request: SessionRequest) => [...watchers].find((one) => one.serves(request))?.logins;
  const watchedLogIn: SessionManager['logIn'] = function (request, user, options, done) {
    const logins = loginsOf(request);
    if (logins === undefined) return logIn.call(this, request, user, options, done);
    logins.begin(request);
    const established = (error?: unknown): void => {
      if (error) logins.fail(error, request).then(() => done(error), done);
      else logins.admit(user, request).then(() => done(), done);
    };
    logIn.call(this, request, user, options, AsyncResource.bind(established));
  };
  const watchedLogOut: SessionManager['logOut'] = function (request, options, done) {
    const logins = loginsOf(request);
    const callback = typeof options === 'function' ? (options as Done) : done;
    if (logins === undefined || callback === undefined) return logOut.call(this, request, options, done!);
    const end = logins.beginLogout(request);
    const loggedOut = (error?: unknown): void => void end().then(() => callback(error), callback);
    logOut.call(this, request, typeof options === 'function' ? {} : options, AsyncResource.bind(loggedOut));
  };
  const remove = (): void => {
    // Somebody may have put another around it since; with nobody who watches it lets all pass.
    if (manager.logIn !== watchedLogIn || manager.logOut !== watchedLogOut) return;
    Object.assign(manager, { logIn, logOut });
    delete manager[HOOK];
  };
  Object.assign(manager, { logIn: watchedLogIn, logOut: watchedLogOut });
  return (manager[HOOK] = { watchers, remove });
}
