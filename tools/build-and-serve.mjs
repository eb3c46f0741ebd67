// `npm start`. One process, so that a SIGTERM reaches the server itself: a shell that runs `build && serve`
// would die and leave the server behind.
import { execSync } from 'node:child_process';

execSync('npm run build', { stdio: 'inherit' });
await import('../demo/dist/main.js');
