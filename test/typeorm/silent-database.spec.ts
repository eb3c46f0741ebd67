import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import type net from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import type { Client, ClientConfig, Pool } from 'pg';
import { DatabaseLink, DatabaseProxy } from '../support/database-proxy.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { someone, StoreBench } from '../support/store.js';

/** A proxy whose database has moved: what was connected meanwhile is never answered, also when the database is back. */
class Silent extends DatabaseProxy<Link> {
  opened = 0;
  private silent = false;

  goSilent(): void {
    this.silent = true;
    for (const link of this.links) link.freeze();
  }

  speakAgain(): void {
    this.silent = false;
  }

  protected open(client: net.Socket, database: net.Socket, onGone: () => void): Link {
    this.opened++;
    const link = new Link(client, database, onGone);
    if (this.silent) link.freeze();
    return link;
  }
}

class Link extends DatabaseLink {
  protected asked(): void {}
}

let url: string;
let proxy: Silent;
let bench: StoreBench | undefined;

beforeEach(async () => {
  url = await freshDatabase();
  proxy = new Silent(url);
  await proxy.restore();
});
afterEach(async () => {
  await bench?.close();
  bench = undefined;
  await proxy.cut();
  await dropDatabase(url);
});

describe('a database that is reached and says nothing', () => {
  it('is asked again when it is back: connections that it never greeted leave the pool', async () => {
    bench = await StoreBench.open(proxy.url, {}, { poolSize: 2 });
    const sessions = bench.sessions();
    const id = await sessions.login(someone());
    const { store } = bench;
    proxy.goSilent();
    const before = proxy.opened;
    // The first finds connections that were good, the others make new ones.
    while (proxy.opened < before + 2)
      await Promise.allSettled([1, 2, 3].map(() => store.verify([{ id, limit: 1 }])));
    proxy.speakAgain();
    expect(await Promise.race([sessions.isLive(id), pause(12_000, 'still hanging', { ref: false })])).toBe(
      true,
    );
  }, 60_000);

  it.each([
    ['five seconds', undefined, 5_000],
    ['as long as the application says', 1_234, 1_234],
    ['all the time that there is, where the application says so', 0, 0],
  ])('has %s to greet a new connection', async (_, connectTimeoutMS, expected) => {
    const { port, username, password, pathname } = new URL(proxy.url);
    bench = await StoreBench.open(
      proxy.url,
      {},
      {
        url: undefined,
        host: '127.0.0.1',
        port: Number(port),
        username,
        password,
        database: pathname.slice(1),
        ...(connectTimeoutMS !== undefined && { connectTimeoutMS }),
      },
    );
    const { master } = bench.dataSource.driver as unknown as {
      master: Pool & { Client: new (config: ClientConfig) => Client; options: ClientConfig };
    };
    const client = new master.Client(master.options);
    expect(client).toMatchObject({ _connectionTimeoutMillis: expected });
    // The pool hides it from being copied.
    expect(client.password).toBe(password);
    // How long a request of the application waits for a place of the pool is its own affair.
    expect(master.options.connectionTimeoutMillis).toBe(connectTimeoutMS);
  });
});
