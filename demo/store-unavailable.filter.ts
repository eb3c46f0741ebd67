import { type ArgumentsHost, Catch } from '@nestjs/common';
import { BaseExceptionFilter } from '@nestjs/core';
import { SessionStoreUnavailableException } from 'nestjs-single-session';

/** Says when to come back, also where the cookie sessions could not be read and our guard was never asked. */
@Catch(SessionStoreUnavailableException)
export class StoreUnavailableFilter extends BaseExceptionFilter<SessionStoreUnavailableException> {
  override catch(exception: SessionStoreUnavailableException, host: ArgumentsHost): void {
    const { httpAdapter } = this.httpAdapterHost!;
    const response: unknown = host.switchToHttp().getResponse();
    if (!httpAdapter.isHeadersSent(response))
      httpAdapter.setHeader(response, 'Retry-After', String(exception.retryAfter));
    super.catch(exception, host);
  }
}
