import { SetMetadata, type CanActivate, type ExecutionContext } from '@nestjs/common';
import type { Observable } from 'rxjs';
import type { CurrentSession } from '../session/session.js';
import type { SessionEnd } from '../session/watches.js';
import type { Route } from './route.js';
import { requestOfClient } from './sockets.js';

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
  /** `null` where the connection of a socket polls. */
  res?: SessionResponse | null;
  /** On Fastify, where logins may come before the guard. */
  singleSessionReply?: Reply;
  /** The application that serves it: Express's, or the instance of Fastify. */
  app?: unknown;
  server?: unknown;
}

/** The part of a connection that we touch. */
export interface Connection {
  readonly destroyed?: boolean;
  once?(event: 'close', listener: () => void): unknown;
}

/** The part of Node's response that we touch. */
export interface NodeResponse {
  statusCode: number;
  readonly headersSent: boolean;
  readonly writableFinished: boolean;
  readonly destroyed: boolean;
  setHeader(name: string, value: string | string[]): unknown;
  getHeader(name: string): unknown;
  getHeaders(): Record<string, string | string[]>;
  removeHeader(name: string): unknown;
  readonly socket?: { readonly bytesWritten?: number | undefined } | null;
  readonly req?: { readonly socket?: Connection | null };
  /** Of HTTP/2. */
  readonly stream?: { readonly destroyed: boolean; readonly aborted: boolean };
  once(event: 'close' | 'finish', listener: () => void): unknown;
  destroy(): unknown;
  end: (...parts: unknown[]) => unknown;
}

/** The part of Fastify's reply that we touch. */
export interface Reply {
  statusCode: number;
  readonly raw: NodeResponse;
  header(name: string, value: string | string[]): unknown;
  getHeader(name: string): unknown;
  getHeaders(): Record<string, string | string[]>;
  removeHeader(name: string): unknown;
  send: (...parts: unknown[]) => unknown;
}

/** What a handler answers with: Express's response, which is Node's own, or Fastify's reply around that. */
export type SessionResponse = NodeResponse | Reply;

/** An admitted login, and the way back. */
export interface AdmittedLogin {
  session: CurrentSession;
  /** What was known of the route when it was admitted: nothing in a middleware. */
  route: Route | undefined;
  /** Ends the session and destroys its cookie session. Never fails: it is called when something else has. */
  takeBack: () => Promise<void>;
}

/** A guard that can also tell when the session ends of a request that it has let pass. */
export interface RequestGuard extends CanActivate {
  whenEnded(request: SessionRequest): Observable<SessionEnd>;
}

/** What we know of a request, from its arrival on. */
export interface RequestState {
  /** These three as they were before any login of this request could change them. */
  readonly arrivedSessionId: string | undefined;
  readonly arrivedStamp: string | undefined;
  readonly arrivedUser: unknown;
  /** The guard that the request has met. */
  guard: RequestGuard | undefined;
  /** What the guard has let pass: the backstop asks again only if a route guard has changed it. */
  checked: { readonly user: unknown; readonly stamp: unknown } | undefined;
  current: CurrentSession | undefined;
  /** The login that this request was, when it is admitted. */
  login: AdmittedLogin | undefined;
  /** What our decorators say of the route, when it is known. */
  route: Route | undefined;
  /** A page has made the request on its own. */
  isUnused: boolean;
  /** What Express's request knows by itself. */
  response: SessionResponse | undefined;
  /** The end of Passport's `logout()`, which is under way or over. */
  loggedOut: Promise<void> | undefined;
  /** Whose session the logout route has ended that the request came to. */
  endedStamp: string | undefined;
}

// Beside the request and not on it: a request has so many properties that V8 takes longer for each one more.
const states = new WeakMap<SessionRequest, RequestState>();

/** The state of the request; the first call is its arrival. */
export function stateOf(request: SessionRequest): RequestState {
  const known = states.get(request);
  if (known !== undefined) return known;
  const state = arrivalOf(request);
  states.set(request, state);
  return state;
}

// In one piece, with all that will be known: each request makes one, and to grow it costs more than to make it.
function arrivalOf(request: SessionRequest): RequestState {
  const { session, user } = request;
  return {
    arrivedSessionId: session ? sessionIdOf(request) : undefined,
    arrivedStamp: session ? text(session.singleSession) : undefined,
    arrivedUser: user,
    guard: undefined,
    checked: undefined,
    current: undefined,
    login: undefined,
    route: undefined,
    isUnused: false,
    response: undefined,
    loggedOut: undefined,
    endedStamp: undefined,
  };
}

