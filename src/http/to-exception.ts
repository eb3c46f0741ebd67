import { BadRequestException } from '@nestjs/common';
import { CursorError } from '../session/administration-store.js';
import { NoRoomError } from '../session/admissions.js';
import { StoreUnavailableError } from '../session/session-store.js';
import { ThrottledLogger } from '../session/throttled-logger.js';
import { SessionLimitReachedException, SessionStoreUnavailableException } from './exceptions.js';
import { bearerTokenOf, type SessionRequest } from './request.js';
import { setHeader, type SessionResponse } from './response.js';

// One line a second says it; one line a request would bury it.
const logger = new ThrottledLogger(1_000);

/** The HTTP answer for what went wrong inside; what is not ours stays what it is. */
export function toException(error: unknown, response: SessionResponse | undefined): unknown {
  if (error instanceof NoRoomError) return new SessionLimitReachedException(error.maxSessions);
  if (error instanceof CursorError) return new BadRequestException([error.message]);
  if (!(error instanceof StoreUnavailableError)) return error;
  logger.error('unavailable', `${error.message}. Requests are refused with 503 until it does.`);
  const exception = new SessionStoreUnavailableException(error);
  setHeader(response, 'Retry-After', String(exception.retryAfter));
  return exception;
}

/** The answer, or the exception for what went wrong inside, where no response is at hand. */
export function orException<Answer>(answer: Promise<Answer>): Promise<Answer> {
  return answer.catch((error: unknown) => {
    throw toException(error, undefined);
  });
}

/** Says to a bearer client that its token is what was refused (RFC 6750, section 3). */
export function challengeBearer(request: SessionRequest, response: SessionResponse | undefined): void {
  if (bearerTokenOf(request) !== undefined)
    setHeader(response, 'WWW-Authenticate', 'Bearer error="invalid_token"');
}
