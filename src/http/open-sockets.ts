import { Logger } from '@nestjs/common';
import type { Subscription } from 'rxjs';
import type { CurrentSession } from '../session/session.js';
import {
  SessionEndedException,
  SessionStoreUnavailableException,
  SessionUnknownException,
} from './exceptions.js';
import type { RequestCheck } from './request-check.js';
import { knownStateOf, type SessionRequest } from './request.js';
import { rememberRequest, requestOfClient, socketOf, type Farewell, type Socket } from './sockets.js';

/** Sockets that are closed when the session ends that opened them. */
export class OpenSockets {
  private readonly logger = new Logger('SingleSession');
  private readonly watches = new WeakMap<object, Subscription>();

  constructor(private readonly requestCheck: RequestCheck) {}

  /** The session; `undefined` when there is none that is live, and the socket is closed. */
  async closeWhenEnded(client: unknown, given?: object): Promise<CurrentSession | undefined> {
    const socket = socketOf(client);
    const request = (given ?? requestOfClient(client)) as SessionRequest | undefined;
    if (request === undefined)
      throw new TypeError(
        'A WebSocket of ws does not keep its request. Write handleConnection(client, request) { return sessions.closeWhenEnded(client, request); }.',
      );
    // At once: messages come while the session is being checked, and are checked by this request themselves.
    rememberRequest(client as object, request);
    try {
      await this.requestCheck.check(request, undefined);
      const current = knownStateOf(request)?.current;
      if (current === undefined) throw new SessionUnknownException();
      if (socket.isOpen) this.watch(client as object, socket, request);
      return current;
    } catch (error) {
      this.refuse(socket, error);
      return undefined;
    }
  }

  private watch(client: object, socket: Socket, request: SessionRequest): void {
    this.watches.get(client)?.unsubscribe();
    const watch = this.requestCheck.whenEnded(request).subscribe({
      next: (end) => socket.close(end),
      error: (error: unknown) => this.refuse(socket, error),
    });
    this.watches.set(client, watch);
    socket.onceClosed(() => watch.unsubscribe());
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
