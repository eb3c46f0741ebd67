/** The part of a connection that we touch. */
export interface Connection {
  readonly destroyed?: boolean;
  once?(event: 'close', listener: () => void): unknown;
}

/** The part of Node's response that we touch. */
export interface NodeResponse {
  statusCode: number;
  readonly headersSent: boolean;
  readonly writableFinished: boolean;
  /** What adapters of serverless platforms have in its place may not say it. */
  readonly writableEnded?: boolean;
  readonly destroyed: boolean;
  setHeader(name: string, value: string | string[]): unknown;
  getHeader(name: string): unknown;
  getHeaders(): Record<string, string | string[]>;
  removeHeader(name: string): unknown;
  readonly socket?: { readonly bytesWritten?: number | undefined } | null;
  readonly req?: { readonly socket?: Connection | null };
  /** Of HTTP/2. */
  readonly stream?: { readonly destroyed: boolean; readonly aborted: boolean };
  once(event: 'close' | 'finish', listener: () => void): unknown;
  destroy(): unknown;
  writeHead: (...parts: unknown[]) => unknown;
  end: (...parts: unknown[]) => unknown;
}

/** The part of Fastify's reply that we touch. */
export interface Reply {
  statusCode: number;
  readonly raw: NodeResponse;
  header(name: string, value: string | string[]): unknown;
  getHeader(name: string): unknown;
  getHeaders(): Record<string, string | string[]>;
  removeHeader(name: string): unknown;
  send: (...parts: unknown[]) => unknown;
}

/** What a handler answers with: Express's response, which is Node's own, or Fastify's reply around that. */
export type SessionResponse = NodeResponse | Reply;

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
