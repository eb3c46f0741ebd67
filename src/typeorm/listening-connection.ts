import type { Client } from 'pg';
import type { DataSource } from 'typeorm';
import { timeLimit } from '../session/time-limit.js';
import { hangUp } from './hang-up.js';
import { newClient } from './pool.js';

export const SIGNAL_APPLICATION_NAME = 'nestjs-single-session:signal';
const GOODBYE_WITHIN_MS = 500;

/** One connection of its own to the primary, made as the pool of the data source makes its own, that listens on a channel. */
export class ListeningConnection {
  /** Rejects when the connection is lost, by whomever. */
  readonly lost: Promise<never>;
  private readonly client: Client;

  constructor(dataSource: DataSource, onNotification: (payload: string) => void) {
    const client = newClient(dataSource, { keepAlive: true });
    this.client = client;
    this.lost = new Promise((_, reject) => {
      // Stays for ever: an 'error' event that nobody hears would end the process.
      client.on('error', reject);
      client.on('end', () => reject(new Error('the connection was closed')));
    });
    this.lost.catch(() => undefined);
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

  /** Says goodbye if the other end still hears it; never fails. */
  async close(): Promise<void> {
    await this.answered(this.client.end(), GOODBYE_WITHIN_MS).catch(() => undefined);
  }

  private async answered(answer: Promise<unknown>, withinMs: number): Promise<void> {
    const callOff = timeLimit(withinMs, () => hangUp(this.client));
    try {
      await Promise.race([answer, this.lost]);
    } finally {
      callOff();
    }
  }
}
