import type { Client } from 'pg';
import type { DataSource } from 'typeorm';
import { rest, timeLimit } from '../session/time-limit.js';
import { hangUp } from './hang-up.js';
import { newClient } from './pool.js';

export const SIGNAL_APPLICATION_NAME = 'nestjs-single-session:signal';
const GOODBYE_WITHIN_MS = 500;

/** One connection of its own to the primary, made as the pool of the data source makes its own, that listens on a channel. */
export class ListeningConnection {
  private readonly client: Client;
  private loss: Error | undefined;
  private readonly lost = new AbortController();
  private readonly waiting = new Set<(loss: Error) => void>();

  constructor(dataSource: DataSource, onNotification: (payload: string) => void) {
    const client = newClient(dataSource, { keepAlive: true });
    this.client = client;
    // Stays for ever: an 'error' event that nobody hears would end the process.
    client.on('error', (error) => this.lose(error));
    client.on('end', () => this.lose(new Error('the connection was closed')));
    client.on('notification', ({ payload = '' }) => onNotification(payload));
  }

  /** Connects and listens. */
  async open(channel: string, withinMs: number): Promise<void> {
    await this.answered(this.client.connect(), withinMs);
    // It must not keep a process alive that is done.
    (this.client as Client & { unref?(): void }).unref?.();
    // The name is set here since one in the data source's URL would win over one given beside it.
    const listen = `SET application_name TO '${SIGNAL_APPLICATION_NAME}'; LISTEN "${channel}"`;
    await this.answered(this.client.query(listen), withinMs);
  }

  /** Asks the other end whether it is there. Resolves to the moment before the question was sent. */
  async prove(withinMs: number): Promise<number> {
    const sentAt = performance.now();
    await this.answered(this.client.query('SELECT 1'), withinMs);
    return sentAt;
  }

  /**
   * What is awaited, or the loss of the connection, by whomever. Not by a race with one promise of the loss: that would
   * keep whatever ever raced with it, for each proof a kilobyte, as long as the connection lives.
   */
  orLost<Awaited>(awaited: Promise<Awaited>): Promise<Awaited> {
    return new Promise((resolve, reject) => {
      this.waiting.add(reject);
      void awaited.then(resolve, reject).finally(() => this.waiting.delete(reject));
      if (this.loss !== undefined) reject(this.loss);
    });
  }

  /** Resolves after `ms` milliseconds, unless the connection is lost before. */
  rest(ms: number): Promise<void> {
    return this.orLost(rest(ms, this.lost.signal));
  }

  /** Says goodbye if the other end still hears it; never fails. */
  async close(): Promise<void> {
    await this.answered(this.client.end(), GOODBYE_WITHIN_MS).catch(() => undefined);
  }

  private async answered(answer: Promise<unknown>, withinMs: number): Promise<void> {
    const callOff = timeLimit(withinMs, () => hangUp(this.client));
    try {
      await this.orLost(answer);
    } finally {
      callOff();
    }
  }

  private lose(loss: Error): void {
    this.loss ??= loss;
    for (const reject of this.waiting) reject(this.loss);
    this.lost.abort();
  }
}
