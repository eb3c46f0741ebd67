// Runs a throw-away PostgreSQL until its stdin closes (see launch() in dev-postgres.mjs), then stops it and
// removes its directory. A pipe closes however the process at its other end ends, so nothing has to be caught.
import { spawn } from 'node:child_process';
import fs from 'node:fs';

const { dir, account, server } = JSON.parse(process.argv[2]);
const [program, ...options] = server;

const postgres = spawn(program, options, { ...account, stdio: ['ignore', 'ignore', 'inherit'] });
const stop = () => postgres.kill('SIGINT');

process.stdin.resume().on('end', stop).on('error', stop);
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, stop);

postgres.on('error', (error) => leave(error.message));
postgres.on('exit', (code, signal) => leave(`exit ${code ?? signal}`, code ?? 1));

function leave(why, code = 1) {
  fs.rmSync(dir, { recursive: true, force: true });
  if (code !== 0) fs.writeSync(2, `postgres: ${why}\n`);
  process.exit(code);
}
