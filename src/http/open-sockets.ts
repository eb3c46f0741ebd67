import { Logger } from '@nestjs/common';
import type { Subscription } from 'rxjs';
import { ThrottledLogger } from '../session/throttled-logger.js';
import type { CurrentSession } from '../session/session.js';
import {
  SessionEndedException,
  SessionStoreUnavailableException,
  SessionUnknownException,
} from './exceptions.js';
import type { RequestCheck } from './request-check.js';
import { isAnonymous, type SessionRequest } from './request.js';
import { currentSessionOf, forgetLogin } from './request-state.js';
import { rememberRequest, requestOfClient, socketOf, type Farewell, type Socket } from './sockets.js';

const REMEDY_FOR_SOCKETS =
  'closeWhenEnded() found nobody on the request of a socket, and closed the socket. If this happens to users who are signed in: the handshake of a socket passes neither the middleware of main.ts nor a guard. ' +
  'With cookie sessions and socket.io, write server.engine.use(cookieSessions) and server.engine.use(passport.session()) in afterInit(server), on Fastify with a session() of express-session that reads the cookies of @fastify/session (docs/live.md, "WebSockets"); with a token, verify it and write closeWhenEnded(client, { user }).';

/** One call of closeWhenEnded(). */
interface Call {
  /** As it was given, or as socket.io keeps it. */
  readonly request: SessionRequest;
}

/** Sockets that are closed when the session ends that opened them. */
export class OpenSockets {
  private readonly logger = new Logger('SingleSession');
  private readonly hints = new ThrottledLogger();
  private readonly watches = new WeakMap<object, Subscription>();
  private readonly latestCalls = new WeakMap<object, Call>();
  private readonly ownRequests = new WeakMap<SessionRequest, SessionRequest>();

  constructor(private readonly requestCheck: RequestCheck) {}

  /** The session; `undefined` when there is none that is live, and the socket is closed. */
  async closeWhenEnded(client: unknown, given?: object): Promise<CurrentSession | undefined> {
    const socket = socketOf(client);
    // Not shown: it may be the token itself.
    if (given !== undefined && typeof given !== 'object')
      throw new TypeError(
        `closeWhenEnded() takes a request or { user } beside the client; it was given a ${typeof given}.`,
      );
    const call = { request: given ?? this.requestOf(client as object) } as Call;
    this.latestCalls.set(client as object, call);
    // At once: messages come while the session is being checked, and are checked by this request themselves.
    const request = socket.sharesRequest ? this.ownRequestOf(call.request) : call.request;
    rememberRequest(client as object, request);
    if (isAnonymous(call.request) && !('user' in call.request))
      this.hints.warn('socket of nobody', REMEDY_FOR_SOCKETS);
    // Who signed in anew meanwhile may have been answered first.
    const isLatest = (): boolean => this.latestCalls.get(client as object) === call;
    try {
      const current = await this.sessionOf(request);
      if (socket.isOpen && isLatest()) this.watch(client as object, socket, request);
      return current;
    } catch (error) {
      if (isLatest()) this.refuse(socket, error);
      return undefined;
    }
  }

  private requestOf(client: object): object {
    const request = this.latestCalls.get(client)?.request ?? requestOfClient(client);
    if (request !== undefined) return request;
    throw new TypeError(
      'A WebSocket of ws does not keep its request. Write handleConnection(client, request) { return sessions.closeWhenEnded(client, request); }.',
    );
  }

  // A shared request has the user who was set last, for whichever socket. While that is the same, its sockets have one
  // request in common: a second check of the same user would bring back roles that were lost since the first.
  private ownRequestOf(shared: SessionRequest): SessionRequest {
    const { user, session, sessionID } = shared;
    const known = this.ownRequests.get(shared);
    if (known !== undefined && known.user === user && known.session === session) return known;
    // Of a connection that begins by polling, socket.io has made the response null.
    const properties = Object.getOwnPropertyDescriptors({ user, session, sessionID, res: undefined });
    const own = Object.create(shared, properties) as SessionRequest;
    this.ownRequests.set(shared, own);
    return own;
  }

  private async sessionOf(request: SessionRequest): Promise<CurrentSession> {
    // A check of nobody would pass, and leave in place whose the request was before.
    if (isAnonymous(request)) forgetLogin(request);
    else await this.requestCheck.checkAgain(request);
    const current = currentSessionOf(request);
    if (current === undefined) throw new SessionUnknownException();
    return current;
  }

  private watch(client: object, socket: Socket, request: SessionRequest): void {
    const before = this.watches.get(client);
    // Once: a client that renews its token does so on one socket for days.
    if (before === undefined) socket.onceClosed(() => this.watches.get(client)?.unsubscribe());
    else before.unsubscribe();
    const watch = this.requestCheck.whenEnded(request).subscribe({
      next: (end) => socket.close(end),
      error: (error: unknown) => this.refuse(socket, error),
    });
    this.watches.set(client, watch);
  }

  // Never throws: nobody waits for handleConnection(), and a rejection that nobody handles ends the process.
  private refuse(socket: Socket, error: unknown): void {
    const farewell = farewellOf(error);
    if (farewell === undefined) this.logger.error(error);
    socket.close(farewell ?? 'unavailable');
  }
}

/** What to tell a client that is refused for this; `undefined` where the error is none of ours. */
export function farewellOf(error: unknown): Farewell | undefined {
  if (error instanceof SessionEndedException) return { reason: error.reason, endedAt: error.endedAt };
  if (error instanceof SessionUnknownException) return { reason: 'unknown', endedAt: null };
  return error instanceof SessionStoreUnavailableException ? 'unavailable' : undefined;
}
