import { Injectable, type CanActivate, type ExecutionContext } from '@nestjs/common';
import { requestOf, responseOf, stateOf } from './request.js';

/** Notes what a request arrived with, before a login can change it. Stands in for the guard where that is not global; refuses nothing. */
@Injectable()
export class ArrivalGuard implements CanActivate {
  canActivate(context: ExecutionContext): true {
    const request = requestOf(context);
    if (request !== undefined) stateOf(request).response = responseOf(context, request);
    return true;
  }
}
