import { Injectable, type CanActivate, type ExecutionContext } from '@nestjs/common';
import { requestOf, responseOf } from './execution-context.js';
import { reach } from './request-state.js';
import { routeOf } from './route.js';

/** Notes what a request arrived with, before a login can change it. Stands in for the guard where that is not global; refuses nothing. */
@Injectable()
export class ArrivalGuard implements CanActivate {
  canActivate(context: ExecutionContext): true {
    const request = requestOf(context);
    if (request === undefined) return true;
    reach(request, { response: responseOf(context, request), route: routeOf(context) });
    return true;
  }
}
