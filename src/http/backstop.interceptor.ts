import {
  Inject,
  Injectable,
  type CallHandler,
  type ExecutionContext,
  type NestInterceptor,
} from '@nestjs/common';
import type { Observable } from 'rxjs';
import { knownStateOf, requestOf } from './request.js';
import { SingleSessionGuard } from './single-session.guard.js';

/**
 * Asks the guard once more, after the guards of the route: `request.user` of a route-level `AuthGuard('jwt')` does not
 * exist yet when global guards run, or a guard that stands before it. What the guard has checked already costs nothing here, and a
 * route without the guard is left alone.
 */
@Injectable()
export class SingleSessionBackstop implements NestInterceptor {
  constructor(@Inject(SingleSessionGuard) private readonly guard: SingleSessionGuard) {}

  intercept(
    context: ExecutionContext,
    next: CallHandler,
  ): Observable<unknown> | Promise<Observable<unknown>> {
    const request = requestOf(context);
    const passed = request && !knownStateOf(request)?.guarded ? true : this.guard.canActivate(context);
    return passed === true ? next.handle() : passed.then(() => next.handle());
  }
}
