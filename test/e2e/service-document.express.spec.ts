import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { Browser } from '../support/client.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { endAllProcesses, freePort, repository, startProcess } from '../support/processes.js';
import { packPackage, TemporaryApp, temporaryDirectory } from '../support/temporary-app.js';
import { codeOf, type ReadmeCode } from './readme/applications.js';

// What docs/service.md shows, as it stands there, in the first application of the README, with the data source of
// docs/production.md.

const MODULE = `
import { type CanActivate, type ExecutionContext, Injectable, Module } from '@nestjs/common';
import { APP_GUARD } from '@nestjs/core';
import { PassportModule } from '@nestjs/passport';
import { TypeOrmModule } from '@nestjs/typeorm';
import { SingleSessionModule } from 'nestjs-single-session';
import { AuthController } from './auth.controller.js';
import source from './data-source.js';
import { LocalStrategy, SessionSerializer } from './passport.js';
import { SessionGuard } from './session.guard.js';

@Injectable()
class KeyGuard implements CanActivate {
  canActivate(context: ExecutionContext): boolean {
    const request = context.switchToHttp().getRequest<{ headers: Record<string, string>; user: object }>();
    if (request.headers['x-api-key'] === 'good') request.user = { id: 9, username: 'robot', roles: [], apiKey: true };
    return true;
  }
}

@Module({
  imports: [
    TypeOrmModule.forRoot({ ...source.options, migrationsRun: true }),
    PassportModule.register({ session: true }),
    SingleSessionModule.forRoot({ enforceGlobally: false, onLimit: 'reject', idleTimeout: 3_600_000 }),
  ],
  controllers: [AuthController],
  providers: [
    LocalStrategy,
    SessionSerializer,
    { provide: APP_GUARD, useClass: KeyGuard },
    { provide: APP_GUARD, useClass: SessionGuard },
  ],
})
export class AppModule {}
`;

const shownIn = (name: string, kind: ReadmeCode['kind']): Record<string, string> =>
  codeOf(readFileSync(join(repository, name), 'utf8')).find((code) => code.kind === kind)!.files;

const { dir, remove } = temporaryDirectory();
let databaseUrl: string;
let url: string;

beforeAll(async () => {
  const files = {
    ...shownIn('README.md', 'cookie'),
    ...shownIn('docs/service.md', 'compiled only'),
    ...shownIn('docs/production.md', 'compiled only'),
  };
  files['src/app.module.ts'] = MODULE;
  files['src/auth.controller.ts'] = files['src/auth.controller.ts']!.replace(
    "import { LocalAuthGuard, type User } from './passport.js';",
    "import { LocalAuthGuard } from './local-auth.guard.js';\nimport type { User } from './passport.js';",
  );
  files['src/main.ts'] = files['src/main.ts']!.replace(
    '  await app.listen',
    `  const { SingleSessionService } = await import('nestjs-single-session');
  const { askFirst } = await import('./ask-first.js');
  const router = (_: unknown, response: { json(body: object): void }) => response.json({ queues: [] });
  app.use('/queues', askFirst(app.get(SingleSessionService)), router);
  await app.listen`,
  );
  const app = new TemporaryApp(join(dir, 'service'), await packPackage(dir), 'module');
  for (const [name, text] of Object.entries(files)) app.write(name, text);
  const complaints = await app.compile();
  if (complaints !== '') throw new Error(complaints);
  databaseUrl = await freshDatabase();
  const env = { DATABASE_URL: databaseUrl };
  ({ url } = await startProcess({ program: 'dist/main.js', cwd: app.dir, env, port: await freePort() }));
}, 60_000);

afterAll(async () => {
  await endAllProcesses();
  if (databaseUrl) await dropDatabase(databaseUrl);
  remove();
});

/** Two browsers: the first has been signed out by the second, which asked for that. */
async function signedInInstead(): Promise<[ended: Browser, live: Browser]> {
  const [first, second] = [new Browser(url), new Browser(url)];
  const credentials = { username: 'alice', password: 'alice' };
  expect((await first.post('/login', { ...credentials, instead: true })).status).toBe(200);
  expect((await second.post('/login', credentials)).body.code).toBe('SESSION_LIMIT_REACHED');
  expect((await second.post('/login', { ...credentials, instead: true })).status).toBe(200);
  return [first, second];
}

describe('what docs/service.md shows', () => {
  it('signs in here instead, where logins are refused', async () => {
    const [ended, live] = await signedInInstead();
    expect((await live.get('/me')).status).toBe(200);
    expect((await ended.get('/me')).body).toMatchObject({
      code: 'SESSION_ENDED',
      reason: 'logout-everywhere',
    });
  });

  it('ends nothing for whoever asks with a wrong password', async () => {
    const [, live] = await signedInInstead();
    const wrong = { username: 'alice', password: 'wrong', instead: true };
    expect((await new Browser(url).post('/login', wrong)).status).toBe(401);
    expect((await live.get('/me')).status).toBe(200);
  });

  it('lets an API key pass that was verified, and no session that has ended beside the header of one', async () => {
    const key = await new Browser(url).get('/me', { 'x-api-key': 'good' });
    expect(key.body.user).toMatchObject({ username: 'robot' });
    const [ended] = await signedInInstead();
    expect((await ended.get('/me', { 'x-api-key': 'any' })).body.code).toBe('SESSION_ENDED');
  });

  it("asks before routes beside Nest's", async () => {
    const [ended, live] = await signedInInstead();
    expect((await ended.get('/queues')).body).toEqual({
      code: 'SESSION_ENDED',
      reason: 'logout-everywhere',
    });
    for (const browser of [live, new Browser(url)])
      expect(await browser.get('/queues')).toMatchObject({ status: 200, body: { queues: [] } });
  });
});
