import { randomUUID } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { Controller, Get, type BeforeApplicationShutdown } from '@nestjs/common';
import { get } from 'node:http';
import { DataSource } from 'typeorm';
import { SingleSessionEvents, SingleSessionService } from '../../src/index.js';
import { SessionStore } from '../../src/session/session-store.js';
import { Sessions } from '../../src/session/sessions.js';
import { startApplication } from '../support/application.js';
import { TokenClient } from '../support/client.js';
import { gate, liveOf } from '../support/fake-store.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { newUser } from '../support/sessions.js';
import { timers } from '../support/timers.js';

const unhandled: unknown[] = [];
const note = (reason: unknown): void => void unhandled.push(reason);
let databaseUrl: string;

beforeEach(async () => {
  databaseUrl = await freshDatabase();
  unhandled.length = 0;
  process.on('unhandledRejection', note);
});

afterEach(() => {
  process.off('unhandledRejection', note);
});

const GONE = 0;

/** On a connection of its own: an open one would be waited for. */
const statusOf = (url: string, headers: Record<string, string>): Promise<number> =>
  new Promise((resolve) => {
    get(url, { headers, agent: false }, (answer) => resolve(answer.resume().statusCode!)).on('error', () =>
      resolve(GONE),
    );
  });

/** What a handler does that began before the application closed, and goes on when everything has been told to stop. */
@Controller()
class LateController implements BeforeApplicationShutdown {
  static entered = gate<void>();
  static work: (service: SingleSessionService) => Promise<unknown>;
  private readonly closing = gate<void>();

  constructor(private readonly service: SingleSessionService) {}

  @Get('late')
  async late(): Promise<void> {
    LateController.entered.open();
    await this.closing.promise;
    await LateController.work(this.service);
  }

  beforeApplicationShutdown(): void {
    this.closing.open();
  }
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe('a closed application', () => {
  it('asks its database nothing any more: neither the sweeper nor the last-seen times go on', async () => {
    // The shortest interval of each is a second, the longest pause a second and a half.
    const options = { retention: 1, idleTimeout: 4_000 };
    const application = await startApplication(databaseUrl, { options });
    const token = new TokenClient(application.url);
    await token.login(newUser(application).username);
    const dataSource = application.app.get(DataSource);
    await dataSource.query("UPDATE user_session SET last_seen_at = now() - interval '2 seconds'");
    expect((await token.get()).status).toBe(200);
    const store = application.app.get(SessionStore);
    await application.close();
    // Not at the data source, which is closed and refuses before it is asked for anything.
    const asked = [jest.spyOn(store, 'sweep'), jest.spyOn(store, 'seen')];
    await new Promise((resolve) => setTimeout(resolve, 1_700));
    for (const question of asked) expect(question).not.toHaveBeenCalled();
    await dropDatabase(databaseUrl);
  });

  it('tries no more to end what it could not', async () => {
    const application = await startApplication(databaseUrl);
    const { app } = application;
    const [store, sessions, id] = [app.get(SessionStore), app.get(Sessions), randomUUID()];
    jest.spyOn(store, 'end').mockRejectedValue(new Error('gone'));
    jest.spyOn(store, 'verify').mockResolvedValue([liveOf('1')]);
    await sessions.giveUp(id);
    expect(await sessions.isStillLive(id, undefined)).toBe(false);
    await application.close();
    expect(await sessions.isStillLive(id, undefined)).toBe(true);
    await dropDatabase(databaseUrl);
  });

  it('leaves no connection and no timer behind, and its database can be dropped', async () => {
    const before = timers();
    const application = await startApplication(databaseUrl, { options: { idleTimeout: 400 } });
    const token = new TokenClient(application.url);
    await token.login(newUser(application).username);
    for (let n = 0; n < 10; n++) await token.get();
    await application.close();
    expect(timers()).toBeLessThanOrEqual(before);
    // Without FORCE: it throws when somebody still holds a connection.
    await dropDatabase(databaseUrl);
    expect(unhandled).toEqual([]);
  });

  it('was closed under traffic without an unhandled rejection, and nobody was let in by accident', async () => {
    const application = await startApplication(databaseUrl);
    const loser = new TokenClient(application.url);
    const winner = new TokenClient(application.url);
    const { username } = newUser(application);
    await loser.login(username);
    await winner.login(username);
    const headers = { authorization: `Bearer ${loser.token}` };
    const statuses: number[] = [];
    let closed = false;
    const traffic = Array.from({ length: 8 }, async () => {
      while (!closed) statuses.push(await statusOf(`${application.url}/token/me`, headers));
    });
    while (statuses.length < 20) await turn();
    await application.close();
    closed = true;
    await Promise.all(traffic);
    await turn();
    expect(unhandled).toEqual([]);
    expect(statuses.filter((status) => ![GONE, 401, 503].includes(status))).toEqual([]);
    expect(statuses).toContain(401);
    await dropDatabase(databaseUrl);
  });
});

describe('a request that is under way when its application closes', () => {
  it.each<[string, string[], (id: string) => typeof LateController.work]>([
    ['ends sessions', ['ended admin'], (id) => (service) => service.endUser(id)],
    [
      'signs in',
      ['admitted', 'ended superseded'],
      (id) => (service) =>
        service.admit({ id, username: id, roles: [] }, { headers: {} }, { credential: 'token' }),
    ],
  ])('and %s: what it did is told, and written down', async (_, expected, work) => {
    LateController.entered = gate();
    const application = await startApplication(databaseUrl, { controllers: [LateController] });
    const user = newUser(application);
    await new TokenClient(application.url).login(user.username);
    LateController.work = work(String(user.id));
    const told: string[] = [];
    application.app
      .get(SingleSessionEvents)
      .all.subscribe((event) => told.push(event.type === 'ended' ? `ended ${event.reason}` : event.type));
    const answer = statusOf(`${application.url}/late`, {});
    await LateController.entered.promise;
    await application.close();
    expect(await answer).toBe(200);
    expect(told).toEqual(expected);
    await dropDatabase(databaseUrl);
  });
});
