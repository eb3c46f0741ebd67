import { Injectable, type CanActivate, type ExecutionContext } from '@nestjs/common';
import { AuthGuard } from '@nestjs/passport';
import { DataSource } from 'typeorm';
import { SingleSessionEvents, type SingleSessionEvent } from '../../src/index.js';
import type { TestApplication, TestUser } from './application.js';
import { Browser, TokenClient, type Answer } from './client.js';
import { newUser } from './sessions.js';
import { until } from './store.js';

export const ADMIN = '/admin/sessions';

/** Authenticates by token where there is one, and leaves everybody else to the cookie session. */
@Injectable()
export class BearerGuard extends AuthGuard('jwt') {
  override canActivate(context: ExecutionContext): ReturnType<CanActivate['canActivate']> {
    const { headers } = context.switchToHttp().getRequest<{ headers: { authorization?: string } }>();
    return headers.authorization === undefined ? true : super.canActivate(context);
  }
}

/** Both permissions by role, for cookies and for tokens. */
export const ADMIN_OPTIONS = {
  admin: { roles: ['admin'], superRoles: ['superadmin'], guards: [BearerGuard] },
  selfService: { guards: [BearerGuard] },
};

export type Kind = 'cookie' | 'token';

/** A signed-in client, by cookie or by token, with the id of its session. */
export class Client {
  private constructor(
    readonly user: TestUser,
    readonly sessionId: string,
    readonly kind: Kind,
    readonly browser: Browser,
    readonly headers: Record<string, string>,
  ) {}

  static async signIn(
    { url }: Pick<TestApplication, 'url'>,
    user: TestUser,
    kind: Kind = 'cookie',
  ): Promise<Client> {
    const browser = new Browser(url);
    const path = kind === 'cookie' ? '/login' : '/token';
    const credentials = { username: user.username, password: user.username };
    const answer = await browser.post(path, credentials, { 'user-agent': `test of ${kind}s` });
    if (answer.status !== 200)
      throw new Error(`${user.username} could not sign in: ${answer.status} ${JSON.stringify(answer.body)}`);
    if (kind === 'cookie') return new Client(user, answer.body.session.id, kind, browser, {});
    const token: string = answer.body.accessToken;
    const { sid } = new TokenClient(url, token);
    return new Client(user, sid, kind, browser, { authorization: `Bearer ${token}` });
  }

  /** The same credential at another instance. */
  at({ url }: Pick<TestApplication, 'url'>): Client {
    return new Client(this.user, this.sessionId, this.kind, this.browser.copy(url), this.headers);
  }

  send(method: string, path: string, body?: object, headers: Record<string, string> = {}): Promise<Answer> {
    return this.browser.send(method, path, body, { ...this.headers, ...headers });
  }

  get(path: string): Promise<Answer> {
    return this.send('GET', path);
  }

  post(path: string, body: object = {}): Promise<Answer> {
    return this.send('POST', path, body);
  }

  put(path: string, body: object = {}): Promise<Answer> {
    return this.send('PUT', path, body);
  }

  delete(path: string): Promise<Answer> {
    return this.send('DELETE', path);
  }

  /** What the next request with this very credential gets: `'live'`, or the reason why not. A copy asks, so that the credential is kept. */
  async state(): Promise<string> {
    const answer = await this.browser.copy().get(this.kind === 'cookie' ? '/me' : '/token/me', this.headers);
    if (answer.status === 200) return answer.body.session === null ? 'anonymous' : 'live';
    return answer.body?.reason ?? String(answer.status);
  }
}

/** A new user of these roles, signed in. */
export function someoneNew(
  application: TestApplication,
  roles: string[] = ['user'],
  kind: Kind = 'cookie',
): Promise<Client> {
  return Client.signIn(application, newUser(application, { roles }), kind);
}

export const statesOf = (clients: readonly Client[]): Promise<string[]> =>
  Promise.all(clients.map((client) => client.state()));

export async function countLive(clients: readonly Client[]): Promise<number> {
  return (await statesOf(clients)).filter((state) => state === 'live').length;
}

export function sql<Row = Record<string, unknown>>(
  { app }: Pick<TestApplication, 'app'>,
  text: string,
  parameters: unknown[] = [],
): Promise<Row[]> {
  return app.get(DataSource).query(text, parameters) as Promise<Row[]>;
}

/** Everything in our tables but for when a session was last used, once the sweeper has written down what cut-offs ended. */
export async function contentOf(application: Pick<TestApplication, 'app'>): Promise<string> {
  await until(
    async () => (await sql(application, 'SELECT FROM user_session_cutoff WHERE NOT swept')).length === 0,
  );
  const tables = ['user_session', 'user_session_slots', 'user_session_cutoff', 'user_session_exemption'];
  const rows = await Promise.all(
    [...tables, 'user_session_action'].map((table) =>
      sql(application, `SELECT (to_jsonb(t) - 'last_seen_at')::text AS row FROM ${table} t ORDER BY 1`),
    ),
  );
  return JSON.stringify(rows, undefined, 1);
}

/** Notes what an application's event stream tells, until it closes. */
export function eventsOf({ app }: Pick<TestApplication, 'app'>): SingleSessionEvent[] {
  const events: SingleSessionEvent[] = [];
  app.get(SingleSessionEvents).all.subscribe((event) => void events.push(event));
  return events;
}

/** Ends everything that is live, so that a test counts only its own. */
export async function endAll(application: Pick<TestApplication, 'app'>): Promise<void> {
  await sql(application, `UPDATE user_session_slots SET active = '{}', floor = generation`);
  await sql(
    application,
    `UPDATE user_session SET ended_at = now(), end_reason = 'admin' WHERE ended_at IS NULL`,
  );
}
