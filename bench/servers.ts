import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { CredentialKind, Password, Variant } from './application.js';

const PROGRAM = fileURLToPath(new URL('./server.js', import.meta.url));

/** A server process. */
export interface BenchServer {
  variant: Variant;
  url: string;
  stop(): Promise<void>;
}

/** Starts one process for each variant; all stay alive, so that they can take turns. */
export async function startServers(
  variants: Variant[],
  kind: CredentialKind,
  databaseUrl: string,
  password: Password = 'cheap',
): Promise<BenchServer[]> {
  const servers: BenchServer[] = [];
  try {
    // One after the other: they make their tables.
    for (const variant of variants) servers.push(await startServer(variant, kind, databaseUrl, password));
    return servers;
  } catch (error) {
    await stopServers(servers);
    throw error;
  }
}

export async function stopServers(servers: BenchServer[]): Promise<void> {
  await Promise.all(servers.map((server) => server.stop()));
}

async function startServer(
  variant: Variant,
  kind: CredentialKind,
  databaseUrl: string,
  password: Password,
): Promise<BenchServer> {
  const child = spawn(process.execPath, [...process.execArgv, PROGRAM], {
    env: { ...process.env, VARIANT: variant, KIND: kind, PASSWORD: password, DATABASE_URL: databaseUrl },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const exit = once(child, 'exit');
  const early = exit.then(([code]) => {
    throw new Error(`The server "${variant}" ended with ${String(code)} before it served.`);
  });
  early.catch(() => undefined);
  const [line] = (await Promise.race([once(child.stdout, 'data'), early])) as [Buffer];
  const stop = async () => {
    child.kill('SIGTERM');
    await exit;
  };
  return { variant, url: line.toString().trim(), stop };
}
