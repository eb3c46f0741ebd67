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

interface Client {
  readonly host: string;
  readonly port: number;
  readonly ssl: unknown;
  /** `null` before the database has greeted. */
  readonly processID: number | null;
  readonly secretKey: unknown;
  /** The driver in C has none. */
  readonly connection?: Connection & {
    constructor: new (config: object) => Connection;
    sslNegotiation?: string;
  };
}

/**
 * Has PostgreSQL give up what it does for a client of `pg`: a backend that waits for a lock does not see that its client
 * has gone, and would keep a place of `max_connections` until it has the lock. Over a connection of its own, as the
 * protocol has it (https://www.postgresql.org/docs/current/protocol-flow.html, "Canceling Requests in Progress"); nobody
 * waits for it, and where it fails, nothing else does. `Client.cancel()` of `pg` does the same, without TLS.
 */
export function cancel(client: unknown): void {
  const { host, port, ssl, processID, secretKey, connection } = client as Client;
  if (connection === undefined || processID === null) return;
  const { sslNegotiation } = connection;
  const own = new connection.constructor({ ssl, sslNegotiation });
  const impatience = setTimeout(() => own.stream.destroy(), ANSWER_WITHIN_MS).unref();
  const send = (): void => own.cancel(processID, secretKey);
  own.on('error', () => undefined);
  own.on('connect', () => {
    if (!ssl) send();
    else if (sslNegotiation !== 'direct') own.requestSsl();
  });
  own.on('sslconnect', send);
  own.stream.once('close', () => clearTimeout(impatience));
  if (host.startsWith('/')) own.connect(`${host}/.s.PGSQL.${port}`);
  else own.connect(port, host);
}
