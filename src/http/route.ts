import type { ExecutionContext, Type } from '@nestjs/common';
import { Reflector } from '@nestjs/core';

/** What carries a session. */
export type Credential = 'cookie' | 'token';

/** What our decorators say about a route. */
export interface Route {
  kind: 'login' | 'logout' | 'skipped';
  credential?: Credential;
}

export const ROUTE = 'nestjs-single-session:route';

const routes = new WeakMap<object, WeakMap<object, Route | null>>();

/** Looked up once for each handler of each controller: this is on the path of every request. */
export function routeOf(context: ExecutionContext): Route | undefined {
  const [controller, handler] = [context.getClass(), context.getHandler()];
  let known = routes.get(controller);
  if (known === undefined) routes.set(controller, (known = new WeakMap()));
  let route = known.get(handler);
  if (route === undefined) known.set(handler, (route = readRoute(controller, handler) ?? null));
  return route ?? undefined;
}

const reflector = new Reflector();

const readRoute = (controller: Type, handler: Function): Route | undefined =>
  reflector.getAllAndOverride<Route | undefined>(ROUTE, [handler, controller]);
