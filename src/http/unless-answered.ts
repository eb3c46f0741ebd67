import type { SessionResponse } from './request.js';

/**
 * Calls `undo` unless the answer reports success and reaches the client. An answer that reports a failure (a status of
 * 400 or more) leaves only after `undo` is done. The handler is not the last that can fail: interceptors around it and
 * the serialization of the body come later, and a client can be gone before it has its cookie.
 */
export function unlessAnswered(response: SessionResponse, undo: () => Promise<void>): void {
  // Its 'close' has been and gone.
  if (response.destroyed) return void undo();
  const { end } = response;
  response.end = (...parts: unknown[]) => {
    response.end = end;
    if (response.statusCode < 400) return end.apply(response, parts);
    void undo().finally(() => end.apply(response, parts));
    return response;
  };
  response.once('close', () => {
    if (!response.writableFinished) void undo();
  });
}
