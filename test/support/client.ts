/** An answer, with its body read. */
export interface Answer {
  status: number;
  // Whatever the application answers: the tests say what they expect of it.
  // oxlint-disable-next-line typescript/no-explicit-any
  body: any;
  headers: Headers;
}

/** A browser: keeps its cookie. */
export class Browser {
  cookie: string | undefined;

  constructor(
    private readonly url: string,
    cookie?: string,
  ) {
    this.cookie = cookie;
  }

  get(path: string, headers: Record<string, string> = {}): Promise<Answer> {
    return this.send('GET', path, undefined, headers);
  }

  post(path: string, body: object = {}, headers: Record<string, string> = {}): Promise<Answer> {
    return this.send('POST', path, body, headers);
  }

  login(username: string, path = '/login'): Promise<Answer> {
    return this.post(path, { username, password: username });
  }

  /** The same cookie in another jar, as a thief or a second tab would have it. */
  copy(url = this.url): Browser {
    return new Browser(url, this.cookie);
  }

  async send(
    method: string,
    path: string,
    body?: object,
    headers: Record<string, string> = {},
    signal?: AbortSignal,
  ): Promise<Answer> {
    const answer = await fetch(this.url + path, {
      method,
      redirect: 'manual',
      ...(signal && { signal }),
      headers: {
        ...(body && { 'content-type': 'application/json' }),
        ...(this.cookie && { cookie: this.cookie }),
        ...headers,
      },
      ...(body && { body: JSON.stringify(body) }),
    });
    for (const set of answer.headers.getSetCookie()) this.cookie = set.split(';', 1)[0];
    return { status: answer.status, body: readBody(await answer.text()), headers: answer.headers };
  }
}

/** A client of the API: keeps its token. */
export class TokenClient {
  token: string | undefined;

  constructor(
    private readonly url: string,
    token?: string,
  ) {
    this.token = token;
  }

  async login(username: string): Promise<Answer> {
    const answer = await new Browser(this.url).login(username, '/token');
    this.token = answer.body?.accessToken ?? this.token;
    return answer;
  }

  get(path = '/token/me'): Promise<Answer> {
    return new Browser(this.url).get(path, this.bearer());
  }

  post(path: string): Promise<Answer> {
    return new Browser(this.url).post(path, {}, this.bearer());
  }

  private bearer(): Record<string, string> {
    return this.token === undefined ? {} : { authorization: `Bearer ${this.token}` };
  }
}

function readBody(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text || undefined;
  }
}
