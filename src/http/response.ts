import type { NodeResponse, SessionResponse } from './request.js';

/** Node's own response, which is what reaches the client or does not. */
export const nodeResponseOf = (response: SessionResponse): NodeResponse =>
  'raw' in response ? response.raw : response;

/** Sets a header, unless they have left. On Fastify in the reply, whose headers go before those of Node's response. */
export function setHeader(
  response: SessionResponse | undefined,
  name: string,
  value: string | string[],
): void {
  if (response === undefined || nodeResponseOf(response).headersSent) return;
  if ('raw' in response) response.header(name, value);
  else response.setHeader(name, value);
}

/** Keeps the head of the answer as it is now. Gives what puts it back, as long as it has not left. */
export function keepHead(response: SessionResponse): () => void {
  const { statusCode } = response;
  const headers = Object.entries(response.getHeaders());
  return () => {
    if (nodeResponseOf(response).headersSent) return;
    response.statusCode = statusCode;
    for (const name of Object.keys(response.getHeaders())) response.removeHeader(name);
    for (const [name, value] of headers) setHeader(response, name, value);
  };
}
