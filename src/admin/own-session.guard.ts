import { Injectable, type CanActivate, type ExecutionContext } from '@nestjs/common';
import { knownStateOf, requestOf, type SessionRequest } from '../http/request.js';
import { Hints } from '../session/hints.js';
import type { CurrentSession } from '../session/session.js';
import { refuseNobody } from './unread-token.js';

/** The session of a request that has passed {@link OwnSessionGuard}. */
export const ownSessionOf = (request: SessionRequest): CurrentSession => knownStateOf(request)!.current!;

/** Lets pass who is signed in with a session. In a guard, since Nest before 11.2 sends the head of a stream before it calls the handler. */
@Injectable()
export class OwnSessionGuard implements CanActivate {
  private readonly hints = new Hints();

  canActivate(context: ExecutionContext): boolean {
    const request = requestOf(context);
    if (!request?.user || knownStateOf(request)?.current === undefined)
      return refuseNobody(request, 'selfService', this.hints);
    return true;
  }
}
