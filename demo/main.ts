import { type Environment, EnvironmentError, readEnvironment } from './environment.js';
import { Shutdown } from './shutdown.js';

type DevPostgresModule = typeof import('../tools/dev-postgres.mjs');

// As seen from demo/dist, where this file runs.
const DEV_POSTGRES = '../../tools/dev-postgres.mjs';

const shutdown = new Shutdown();
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => void stop(0));
await start().catch(fail);

async function start(): Promise<void> {
  const environment = readEnvironment(process.env);
  const databaseUrl = environment.databaseUrl ?? (await startDatabase());
  // Loaded late: a wrong variable is told at once, and a signal is heeded from the first moment on.
  const { serve } = await import('./server.js');
  announce(environment, await serve(environment, databaseUrl, shutdown));
}

async function startDatabase(): Promise<string> {
  const { startDevPostgres } = (await import(DEV_POSTGRES)) as DevPostgresModule;
  const starting = startDevPostgres();
  // Registered before it is up, so that a Ctrl-C in the meantime leaves nothing behind.
  shutdown.add(() => starting.then((postgres) => postgres.stop()).catch(() => undefined));
  return (await starting).url;
}

function announce(environment: Environment, port: number): void {
  const { maxSessions, onLimit, exemptUsernames, exemptRoles, freshness, databaseUrl } = environment;
  console.log(`
nestjs-single-session: the demo

  open      http://localhost:${port}/
  sign in   alice, bob, user1 to user2000, admin, root, grader, xqueue-watcher; the password is the username
  limit     ${maxSessions} per user, onLimit: ${onLimit}
  exempt    users: ${exemptUsernames.join(', ') || 'none'}; roles: ${exemptRoles.join(', ') || 'none'}
  memory    ${freshness === 'strong' ? 'none: each check asks the database' : `checks may be ${freshness.maxStalenessMs} ms old`}
  database  ${databaseUrl === undefined ? 'one of its own, gone when the demo stops' : 'the one of DATABASE_URL'}

Ctrl-C stops it.
`);
  if (databaseUrl !== undefined && environment.sessionSecretIsRandom) {
    console.warn(
      'SESSION_SECRET is not set, so this process made one up and no other process accepts its sessions.\n' +
        'For several processes on one database, give each of them the same SESSION_SECRET.\n',
    );
  }
}

async function fail(error: unknown): Promise<void> {
  console.error(explain(error));
  await stop(1);
}

function explain(error: unknown): unknown {
  if (error instanceof EnvironmentError) return error.message;
  const { code } = error as NodeJS.ErrnoException;
  if (code === 'EADDRINUSE')
    return 'The port is taken. Choose another with PORT, for example PORT=3001; PORT=0 takes a free one.';
  if (code === 'ECONNREFUSED')
    return 'No PostgreSQL answers at DATABASE_URL. Start it, or leave DATABASE_URL out and the demo starts one of its own.';
  return error;
}

async function stop(exitCode: number): Promise<void> {
  await shutdown.run();
  process.exit(exitCode);
}
