import type { SessionResponse } from './request.js';
import { nodeResponseOf } from './response.js';

type Door = (...parts: unknown[]) => unknown;

/**
 * Calls `undo` unless the answer reports success and reaches the client. An answer that reports a failure (a status of
 * 400 or more) leaves only after `undo` is done. The handler is not the last that can fail: interceptors around it and
 * the serialization of the body come later.
 */
export function unlessAnswered(response: SessionResponse, undo: () => Promise<void>): void {
  const node = nodeResponseOf(response);
  const holdBack = (answer: { readonly statusCode: number }, door: Door): Door => {
    return (...parts) => {
      if (answer.statusCode < 400) return door.apply(answer, parts);
      void undo()
        .then(() => door.apply(answer, parts))
        .catch(() => node.destroy());
      return answer;
    };
  };
  node.end = holdBack(node, node.end);
  // Fastify's hooks, of which one sends the cookie of the cookie session, come between the reply and its end.
  if ('raw' in response) response.send = holdBack(response, response.send);
  unless('writableFinished', response, undo);
}

/** Calls `undo` unless an answer begins: the client can be gone before it has its cookie, which comes with the head. */
export function unlessBegun(response: SessionResponse, undo: () => Promise<void>): void {
  unless('headersSent', response, undo);
}

function unless(
  reached: 'writableFinished' | 'headersSent',
  response: SessionResponse,
  undo: () => Promise<void>,
): void {
  const node = nodeResponseOf(response);
  // Its 'close' has been and gone.
  if (node.destroyed) return void undo();
  node.once('close', () => {
    if (!node[reached]) void undo();
  });
}
