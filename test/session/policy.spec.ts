import { describe, expect, it } from '@jest/globals';
import {
  DEFAULT_POLICY,
  LARGEST_LIMIT,
  Policy,
  toLimit,
  type PolicySettings,
} from '../../src/session/policy.js';
import { liveOf } from '../support/fake-store.js';
import { LOOK_ALIKES } from '../support/look-alikes.js';

const policy = (settings: Partial<PolicySettings>): Policy => new Policy({ ...DEFAULT_POLICY, ...settings });
const user = (username: string, roles: string[] = []): object => ({ id: 1, username, roles });
const isExempt = async (judge: Policy, who: unknown): Promise<boolean> => (await judge.rule(who)).exempt;

describe('an exemption by name', () => {
  const byUsername = policy({
    exempt: { usernames: LOOK_ALIKES.map(({ looksLike }) => looksLike), roles: [] },
  });
  const byRole = policy({ exempt: { usernames: [], roles: LOOK_ALIKES.map(({ looksLike }) => looksLike) } });

  it.each(LOOK_ALIKES)(
    'lets the username in and not what looks like it: $how [lesson 14; S10]',
    async ({ name, looksLike }) => {
      expect(await isExempt(byUsername, user(looksLike))).toBe(true);
      expect(await isExempt(byUsername, user(name))).toBe(false);
    },
  );

  it.each(LOOK_ALIKES)(
    'lets the role in and not what looks like it: $how [lesson 14; S10]',
    async ({ name, looksLike }) => {
      expect(await isExempt(byRole, user('x', ['y', looksLike]))).toBe(true);
      expect(await isExempt(byRole, user('x', ['y', name]))).toBe(false);
    },
  );

  it('compares usernames with usernames and roles with roles only', async () => {
    const both = policy({ exempt: { usernames: ['worker'], roles: ['service'] } });
    expect(await isExempt(both, user('service', ['worker']))).toBe(false);
    expect(await isExempt(both, user('constructor', ['__proto__', 'toString']))).toBe(false);
  });

  it('compares neither the id nor the e-mail address of a user who has a username', async () => {
    const judge = policy({ exempt: { usernames: ['worker', 'w@x.org'], roles: [] } });
    expect(await isExempt(judge, { id: 'worker', username: 'bob', email: 'w@x.org' })).toBe(false);
    expect(await isExempt(judge, { id: 1, email: 'w@x.org' })).toBe(true);
  });

  it('refuses names that are not strings, instead of making them equal [S10]', async () => {
    const judge = policy({ exempt: { usernames: ['admin'], roles: ['admin'] } });
    const like = { toString: () => 'admin' };
    for (const odd of [['admin'], like, 7, new String('admin'), Symbol('admin')]) {
      await expect(judge.rule({ id: 1, username: odd })).rejects.toThrow(/identify\(\)/);
      await expect(judge.rule({ id: 1, username: 'x', roles: [odd] })).rejects.toThrow(/identify\(\)/);
    }
    for (const roles of ['admin', { 0: 'admin', length: 1 }, new Set(['admin'])])
      await expect(judge.rule({ id: 1, username: 'x', roles })).rejects.toThrow(/identify\(\)/);
  });
});

describe('an exemption by function', () => {
  it('is exactly what it answers, at once or later', async () => {
    for (const answer of [true, false]) {
      expect(
        await isExempt(policy({ exempt: { usernames: [], roles: [], when: () => answer } }), user('x')),
      ).toBe(answer);
      expect(
        await isExempt(policy({ exempt: { usernames: [], roles: [], when: async () => answer } }), user('x')),
      ).toBe(answer);
    }
  });

  it.each([undefined, null, 0, 1, 'true', 'false', '', {}, []])(
    'refuses the answer %p [lesson 13]',
    async (answer) => {
      const judge = policy({ exempt: { usernames: [], roles: [], when: () => answer as never } });
      await expect(judge.rule(user('x'))).rejects.toThrow(/exempt\.when/);
    },
  );

  it('throws what it throws [lesson 13]', async () => {
    const fails = (): never => {
      throw new Error('of the application');
    };
    await expect(
      policy({ exempt: { usernames: [], roles: [], when: fails } }).rule(user('x')),
    ).rejects.toThrow('of the application');
  });
});

it('a session is that of a user who does not tell any roles, and nobody is asked for more', () => {
  const judge = policy({ identify: (given) => given as never });
  expect(judge.compare(liveOf('1', { roles: 'staff' }), { id: 1 })).toBe('same');
  expect(judge.compare(liveOf('1', { roles: 'staff' }), { id: 1, roles: [] })).toBe('changed');
  expect(judge.compare(liveOf('2', { roles: 'staff' }), { id: 1 })).toBe('foreign');
});

describe('a limit', () => {
  it.each([1, 2, 999, LARGEST_LIMIT])('of %p is taken as it is', async (limit) => {
    expect(await policy({ maxSessions: async () => limit }).rule(user('x'))).toMatchObject({
      limit,
      exempt: false,
    });
  });

  it('of Infinity is no limit', async () => {
    expect((await policy({ maxSessions: () => Infinity }).rule(user('x'))).exempt).toBe(true);
    expect((await policy({ maxSessions: Infinity }).rule(user('x'))).exempt).toBe(true);
  });

  it.each([
    0,
    -1,
    1.5,
    NaN,
    -Infinity,
    LARGEST_LIMIT + 1,
    2 ** 53,
    '2',
    '1',
    true,
    null,
    undefined,
    [1],
    {},
    1n,
  ])('of %p is refused, at a login and at a check [lessons 7, 13]', async (limit) => {
    const judge = policy({ maxSessions: () => limit as never });
    await expect(judge.rule(user('x'))).rejects.toThrow(/maxSessions/);
    await expect(judge.limitAtCheck(user('x'))).rejects.toThrow(/maxSessions/);
    expect(() => toLimit(limit)).toThrow(/whole number/);
  });

  it('that is a number is known at a check without waiting', () => {
    expect(policy({ maxSessions: 3 }).limitAtCheck(user('x'))).toBe(3);
    expect(policy({ maxSessions: Infinity }).limitAtCheck(user('x'))).toBe(LARGEST_LIMIT);
  });

  it('is not asked for at a check of whom nobody knows', async () => {
    const maxSessions = ({ plan }: { plan: { sessions: number } }): number => plan.sessions;
    expect(await policy({ maxSessions }).limitAtCheck(undefined)).toBe(LARGEST_LIMIT);
  });
});
