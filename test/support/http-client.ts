import http from 'node:http';

/** An answer, its body as text. */
export interface Reply {
  status: number;
  headers: http.IncomingHttpHeaders;
  text: string;
}

export interface Ask {
  method?: string;
  headers?: Record<string, string>;
  body?: object;
  /** Fails the request after so many milliseconds. */
  timeoutMs?: number;
}

/** See https://nodejs.org/api/http.html#requestreusedsocket. */
class ReusedConnectionClosed extends Error {}

/** A client that costs little, for thousands of requests: node:http on connections that stay open. */
export class HttpClient {
  // Well before a server hangs up on an idle connection (Node: after 5 s), maybe just when the next request uses it.
  private readonly agent = new http.Agent({ keepAlive: true, timeout: 1_000 });

  /**
   * Sends once more, on a connection of its own, what broke on one that was used before: the server was just closing it,
   * idle for too long on a machine that paused. Where the server is dead, the second says so.
   */
  async send(url: string, ask: Ask = {}): Promise<Reply> {
    try {
      return await this.sendBy(this.agent, url, ask);
    } catch (error) {
      if (!(error instanceof ReusedConnectionClosed)) throw error;
      return this.sendBy(undefined, url, ask);
    }
  }

  private sendBy(
    agent: http.Agent | undefined,
    url: string,
    { method = 'GET', headers = {}, body, timeoutMs = 20_000 }: Ask,
  ): Promise<Reply> {
    const text = body && JSON.stringify(body);
    return new Promise((resolve, reject) => {
      const request = http.request(
        url,
        {
          method,
          agent: agent ?? false,
          headers: {
            ...(text !== undefined && {
              'content-type': 'application/json',
              'content-length': Buffer.byteLength(text),
            }),
            ...headers,
          },
          signal: AbortSignal.timeout(timeoutMs),
        },
        (response) => {
          let answer = '';
          response.setEncoding('utf8').on('data', (chunk: string) => (answer += chunk));
          response.on('end', () =>
            resolve({ status: response.statusCode!, headers: response.headers, text: answer }),
          );
          response.on('error', reject);
        },
      );
      request.on('error', (error: NodeJS.ErrnoException) =>
        reject(request.reusedSocket && error.code === 'ECONNRESET' ? new ReusedConnectionClosed() : error),
      );
      request.end(text);
    });
  }

  close(): void {
    this.agent.destroy();
  }
}

/** What a client keeps of a login, as the headers of its next request. */
export type Credential = { cookie: string } | { authorization: string };

/** A login and what it brought; a refused one may have brought a cookie too. */
export interface LoginReply extends Reply {
  credential: Credential | undefined;
}

/** Signs in with a password that is the username. */
export async function login(
  client: HttpClient,
  url: string,
  username: string,
  kind: 'cookie' | 'token' = 'cookie',
  ask: Ask = {},
): Promise<LoginReply> {
  const path = kind === 'cookie' ? '/login' : '/token';
  const reply = await client.send(url + path, {
    ...ask,
    method: 'POST',
    body: { username, password: username },
  });
  return { ...reply, credential: kind === 'cookie' ? cookieOf(reply) : tokenOf(reply) };
}

/** The cookie of the cookie session, as a browser keeps it: @fastify/session removes the old one before it sets the new one. */
export function cookieOf({ headers }: Reply): Credential | undefined {
  const set = headers['set-cookie']?.at(-1);
  return set === undefined ? undefined : { cookie: set.split(';', 1)[0]! };
}

function tokenOf({ text }: Reply): Credential | undefined {
  const { accessToken } = JSON.parse(text) as { accessToken?: string };
  return accessToken === undefined ? undefined : { authorization: `Bearer ${accessToken}` };
}
