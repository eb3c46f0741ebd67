import { get } from 'node:http';

/** An answer, with its body read. */
export interface Answer {
  status: number;
  // Whatever the application answers: the tests say what they expect of it.
  // oxlint-disable-next-line typescript/no-explicit-any
  body: any;
  headers: Headers;
}

/** A browser: keeps its cookies. */
export class Browser {
  /** What it sends as Cookie. */
  cookie: string | undefined;

  constructor(
    protected readonly url: string,
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

  /** The same cookies in another jar, as a thief or a second tab would have them. */
  copy(url = this.url): Browser {
    return new Browser(url, this.cookie);
  }

  /** Loses a cookie. */
  forget(name: string): this {
    this.cookie = others(this.cookie, name).join('; ') || undefined;
    return this;
  }

  async send(
    method: string,
    path: string,
    body?: object,
    headers: Record<string, string> = {},
  ): Promise<Answer> {
    const answer = await fetch(this.url + path, {
      method,
      redirect: 'manual',
      headers: {
        ...(body && { 'content-type': 'application/json' }),
        ...(this.cookie && { cookie: this.cookie }),
        ...headers,
      },
      ...(body && { body: JSON.stringify(body) }),
    });
    this.keep(answer.headers.getSetCookie());
    return { status: answer.status, body: readBody(await answer.text()), headers: answer.headers };
  }

  protected keep(setCookies: string[]): void {
    for (const set of setCookies) {
      const [pair = ''] = set.split(';', 1);
      this.cookie = [...others(this.cookie, pair.split('=', 1)[0]!), pair].join('; ');
    }
  }
}

/** A browser in which this user has just signed in. */
export async function loggedIn(
  { url }: { url: string },
  { username }: { username: string },
): Promise<Browser> {
  const browser = new Browser(url);
  const { status } = await browser.login(username);
  if (status !== 200) throw new Error(`${username} could not sign in: ${status}`);
  return browser;
}

/** Whom the application takes the browser for. */
export const usernameOf = async (browser: Browser): Promise<string | undefined> =>
  (await browser.get('/me')).body.user?.username;

/** Leaves with the first part of the body. Resolves to the cookies. */
export function breakOff(url: string, headers: Record<string, string>): Promise<string> {
  return new Promise((resolve, reject) => {
    const asking = get(url, { headers, agent: false }, (answer) => {
      const cookies = (answer.headers['set-cookie'] ?? []).map((set) => set.split(';', 1)[0]!);
      answer.once('data', () => resolve((asking.destroy(), cookies.join('; '))));
    });
    asking.on('error', reject);
  });
}

const others = (cookies: string | undefined, name: string): string[] =>
  cookies?.split('; ').filter((one) => !one.startsWith(`${name}=`)) ?? [];

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

  /** The session that its token names. */
  get sid(): string {
    const [, payload] = this.token!.split('.');
    return (JSON.parse(Buffer.from(payload!, 'base64url').toString()) as { sid: string }).sid;
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
