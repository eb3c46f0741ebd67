import { Injectable, type CanActivate, type ExecutionContext } from '@nestjs/common';
import { requestOf } from '../http/execution-context.js';
import type { SessionRequest } from '../http/request.js';
import { currentSessionOf } from '../http/request-state.js';
import { ThrottledLogger } from '../session/throttled-logger.js';
import type { CurrentSession } from '../session/session.js';
import { refuseNobody } from './refuse-nobody.js';

/** The session of a request that has passed {@link OwnSessionGuard}. */
export const ownSessionOf = (request: SessionRequest): CurrentSession => currentSessionOf(request)!;

/** Lets pass who is signed in with a session. In a guard, since Nest before 11.2 sends the head of a stream before it calls the handler. */
@Injectable()
export class OwnSessionGuard implements CanActivate {
  private readonly hints = new ThrottledLogger();

  canActivate(context: ExecutionContext): boolean {
    const request = requestOf(context);
    if (!request?.user || currentSessionOf(request) === undefined)
      return refuseNobody(request, 'selfService', this.hints);
    return true;
  }
}
