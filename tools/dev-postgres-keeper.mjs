// Makes and runs a throw-away PostgreSQL until its stdin closes (see launch() in dev-postgres.mjs), then stops it
// and removes its directory. A pipe closes however the process at its other end ends, so nothing has to be caught.
import { execFileSync, spawn } from 'node:child_process';
import fs from 'node:fs';

const { dir, account, initdb, postgres } = JSON.parse(process.argv[2]);

try {
  execFileSync(initdb[0], initdb.slice(1), { ...account, stdio: ['ignore', 'ignore', 'inherit'] });
} catch (error) {
  leave(error.message);
}

const server = spawn(postgres[0], postgres.slice(1), { ...account, stdio: ['ignore', 'ignore', 'inherit'] });
server.on('error', (error) => leave(error.message));
server.on('exit', (code, signal) => (code === 0 ? leave() : leave(`postgres ended with ${code ?? signal}`)));

const stop = () => server.kill('SIGINT');
process.stdin.resume().on('end', stop).on('error', stop);
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, stop);

function leave(failure) {
  fs.rmSync(dir, { recursive: true, force: true });
  if (failure) process.stderr.write(`${failure}\n`);
  process.exit(failure ? 1 : 0);
}
