import {
  Inject,
  Injectable,
  type CallHandler,
  type ExecutionContext,
  type NestInterceptor,
} from '@nestjs/common';
import { concatMap, tap, type Observable } from 'rxjs';
import { answered } from '../session/answered.js';
import { ThrottledLogger } from '../session/throttled-logger.js';
import { Sessions } from '../session/sessions.js';
import { arrivedUnadopted } from './arrived-session.js';
import { claimsOf } from './claims.js';
import { isOfSomebody, stampOf, takeOutCookieSession } from './cookie-session.js';
import { once } from './once.js';
import { requestOf, responseOf } from './execution-context.js';
import { originOf } from './origin.js';
import { isByToken, type SessionRequest } from './request.js';
import { setEnded, stateOf } from './request-state.js';
import { nodeResponseOf, type SessionResponse } from './response.js';
import { toException } from './to-exception.js';
import { beforeAnswer } from './unless-answered.js';

const HINT_FOR_TOKENS =
  "A logout ended nothing: it came with a token, and request.user has no `sid`. Put the guard that authenticates, such as @UseGuards(AuthGuard('jwt')), on the route beside " +
  '@SingleSessionLogout(), and let JwtStrategy.validate() return `sid: payload.sid`.';

/**
 * Takes the cookie session out of the request, unless the handler has done so, or has begun an anonymous one, which is none
 * of ours. Waits for Passport's `logOut()`, and if that does not come to its end, leaves the cookie session in place: its
 * callbacks would end the process if they did not find it. Resolves to what puts it back.
 */
async function leaveCookieSession(
  request: SessionRequest,
  stamp: string | undefined,
): Promise<(() => void) | void> {
  const { loggedOut = Promise.resolve() } = stateOf(request);
  const isOver = await answered(loggedOut).then(
    () => true,
    () => false,
  );
  if (isOver && stampOf(request) === stamp && isOfSomebody(request)) return takeOutCookieSession(request);
}

/** Ends the session of the request before the handler of a logout route runs. Applied by `@SingleSessionLogout()`. */
@Injectable()
export class SingleSessionLogoutInterceptor implements NestInterceptor {
  private readonly hints = new ThrottledLogger();

  constructor(@Inject(Sessions) private readonly sessions: Sessions) {}

  async intercept(context: ExecutionContext, next: CallHandler): Promise<Observable<unknown>> {
    const request = requestOf(context);
    if (request === undefined)
      throw new Error(
        `@SingleSessionLogout() on ${context.getClass().name}.${context.getHandler().name} found no request, so it cannot know which session to end. ` +
          'Take it off, and call SingleSessionService.end(sessionId) in the handler.',
      );
    const response = responseOf(context, request);
    const stamp = stampOf(request);
    await this.endClaimed(request, response);
    setEnded(request, stamp);
    if (!isOfSomebody(request)) return next.handle();
    const leave = once(() => leaveCookieSession(request, stamp));
    // A handler may be at work with it until it answers, and its callbacks longer than it says.
    if (response !== undefined && !nodeResponseOf(response).headersSent) {
      let failed = false;
      beforeAnswer(response, () => (failed ? undefined : leave()));
      return next.handle().pipe(tap({ error: () => (failed = true) }));
    }
    return next.handle().pipe(concatMap((value: unknown) => leave().then(() => value)));
  }

  private async endClaimed(request: SessionRequest, response: SessionResponse | undefined): Promise<void> {
    try {
      // A cookie session is the server's own; a token says what its signer put in.
      const claims = claimsOf(request);
      // The client believes to be signed out.
      if (claims.length === 0 && isByToken(request)) this.hints.warn('nothing ended', HINT_FOR_TOKENS);
      const before = claims.length === 0 ? arrivedUnadopted(request) : undefined;
      if (before !== undefined) await this.sessions.logoutUnadopted(before, originOf(request));
      for (const { id, credential } of claims)
        await this.sessions.logout(id, request.user || undefined, credential === 'token');
    } catch (error) {
      throw toException(error, response);
    }
  }
}
