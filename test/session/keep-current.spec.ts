import { describe, expect, it } from '@jest/globals';
import { Bookkeeper } from '../../src/session/bookkeeper.js';
import { Permissions } from '../../src/session/permissions.js';
import { Policy } from '../../src/session/policy.js';
import { rolesKey } from '../../src/session/identity.js';
import { Sessions } from '../../src/session/sessions.js';
import { resolveOptions } from '../../src/single-session.options.js';
import { FakeStore, liveOf } from '../support/fake-store.js';

type Refreshed = Parameters<FakeStore['refresh']>;

class Desk extends FakeStore {
  readonly refreshed: unknown[] = [];
  override async refresh(...given: Refreshed | [unknown]): Promise<void> {
    this.refreshed.push(given[0]);
  }
}

const ID = '00000000-0000-4000-8000-000000000001';

/** What is written of a session that was an administrator's by a function, when its user is this. */
async function refreshedFor(user: unknown, roles: string[] = ['a', 'b']): Promise<unknown[]> {
  const desk = new Desk();
  const options = resolveOptions({
    identify: (given: { roles: string[] }) => ({ id: 'u', username: 'u', roles: given.roles }),
  });
  const permissions = new Permissions({
    roles: ['admin'],
    superRoles: [],
    logout: ({ may }: { may: boolean }) => may,
  });
  const policy = new Policy(options, permissions);
  const sessions = new Sessions(desk, policy, new Bookkeeper(desk), options);
  const verdict = liveOf('u', { roles: rolesKey(roles), administrator: true });
  await sessions.keepCurrent({ id: ID, limit: 1 }, verdict, user);
  return desk.refreshed;
}

describe('a session of an administrator by a function', () => {
  it('stays one while the function says so, and its user has the same roles in any order', async () => {
    expect(await refreshedFor({ may: true, roles: ['a', 'b'] })).toEqual([]);
    expect(await refreshedFor({ may: true, roles: ['b', 'a'] })).toEqual([]);
  });

  it('is one no more when the function says so [lesson 30]', async () => {
    const refreshed = [{ id: ID, roles: ['a', 'b'], administrator: false, protected: false }];
    expect(await refreshedFor({ may: false, roles: ['a', 'b'] })).toEqual(refreshed);
  });

  it('is one no more when the function says so of a user that does not tell its roles, which stay [lesson 30]', async () => {
    expect(await refreshedFor({ may: false })).toEqual([
      { id: ID, roles: ['a', 'b'], administrator: false, protected: false },
    ]);
    expect(await refreshedFor({ may: false }, [])).toEqual([
      { id: ID, roles: [], administrator: false, protected: false },
    ]);
    expect(await refreshedFor({ may: true })).toEqual([]);
  });
});

it('says to the store that a role makes an administrator, which an order that waits must know [S6]', async () => {
  const refreshed = { id: ID, roles: ['a', 'admin'], administrator: true, protected: true };
  expect(await refreshedFor({ may: true, roles: ['a', 'admin'] })).toEqual([refreshed]);
});
