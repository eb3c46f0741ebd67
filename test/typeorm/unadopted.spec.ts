import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { idOfCredential } from '../../src/session/session-id.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { someone, StoreBench, times } from '../support/store.js';

let url: string;
let one: StoreBench;
let other: StoreBench;

beforeAll(async () => {
  url = await freshDatabase();
  one = await StoreBench.open(url);
  other = await StoreBench.open(url);
});

afterAll(async () => {
  await one?.close();
  await other?.close();
  await dropDatabase(url);
});

const identityOf = (id: string) => ({ id, username: `name of ${id}`, roles: ['user'] });

/** A logout by a credential of before. */
const recordEnded = (bench: StoreBench, id: string, user: string): Promise<boolean> =>
  bench.store.recordEnded({
    id,
    identity: identityOf(user),
    origin: { ip: '::ffff:192.0.2.7', userAgent: 'a browser' },
    reason: 'logout',
  });

describe('a credential of before that ends without having become a session', () => {
  it('is known as ended from then on, with its user, and makes no slots', async () => {
    const [user, id] = [someone(), idOfCredential(randomUUID())];
    expect(await recordEnded(one, id, user)).toBe(true);
    expect(await one.sessions().state(id)).toBe('logout');
    expect(await one.query('SELECT FROM user_session_slots WHERE user_id = $1', [user])).toEqual([]);
    const sql = 'SELECT username, roles, host(ip) AS ip, user_agent, exempt FROM user_session WHERE id = $1';
    expect(await one.query(sql, [id])).toEqual([
      {
        username: `name of ${user}`,
        roles: ['user'],
        ip: '192.0.2.7',
        user_agent: 'a browser',
        exempt: false,
      },
    ]);
  });

  it('changes nothing of a session that it has become', async () => {
    const [user, id] = [someone(), idOfCredential(randomUUID())];
    await one.sessions().login(user, { id });
    expect(await recordEnded(other, id, user)).toBe(false);
    expect(await one.sessions().isLive(id)).toBe(true);
  });

  it('is either adopted or ended when both happen at the same moment on two processes, and evicts nobody when ended [P2]', async () => {
    const outcomes = new Set<boolean>();
    for (let round = 0; round < 60; round++) {
      const [user, id] = [someone(), idOfCredential(randomUUID())];
      const winner = await one.sessions().login(user);
      const adopted = times(round % 2, () => one.sessions().login(user, { id }));
      const recorded = recordEnded(other, id, user);
      await Promise.all([...adopted, one.sessions().login(user, { id }), recorded]);
      const isEnded = await recorded;
      expect(await one.sessions().isLive(id)).toBe(!isEnded);
      expect(await one.sessions().isLive(winner)).toBe(isEnded);
      outcomes.add(isEnded);
    }
    expect(outcomes).toEqual(new Set([true, false]));
  });
});
