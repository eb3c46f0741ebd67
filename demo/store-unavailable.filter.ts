import { type ArgumentsHost, Catch } from '@nestjs/common';
import { BaseExceptionFilter } from '@nestjs/core';
import type { Response } from 'express';
import { SessionStoreUnavailableException } from 'nestjs-single-session';

/** Says when to come back, also where the cookie sessions could not be read and our guard was never asked. */
@Catch(SessionStoreUnavailableException)
export class StoreUnavailableFilter extends BaseExceptionFilter<SessionStoreUnavailableException> {
  override catch(exception: SessionStoreUnavailableException, host: ArgumentsHost): void {
    const response = host.switchToHttp().getResponse<Response>();
    if (!response.headersSent) response.setHeader('Retry-After', exception.retryAfter);
    super.catch(exception, host);
  }
}
