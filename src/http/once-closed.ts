import { nodeResponseOf, type Connection, type NodeResponse, type SessionResponse } from './response.js';

/** Calls `act` when the answer is over, whatever became of it: at once where its 'close' has been and gone. */
export function onceClosed(response: SessionResponse, act: () => void): void {
  const node = nodeResponseOf(response);
  if (isGone(node)) return act();
  const connection = awaitedConnection(node);
  const callOffs = (connection === undefined ? [node] : [connection, node]).map((one) => onClose(one, close));
  function close(): void {
    for (const callOff of callOffs) callOff();
    act();
  }
}

/** Whether nobody waits for the answer any more. An answer of HTTP/2 does not say it itself. */
export const isGone = (node: NodeResponse): boolean =>
  node.destroyed || node.stream?.destroyed === true || awaitedConnection(node)?.destroyed === true;

/**
 * The connection of an answer that waits there behind the one before (HTTP/1.1, pipelining). Node gives the answer its
 * socket when its turn comes; until then, it does not learn that the connection was closed.
 */
export function awaitedConnection({ socket, req }: NodeResponse): Connection | undefined {
  const connection = socket === null ? req?.socket : undefined;
  // What adapters of serverless platforms have in its place is no emitter.
  return typeof connection?.once === 'function' ? connection : undefined;
}

// One listener for each answer and each connection, however much waits for it: Node takes eleven for a leak, Fastify has
// some of its own, and a client may send any number of requests on a connection before it reads the first answer.
const waiting = new WeakMap<object, Set<() => void>>();

/** Calls `act` at the 'close' of an answer or a connection. Gives what calls it off. */
function onClose(closing: NodeResponse | Connection, act: () => void): () => void {
  const acts = waiting.get(closing) ?? watched(closing);
  acts.add(act);
  return () => void acts.delete(act);
}

function watched(closing: NodeResponse | Connection): Set<() => void> {
  const acts = new Set<() => void>();
  waiting.set(closing, acts);
  closing.once?.('close', () => acts.forEach((act) => act()));
  return acts;
}
