import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { NestFactory } from '@nestjs/core';
import type { NestExpressApplication } from '@nestjs/platform-express';
import passport from 'passport';
import { AppModule } from './app.module.js';
import { createCookieSessions } from './cookie-sessions.js';
import type { Environment } from './environment.js';
import { securityHeaders } from './security-headers.js';
import { drain, type Shutdown } from './shutdown.js';

/** Starts the application and returns the port on which it listens. */
export async function serve(
  environment: Environment,
  databaseUrl: string,
  shutdown: Shutdown,
): Promise<number> {
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
