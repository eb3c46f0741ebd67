import type { NodeResponse, SessionResponse } from './request.js';

/** Node's own response, which is what reaches the client or does not. */
export const nodeResponseOf = (response: SessionResponse): NodeResponse =>
  'raw' in response ? response.raw : response;

/** Sets a header, unless they have left. On Fastify in the reply, whose headers go before those of Node's response. */
export function setHeader(response: SessionResponse | undefined, name: string, value: string): void {
  if (response === undefined || nodeResponseOf(response).headersSent) return;
  if ('raw' in response) response.header(name, value);
  else response.setHeader(name, value);
}
