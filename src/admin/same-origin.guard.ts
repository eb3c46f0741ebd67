import {
  ForbiddenException,
  Injectable,
  UnsupportedMediaTypeException,
  type CanActivate,
  type ExecutionContext,
} from '@nestjs/common';
import { bearerTokenOf, type SessionRequest } from '../http/request.js';

type Request = SessionRequest & { method: string };

const READS = ['GET', 'HEAD', 'OPTIONS'];
const FROM_HERE = ['same-origin', 'none'];

/**
 * Refuses a change that another site makes in the name of a signed-in browser (CSRF). A browser says itself where a
 * request comes from (Fetch Metadata; before that, Origin), and a page cannot forge it. A client that says neither is
 * no browser of this decade, and must send JSON, which no form can. A bearer token is not sent by a browser on its own;
 * beside a cookie session it proves nothing.
 */
@Injectable()
export class SameOriginGuard implements CanActivate {
  canActivate(context: ExecutionContext): boolean {
    const request = context.switchToHttp().getRequest<Request>();
    if (READS.includes(request.method) || isByTokenAlone(request)) return true;
    if (!isFromHere(request))
      throw new ForbiddenException('This request comes from another site, so nothing was changed.');
    if (!isJsonOrEmpty(request))
      throw new UnsupportedMediaTypeException('Send content-type: application/json.');
    return true;
  }
}

const isByTokenAlone = (request: Request): boolean =>
  bearerTokenOf(request) !== undefined && request.session?.singleSession === undefined;

function isFromHere({ headers }: Request): boolean {
  const site = headers['sec-fetch-site'];
  if (site !== undefined) return FROM_HERE.includes(String(site));
  const { origin, host } = headers;
  return origin === undefined || hostOf(String(origin)) === String(host).toLowerCase();
}

function hostOf(origin: string): string | undefined {
  return URL.canParse(origin) ? new URL(origin).host : undefined;
}

function isJsonOrEmpty({ headers }: Request): boolean {
  const type = headers['content-type'];
  return type === undefined || /^application\/json\s*(;|$)/i.test(String(type));
}
