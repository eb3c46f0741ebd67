import type { Reply, SessionResponse } from './response.js';

/** The part of a cookie session that we touch: of express-session, or of @fastify/session. */
export interface CookieSession {
  /** The id of our session: public, and worthless outside the server-side store. */
  singleSession?: unknown;
  /** Passport's, which says who is logged in. */
  passport?: { user?: unknown };
  /** Its id on Fastify; Express has it in the request. */
  readonly sessionId?: string;
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
  /** A list where the request is a batch of GraphQL operations. */
  body?: unknown;
  /** `null` where the connection of a socket polls. */
  res?: SessionResponse | null;
  /** On Fastify, where logins may come before the guard. */
  singleSessionReply?: Reply;
  /** The application that serves it: Express's, or the instance of Fastify. */
  app?: unknown;
  server?: unknown;
}

/** Whether the request is nobody's, as far as it says: it has neither a user nor a cookie session of ours. */
export const isAnonymous = ({ user, session }: SessionRequest): boolean =>
  !user && session?.singleSession === undefined;

/** The id of the cookie session: a secret, which the cookie holds. */
export const sessionIdOf = ({ sessionID, session }: SessionRequest): string | undefined =>
  sessionID ?? session?.sessionId;

/** The `sid` of a user that came from a JWT, whatever its type. */
export const sidOf = (user: unknown): unknown => (user as { sid?: unknown } | null | undefined)?.sid;

/** The token of a bearer request (RFC 6750, section 2.1). What is given in place of a request may have no headers. */
export function bearerTokenOf({ headers }: Partial<SessionRequest>): string | undefined {
  const header = headers?.authorization;
  return typeof header === 'string' && header.slice(0, 7).toLowerCase() === 'bearer '
    ? header.slice(7).trim()
    : undefined;
}

/**
 * Whether a token brought the user, as far as can be told: in the header, or, where the request has no cookie session that
 * could have, in a cookie of its own or in the body.
 */
export const isByToken = (request: SessionRequest): boolean =>
  bearerTokenOf(request) !== undefined || (Boolean(request.user) && !request.session);
