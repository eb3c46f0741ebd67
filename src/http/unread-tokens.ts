import { A_MINUTE_MS, type ThrottledLogger } from '../session/throttled-logger.js';
import { bearerTokenOf, type SessionRequest } from './request.js';

const HINT =
  "For a minute, each request with a bearer token has passed as nobody's: its user was not in request.user when the guards of its route had run. Nothing else is looked at, so the token of an ended session passes, too. " +
  "Expected if all of them went to public routes. Otherwise let a guard, such as AuthGuard('jwt'), put the user of the token into request.user, with its `sid`: no interceptor, no handler, and no other property of the request.";

/** Says in the log when tokens are not read where this module looks for their users: the limit would hold for nobody. */
export class UnreadTokens {
  private isRead = false;
  private since: number | undefined;

  constructor(private readonly hints: ThrottledLogger) {}

  /** A request has a user. */
  read(request: SessionRequest): void {
    this.isRead ||= bearerTokenOf(request) !== undefined;
  }

  /** A request has no user yet. Guards of its route may still read its token, which may take long for the very first. */
  pass(request: SessionRequest): void {
    if (this.isRead || bearerTokenOf(request) === undefined) return;
    const now = performance.now();
    this.since ??= now;
    if (now - this.since >= A_MINUTE_MS) this.hints.warn('unread token', HINT);
  }
}
