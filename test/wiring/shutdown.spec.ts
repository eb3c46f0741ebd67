import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { get } from 'node:http';
import { getActiveResourcesInfo } from 'node:process';
import { DataSource } from 'typeorm';
import { startApplication } from '../support/application.js';
import { TokenClient } from '../support/client.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { newUser } from '../support/sessions.js';

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

const timers = (): number => getActiveResourcesInfo().filter((kind) => kind === 'Timeout').length;
const GONE = 0;

/** On a connection of its own: an open one would be waited for. */
const statusOf = (url: string, headers: Record<string, string>): Promise<number> =>
  new Promise((resolve) => {
    get(url, { headers, agent: false }, (answer) => resolve(answer.resume().statusCode!)).on('error', () =>
      resolve(GONE),
    );
  });

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
    await application.close();
    const asked = jest.spyOn(dataSource, 'createQueryRunner');
    await new Promise((resolve) => setTimeout(resolve, 1_700));
    expect(asked).not.toHaveBeenCalled();
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
