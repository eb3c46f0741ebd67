import type { SessionResponse } from './request.js';

/**
 * Calls `undo` unless the answer reports success and reaches the client. An answer that reports a failure leaves only
 * after `undo` is done. The handler is not the last that can fail: interceptors around it and the serialization of the
 * body come later, and a client can be gone before it has its cookie.
 *
 * A failure is a status of 400 or more; and a redirect, once the handler has said through the returned function that it
 * meant none: then an exception filter has made it of an error.
 */
export function unlessAnswered(
  response: SessionResponse,
  undo: () => Promise<void>,
): (redirects: boolean) => void {
  const { end } = response;
  let failsFrom = 400;
  response.end = (...parts: unknown[]) => {
    response.end = end;
    if (response.statusCode < failsFrom) return end.apply(response, parts);
    void undo().finally(() => end.apply(response, parts));
    return response;
  };
  response.once('close', () => {
    if (!response.writableFinished) void undo();
  });
  return (redirects) => {
    if (!redirects) failsFrom = 300;
  };
}
