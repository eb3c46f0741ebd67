import type { IncomingHttpHeaders } from 'node:http';
import { type ArgumentsHost, Catch } from '@nestjs/common';
import { BaseExceptionFilter } from '@nestjs/core';
import { SessionEndedException } from 'nestjs-single-session';

interface Request {
  method: string;
  headers: IncomingHttpHeaders;
}

/**
 * Sends a browser whose session has ended to a page that says why. Every other client
 * keeps getting the package's 401 in JSON: a program cannot read a redirect to a page.
 */
@Catch(SessionEndedException)
export class SessionEndedFilter extends BaseExceptionFilter<SessionEndedException> {
  override catch(exception: SessionEndedException, host: ArgumentsHost): void {
    const http = host.switchToHttp();
    if (!isPageVisit(http.getRequest<Request>())) return super.catch(exception, host);
    const url = `/?ended=${encodeURIComponent(exception.reason)}`;
    this.httpAdapterHost!.httpAdapter.redirect(http.getResponse(), 303, url);
  }
}

/** A client that accepts anything, as curl and fetch do, gets JSON: it does not ask for a page. */
function isPageVisit({ method, headers: { accept = '' } }: Request): boolean {
  return method === 'GET' && accept.includes('text/html') && !accept.includes('application/json');
}
