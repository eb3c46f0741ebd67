import { Readable } from 'node:stream';
import { awaitedConnection, isGone, onceClosed } from './once-closed.js';
import { keepHead, nodeResponseOf, type NodeResponse, type SessionResponse } from './response.js';

/** A method by which an answer leaves: `end()` of Node's response, `send()` of Fastify's reply. */
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
 * Calls `work` with the status when the answer is about to leave, and holds the answer back until the work is done. On
 * Fastify it is called twice for one answer: by the reply, and by Node's response. Where it resolves to a function, that is
 * called when the answer has left. `undefined`: there is nothing to wait for.
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
      const { statusCode } = answer;
      const putHeadBack = keepHead(answer);
      void working
        .then((afterwards) => {
          isHeld = false;
          // To Node the first answer is the answer, and whoever gives another does not know that it has not left.
          if (isTwice) putHeadBack();
          // Nest sets that of the handler when all guards have passed, also where one of them has answered.
          else if (!node.headersSent) answer.statusCode = statusCode;
          door.apply(answer, parts);
          if (answer === node && afterwards) onceEnded(node, afterwards);
        })
        .catch(() => node.destroy());
      return answer;
    };
  };
  node.end = holdBack(node, node.end);
  // Fastify's hooks, of which one sends the cookie of the cookie session, come between the reply and its end.
  if ('raw' in response) response.send = holdBack(response, response.send);
}

/** Where a middleware compresses, those that stand before it see the end of the answer later. */
function onceEnded(node: NodeResponse, act: () => void): void {
  if (node.writableEnded === false) onceClosed(node, act);
  else act();
}

/** Lets `around` send the head of the answer, which may leave long before its end: with the first part of a body that is streamed. */
export function aroundHead(response: SessionResponse, around: (send: () => unknown) => unknown): void {
  const node = nodeResponseOf(response);
  const { writeHead } = node;
  node.writeHead = (...parts) => around(() => writeHead.apply(node, parts));
}

/** While an answer is held back, nobody listens to a stream in it, and its error would end the process. Fastify sees later that it failed. */
function bearError(part: unknown): void {
  if (part instanceof Readable) part.once('error', () => undefined);
}

/**
 * Calls `undo` unless the browser gets the cookie of the cookie session whose id `carrier` gives when the answer is over.
 * The cookie comes with the head, so a client that leaves after that has it. An answer that is written to Node's response
 * past Fastify, as by `@Sse()`, brings no cookie.
 */
export function unlessCookieSent(
  response: SessionResponse,
  carrier: () => string | undefined,
  undo: () => Promise<void>,
): void {
  const isByReply = leavingByReply(response);
  const isReached: IsReached = (_, isDelivered) =>
    (isDelivered && isByReply()) || hasSentCookie(response, carrier());
  unless(isReached, response, undo);
}

/** Tells whether the answer goes by Fastify's reply, whose hooks send the cookie. There is no other way on Express. */
function leavingByReply(response: SessionResponse): () => boolean {
  if (!('raw' in response)) return () => true;
  const { send } = response;
  let isSent = false;
  response.send = (...parts) => {
    isSent = true;
    return send.apply(response, parts);
  };
  return () => isSent;
}

/** Whether the head of the answer has left with the cookie of the cookie session with this id. */
export const hasSentCookie = (response: SessionResponse, id: string | undefined): boolean =>
  id !== undefined &&
  nodeResponseOf(response).headersSent &&
  String(response.getHeader('set-cookie')).includes(encodeURIComponent(id));

type IsReached = (node: NodeResponse, isDelivered: boolean) => boolean;

function unless(isReached: IsReached, response: SessionResponse, undo: () => Promise<void>): void {
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
 * Tells whether the connection has taken anything of the answer since now. Node calls an answer sent and finished also when
 * its connection was destroyed a moment before and drops what it is given; the count of written bytes shows that. Where
 * there is no count, the connection is taken to have written, except for an answer that still waited for its turn on the
 * connection: it is written only if it is finished.
 */
function writingTo(node: NodeResponse, isFinished: () => boolean): () => boolean {
  const { socket } = node;
  const before = socket?.bytesWritten;
  return () =>
    before === undefined
      ? isFinished() || awaitedConnection(node) === undefined
      : (socket?.bytesWritten ?? Infinity) > before;
}
