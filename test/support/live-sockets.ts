import { once } from 'node:events';
import { io, Manager, type Socket } from 'socket.io-client';
import { WebSocket } from 'ws';

export const SOCKET_PATH = '/live';

/** How a client's socket was closed: with what it was told. */
export interface Closed {
  /** For `ws` the reason alone: a close frame has no room for more. */
  told: unknown;
  code?: number;
}

/** A client's socket, of whichever library. */
export interface LiveSocket {
  /** Whether it is open at the moment. */
  readonly isOpen: boolean;
  readonly closed: Promise<Closed>;
  /** Sends a message; resolves to its answer, or to what the server said went wrong; does not resolve on a socket that is closed. */
  ask(event: string): Promise<unknown>;
  close(): void;
}

export type Library = 'socket.io' | 'ws';

/** Resolves when it is open. The server may close it right after. */
export const openSocket = (
  library: Library,
  url: string,
  headers: Record<string, string>,
): Promise<LiveSocket> => (library === 'ws' ? openWs(url, headers) : openSocketIo(url, headers));

const SOCKET_IO = { path: SOCKET_PATH, transports: ['websocket'], reconnection: false };

const openSocketIo = (url: string, extraHeaders: Record<string, string>): Promise<LiveSocket> =>
  connected(io(url, { ...SOCKET_IO, extraHeaders, forceNew: true }));

/** One connection of socket.io, which the sockets of all its namespaces share. Those opened before it is there connect at the same moment. */
export class LiveConnection {
  private readonly manager: Manager;

  constructor(url: string, extraHeaders: Record<string, string> = {}, transports = SOCKET_IO.transports) {
    this.manager = new Manager(url, { ...SOCKET_IO, extraHeaders, transports });
  }

  /** Besides, what the event `opened` brings, which the server may send. */
  async open(
    namespace: string,
    auth: Record<string, unknown> = {},
  ): Promise<LiveSocket & { readonly opened: Promise<unknown> }> {
    const socket = this.manager.socket(namespace, { auth });
    const opened = once(socket as never, 'opened').then(([data]: unknown[]) => data);
    return Object.assign(await connected(socket), { opened });
  }
}

async function connected(socket: Socket): Promise<LiveSocket> {
  let told: unknown;
  for (const event of ['session-ended', 'session-unavailable'])
    socket.on(event, (data: unknown) => (told = data ?? event));
  const closed = once(socket as never, 'disconnect').then(([reason]: unknown[]) => {
    // After any other the client would connect again by itself, and again.
    if (told !== undefined && reason !== 'io server disconnect') throw new Error(String(reason));
    return { told };
  });
  await once(socket as never, 'connect');
  return {
    get isOpen() {
      return socket.connected;
    },
    closed,
    close: () => void socket.disconnect(),
    async ask(event) {
      socket.emit(event);
      const [answer] = (await Promise.race([
        once(socket as never, 'answer'),
        once(socket as never, 'exception'),
      ])) as [unknown];
      return answer;
    },
  };
}

async function openWs(url: string, headers: Record<string, string>): Promise<LiveSocket> {
  const socket = new WebSocket(url.replace(/^http/, 'ws') + SOCKET_PATH, { headers });
  const closed = once(socket, 'close').then(([code, reason]: unknown[]) => ({
    code: code as number,
    told: String(reason),
  }));
  await once(socket, 'open');
  return {
    get isOpen() {
      return socket.readyState === WebSocket.OPEN;
    },
    closed,
    close: () => socket.close(),
    async ask(event) {
      socket.send(JSON.stringify({ event }));
      const [message] = (await once(socket, 'message')) as [Buffer];
      return (JSON.parse(message.toString()) as { data: unknown }).data;
    },
  };
}
