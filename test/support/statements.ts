import type net from 'node:net';
import { DatabaseLink, DatabaseProxy } from './database-proxy.js';
import type { FrontendMessage } from './frontend-messages.js';

/** The check of sessions, as an application sends it. */
export const CHECK = /^SELECT "user_session_check_1"\(\$1, \$2, \$3\)/;

/** One statement that PostgreSQL was sent, at `performance.now()` of this process. */
export interface Statement {
  text: string;
  at: number;
}

/** See watchStatements(). The two arrays are live: they grow, and clear() empties them. */
export interface StatementWatch {
  /** Give this to the code under test instead of the database's own address. */
  readonly url: string;
  readonly statements: readonly string[];
  readonly entries: readonly Statement[];
  /** Forgets what was recorded. */
  clear(): void;
  /** Makes the link dead: nothing comes through in either direction, and nobody is told. New connections hang too. */
  freeze(): void;
  /** Ends freeze(): what was held back is delivered. */
  unfreeze(): void;
  /** From now on no request to cancel a statement reaches PostgreSQL: what has been given up goes on. */
  loseCancels(): void;
  /** Destroys all connections and refuses new ones, until restore(). */
  cut(): Promise<void>;
  restore(): Promise<void>;
  stop(): Promise<void>;
}

/**
 * Puts itself between a client and PostgreSQL and records each statement that PostgreSQL is told to run: a simple query
 * as it stands, and an extended one when its portal is executed, prepared anew or not.
 */
export async function watchStatements(databaseUrl: string): Promise<StatementWatch> {
  const proxy = new StatementProxy(databaseUrl);
  await proxy.restore();
  return proxy;
}

class StatementProxy extends DatabaseProxy<Link> implements StatementWatch {
  readonly statements: string[] = [];
  readonly entries: Statement[] = [];
  private frozen = false;
  private losesCancels = false;

  clear(): void {
    this.statements.length = 0;
    this.entries.length = 0;
  }

  loseCancels(): void {
    this.losesCancels = true;
  }

  freeze(): void {
    this.frozen = true;
    for (const link of this.links) link.freeze();
  }

  unfreeze(): void {
    this.frozen = false;
    for (const link of this.links) link.unfreeze();
  }

  async stop(): Promise<void> {
    await this.cut();
  }

  protected open(client: net.Socket, database: net.Socket, onGone: () => void): Link {
    const link = new Link(client, database, onGone);
    link.onStatement = (text) => this.record(text);
    link.losesCancels = this.losesCancels;
    if (this.frozen) link.freeze();
    return link;
  }

  private record(text: string): void {
    this.statements.push(text);
    this.entries.push({ text, at: performance.now() });
  }
}

class Link extends DatabaseLink {
  onStatement: (text: string) => void = () => {};
  losesCancels = false;
  private readonly texts = new Map<string, string>();
  private readonly portals = new Map<string, string>();

  protected asked(message: FrontendMessage): void {
    if (message.kind === 'cancel-request' && this.losesCancels) this.destroy();
    if (message.kind === 'query') this.onStatement(message.text);
    if (message.kind === 'parse') this.texts.set(message.statement, message.text);
    if (message.kind === 'bind') this.portals.set(message.portal, this.texts.get(message.statement) ?? '');
    if (message.kind === 'execute') this.execute(message.portal);
  }

  /** A portal that is fetched in several goes is still one statement. */
  private execute(portal: string): void {
    const text = this.portals.get(portal);
    if (text === undefined) return;
    this.portals.delete(portal);
    this.onStatement(text);
  }
}
