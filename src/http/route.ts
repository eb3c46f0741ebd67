import type { ExecutionContext } from '@nestjs/common';
import { Reflector } from '@nestjs/core';

/** What carries a session. */
export type Credential = 'cookie' | 'token';

/** What our decorators say about a route. */
export interface Route {
  kind: 'login' | 'logout' | 'skipped';
  credential?: Credential;
}

export const ROUTE = 'nestjs-single-session:route';

const reflector = new Reflector();

export const routeOf = (context: ExecutionContext): Route | undefined =>
  reflector.getAllAndOverride<Route | undefined>(ROUTE, [context.getHandler(), context.getClass()]);
