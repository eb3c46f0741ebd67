import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { findExecutable } from './executable.js';
import { freePort } from './processes.js';

/** So few, and used by turns, that what one transaction leaves on a connection is not there for the next. */
const SERVER_CONNECTIONS = 2;
const NOBODY = { uid: 65534, gid: 65534 };

export const findPgBouncer = (): string | undefined => findExecutable(['pgbouncer']);

export interface PgBouncer {
  /** Give this to the code under test instead of the database's own address. */
  readonly url: string;
  stop(): Promise<void>;
}

/** A PgBouncer in transaction mode before this database. */
export async function startPgBouncer(executablePath: string, databaseUrl: string): Promise<PgBouncer> {
  const url = new URL(databaseUrl);
  const { hostname, port, username, password } = url;
  url.hostname = '127.0.0.1';
  url.port = String(await freePort());
  const dir = mkdtempSync(join(tmpdir(), 'pgbouncer-'));
  const users = join(dir, 'users.txt');
  const settings = join(dir, 'pgbouncer.ini');
  writeFileSync(users, `"${decodeURIComponent(username)}" "${decodeURIComponent(password)}"\n`);
  writeFileSync(
    settings,
    `[databases]
* = host=${hostname} port=${port || 5432}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${url.port}
unix_socket_dir =
auth_type = trust
auth_file = ${users}
pool_mode = transaction
default_pool_size = ${SERVER_CONNECTIONS}
server_round_robin = 1
`,
  );
  // It does not run as root, and must be able to read what root wrote, whatever the umask.
  chmodSync(dir, 0o755);
  for (const file of [users, settings]) chmodSync(file, 0o644);
  const child = spawn(executablePath, [settings], {
    stdio: ['ignore', 'ignore', 'pipe'],
    ...(process.getuid?.() === 0 ? NOBODY : {}),
  });
  const ended = once(child, 'exit');
  let said = '';
  const up = new Promise<void>((resolve) =>
    child.stderr.on('data', (text: Buffer) => {
      said += text;
      if (said.includes('process up')) resolve();
    }),
  );
  const early = ended.then(() => {
    throw new Error(`PgBouncer ended before it served.\n${said}`);
  });
  await Promise.race([up, early]);
  early.catch(() => undefined);
  return {
    url: url.href,
    async stop() {
      child.kill('SIGTERM');
      await ended;
      rmSync(dir, { recursive: true });
    },
  };
}
