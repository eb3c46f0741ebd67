import type net from 'node:net';
import { DatabaseLink, DatabaseProxy } from './database-proxy.js';
import type { FrontendMessage } from './frontend-messages.js';

const NOTIFICATION = 'A'.charCodeAt(0);
const READY_FOR_QUERY = 'Z'.charCodeAt(0);
const TYPED_HEADER = 5;

/**
 * Puts itself between a process and PostgreSQL and can spoil what bounded freshness relies on. A link counts as a
 * listening one from the moment at which it says LISTEN.
 */
export class SignalLink extends DatabaseProxy<Link> {
  /** How many notifications were thrown away. */
  thrownAway = 0;
  throwsAway = false;
  /** Notifications come only before the next answer, as from a database that stands still when nobody asks. */
  delays = false;
  /** How many notifications were handed on. */
  delivered = 0;
  private frozen = false;
  private holding = false;

  static async open(databaseUrl: string): Promise<SignalLink> {
    const link = new SignalLink(databaseUrl);
    await link.restore();
    return link;
  }

  get listening(): number {
    return [...this.links].filter((link) => link.listens).length;
  }

  /** On how many links answers are held back. */
  get waiting(): number {
    return [...this.links].filter((link) => link.isWaiting).length;
  }

  /** On how many links that do not listen the database has not answered yet. */
  get busy(): number {
    return [...this.links].filter((link) => link.isBusy && !link.listens).length;
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

  protected open(client: net.Socket, database: net.Socket, onGone: () => void): Link {
    const link = new Link(client, database, onGone);
    link.onListen = () => this.frozen && link.freeze();
    link.drops = () => {
      if (this.throwsAway) this.thrownAway++;
      else this.delivered++;
      return this.throwsAway;
    };
    link.delays = () => this.delays;
    if (this.holding) link.hold();
    return link;
  }
}

class Link extends DatabaseLink {
  listens = false;
  isBusy = false;
  onListen: () => void = () => {};
  /** Whether the notification at hand is thrown away. */
  drops: () => boolean = () => false;
  delays: () => boolean = () => false;
  private readonly delayed: Buffer[] = [];
  private readonly answers = new BackendMessages();
  private held: Buffer[] | undefined;

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

  protected asked(message: FrontendMessage): void {
    if (message.kind === 'query' || message.kind === 'execute') this.isBusy = true;
    if (message.kind !== 'query' || !message.text.includes('LISTEN ')) return;
    this.listens = true;
    this.onListen();
  }

  protected override fromDatabase(chunk: Buffer): void {
    for (const bytes of this.answers.read(chunk)) {
      if (bytes[0] === NOTIFICATION && this.drops()) continue;
      if (bytes[0] === NOTIFICATION && this.delays()) {
        this.delayed.push(bytes);
        continue;
      }
      for (const late of this.delayed.splice(0)) this.client.write(late);
      if (bytes[0] === READY_FOR_QUERY) this.isBusy = false;
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
