import { once } from 'node:events';
import net from 'node:net';
import { type FrontendMessage, FrontendMessages } from './frontend-messages.js';

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
  const proxy = new StatementProxy(new URL(databaseUrl));
  await proxy.restore();
  return proxy;
}

class StatementProxy implements StatementWatch {
  readonly statements: string[] = [];
  readonly entries: Statement[] = [];
  private readonly server = net.createServer((client) => this.connect(client));
  private readonly links = new Set<Link>();
  private frozen = false;
  private port = 0;

  constructor(private readonly target: URL) {}

  get url(): string {
    const url = new URL(this.target);
    url.hostname = '127.0.0.1';
    url.port = String(this.port);
    return url.href;
  }

  clear(): void {
    this.statements.length = 0;
    this.entries.length = 0;
  }

  freeze(): void {
    this.frozen = true;
    for (const link of this.links) link.freeze();
  }

  unfreeze(): void {
    this.frozen = false;
    for (const link of this.links) link.unfreeze();
  }

  async cut(): Promise<void> {
    if (!this.server.listening) return;
    const closed = once(this.server, 'close');
    this.server.close();
    for (const link of this.links) link.destroy();
    await closed;
  }

  async restore(): Promise<void> {
    if (this.server.listening) return;
    this.server.listen(this.port, '127.0.0.1');
    await once(this.server, 'listening');
    this.port = (this.server.address() as net.AddressInfo).port;
  }

  async stop(): Promise<void> {
    await this.cut();
  }

  private connect(client: net.Socket): void {
    const host = this.target.hostname.replace(/^\[|\]$/g, '');
    const database = net.connect(Number(this.target.port || 5432), host);
    const link = new Link(
      client,
      database,
      (text) => this.record(text),
      () => this.links.delete(link),
    );
    this.links.add(link);
    if (this.frozen) link.freeze();
  }

  private record(text: string): void {
    this.statements.push(text);
    this.entries.push({ text, at: performance.now() });
  }
}

/** One client's connection with its own connection to the database. */
class Link {
  private readonly messages = new FrontendMessages();
  private readonly texts = new Map<string, string>();
  private readonly portals = new Map<string, string>();
  private frozen = false;
  private broken = false;

  constructor(
    private readonly client: net.Socket,
    private readonly database: net.Socket,
    private readonly record: (text: string) => void,
    private readonly onGone: () => void,
  ) {
    client.on('data', (chunk) => this.fromClient(chunk));
    database.on('data', (chunk) => client.write(chunk));
    for (const socket of [client, database]) {
      socket.setNoDelay(true);
      socket.on('error', () => {}); // 'close' follows
      socket.on('close', () => this.oneSideClosed());
    }
  }

  freeze(): void {
    this.frozen = true;
    this.client.pause();
    this.database.pause();
  }

  unfreeze(): void {
    this.frozen = false;
    if (this.broken) return this.destroy();
    this.client.resume();
    this.database.resume();
  }

  destroy(): void {
    this.client.destroy();
    this.database.destroy();
    this.onGone();
  }

  /** A dead link does not tell one side that the other has gone. */
  private oneSideClosed(): void {
    this.broken = true;
    if (!this.frozen) this.destroy();
  }

  private fromClient(chunk: Buffer): void {
    for (const { message, bytes } of this.messages.read(chunk)) {
      if (message.kind === 'encryption-request') {
        this.client.write('N'); // no: what is encrypted cannot be counted
        continue;
      }
      this.count(message);
      this.database.write(bytes);
    }
  }

  private count(message: FrontendMessage): void {
    if (message.kind === 'query') this.record(message.text);
    if (message.kind === 'parse') this.texts.set(message.statement, message.text);
    if (message.kind === 'bind') this.portals.set(message.portal, this.texts.get(message.statement) ?? '');
    if (message.kind === 'execute') this.execute(message.portal);
  }

  /** A portal that is fetched in several goes is still one statement. */
  private execute(portal: string): void {
    const text = this.portals.get(portal);
    if (text === undefined) return;
    this.portals.delete(portal);
    this.record(text);
  }
}
