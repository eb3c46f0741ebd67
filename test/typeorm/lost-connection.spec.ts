import { afterEach, beforeEach, expect, it } from '@jest/globals';
import type net from 'node:net';
import type { Pool } from 'pg';
import { DatabaseLink, DatabaseProxy } from '../support/database-proxy.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { someone, StoreBench } from '../support/store.js';

const READY_FOR_QUERY = Buffer.from('Z\0\0\0\x05I', 'latin1');
const TERMINATING = errorResponse({
  S: 'FATAL',
  V: 'FATAL',
  C: '57P01',
  M: 'terminating connection due to administrator command',
});

/** https://www.postgresql.org/docs/current/protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-ERRORRESPONSE */
function errorResponse(fields: Record<string, string>): Buffer {
  const body = Buffer.from(
    `${Object.entries(fields)
      .map(([code, text]) => `${code}${text}\0`)
      .join('')}\0`,
  );
  const length = Buffer.alloc(4);
  length.writeInt32BE(body.length + length.length);
  return Buffer.concat([Buffer.from('E'), length, body]);
}

/** A database that is shut down in the moment in which it takes a new connection: the client reads both at once. */
class ShuttingDown extends DatabaseProxy<Link> {
  shutsDown = false;
  refused = 0;

  hangUp(): void {
    for (const link of this.links) link.destroy();
  }

  protected open(client: net.Socket, database: net.Socket, onGone: () => void): Link {
    const link = new Link(client, database, onGone);
    link.ends = () => this.shutsDown && ++this.refused > 0;
    return link;
  }
}

class Link extends DatabaseLink {
  ends: () => boolean = () => false;

  protected asked(): void {}

  protected override fromDatabase(chunk: Buffer): void {
    if (!chunk.subarray(-READY_FOR_QUERY.length).equals(READY_FOR_QUERY) || !this.ends())
      return super.fromDatabase(chunk);
    this.client.end(Buffer.concat([chunk, TERMINATING]));
  }
}

let url: string;
let proxy: ShuttingDown;
let bench: StoreBench;

beforeEach(async () => {
  url = await freshDatabase();
  proxy = new ShuttingDown(url);
  await proxy.restore();
  bench = await StoreBench.open(proxy.url, {}, { poolSize: 1 });
});
afterEach(async () => {
  await bench.close();
  await proxy.cut();
  await dropDatabase(url);
});

const anew = async ({ dataSource }: StoreBench): Promise<void> => {
  await dataSource.destroy();
  await dataSource.initialize();
};

it.each([
  ['', async () => undefined],
  [', also of a data source that was initialized anew', anew],
])(
  'a connection that is lost in the moment in which it was made fails its check, and not the process%s',
  async (_, before) => {
    await before(bench);
    const sessions = bench.sessions();
    const id = await sessions.login(someone());
    proxy.shutsDown = true;
    proxy.hangUp();
    const lost = /terminat|connection error/i;
    await expect(bench.store.verify([{ id, limit: 1 }])).rejects.toThrow(lost);
    await expect(bench.store.verify([{ id, limit: 1 }])).rejects.toThrow(lost);
    expect(proxy.refused).toBeGreaterThan(0);
    proxy.shutsDown = false;
    expect(await sessions.isLive(id)).toBe(true);
  },
);

it('a pool is made to recover once, however often it is used: nothing piles up on it', async () => {
  const { master } = bench.dataSource.driver as unknown as { master: Pool & { Client: unknown } };
  const made = (): unknown[] => [master.listenerCount('connect'), master.Client];
  const sessions = bench.sessions();
  await sessions.login(someone());
  const before = made();
  await sessions.login(someone());
  expect(made()).toEqual(before);
});
