import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { connect, createServer, type AddressInfo } from 'node:net';
import { fileURLToPath } from 'node:url';

import { platform } from './platform.js';

export const repository = fileURLToPath(new URL('../..', import.meta.url));

const START_WITHIN_MS = 20_000;
const ADDRESS = /http:\/\/localhost:(\d+)/;

/** How a process ended. */
export interface Exit {
  code: number | null;
  signal: NodeJS.Signals | null;
}

export interface ProcessSettings {
  /** What Node runs, as seen from `cwd`. Default: the demo. */
  program?: string;
  /** Default: the repository. */
  cwd?: string;
  /** All that the process sees beside PATH and the like: nothing of the test run's own environment. */
  env?: Record<string, string>;
  /** Given for a program that does not print its address: it gets this as PORT, and serves when it listens there. */
  port?: number;
}

/** A process that serves. */
export interface RunningProcess {
  readonly pid: number;
  /** `http://127.0.0.1:port` */
  readonly url: string;
  readonly ended: Promise<Exit>;
  stdout(): string;
  stderr(): string;
  /** SIGTERM, and waits for the end. */
  stop(): Promise<Exit>;
  /** kill -9, and waits for the end. */
  killHard(): Promise<Exit>;
}

const running = new Set<ChildProcess>();

/** Starts a process and waits until it has printed its address. Throws with what it said when it ends before. */
export async function startProcess(settings: ProcessSettings = {}): Promise<RunningProcess> {
  const { child, stdout, stderr, ended } = launch(settings);
  const early = ended.then(({ code, signal }) => {
    throw new Error(`It ended with ${code ?? signal} before it served.\n${stdout()}${stderr()}`);
  });
  const serves = settings.port === undefined ? printedPort(child, stdout) : listening(settings.port, ended);
  const port = await within(START_WITHIN_MS, Promise.race([serves, early]), () => `${stdout()}${stderr()}`);
  const end = (signal: NodeJS.Signals) => {
    child.kill(signal);
    return ended;
  };
  return {
    pid: child.pid!,
    url: `http://127.0.0.1:${port}`,
    ended,
    stdout,
    stderr,
    stop: () => end('SIGTERM'),
    killHard: () => end('SIGKILL'),
  };
}

/** Runs a process to its end, which must come by itself. */
export async function runToEnd(
  settings: ProcessSettings,
): Promise<Exit & { stdout: string; stderr: string }> {
  const { stdout, stderr, ended } = launch(settings);
  const exit = await within(START_WITHIN_MS, ended, () => `It did not end.\n${stdout()}${stderr()}`);
  return { ...exit, stdout: stdout(), stderr: stderr() };
}

/** Starts several processes at the same moment. */
export function startCluster(size: number, settings: ProcessSettings): Promise<RunningProcess[]> {
  return Promise.all(Array.from({ length: size }, () => startProcess(settings)));
}

/** Ends whatever is left, for `afterAll`: also what a failed test or a failed start has left behind. */
export async function endAllProcesses(): Promise<void> {
  await Promise.all([...running].map((child) => endOne(child)));
}

/** A port that was free a moment ago. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0);
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  return port;
}

function printedPort(child: ChildProcess, stdout: () => string): Promise<number> {
  return new Promise((resolve) => {
    child.stdout!.on('data', () => {
      const [, port] = ADDRESS.exec(stdout()) ?? [];
      if (port !== undefined) resolve(Number(port));
    });
  });
}

async function listening(port: number, ended: Promise<unknown>): Promise<number> {
  let over = false;
  ended.finally(() => (over = true)).catch(() => undefined);
  while (!over && !(await canConnect(port))) await new Promise((resolve) => setTimeout(resolve, 20));
  return port;
}

function canConnect(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => resolve(true));
    socket.on('error', () => resolve(false)).on('connect', () => socket.destroy());
  });
}

function launch({ program = 'demo/dist/main.js', cwd = repository, env = {}, port = 0 }: ProcessSettings) {
  const { PATH = '', HOME = '', TMPDIR = '/tmp' } = process.env;
  const child = spawn(process.execPath, [program], {
    cwd,
    env: { PATH, HOME, TMPDIR, PORT: String(port), PLATFORM: platform, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  running.add(child);
  const stdout = collect(child.stdout);
  const stderr = collect(child.stderr);
  const ended = new Promise<Exit>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => {
      running.delete(child);
      resolve({ code, signal });
    });
  });
  // Whoever needs it awaits it; a process that ends unobserved is no unhandled rejection.
  ended.catch(() => undefined);
  return { child, stdout, stderr, ended };
}

function collect(stream: NodeJS.ReadableStream): () => string {
  let text = '';
  stream.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
  return () => text;
}

async function endOne(child: ChildProcess): Promise<void> {
  const closed = new Promise<void>((resolve) => child.once('close', () => resolve()));
  child.kill('SIGTERM');
  const impatience = setTimeout(() => child.kill('SIGKILL'), 8_000);
  await closed;
  clearTimeout(impatience);
}

async function within<T>(ms: number, work: Promise<T>, explain: () => string): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`Not within ${ms} ms.\n${explain()}`)), ms);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}
