import type { SessionResponse } from './request.js';

/**
 * Calls `undo` before an answer that reports a failure (a status of 400 or more) leaves, and lets it leave when that is
 * done. The handler is not the last that can fail: interceptors around it and the serialization of the body come later.
 */
export function beforeFailedAnswer(response: SessionResponse, undo: () => Promise<void>): void {
  const { end } = response;
  response.end = (...parts: unknown[]) => {
    response.end = end;
    if (response.statusCode < 400) return end.apply(response, parts);
    void undo().finally(() => end.apply(response, parts));
    return response;
  };
}
