import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it, jest } from '@jest/globals';
import { NoRoomError } from '../../src/session/admissions.js';
import type { EndedSession } from '../../src/session/session.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { idsOf, NOWHERE, someone, StoreBench, times, until, type TestSessions } from '../support/store.js';

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

/** A click on "Log in" in a browser. */
async function click(
  sessions: TestSessions,
  user: string,
  secret: string,
  perhaps: string[] = [],
  carried?: string,
): Promise<{ id: string; takeBack: () => Promise<number> }> {
  const loginId = randomUUID();
  const { id } = await sessions.admissions.admit({
    user: { id: user, username: user },
    origin: NOWHERE,
    browser: { secret, perhaps },
    replaces: carried === undefined ? undefined : { id: carried, user: { id: user }, givenUp: true },
    loginId,
  });
  return { id, takeBack: async () => (await sessions.takeBack(id, loginId)).length };
}

const loginsOf = async (user: string): Promise<number> => {
  const [row] = await one.query<{ logins: number }>(
    `SELECT count(*)::int AS logins FROM user_session WHERE user_id = $1`,
    [user],
  );
  return row!.logins;
};

describe('logins of one browser at the same moment', () => {
  it('are one session on two processes, and count as one login [lesson 4]', async () => {
    for (let round = 0; round < 20; round++) {
      const user = someone();
      const clicks = await Promise.all(
        [one, other, one, other].map((bench) => click(bench.sessions(), user, 'secret')),
      );
      expect(new Set(clicks.map(({ id }) => id)).size).toBe(1);
      expect(await one.sessions().state(clicks[0]!.id)).toBe('live');
      expect(await loginsOf(user)).toBe(1);
    }
  });

  it("find room for one under 'reject' when there is room for one, and for none when there is none [lesson 4]", async () => {
    const sessions = one.sessions({ maxSessions: 2, onLimit: 'reject' });
    const user = someone();
    await sessions.login(user);
    const clicks = await Promise.all(times(3, () => click(sessions, user, 'secret')));
    expect(new Set(clicks.map(({ id }) => id)).size).toBe(1);
    await expect(click(sessions, user, 'another')).rejects.toThrow(NoRoomError);
    await sessions.ends({ scope: 'session', sessionId: clicks[0]!.id });
    await sessions.login(user);
    await expect(click(sessions, user, 'secret')).rejects.toThrow(NoRoomError);
  });

  it('are different sessions for different browsers and for different users', async () => {
    const sessions = one.sessions({ maxSessions: 3 });
    const [user, neighbour] = [someone(), someone()];
    const clicks = [
      await click(sessions, user, 'secret'),
      await click(sessions, user, 'another'),
      await click(sessions, neighbour, 'secret'),
    ];
    expect(await sessions.states(clicks.map(({ id }) => id))).toEqual(['live', 'live', 'live']);
    expect(new Set(clicks.map(({ id }) => id)).size).toBe(3);
  });

  it('say nothing of the secret, in an id that a sweep may remove like any other [P7]', async () => {
    const { id } = await click(one.sessions(), someone(), 'secret');
    expect(id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  });

  it('are found by what may be the secret of the other, which names no session [lesson 4]', async () => {
    const sessions = one.sessions();
    const user = someone();
    const first = await click(sessions, user, 'secret');
    const second = await click(sessions, user, 'new', ['of all browsers', 'secret']);
    expect(second.id).toBe(first.id);
    const third = await click(sessions, user, 'third', ['of all browsers']);
    const fourth = await click(sessions, user, 'fourth', ['of all browsers']);
    expect(await sessions.states([first.id, third.id, fourth.id])).toEqual([
      'superseded',
      'superseded',
      'live',
    ]);
  });

  it('end what only the second has carried, and never what they share', async () => {
    const sessions = one.sessions({ maxSessions: 3 });
    const user = someone();
    const carried = await sessions.login(user);
    const { id } = await click(sessions, user, 'secret');
    const end = jest.spyOn(one.store, 'end');
    for (const lost of [carried, id]) expect((await click(sessions, user, 'secret', [], lost)).id).toBe(id);
    const ends = end.mock.results.map(({ value }) => value as Promise<EndedSession[]>);
    end.mockRestore();
    expect(idsOf((await Promise.all(ends)).flat())).toEqual([carried]);
    expect(await sessions.states([carried, id])).toEqual(['superseded', 'live']);
  });

  it('are two logins ten seconds later: the second evicts', async () => {
    const sessions = one.sessions();
    const user = someone();
    const first = await click(sessions, user, 'secret');
    await one.age(first.id, 10_001);
    const second = await click(sessions, user, 'secret');
    expect(await sessions.states([first.id, second.id])).toEqual(['superseded', 'live']);
  });

  it('are two logins where the limit was lowered in between: the first is beyond it [lesson 8]', async () => {
    const user = someone();
    const first = await click(one.sessions({ maxSessions: 2 }), user, 'secret');
    const newer = await one.sessions({ maxSessions: 2 }).login(user);
    const lowered = one.sessions({ maxSessions: 1 });
    const second = await click(lowered, user, 'secret');
    expect(await lowered.states([first.id, newer, second.id])).toEqual(['superseded', 'superseded', 'live']);
  });

  it('share nothing with another user, nor take it back, whatever id they come with [P3]', async () => {
    const sessions = one.sessions();
    const [owner, userId] = [someone(), someone()];
    const loginId = randomUUID();
    const { id: sessionId } = await sessions.admissions.admit({
      user: { id: owner, username: owner },
      origin: NOWHERE,
      loginId,
    });
    const order = { ids: [sessionId], loginId: randomUUID(), limit: 1 };
    expect(await one.store.share({ ...order, userId })).toBeUndefined();
    const target = { scope: 'login', sessionId, loginId } as const;
    expect(await sessions.ends({ ...target, userId })).toEqual([]);
    expect(await sessions.state(sessionId)).toBe('live');
    expect(await one.store.share({ ...order, userId: owner })).toBe(sessionId);
  });

  it('do not bring back what has ended [P2]', async () => {
    const sessions = one.sessions();
    const user = someone();
    const first = await click(sessions, user, 'secret');
    await sessions.ends({ scope: 'session', sessionId: first.id }, 'logout');
    const second = await click(sessions, user, 'secret');
    expect(await sessions.states([first.id, second.id])).toEqual(['logout', 'live']);
  });
});

describe('a login that is taken back', () => {
  it('ends its session only when no other login carries it, in any order, once [S13]', async () => {
    const sessions = one.sessions();
    const user = someone();
    const clicks = await Promise.all(times(3, () => click(sessions, user, 'secret')));
    const [a, b, c] = clicks;
    expect(await b!.takeBack()).toBe(0);
    expect(await b!.takeBack()).toBe(0);
    expect(await a!.takeBack()).toBe(0);
    expect(await sessions.state(a!.id)).toBe('live');
    expect(await c!.takeBack()).toBe(1);
    expect(await sessions.state(a!.id)).toBe('logout');
    expect(await one.activeOf(user)).toEqual([]);
  });

  it('does not leave its session to a click that was answered with an error, since the answer of the database was lost [S13]', async () => {
    const sessions = one.sessions();
    const user = someone();
    const first = await click(sessions, user, 'secret');
    const lost = jest.spyOn(one.store, 'share').mockImplementation(async (order) => {
      await other.store.share(order);
      throw new Error('gone');
    });
    await expect(click(sessions, user, 'secret')).rejects.toThrow('gone');
    await expect(click(sessions, user, 'new', ['of all browsers', 'secret'])).rejects.toThrow('gone');
    lost.mockRestore();
    await first.takeBack();
    await until(async () => (await sessions.state(first.id)) === 'logout');
  });

  it('does not end the session that the same browser opened after it [S13]', async () => {
    const sessions = one.sessions();
    const user = someone();
    const late = await click(sessions, user, 'secret');
    await one.query('DELETE FROM user_session WHERE id = $1', [late.id]);
    await one.query('DELETE FROM user_session_slots WHERE user_id = $1', [user]);
    const again = await click(sessions, user, 'secret');
    expect(again.id).toBe(late.id);
    expect(await late.takeBack()).toBe(0);
    expect(await sessions.state(again.id)).toBe('live');
  });

  it('leaves a live session to the other click or none to both, in 300 races [S13; lesson 4]', async () => {
    for (let round = 0; round < 300; round++) {
      const user = someone();
      const first = await click(one.sessions(), user, 'secret');
      const [, second] = await Promise.all([first.takeBack(), click(other.sessions(), user, 'secret')]);
      expect(await one.sessions().state(second.id)).toBe('live');
      expect(await second.takeBack()).toBe(1);
      expect(await one.activeOf(user)).toEqual([]);
    }
  });
});