/** To be called before Passport establishes a login. It has set the user already, who did not come with the request. */
export function arriveAtLogin(request: SessionRequest): void {
  if (states.has(request)) return;
  const { user } = request;
  request.user = undefined;
  stateOf(request);
  request.user = user;
}

/** The state, unless nothing of ours has seen the request. */
export const knownStateOf = (request: SessionRequest): RequestState | undefined => states.get(request);

/** The response to a request that may not have met a guard yet. */
export const responseTo = (request: SessionRequest): SessionResponse | undefined =>
  knownStateOf(request)?.response ?? request.singleSessionReply ?? request.res ?? undefined;

/** Whether the request is nobody's, as far as it says: it has neither a user nor a cookie session of ours. */
export const isAnonymous = ({ user, session }: SessionRequest): boolean =>
  !user && session?.singleSession === undefined;

/** Whether the request has been checked as it is now: with this user and this cookie session. */
export function isChecked({ user, session }: SessionRequest, { checked }: RequestState): boolean {
  return checked !== undefined && checked.user === user && checked.stamp === session?.singleSession;
}

/** To be called when the request has been checked, or its login admitted. */
export function setChecked(
  request: SessionRequest,
  current: CurrentSession,
  user: unknown = request.user,
  stamp: unknown = request.session?.singleSession,
): void {
  const state = stateOf(request);
  state.current = current;
  state.checked = { user, stamp };
}

/** To be called when the login of the request is taken back, or its session is over. */
export function forgetLogin(request: SessionRequest): void {
  const state = stateOf(request);
  state.current = undefined;
  state.login = undefined;
}

const MAY_BE_ABSENT = 'nestjs-single-session:may-be-absent';

/** Of a route that a page of ours asks on its own, and says so when nobody is there. */
export const MayBeAbsent = (): MethodDecorator => SetMetadata(MAY_BE_ABSENT, true);

/** Whether a page made the request on its own: it is checked like any, and does not postpone the idle timeout. */
export const isAbsent = (context: ExecutionContext, { headers }: Partial<SessionRequest>): boolean =>
  headers?.['x-single-session'] === 'absent' &&
  Reflect.getMetadata(MAY_BE_ABSENT, context.getHandler()) === true;

/** The id of the cookie session: a secret, which the cookie holds. */
export const sessionIdOf = ({ sessionID, session }: SessionRequest): string | undefined =>
  sessionID ?? session?.sessionId;

/** The request of an HTTP or GraphQL handler, or that with which the socket of a message began; `undefined` for transports that have none. */
export function requestOf(context: ExecutionContext): SessionRequest | undefined {
  const type = context.getType<string>();
  // What `switchToHttp()` gives, without the three functions that it makes each time.
  if (type === 'http') return asRequest(context.getArgByIndex(0));
  if (type === 'ws') return requestOfClient(context.getArgByIndex(0));
  if (type !== 'graphql') return undefined;
  const request = context.getArgByIndex<{ req?: SessionRequest } | undefined>(2)?.req;
  if (request === undefined)
    throw new Error(
      'nestjs-single-session finds no request in the GraphQL context. Write GraphQLModule.forRoot({ context: ({ req }) => ({ req }) }), on Fastify context: (req, reply) => ({ req, reply }).',
    );
  return request;
}

// What names no type is HTTP to Nest, such as a handler that a library calls through it, with whatever argument.
function asRequest(argument: unknown): SessionRequest | undefined {
  const headers = (argument as Partial<SessionRequest> | null | undefined)?.headers;
  return typeof headers === 'object' && headers !== null ? (argument as SessionRequest) : undefined;
}

/** The response to a request, of which a GraphQL context knows through the request, or on Fastify by a `reply`. */
export function responseOf(context: ExecutionContext, request: SessionRequest): SessionResponse | undefined {
  const type = context.getType<string>();
  if (type === 'http') return context.getArgByIndex<SessionResponse>(1);
  const reply =
    type === 'graphql' ? context.getArgByIndex<{ reply?: Reply } | undefined>(2)?.reply : undefined;
  return reply ?? request.res ?? undefined;
}

/** The `sid` of a user that came from a JWT, whatever its type. */
export const sidOf = (user: unknown): unknown => (user as { sid?: unknown } | null | undefined)?.sid;

/** The token of a bearer request (RFC 6750, section 2.1). What is given in place of a request may have no headers. */
export function bearerTokenOf({ headers }: Partial<SessionRequest>): string | undefined {
  const header = headers?.authorization;
  return typeof header === 'string' && header.slice(0, 7).toLowerCase() === 'bearer '
    ? header.slice(7).trim()
    : undefined;
}

const text = (value: unknown): string | undefined => (typeof value === 'string' ? value : undefined);
