import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import { Controller, Get, Req } from '@nestjs/common';
import connectPgSimple from 'connect-pg-simple';
import type { Request } from 'express';
import session, { MemoryStore } from 'express-session';
import { startApplication, Users, type TestApplication } from '../support/application.js';
import { Browser } from '../support/client.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { liveSessionsOf, newUser } from '../support/sessions.js';

type SlowRequest = Request & { session: { note?: string } };

/** Lets a test decide when a handler goes on. */
class Gate {
  entered = new Promise<void>((resolve) => (this.enter = resolve));
  open!: () => void;
  private enter!: () => void;
  private readonly opened = new Promise<void>((resolve) => (this.open = resolve));

  async pass(): Promise<void> {
    this.enter();
    await this.opened;
  }
}

const users = new Users();
let gate: Gate;

@Controller()
class SlowController {
  @Get('slow')
  async slow(@Req() request: SlowRequest): Promise<object> {
    await gate.pass();
    request.session.note = 'written at the end of a long request';
    await new Promise<void>((resolve, reject) =>
      request.session.save((error) => (error ? reject(error) : resolve())),
    );
    return { saved: true };
  }
}

const PgStore = connectPgSimple(session);

describe.each([
  ['MemoryStore', () => new MemoryStore()],
  [
    'connect-pg-simple',
    (conString: string) =>
      new PgStore({ conString, createTableIfMissing: true, pruneSessionInterval: false }),
  ],
])('with %s, a request that is under way when its session ends', (_, createStore) => {
  let databaseUrl: string;
  let application: TestApplication;

  beforeAll(async () => {
    databaseUrl = await freshDatabase();
    application = await startApplication(databaseUrl, {
      users,
      controllers: [SlowController],
      session: { store: createStore(databaseUrl) },
    });
  });

  // A request that still waits would be waited for.
  afterEach(() => gate.open());

  afterAll(async () => {
    await application?.close();
    await (application?.cookieSessions as { close?: () => Promise<void> } | undefined)?.close?.();
    await dropDatabase(databaseUrl);
  });

  it('may finish and save its cookie session again, and the next request is refused all the same [lesson 15, S13, P2]', async () => {
    const user = newUser({ users });
    const loser = new Browser(application.url);
    await loser.login(user.username);
    gate = new Gate();
    const slow = loser.copy().get('/slow');
    await gate.entered;

    const winner = new Browser(application.url);
    await winner.login(user.username);
    // The answer to this one destroys the cookie session, which the slow request then brings back.
    expect((await loser.copy().get('/me')).body.reason).toBe('superseded');
    gate.open();
    expect((await slow).body).toEqual({ saved: true });

    const refused = await loser.get('/me');
    expect(refused.status).toBe(401);
    expect(refused.body).toMatchObject({ code: 'SESSION_ENDED', reason: 'superseded' });
    expect((await winner.get('/me')).body.user.username).toBe(user.username);
  });

  it('does not bring back what was logged out [lesson 15, S13, P2]', async () => {
    const user = newUser({ users });
    const browser = new Browser(application.url);
    await browser.login(user.username);
    const copy = browser.copy();
    gate = new Gate();
    const slow = copy.get('/slow');
    await gate.entered;
    expect((await browser.post('/logout')).status).toBe(204);
    gate.open();
    await slow;
    expect((await copy.get('/me')).body).toMatchObject({ code: 'SESSION_ENDED', reason: 'logout' });
    expect(await liveSessionsOf(application, user)).toEqual([]);
  });
});
