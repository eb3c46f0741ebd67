import {
  Inject,
  Module,
  type CanActivate,
  type ExecutionContext,
  type NestModule,
  type OnApplicationBootstrap,
} from '@nestjs/common';
import { GUARDS_METADATA, INTERCEPTORS_METADATA, SSE_METADATA } from '@nestjs/common/constants.js';
import { DiscoveryModule, DiscoveryService } from '@nestjs/core';
import { handlersOf, isOperation } from './handlers.js';
import { requestOf } from './execution-context.js';
import { isChecked, knownStateOf } from './request-state.js';
import { STREAM_END } from './stream-end.js';

/**
 * Asks the guard once more, after all guards of the route: `request.user` of a route-level `AuthGuard('jwt')` does not
 * exist yet when global guards run, or a guard that stands before it. What the guard has checked already costs nothing
 * here, and a request that has met no guard of ours is left alone. It has no state: handlers belong to their class, and
 * a class may serve several applications of one process.
 */
const LAST_GUARD: CanActivate = {
  canActivate(context: ExecutionContext) {
    const request = requestOf(context);
    const state = request && knownStateOf(request);
    if (state?.guard === undefined || isChecked(request!, state)) return true;
    return state.guard.canActivate(context);
  },
};

/**
 * Puts {@link LAST_GUARD} behind the guards of every route, resolver and handler of messages, and {@link STREAM_END}
 * around every `@Sse()` handler. A global interceptor would come after them, too, but also after interceptors that answer
 * from a cache and after the head of an `@Sse()` answer, and costs each request several times as much.
 *
 * A module, for `configure()`: nothing else runs after the last instance is made and before the first hook of any module.
 */
@Module({ imports: [DiscoveryModule] })
export class BackstopModule implements NestModule, OnApplicationBootstrap {
  private hasLooked = false;

  /** Gateways are read before `configure()`; they and controllers are found by their class. */
  constructor(@Inject(DiscoveryService) private readonly discovery: DiscoveryService) {
    for (const { metatype } of [...discovery.getControllers(), ...discovery.getProviders()])
      if (typeof metatype === 'function') standBehindAll(metatype.prototype);
  }

  /** Resolvers are found by their instance, whose class Nest does not know where a factory or a value gives it. */
  configure(): void {
    this.hasLooked = true;
    for (const { instance } of this.discovery.getProviders()) standBehindAll(prototypeOf(instance));
  }

  /** Stops the start when a resolver has come since, whose guards may have been read without ours. */
  onApplicationBootstrap(): void {
    // Nest configures nothing in an application context, which serves no operations.
    if (!this.hasLooked) return;
    for (const { instance, host } of this.discovery.getProviders())
      for (const handler of handlersOf(prototypeOf(instance)))
        if (isOperation(handler) && !hasLastGuard(handler))
          throw new Error(tooLate(instance as object, host?.name));
  }
}

/** Of a Proxy that fails when it is asked, as @nestjs/graphql asks too: nothing. */
function prototypeOf(instance: unknown): unknown {
  if (!instance) return undefined;
  try {
    return Object.getPrototypeOf(instance);
  } catch {
    return undefined;
  }
}

const tooLate = (resolver: object, module = 'its module'): string =>
  `${resolver.constructor.name} was not there when nestjs-single-session looked for resolvers, which is before onModuleInit() of any module, so it might be given operations of ended sessions. ` +
  `Write @Module({ imports: [${module}] }) in place of LazyModuleLoader.load(() => ${module}).`;

function standBehindAll(prototype: unknown): void {
  for (const handler of handlersOf(prototype)) standBehind(handler);
}

function standBehind(handler: object): void {
  if (!hasLastGuard(handler))
    Reflect.defineMetadata(GUARDS_METADATA, [...guardsOf(handler), LAST_GUARD], handler);
  if (Reflect.getMetadata(SSE_METADATA, handler)) standAround(handler);
}

const hasLastGuard = (handler: object): boolean => guardsOf(handler).includes(LAST_GUARD);

const guardsOf = (handler: object): unknown[] =>
  (Reflect.getMetadata(GUARDS_METADATA, handler) ?? []) as unknown[];

function standAround(handler: object): void {
  const interceptors = (Reflect.getMetadata(INTERCEPTORS_METADATA, handler) ?? []) as unknown[];
  if (!interceptors.includes(STREAM_END))
    Reflect.defineMetadata(INTERCEPTORS_METADATA, [STREAM_END, ...interceptors], handler);
}
