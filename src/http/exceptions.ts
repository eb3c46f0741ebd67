import { HttpException, HttpStatus } from '@nestjs/common';
import type { EndReason } from '../session/session.js';

const MESSAGES: Record<EndReason, string> = {
  superseded: 'This session ended because the account signed in elsewhere. Sign in again to continue here.',
  logout: 'This session was signed out. Sign in again to continue.',
  'logout-everywhere': 'The account was signed out of all its sessions. Sign in again to continue.',
  admin: 'An administrator ended this session. Sign in again to continue.',
  'cut-off': 'An administrator ended the sessions of all users. Sign in again to continue.',
  expired: 'This session has expired. Sign in again to continue.',
  idle: 'This session ended because it was not used. Sign in again to continue.',
  unknown: 'This session is not known. Sign in again to continue.',
};

function refusal(
  status: HttpStatus,
  error: string,
  message: string,
  members: Record<string, unknown>,
): [object, HttpStatus] {
  return [{ statusCode: status, error, message, ...members }, status];
}

/** 401, `SESSION_ENDED`: the session is dead, and `reason` says why. */
export class SessionEndedException extends HttpException {
  constructor(
    readonly reason: EndReason,
    /** `null` for a session that nobody knows. */
    readonly endedAt: Date | null,
  ) {
    super(
      ...refusal(HttpStatus.UNAUTHORIZED, 'Unauthorized', MESSAGES[reason], {
        code: 'SESSION_ENDED',
        reason,
        endedAt,
      }),
    );
  }
}

/** 401, `SESSION_UNKNOWN`: the request is authenticated, but no login of its credential was recorded, and `unregistered` is `'reject'`. */
export class SessionUnknownException extends HttpException {
  constructor() {
    const message = 'This sign-in was not recorded as a session. Sign in again to continue.';
    super(...refusal(HttpStatus.UNAUTHORIZED, 'Unauthorized', message, { code: 'SESSION_UNKNOWN' }));
  }
}

/** 409, `SESSION_LIMIT_REACHED`: the password was right, but there is no room and `onLimit` is `'reject'`. Not a failed login: do not count it as one. */
export class SessionLimitReachedException extends HttpException {
  constructor(readonly maxSessions: number) {
    const message = `The account already has ${maxSessions} active session(s). Sign out elsewhere first.`;
    super(
      ...refusal(HttpStatus.CONFLICT, 'Conflict', message, { code: 'SESSION_LIMIT_REACHED', maxSessions }),
    );
  }
}

/** 503, `SESSION_STORE_UNAVAILABLE`, with `Retry-After`: neither yes nor no is known. Not a 401, which would make every client sign in again, and evict, when the store is back. */
export class SessionStoreUnavailableException extends HttpException {
  /** Seconds. */
  readonly retryAfter = 1;

  constructor(cause?: unknown) {
    const message = 'Sessions cannot be checked at the moment. Try again shortly.';
    super(
      ...refusal(HttpStatus.SERVICE_UNAVAILABLE, 'Service Unavailable', message, {
        code: 'SESSION_STORE_UNAVAILABLE',
      }),
      { cause },
    );
  }
}
