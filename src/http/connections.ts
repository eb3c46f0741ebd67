import type { Connection, NodeResponse } from './response.js';

// One listener for each connection: a client may send any number of requests before it reads the first answer.
const waiting = new WeakMap<Connection, Set<() => void>>();

/**
 * The connection of an answer that waits there behind the one before (HTTP/1.1, pipelining). Node gives it its socket when
 * its turn comes, so of a connection that is closed before it never learns.
 */
export function awaitedConnection({ socket, req }: NodeResponse): Connection | undefined {
  const connection = socket === null ? req?.socket : undefined;
  // What adapters of serverless platforms have in its place is no emitter.
  return typeof connection?.once === 'function' ? connection : undefined;
}

/** Calls `act` when the connection is closed. Gives what lets it be. */
export function onceCut(connection: Connection, act: () => void): () => void {
  const acts = waiting.get(connection) ?? watched(connection);
  acts.add(act);
  return () => void acts.delete(act);
}

function watched(connection: Connection): Set<() => void> {
  const acts = new Set<() => void>();
  waiting.set(connection, acts);
  connection.once?.('close', () => acts.forEach((act) => act()));
  return acts;
}
