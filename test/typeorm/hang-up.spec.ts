import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pipeline, type Duplex } from 'node:stream';
import tls from 'node:tls';
import { setImmediate as turn } from 'node:timers/promises';
import pg from 'pg';
import { answered } from '../../src/session/answered.js';
import { hangingUpAt } from '../../src/typeorm/hang-up.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { until } from '../support/store.js';
import { watchStatements, type StatementWatch } from '../support/statements.js';
import { timers } from '../support/timers.js';

let databaseUrl: string;
let watch: StatementWatch;
let pool: pg.Pool;

beforeAll(async () => {
  databaseUrl = await freshDatabase();
});
afterAll(() => dropDatabase(databaseUrl));

beforeEach(async () => {
  watch = await watchStatements(databaseUrl);
  pool = new pg.Pool({ connectionString: watch.url, max: 1 });
  pool.on('error', () => undefined);
});
afterEach(async () => {
  await pool.end();
  await watch.stop();
});

const WAITS = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";

// Older drivers ask for TLS first.
const knowsDirectTls =
  'sslNegotiation' in new pg.Connection({ sslNegotiation: 'direct' } as pg.ConnectionConfig);
const WAYS = ['TCP', 'a Unix socket', 'TLS', ...(knowsDirectTls ? ['TLS from the first byte on'] : [])];

// Keys that both know take no certificates (RFC 4279).
const PSK = Buffer.from('shared by both');
const TLS = { ciphers: 'PSK', minVersion: 'TLSv1.2', maxVersion: 'TLSv1.2' } as const;
const OF_CLIENT = { ...TLS, pskCallback: () => ({ identity: 'test', psk: PSK }) };

/** Stands before PostgreSQL, which offers TCP without TLS alone. */
async function openFront(way: string): Promise<{ config: pg.ClientConfig; close: () => Promise<void> }> {
  const { hostname, port, username, password, pathname } = new URL(databaseUrl);
  const forward = (socket: Duplex): unknown =>
    pipeline(socket, net.connect(Number(port), hostname), socket, () => undefined);
  const encrypted = tls.createServer(
    { ...TLS, pskCallback: () => PSK, ALPNProtocols: ['postgresql'] },
    forward,
  );
  const server = net.createServer((socket) => {
    if (way === 'TCP' || way === 'a Unix socket') return void forward(socket);
    if (way === 'TLS from the first byte on') return void encrypted.emit('connection', socket);
    socket.once('data', () => {
      socket.write('S', () => encrypted.emit('connection', socket));
    });
  });
  const directory = mkdtempSync(join(tmpdir(), 'front-'));
  if (way === 'a Unix socket') server.listen(join(directory, '.s.PGSQL.5432'));
  else server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  const config = {
    user: decodeURIComponent(username),
    password: decodeURIComponent(password),
    database: pathname.slice(1),
    ...(typeof address === 'object'
      ? { host: '127.0.0.1', port: address!.port }
      : { host: directory, port: 5432 }),
    ...(way.startsWith('TLS') && { ssl: { ...OF_CLIENT, checkServerIdentity: () => undefined } }),
    ...(way === 'TLS from the first byte on' && { sslnegotiation: 'direct' as const }),
  };
  const close = async (): Promise<void> => {
    server.close();
    await once(server, 'close');
    rmSync(directory, { recursive: true });
  };
  return { config, close };
}

const soon = (): number => performance.now() + 100;

/** Does nothing else meanwhile, as a process in the middle of a long computation. */
function busyFor(ms: number): void {
  const until = performance.now() + ms;
  while (performance.now() < until);
}

describe('a process that was busy when the deadline passed', () => {
  it('reads the answer that has come before it judges, and keeps the connection', async () => {
    const client = new pg.Client({ connectionString: databaseUrl });
    client.on('error', () => undefined);
    await client.connect();
    try {
      const answer = hangingUpAt(soon(), client, () => client.query('SELECT 2 AS two'));
      const limited = answered(answer, 100);
      await turn();
      busyFor(400);
      expect((await limited).rows).toEqual([{ two: 2 }]);
      expect((await client.query('SELECT 3 AS three')).rows).toEqual([{ three: 3 }]);
    } finally {
      await client.end();
    }
  });
});

describe('a query with a deadline', () => {
  it('answers when it is in time, and hangs up on nobody', async () => {
    const client = await pool.connect();
    const { rows } = await hangingUpAt(performance.now() + 5_000, client, () =>
      client.query('SELECT 1 AS one'),
    );
    expect(rows).toEqual([{ one: 1 }]);
    expect((await client.query('SELECT 2 AS two')).rows).toEqual([{ two: 2 }]);
    client.release();
  });

  it('is not sent at all when its turn comes too late: it would evict somebody for a login that was refused', async () => {
    const query = jest.fn(async () => 'sent');
    await expect(hangingUpAt(performance.now() - 1, {}, query)).rejects.toThrow(/pool/);
    expect(query).not.toHaveBeenCalled();
  });

  it('fails on a link that is silently dead, and the pool has room for a new connection', async () => {
    const client = await pool.connect();
    client.on('error', () => undefined);
    await client.query('SELECT 1');
    watch.freeze();
    const late = await hangingUpAt(soon(), client, () => client.query('SELECT 2')).catch(
      (error: Error) => error,
    );
    expect(late).toBeInstanceOf(Error);
    client.release(late as Error);
    watch.unfreeze();
    expect((await pool.query('SELECT 3 AS three')).rows).toEqual([{ three: 3 }]);
  });

  it.each(WAYS)('is given up by PostgreSQL, too, which is reached by %s', async (way) => {
    const front = await openFront(way);
    const before = timers();
    const client = new pg.Client(front.config);
    client.on('error', () => undefined);
    const holder = new pg.Client({ connectionString: databaseUrl });
    await holder.connect();
    try {
      await client.connect();
      await holder.query('SELECT pg_advisory_lock(1)');
      const waits = hangingUpAt(soon(), client, () => client.query('SELECT pg_advisory_lock_shared(1)'));
      await expect(waits).rejects.toThrow(/did not answer in time/);
      await until(async () => (await holder.query(WAITS)).rowCount === 0);
      expect(timers()).toBeLessThanOrEqual(before);
    } finally {
      await holder.end();
      await front.close();
    }
  });

  it.each(['is not known', 'refuses'])(
    'fails also where who is to be told to give it up %s, which ends no process',
    async (whom) => {
      const client = await pool.connect();
      client.on('error', () => undefined);
      const refusing = net.createServer((socket) => socket.resetAndDestroy()).listen(0, '127.0.0.1');
      await once(refusing, 'listening');
      const { port } = refusing.address() as net.AddressInfo;
      const refused = once(refusing, 'connection');
      Object.assign(client, whom === 'refuses' ? { port } : { host: undefined });
      const holder = new pg.Client({ connectionString: databaseUrl });
      await holder.connect();
      try {
        await holder.query('SELECT pg_advisory_lock(1)');
        const waits = hangingUpAt(soon(), client, () => client.query('SELECT pg_advisory_lock_shared(1)'));
        await expect(waits).rejects.toThrow(/did not answer in time/);
        client.release(true);
        if (whom === 'refuses') await refused;
      } finally {
        await holder.end();
        refusing.close();
      }
    },
  );
});
