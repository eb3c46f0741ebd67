import { Readable } from 'node:stream';
import { awaitedConnection, isGone, onceClosed } from './once-closed.js';
import { keepHead, nodeResponseOf, type NodeResponse, type SessionResponse } from './response.js';

type Door = (...parts: unknown[]) => unknown;

/**
 * Calls `undo` unless the answer reports success and reaches the client. An answer that reports a failure (a status of
 * 400 or more) leaves only after `undo` is done. The handler is not the last that can fail: interceptors around it and
 * the serialization of the body come later.
 */
export function unlessAnswered(response: SessionResponse, undo: () => Promise<void>): void {
  beforeAnswer(response, (status) => (status < 400 ? undefined : undo()));
  // Somebody else may have reported a failure while the login was admitted, a time limit for one.
  unless((node, isDelivered) => isDelivered && node.statusCode < 400, response, undo);
}

/**
 * Calls `work` when the answer is about to leave, with its status. It leaves when the work is done, which may be asked for
 * more than once, and may give what is to be called when the answer has left.
 */
export function beforeAnswer(
  response: SessionResponse,
  work: (status: number) => Promise<(() => void) | void> | undefined,
): void {
  const node = nodeResponseOf(response);
  const holdBack = (answer: SessionResponse, door: Door): Door => {
    let isHeld = false;
    let isTwice = false;
    return (...parts) => {
      isTwice = isHeld;
      if (isHeld) return answer;
      const working = work(answer.statusCode);
      if (working === undefined) return door.apply(answer, parts);
      isHeld = true;
      parts.forEach(bearError);
      const putHeadBack = keepHead(answer);
      void working
        .then((afterwards) => {
          isHeld = false;
          // To Node the first answer is the answer, and whoever gives another does not know that it has not left.
          if (isTwice) putHeadBack();
          door.apply(answer, parts);
          if (answer === node) afterwards?.();
        })
        .catch(() => node.destroy());
      return answer;
    };
  };
  node.end = holdBack(node, node.end);
  // Fastify's hooks, of which one sends the cookie of the cookie session, come between the reply and its end.
  if ('raw' in response) response.send = holdBack(response, response.send);
}

/** Nobody listens yet to a stream that fails before it is sent, and its error would end the process. Fastify notices then. */
function bearError(part: unknown): void {
  if (part instanceof Readable) part.once('error', () => undefined);
}

/**
 * Calls `undo` unless the browser gets the cookie of the cookie session that `carrier` has the id of in the end, which
 * comes with the head: the client can be gone before. What writes to Node's own response past Fastify, as `@Sse()` does,
 * brings none.
 */
export function unlessCookieSent(
  response: SessionResponse,
  carrier: () => string | undefined,
  undo: () => Promise<void>,
): void {
  const isSent = (): boolean => {
    const id = carrier();
    return id !== undefined && String(response.getHeader('set-cookie')).includes(encodeURIComponent(id));
  };
  unless((node, isDelivered) => isDelivered || (node.headersSent && isSent()), response, undo);
}

function unless(
  isReached: (node: NodeResponse, isDelivered: boolean) => boolean,
  response: SessionResponse,
  undo: () => Promise<void>,
): void {
  const node = nodeResponseOf(response);
  const isOver = isGone(node);
  // Without a socket, as in `inject()` of Fastify and behind adapters of serverless platforms, only the event says it.
  let isFinished = false;
  node.once('finish', () => (isFinished = true));
  const isWritten = writingTo(node, () => isFinished);
  onceClosed(response, () => {
    // HTTP/2 calls an answer finished, too, that its client has cancelled.
    const isDelivered =
      node.headersSent && (isFinished || node.writableFinished) && node.stream?.aborted !== true;
    if (isOver || !isWritten() || !isReached(node, isDelivered)) void undo();
  });
}

/**
 * Tells whether the connection has taken anything since. One that is destroyed, of which the answer learns a little later,
 * drops what it is given, and Node calls that sent and finished. Where the connection does not say, it has, unless the
 * answer waited for its turn, which had come if it was finished.
 */
function writingTo(node: NodeResponse, isFinished: () => boolean): () => boolean {
  const { socket } = node;
  const before = socket?.bytesWritten;
  return () =>
    before === undefined
      ? isFinished() || awaitedConnection(node) === undefined
      : (socket?.bytesWritten ?? Infinity) > before;
}
