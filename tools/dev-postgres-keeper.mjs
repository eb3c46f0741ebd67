// Makes and runs a throw-away PostgreSQL until its stdin closes (see launch() in dev-postgres.mjs), then stops it
// and removes its directory. A pipe closes however the process at its other end ends, so nothing has to be caught.
// Whatever comes through the pipe before that restarts the server.
import { execFileSync, spawn } from 'node:child_process';
import fs from 'node:fs';

const { dir, account, initdb, postgres } = JSON.parse(process.argv[2]);

try {
  execFileSync(initdb[0], initdb.slice(1), { ...account, stdio: ['ignore', 'ignore', 'inherit'] });
} catch (error) {
  leave(error.message);
}

let isRestarting = false;
let server = start();

// SIGINT is PostgreSQL's "fast shutdown": it ends all connections and leaves nothing to recover from.
const end = (thenRestart) => {
  isRestarting = thenRestart;
  server.kill('SIGINT');
};
const stop = () => end(false);
process.stdin
  .on('data', () => end(true))
  .on('end', stop)
  .on('error', stop);
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, stop);

function start() {
  const started = spawn(postgres[0], postgres.slice(1), {
    ...account,
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  started.on('error', (error) => leave(error.message));
  started.on('exit', (code, signal) => {
    if (code !== 0) leave(`postgres ended with ${code ?? signal}`);
    else if (!isRestarting) leave();
    else restart();
  });
  return started;
}

function restart() {
  isRestarting = false;
  server = start();
}

function leave(failure) {
  fs.rmSync(dir, { recursive: true, force: true });
  if (failure) process.stderr.write(`${failure}\n`);
  process.exit(failure ? 1 : 0);
}
