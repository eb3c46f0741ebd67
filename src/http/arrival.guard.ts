import { Injectable, type CanActivate, type ExecutionContext } from '@nestjs/common';
import { requestOf, responseOf, stateOf } from './request.js';
import { routeOf } from './route.js';

/** Notes what a request arrived with, before a login can change it. Stands in for the guard where that is not global; refuses nothing. */
@Injectable()
export class ArrivalGuard implements CanActivate {
  canActivate(context: ExecutionContext): true {
    const request = requestOf(context);
    if (request === undefined) return true;
    const state = stateOf(request);
    state.response = responseOf(context, request);
    state.route = routeOf(context);
    return true;
  }
}
