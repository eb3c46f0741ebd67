import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { NestFactory } from '@nestjs/core';
import type { NestExpressApplication } from '@nestjs/platform-express';
import passport from 'passport';
import type { DevPostgres } from '../tools/dev-postgres.mjs';
import { AppModule } from './app.module.js';
import { createCookieSessions } from './cookie-sessions.js';
import { type Environment, EnvironmentError, readEnvironment } from './environment.js';
import { securityHeaders } from './security-headers.js';
import { drain, Shutdown } from './shutdown.js';

// As seen from demo/dist, where this file runs.
const DEV_POSTGRES = '../../tools/dev-postgres.mjs';

const shutdown = new Shutdown();
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => void stop(0));
await start().catch(fail);

async function start(): Promise<void> {
  const environment = readEnvironment(process.env);
  const databaseUrl = environment.databaseUrl ?? (await startDatabase());
  const port = await serve(environment, databaseUrl);
  announce(environment, port);
}

async function startDatabase(): Promise<string> {
  const { startDevPostgres } = (await import(DEV_POSTGRES)) as { startDevPostgres(): Promise<DevPostgres> };
  const postgres = await startDevPostgres();
  shutdown.add(() => postgres.stop());
  return postgres.url;
}

async function serve(environment: Environment, databaseUrl: string): Promise<number> {
  const cookieSessions = createCookieSessions({ url: databaseUrl, secret: environment.sessionSecret });
  shutdown.add(() => cookieSessions.close());
  const app = await NestFactory.create<NestExpressApplication>(AppModule.register(environment, databaseUrl), {
    logger: ['error', 'warn'],
    abortOnError: false,
  });
  shutdown.add(() => app.close());
  app.disable('x-powered-by');
  app.use(securityHeaders, cookieSessions.middleware, passport.session());
  await app.listen(environment.port);
  const server = app.getHttpServer() as Server;
  shutdown.add(() => drain(server));
  return (server.address() as AddressInfo).port;
}

function announce(environment: Environment, port: number): void {
  const { maxSessions, onLimit, exemptUsernames, exemptRoles, databaseUrl } = environment;
  console.log(`
nestjs-single-session: the demo

  open      http://localhost:${port}/
  sign in   alice, bob, user1 to user2000, admin, root, grader, xqueue-watcher; the password is the username
  limit     ${maxSessions} per user, onLimit: ${onLimit}
  exempt    users: ${exemptUsernames.join(', ') || 'none'}; roles: ${exemptRoles.join(', ') || 'none'}
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
  if ((error as NodeJS.ErrnoException).code === 'EADDRINUSE')
    return 'The port is taken. Choose another with PORT, for example PORT=3001; PORT=0 takes a free one.';
  return error;
}

async function stop(exitCode: number): Promise<void> {
  await shutdown.run();
  process.exit(exitCode);
}
