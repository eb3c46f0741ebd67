import {
  ForbiddenException,
  Injectable,
  UnsupportedMediaTypeException,
  type CanActivate,
  type ExecutionContext,
} from '@nestjs/common';
import { bearerTokenOf, type SessionRequest } from '../http/request.js';

interface Http2 {
  stream?: { endAfterHeaders?: boolean };
}

type Request = SessionRequest & Http2 & { method: string; body?: unknown; raw?: Http2 };

const READS = ['GET', 'HEAD', 'OPTIONS'];
const FROM_HERE = ['same-origin', 'none'];

/**
 * Refuses a change that another site makes in the name of a signed-in browser (CSRF). A browser says itself where a
 * request comes from (Fetch Metadata; before that, Origin), and a page cannot forge it. A client that says neither is
 * no browser of this decade, and must send JSON, which no form can. A bearer token is not sent by a browser on its own;
 * beside cookies it proves nothing: one of them may be what the application goes by, a token in a cookie too.
 *
 * A body that is no JSON, or that no parser has read, is refused to everybody: an order without one may end everything.
 */
@Injectable()
export class SameOriginGuard implements CanActivate {
  canActivate(context: ExecutionContext): boolean {
    const request = context.switchToHttp().getRequest<Request>();
    if (READS.includes(request.method)) return true;
    if (!isByTokenAlone(request) && !isFromHere(request))
      throw new ForbiddenException('This request comes from another origin, so nothing was changed.');
    if (!isJsonOrEmpty(request))
      throw new UnsupportedMediaTypeException(
        'The body was not read, so nothing was changed. Send content-type: application/json.',
      );
    return true;
  }
}

const isByTokenAlone = (request: Request): boolean =>
  bearerTokenOf(request) !== undefined && request.headers['cookie'] === undefined;

function isFromHere({ headers }: Request): boolean {
  const site = headers['sec-fetch-site'];
  if (site !== undefined) return FROM_HERE.includes(String(site));
  const { origin } = headers;
  // RFC 9113, section 8.3.1: what HTTP/2 has in place of Host.
  const host = headers['host'] ?? headers[':authority'];
  return origin === undefined || hostOf(String(origin)) === String(host ?? '').toLowerCase();
}

function hostOf(origin: string): string | undefined {
  return URL.canParse(origin) ? new URL(origin).host : undefined;
}

// Also without a body a content type may tell a form, which any site can send; but with a token, no browser has sent it.
function isJsonOrEmpty(request: Request): boolean {
  const type = request.headers['content-type'];
  const isJson = /^application\/json\s*(;|$)/i.test(String(type));
  if (hasBody(request)) return isJson && request.body !== undefined;
  return type === undefined || isJson || isByTokenAlone(request);
}

/** RFC 9112, section 6.3. HTTP/2 says it by the stream, whatever the headers are. */
const hasBody = ({ headers, stream, raw }: Request): boolean =>
  headers['transfer-encoding'] !== undefined ||
  Number(headers['content-length']) > 0 ||
  (stream ?? raw?.stream)?.endAfterHeaders === false;
