import { Inject, Injectable, type CanActivate, type ExecutionContext, type Type } from '@nestjs/common';
import { GUARDS_METADATA, INTERCEPTORS_METADATA, SSE_METADATA } from '@nestjs/common/constants.js';
import { DiscoveryService } from '@nestjs/core';
import { handlersOf } from './handlers.js';
import { isChecked, knownStateOf, requestOf } from './request.js';
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
 * Puts {@link LAST_GUARD} behind the guards of every route, resolver and handler of messages, and {@link STREAM_END} around every `@Sse()` handler. In its constructor: Nest reads them before any
 * hook of a module runs. A global interceptor would come after them, too, but also after interceptors that answer from a
 * cache and after the head of an `@Sse()` answer, and costs each request several times as much.
 */
@Injectable()
export class Backstop {
  constructor(@Inject(DiscoveryService) discovery: DiscoveryService) {
    for (const { metatype } of [...discovery.getControllers(), ...discovery.getProviders()])
      if (typeof metatype === 'function')
        for (const handler of handlersOf(metatype as Type)) standBehind(handler);
  }
}

function standBehind(handler: object): void {
  const guards = (Reflect.getMetadata(GUARDS_METADATA, handler) ?? []) as unknown[];
  if (!guards.includes(LAST_GUARD)) Reflect.defineMetadata(GUARDS_METADATA, [...guards, LAST_GUARD], handler);
  if (Reflect.getMetadata(SSE_METADATA, handler)) standAround(handler);
}

function standAround(handler: object): void {
  const interceptors = (Reflect.getMetadata(INTERCEPTORS_METADATA, handler) ?? []) as unknown[];
  if (!interceptors.includes(STREAM_END))
    Reflect.defineMetadata(INTERCEPTORS_METADATA, [STREAM_END, ...interceptors], handler);
}
