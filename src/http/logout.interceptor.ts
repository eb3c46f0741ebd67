import {
  Inject,
  Injectable,
  type CallHandler,
  type ExecutionContext,
  type NestInterceptor,
} from '@nestjs/common';
import { concatMap, type Observable } from 'rxjs';
import { Sessions } from '../session/sessions.js';
import { claimsOf } from './claims.js';
import { destroyCookieSession, stampOf } from './cookie-session.js';
import { requestOf, responseOf, type SessionRequest, type SessionResponse } from './request.js';
import { toException } from './to-exception.js';

/** Ends the session of the request before the handler of a logout route runs. Applied by `@SingleSessionLogout()`. */
@Injectable()
export class SingleSessionLogoutInterceptor implements NestInterceptor {
  constructor(@Inject(Sessions) private readonly sessions: Sessions) {}

  async intercept(context: ExecutionContext, next: CallHandler): Promise<Observable<unknown>> {
    const request = requestOf(context);
    if (request === undefined) return next.handle();
    const response = responseOf(context, request);
    const stamp = stampOf(request);
    await this.endClaimed(request, response);
    return next.handle().pipe(
      concatMap(async (value: unknown) => {
        // The handler may have done it, or have begun an anonymous session that is none of ours.
        if (stamp !== undefined && stampOf(request) === stamp) await destroyCookieSession(request);
        return value;
      }),
    );
  }

  private async endClaimed(request: SessionRequest, response: SessionResponse | undefined): Promise<void> {
    try {
      // A cookie session is the server's own; a token says what its signer put in.
      for (const { id, credential } of claimsOf(request))
        await this.sessions.logout(id, request.user || undefined, credential === 'token');
    } catch (error) {
      throw toException(error, response);
    }
  }
}
