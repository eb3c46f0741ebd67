// `npm run serve` serves the demo as it was built last; `npm start`, with --build, builds it first.
import { execSync } from 'node:child_process';

// npm hands a SIGTERM to the shell it runs a script in, and some shells die of it without telling their child.
// So the end of the shell counts as a SIGTERM.
const shell = process.ppid;
setInterval(() => {
  if (process.ppid !== shell) process.kill(process.pid, 'SIGTERM');
}, 100).unref();

if (process.argv.includes('--build')) execSync('npm run build', { stdio: 'inherit' });
await import('../demo/dist/main.js');
