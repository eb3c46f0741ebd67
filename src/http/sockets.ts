import type { SessionEnd } from '../session/session.js';

/** The part of a socket.io socket that we touch. */
interface SocketIoSocket {
  readonly connected: boolean;
  readonly request?: object;
  /** Its connection, with the sockets of all namespaces: not documented, so it may be missing. */
  readonly client?: { readonly sockets?: { readonly size?: number } };
  emit(event: string, ...data: unknown[]): unknown;
  disconnect(close: boolean): unknown;
  once(event: 'disconnect', listener: () => void): unknown;
}

/** The part of a WebSocket of `ws` that we touch. */
interface WsSocket {
  readonly readyState: number;
  close(code: number, reason: string): unknown;
  once(event: 'close', listener: () => void): unknown;
}

/** What a client is told before its socket is closed. */
export type Farewell = SessionEnd | 'unavailable';

/** A socket of a client, of whatever library. */
export interface Socket {
  readonly isOpen: boolean;
  /** Whether its request is the same object for other sockets: those of other namespaces on one connection. */
  readonly sharesRequest: boolean;
  close(farewell: Farewell): void;
  onceClosed(listener: () => void): void;
}

// RFC 6455, section 7.4: 4000 to 4999 is for private use; 1013 is "try again later".
const SESSION_ENDED_CODE = 4401;
const TRY_AGAIN_LATER_CODE = 1013;
const WS_OPEN = 1;

const requests = new WeakMap<object, object>();

/** Keeps the request that a client's socket began with. */
export const rememberRequest = (client: object, request: object): void => void requests.set(client, request);

/** The request that a client's socket began with: what was remembered, or what socket.io keeps itself. */
export function requestOfClient<Request extends object>(client: unknown): Request | undefined {
  if (typeof client !== 'object' || client === null) return undefined;
  const request = requests.get(client) ?? (isSocketIo(client) ? client.request : undefined);
  return request as Request | undefined;
}

/**
 * Known by its shape: neither socket.io nor `ws` is a dependency of ours.
 * @throws TypeError for what is neither
 */
export function socketOf(client: unknown): Socket {
  if (typeof client === 'object' && client !== null) {
    if (isSocketIo(client)) return ofSocketIo(client);
    if (isWs(client)) return ofWs(client);
  }
  throw new TypeError(
    'closeWhenEnded() takes the client that handleConnection(client, request) was given: a socket of socket.io or of ws.',
  );
}

const isSocketIo = (client: object): client is SocketIoSocket =>
  'disconnect' in client && typeof client.disconnect === 'function' && 'connected' in client;

const isWs = (client: object): client is WsSocket =>
  'close' in client &&
  typeof client.close === 'function' &&
  'readyState' in client &&
  typeof client.readyState === 'number';

/** Whether it has been closed here, and the client may not know it yet: its messages still come. Known of `ws` alone, which lets them through. */
export const isClosing = (client: unknown): boolean =>
  typeof client === 'object' && client !== null && isWs(client) && client.readyState !== WS_OPEN;

const isAloneOnConnection = ({ client }: SocketIoSocket): boolean => (client?.sockets?.size ?? 1) <= 1;

const ofSocketIo = (client: SocketIoSocket): Socket => ({
  sharesRequest: true,
  get isOpen() {
    return client.connected;
  },
  close(farewell) {
    if (farewell === 'unavailable') client.emit('session-unavailable');
    else client.emit('session-ended', { reason: farewell.reason, endedAt: farewell.endedAt });
    // Other sockets of the connection may be somebody else's, and would be closed without a reason.
    client.disconnect(isAloneOnConnection(client));
  },
  onceClosed: (listener) => void client.once('disconnect', listener),
});

const ofWs = (client: WsSocket): Socket => ({
  sharesRequest: false,
  get isOpen() {
    return client.readyState === WS_OPEN;
  },
  close(farewell) {
    if (farewell === 'unavailable') client.close(TRY_AGAIN_LATER_CODE, 'SESSION_STORE_UNAVAILABLE');
    else client.close(SESSION_ENDED_CODE, farewell.reason);
  },
  onceClosed: (listener) => void client.once('close', listener),
});
