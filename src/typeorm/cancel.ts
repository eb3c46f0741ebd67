import type { Duplex } from 'node:stream';
import { ANSWER_WITHIN_MS } from '../session/answered.js';

/** The part of a connection of `pg` that we touch; its types leave it out. */
interface Connection {
  readonly stream: Duplex;
  connect(portOrPath: number | string, host?: string): void;
  requestSsl(): void;
  cancel(processId: number, secretKey: unknown): void;
  on(event: 'connect' | 'sslconnect' | 'error', listener: () => void): unknown;
}

/** A client's own connection, whose class and settings another one takes. */
interface Template {
  constructor: new (config: object) => Connection;
  sslNegotiation?: string;
}

interface Client {
  readonly host: string;
  readonly port: number;
  readonly ssl: unknown;
  /** `null` before the database has greeted. */
  readonly processID: number | null;
  readonly secretKey: unknown;
  /** The driver in C has none. */
  readonly connection?: Template;
}

/**
 * Has PostgreSQL give up what it does for a client of `pg`: a backend that waits for a lock does not see that its client
 * has gone, and would keep a place of `max_connections` until it has the lock. Over a connection of its own, as the
 * protocol has it (https://www.postgresql.org/docs/current/protocol-flow.html, "Canceling Requests in Progress"); nobody
 * waits for it, and where it fails, nothing else does. `Client.cancel()` of `pg` does the same, without TLS.
 */
export function cancel(client: unknown): void {
  const { connection, processID } = client as Client;
  if (connection === undefined || processID === null) return;
  try {
    send(client as Client, connection, processID);
  } catch {
    // It is tried for the server's sake, and in a timer: an error would end the process.
  }
}

function send(
  { host, port, ssl, secretKey }: Client,
  { constructor: Own, sslNegotiation }: Template,
  processId: number,
): void {
  const own = new Own({ ssl, sslNegotiation });
  setTimeout(() => own.stream.destroy(), ANSWER_WITHIN_MS).unref();
  own.on('error', () => undefined);
  own.on('connect', () => {
    if (!ssl) own.cancel(processId, secretKey);
    else if (sslNegotiation !== 'direct') own.requestSsl();
  });
  own.on('sslconnect', () => own.cancel(processId, secretKey));
  if (host.startsWith('/')) own.connect(`${host}/.s.PGSQL.${port}`);
  else own.connect(port, host);
}
