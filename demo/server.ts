import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { AppModule } from './app.module.js';
import { createCookieSessions } from './cookie-sessions.js';
import type { Environment } from './environment.js';
import { drain, openAnswers, type Shutdown } from './shutdown.js';

/** Starts the application and returns the port on which it listens. */
export async function serve(
  environment: Environment,
  databaseUrl: string,
  shutdown: Shutdown,
): Promise<number> {
  const cookieSessions = createCookieSessions({ url: databaseUrl, secret: environment.sessionSecret });
  shutdown.add(() => cookieSessions.close());
  const { createApplication } = await platformOf(environment);
  const app = await createApplication(AppModule.register(environment, databaseUrl), cookieSessions, {
    logger: ['error', 'warn'],
    abortOnError: false,
  });
  shutdown.add(() => app.close());
  const server = app.getHttpServer() as Server;
  const answers = openAnswers(server);
  await app.listen(environment.port);
  shutdown.add(() => drain(server, answers));
  return (server.address() as AddressInfo).port;
}

// Only the one that is asked for is loaded.
const platformOf = ({ platform }: Environment): Promise<typeof import('./express.js')> =>
  platform === 'fastify' ? import('./fastify.js') : import('./express.js');
