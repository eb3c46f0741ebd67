import { Inject, Injectable, type ExecutionContext } from '@nestjs/common';
import type { Observable } from 'rxjs';
import type { SessionEnd } from '../session/session.js';
import { SessionUnknownException } from './exceptions.js';
import { farewellOf } from './open-sockets.js';
import { RequestCheck } from './request-check.js';
import { isAbsent, requestOf, responseOf } from './execution-context.js';
import type { SessionRequest } from './request.js';
import { reach, type RequestGuard } from './request-state.js';
import { routeOf } from './route.js';
import { isClosing, socketOf } from './sockets.js';

/**
 * Refuses a request whose session has ended: 401 with the reason. Anonymous requests pass, and so do login routes,
 * logout routes and those with `@SkipSingleSession()`. It is global unless `enforceGlobally: false`.
 *
 * HTTP and GraphQL are checked, and each message on a WebSocket, which is closed when its session has ended. For another
 * transport, override `getRequest`; without a request there is nothing to check and the call passes.
 */
@Injectable()
export class SingleSessionGuard implements RequestGuard {
  constructor(@Inject(RequestCheck) private readonly requestCheck: RequestCheck) {}

  canActivate(context: ExecutionContext): true | Promise<true> {
    if (context.getType() === 'ws') return this.checkMessage(context);
    const request = this.getRequest(context);
    if (request === undefined) return true;
    const response = responseOf(context, request);
    const route = routeOf(context);
    reach(request, { guard: this, response, route, isAbsent: isAbsent(context, request) });
    if (route !== undefined) return true;
    // What has no answer of its own may be the request with which a socket began, on which many operations come.
    if (response === undefined) return this.requestCheck.checkAgain(request);
    return this.requestCheck.check(request, response);
  }

  private async checkMessage(context: ExecutionContext): Promise<true> {
    if (routeOf(context) !== undefined) return true;
    if (isClosing(context.getArgByIndex(0))) throw new SessionUnknownException();
    const request = this.getRequest(context);
    if (request === undefined)
      throw new Error(
        `A message to ${context.getClass().name} came on a socket whose request is not known, so its session cannot be checked. ` +
          'Write handleConnection(client, request) { return sessions.closeWhenEnded(client, request); } with SingleSessionService as sessions, or put @SkipSingleSession() on the gateway.',
      );
    reach(request, { guard: this });
    try {
      return await this.requestCheck.checkAgain(request);
    } catch (error) {
      const farewell = farewellOf(error);
      if (farewell !== undefined && farewell !== 'unavailable')
        socketOf(context.getArgByIndex(0)).close(farewell);
      throw error;
    }
  }

  /** For this package: as {@link SingleSessionService.whenEnded}. */
  whenEnded(request: SessionRequest): Observable<SessionEnd> {
    return this.requestCheck.whenEnded(request);
  }

  protected getRequest(context: ExecutionContext): SessionRequest | undefined {
    return requestOf(context);
  }
}
