import { once } from 'node:events';
import net from 'node:net';
import { FrontendMessages } from './frontend-messages.js';

const NOTIFICATION = 'A'.charCodeAt(0);
const TYPED_HEADER = 5;

/**
 * Puts itself between a process and PostgreSQL and can spoil what bounded freshness relies on. A link counts as a
 * listening one from the moment at which it says LISTEN.
 */
export class SignalLink {
  /** How many notifications were thrown away. */
  thrownAway = 0;
  throwsAway = false;
  /** How many notifications were handed on. */
  delivered = 0;
  private readonly server = net.createServer((client) => this.connect(client));
  private readonly links = new Set<Link>();
  private port = 0;
  private frozen = false;
  private holding = false;

  private constructor(private readonly target: URL) {}

  static async open(databaseUrl: string): Promise<SignalLink> {
    const link = new SignalLink(new URL(databaseUrl));
    await link.restore();
    return link;
  }

  /** Give this to the process instead of the database's own address. */
  get url(): string {
    const url = new URL(this.target);
    url.hostname = '127.0.0.1';
    url.port = String(this.port);
    return url.href;
  }

  get listening(): number {
    return [...this.links].filter((link) => link.listens).length;
  }

  /** On how many links answers are held back. */
  get waiting(): number {
    return [...this.links].filter((link) => link.isWaiting).length;
  }

  /** Makes the listening links silently dead, those that come too; all others work. */
  freezeListening(): void {
    this.frozen = true;
    for (const link of this.links) if (link.listens) link.freeze();
  }

  unfreeze(): void {
    this.frozen = false;
    for (const link of this.links) link.unfreeze();
  }

  /** Holds back what the database answers on links that do not listen. */
  holdAnswers(): void {
    this.holding = true;
    for (const link of this.links) if (!link.listens) link.hold();
  }

  releaseAnswers(): void {
    this.holding = false;
    for (const link of this.links) link.release();
  }

  /** As if the database had gone: breaks all links and refuses new ones, until restore(). */
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

  private connect(client: net.Socket): void {
    const host = this.target.hostname.replace(/^\[|\]$/g, '');
    const database = net.connect(Number(this.target.port || 5432), host);
    const link = new Link(client, database, {
      onListen: () => this.frozen && link.freeze(),
      onGone: () => this.links.delete(link),
      drops: () => {
        if (this.throwsAway) this.thrownAway++;
        else this.delivered++;
        return this.throwsAway;
      },
    });
    this.links.add(link);
    if (this.holding) link.hold();
  }
}

interface Hooks {
  onListen: () => void;
  onGone: () => void;
  /** Whether the notification at hand is thrown away. */
  drops: () => boolean;
}

class Link {
  listens = false;
  private readonly questions = new FrontendMessages();
  private readonly answers = new BackendMessages();
  private held: Buffer[] | undefined;
  private frozen = false;
  private broken = false;

  constructor(
    private readonly client: net.Socket,
    private readonly database: net.Socket,
    private readonly hooks: Hooks,
  ) {
    client.on('data', (chunk) => this.fromClient(chunk));
    database.on('data', (chunk) => this.fromDatabase(chunk));
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

  get isWaiting(): boolean {
    return this.held !== undefined && this.held.length > 0;
  }

  hold(): void {
    this.held ??= [];
  }

  release(): void {
    for (const bytes of this.held ?? []) this.client.write(bytes);
    this.held = undefined;
  }

  destroy(): void {
    this.client.destroy();
    this.database.destroy();
    this.hooks.onGone();
  }

  /** A dead link does not tell one side that the other has gone. */
  private oneSideClosed(): void {
    this.broken = true;
    if (!this.frozen) this.destroy();
  }

  private fromClient(chunk: Buffer): void {
    for (const { message, bytes } of this.questions.read(chunk)) {
      if (message.kind === 'query' && message.text.includes('LISTEN ')) {
        this.listens = true;
        this.hooks.onListen();
      }
      this.database.write(bytes);
    }
  }

  private fromDatabase(chunk: Buffer): void {
    for (const bytes of this.answers.read(chunk)) {
      if (bytes[0] === NOTIFICATION && this.hooks.drops()) continue;
      if (this.held === undefined) this.client.write(bytes);
      else this.held.push(bytes);
    }
  }
}

/** Cuts the bytes that PostgreSQL sends into messages. */
class BackendMessages {
  private rest: Buffer = Buffer.alloc(0);

  *read(chunk: Buffer): Generator<Buffer> {
    this.rest = Buffer.concat([this.rest, chunk]);
    while (this.rest.length >= TYPED_HEADER) {
      const length = this.rest.readInt32BE(1) + 1;
      if (this.rest.length < length) return;
      yield this.rest.subarray(0, length);
      this.rest = this.rest.subarray(length);
    }
  }
}
