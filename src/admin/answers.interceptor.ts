import {
  ForbiddenException,
  Injectable,
  type CallHandler,
  type ExecutionContext,
  type NestInterceptor,
} from '@nestjs/common';
import { catchError, throwError, type Observable } from 'rxjs';
import { setHeader, type SessionResponse } from '../http/response.js';
import { toException } from '../http/to-exception.js';
import { ForbiddenError } from '../session/administration.js';

/** Marks the answers `no-store` and `nosniff`, and turns what went wrong inside into an HTTP answer. */
@Injectable()
export class AnswersInterceptor implements NestInterceptor {
  intercept(context: ExecutionContext, next: CallHandler): Observable<unknown> {
    const response = context.switchToHttp().getResponse<SessionResponse>();
    setHeader(response, 'Cache-Control', 'no-store');
    setHeader(response, 'X-Content-Type-Options', 'nosniff');
    return next.handle().pipe(catchError((error: unknown) => throwError(() => refusal(error, response))));
  }
}

function refusal(error: unknown, response: SessionResponse): unknown {
  if (error instanceof ForbiddenError) return new ForbiddenException(error.message);
  return toException(error, response);
}
