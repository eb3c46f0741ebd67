import { once } from 'node:events';
import net from 'node:net';
import { type FrontendMessage, FrontendMessages } from './frontend-messages.js';

/** Stands between clients and PostgreSQL. Each connection of a client gets a link with a connection of its own. */
export abstract class DatabaseProxy<Link extends DatabaseLink> {
  protected readonly links = new Set<Link>();
  private readonly target: URL;
  private readonly server = net.createServer((client) => this.connect(client));
  private port = 0;

  constructor(databaseUrl: string) {
    this.target = new URL(databaseUrl);
  }

  /** Give this to the code under test instead of the database's own address. */
  get url(): string {
    const url = new URL(this.target);
    url.hostname = '127.0.0.1';
    url.port = String(this.port);
    return url.href;
  }

  /** As if the database had gone: destroys all connections and refuses new ones, until restore(). */
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

  protected abstract open(client: net.Socket, database: net.Socket, onGone: () => void): Link;

  private connect(client: net.Socket): void {
    const host = this.target.hostname.replace(/^\[|\]$/g, '');
    const database = net.connect(Number(this.target.port || 5432), host);
    const link = this.open(client, database, () => this.links.delete(link));
    this.links.add(link);
  }
}

/** One client's connection with its own connection to the database. */
export abstract class DatabaseLink {
  private readonly questions = new FrontendMessages();
  private frozen = false;
  private broken = false;

  constructor(
    protected readonly client: net.Socket,
    private readonly database: net.Socket,
    private readonly onGone: () => void,
  ) {
    client.on('data', (chunk: Buffer) => this.fromClient(chunk));
    database.on('data', (chunk: Buffer) => this.fromDatabase(chunk));
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
    if (!this.frozen) return;
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

  /** Sees each message of the client before the database does. */
  protected abstract asked(message: FrontendMessage): void;

  protected fromDatabase(chunk: Buffer): void {
    this.client.write(chunk);
  }

  private fromClient(chunk: Buffer): void {
    for (const { message, bytes } of this.questions.read(chunk)) {
      if (message.kind === 'encryption-request') {
        this.client.write('N'); // no: what is encrypted cannot be read
        continue;
      }
      this.asked(message);
      this.database.write(bytes);
    }
  }

  /** A dead link does not tell one side that the other has gone. */
  private oneSideClosed(): void {
    this.broken = true;
    if (!this.frozen) this.destroy();
  }
}
