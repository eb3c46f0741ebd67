import type { ExecutionContext } from '@nestjs/common';
import type { CurrentSession } from '../session/session.js';

/** The part of express-session's session that we touch. */
export interface CookieSession {
  /** The id of our session: public, and worthless outside the server-side store. */
  singleSession?: unknown;
  /** Passport's, which says who is logged in. */
  passport?: { user?: unknown };
  save(callback: (error?: unknown) => void): unknown;
  destroy(callback: (error?: unknown) => void): unknown;
}

/** The part of a request that we touch. */
export interface SessionRequest {
  headers: Record<string, string | string[] | undefined>;
  ip?: string;
  /** Set by Passport or whatever authenticates; `sid` when it came from a JWT. */
  user?: unknown;
  session?: CookieSession | null;
  sessionID?: string;
  res?: SessionResponse;
  [STATE]?: RequestState;
}

/** The part of a response that we touch. */
export interface SessionResponse {
  statusCode: number;
  headersSent: boolean;
  readonly writableFinished: boolean;
  readonly destroyed: boolean;
  setHeader(name: string, value: string): unknown;
  once(event: 'close', listener: () => void): unknown;
  end: (...parts: unknown[]) => unknown;
}

const STATE = Symbol('nestjs-single-session');

/** What we know of a request, from its arrival on. */
export interface RequestState {
  /** As they were before any login of this request could change them. */
  readonly arrivedWith: {
    readonly sessionID: string | undefined;
    readonly stamp: string | undefined;
    readonly user: unknown;
  };
  /** The guard stands on this route, or on all. */
  guarded?: boolean;
  /** What the guard has let pass: the backstop asks again only if a route guard has changed it. */
  checked?: { user: unknown; stamp: unknown };
  current?: CurrentSession;
}

/** The state of the request; the first call is its arrival. */
export function stateOf(request: SessionRequest): RequestState {
  return (request[STATE] ??= {
    arrivedWith: {
      sessionID: request.sessionID,
      stamp: text(request.session?.singleSession),
      user: request.user,
    },
  });
}

/** The state, unless nothing of ours has seen the request. */
export const knownStateOf = (request: SessionRequest): RequestState | undefined => request[STATE];

/** The request of an HTTP or GraphQL handler; `undefined` for transports that have none. */
export function requestOf(context: ExecutionContext): SessionRequest | undefined {
  const type = context.getType<string>();
  if (type === 'http') return context.switchToHttp().getRequest<SessionRequest>();
  if (type !== 'graphql') return undefined;
  const request = context.getArgByIndex<{ req?: SessionRequest } | undefined>(2)?.req;
  if (request === undefined)
    throw new Error(
      'nestjs-single-session finds no request in the GraphQL context. Write GraphQLModule.forRoot({ context: ({ req }) => ({ req }) }).',
    );
  return request;
}

/** The response to a request, of which a GraphQL context knows only through the request. */
export const responseOf = (
  context: ExecutionContext,
  request: SessionRequest,
): SessionResponse | undefined =>
  context.getType() === 'http' ? context.switchToHttp().getResponse<SessionResponse>() : request.res;

/** The `sid` of a user that came from a JWT, whatever its type. */
export const sidOf = (user: unknown): unknown => (user as { sid?: unknown } | null | undefined)?.sid;

/** The token of a bearer request (RFC 6750, section 2.1). */
export function bearerTokenOf({ headers }: SessionRequest): string | undefined {
  const header = headers.authorization;
  return typeof header === 'string' && header.slice(0, 7).toLowerCase() === 'bearer '
    ? header.slice(7).trim()
    : undefined;
}

const text = (value: unknown): string | undefined => (typeof value === 'string' ? value : undefined);
