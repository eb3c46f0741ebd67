import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { ExecutionContext } from '@nestjs/common';
import { isAbsent } from '../../src/http/execution-context.js';
import { startApplication, Users, type TestApplication } from '../support/application.js';
import { ADMIN, ADMIN_OPTIONS, Client, someoneNew, sql, type Kind } from '../support/administration.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';

// What the page asks while nobody touches it. It says so itself: no server can see it.

const IDLE_MS = 60_000;
const ABSENT = { 'x-single-session': 'absent' };
const READS = ['', '/summary', '/exemptions', '/actions'];

const users = new Users();
let databaseUrl: string;
let application: TestApplication;

beforeAll(async () => {
  databaseUrl = await freshDatabase();
  application = await startApplication(databaseUrl, { users });
});

afterAll(async () => {
  await application?.close();
  await dropDatabase(databaseUrl);
});

const setLastSeen = ({ sessionId }: Client, secondsAgo: number): Promise<unknown> =>
  sql(application, `UPDATE user_session SET last_seen_at = now() - $2 * interval '1 s' WHERE id = $1`, [
    sessionId,
    secondsAgo,
  ]);

async function lastSeen({ sessionId }: Client): Promise<Date> {
  const [row] = await sql<{ at: Date }>(
    application,
    'SELECT last_seen_at AS at FROM user_session WHERE id = $1',
    [sessionId],
  );
  return row!.at;
}

describe.each([
  ['strong', 'cookie'],
  ['strong', 'token'],
  ['bounded', 'cookie'],
] as [string, Kind][])('with %s checks, by %s', (freshness, kind) => {
  const start = (): Promise<TestApplication> =>
    startApplication(databaseUrl, {
      users,
      options: {
        ...ADMIN_OPTIONS,
        idleTimeout: IDLE_MS,
        freshness: freshness === 'strong' ? 'strong' : { maxStalenessMs: 10_000 },
      },
    });

  /** Whether what is done in the name of an administrator counts as use of the session. */
  async function isUse(work: (administrator: Client) => Promise<number[]>): Promise<boolean> {
    const place = await start();
    const administrator = await someoneNew(place, ['admin'], kind);
    await setLastSeen(administrator, 30);
    const before = await lastSeen(administrator);
    const statuses = await work(administrator).finally(() => place.close());
    expect(new Set(statuses)).toEqual(new Set([200]));
    // What it had still to write was written when it closed.
    return (await lastSeen(administrator)).getTime() !== before.getTime();
  }

  const read = async (administrator: Client, headers: Record<string, string>): Promise<number[]> => {
    const answers = READS.map((path) => administrator.send('GET', ADMIN + path, undefined, headers));
    return (await Promise.all(answers)).map(({ status }) => status);
  };

  it('what a page reads on its own does not postpone the idle timeout', async () => {
    const twice = async (administrator: Client) => [
      ...(await read(administrator, ABSENT)),
      ...(await read(administrator, ABSENT)),
    ];
    expect(await isUse(twice)).toBe(false);
  });

  it('the same postpones it when somebody is there, also right after', async () => {
    expect(await isUse((administrator) => read(administrator, {}))).toBe(true);
    const inTurn = async (administrator: Client) => [
      ...(await read(administrator, ABSENT)),
      ...(await read(administrator, {})),
    ];
    expect(await isUse(inTurn)).toBe(true);
  });

  it.each([
    ['GET', kind === 'cookie' ? '/me' : '/token/me'],
    ['POST', `${ADMIN}/logout-everyone`],
    ['GET', `${ADMIN}/policy?username=alice`],
  ])('nobody does anything else unseen (%s %s)', async (method, path) => {
    const order = method === 'POST' ? { dryRun: true } : undefined;
    const send = async (administrator: Client) => [
      (await administrator.send(method, path, order, ABSENT)).status,
    ];
    expect(await isUse(send)).toBe(true);
  });

  it('refuses it like everything else when the session is idle', async () => {
    const place = await start();
    try {
      const administrator = await someoneNew(place, ['admin'], kind);
      await setLastSeen(administrator, (2 * IDLE_MS) / 1_000);
      const { status, body } = await administrator.send('GET', ADMIN, undefined, ABSENT);
      expect([status, body.reason]).toEqual([401, 'idle']);
    } finally {
      await place.close();
    }
  });
});

it('what a guard of the application gives in place of a request may have no headers', () => {
  expect(isAbsent({} as ExecutionContext, {})).toBe(false);
});
