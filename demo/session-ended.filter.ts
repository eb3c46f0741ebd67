import { type ArgumentsHost, Catch } from '@nestjs/common';
import { BaseExceptionFilter } from '@nestjs/core';
import type { Request, Response } from 'express';
import { SessionEndedException } from 'nestjs-single-session';

/**
 * Sends a browser whose session has ended to a page that says why. Every other client
 * keeps getting the package's 401 in JSON: a program cannot read a redirect to a page.
 */
@Catch(SessionEndedException)
export class SessionEndedFilter extends BaseExceptionFilter<SessionEndedException> {
  override catch(exception: SessionEndedException, host: ArgumentsHost): void {
    const http = host.switchToHttp();
    if (!isPageVisit(http.getRequest<Request>())) return super.catch(exception, host);
    http.getResponse<Response>().redirect(303, `/?ended=${encodeURIComponent(exception.reason)}`);
  }
}

/** A client that accepts anything, as curl and fetch do, gets JSON: it is named first. */
function isPageVisit(request: Request): boolean {
  return request.method === 'GET' && request.accepts(['json', 'html']) === 'html';
}
