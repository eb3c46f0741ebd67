import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { QueryRunner } from 'typeorm';
import { NoRoomError } from '../../src/session/admissions.js';
import { TypeOrmSessionStore } from '../../src/typeorm/typeorm-session-store.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { someone, STORE_SETTINGS, times } from '../support/store.js';
import { person, Process, SIGNATURE, waiting } from './administrators.js';

let url: string;
let one: Process;

beforeAll(async () => {
  url = await freshDatabase();
  one = await Process.open(url);
});

afterAll(async () => {
  await one?.close();
  await dropDatabase(url);
});

const KNOWN = 'SELECT FROM user_session_slots WHERE user_id = $1 FOR UPDATE';
const UNKNOWN = `INSERT INTO user_session_slots (user_id, generation, active, floor, succession) VALUES ($1, 1, '{}', 0, '{}')`;

/** A store whose statements run in the transaction of `runner`. */
function storeOver(runner: QueryRunner): TypeOrmSessionStore {
  const borrowed = Object.assign(Object.create(runner) as QueryRunner, { release: async () => undefined });
  const source = Object.assign(Object.create(one.bench.dataSource) as typeof one.bench.dataSource, {
    createQueryRunner: () => borrowed,
  });
  return new TypeOrmSessionStore(source, STORE_SETTINGS);
}

/** Runs `work` in a transaction that is committed afterwards; until then others wait for what it wrote. */
async function transaction<Result>(work: (runner: QueryRunner) => Promise<Result>): Promise<Result> {
  const runner = one.bench.dataSource.createQueryRunner();
  await runner.startTransaction();
  const result = await work(runner);
  await runner.commitTransaction();
  await runner.release();
  return result;
}

const loginIn = (runner: QueryRunner, user: string): Promise<string> =>
  one.bench.sessions({}, storeOver(runner)).login(user);

/** Two logins, that of the one who overtakes first: the other waits for the user's row since before the exemption was removed. */
async function overtaken(user: string, lock: string): Promise<string[]> {
  const { passing, slow } = await transaction(async (runner) => {
    await runner.query(lock, [user]);
    const slow = one.bench.sessions().login(user);
    await waiting(one.bench, 1);
    await one.store.removeExemption({ kind: 'username', value: user }, SIGNATURE);
    return { passing: await loginIn(runner, user), slow };
  });
  return [passing, await slow];
}

const exempt = (value: string): Promise<unknown> =>
  one.store.addExemption({ kind: 'username', value, expiresAt: null }, SIGNATURE);

it('a login that waits for its row and is refused ends what was opened under an exemption, too [lesson 11; P1]', async () => {
  const worker = someone('worker');
  const rejecting = one.bench.sessions({ onLimit: 'reject' });
  const before = await rejecting.login(worker);
  const during = await one.bench.sessions({ exempt: { usernames: [worker] } }).login(worker);
  const { refused } = await transaction(async (runner) => {
    await runner.query('UPDATE user_session_slots SET storm_logins = storm_logins + 1 WHERE user_id = $1', [
      worker,
    ]);
    const refused = rejecting.login(worker).catch((error: unknown) => error);
    await waiting(one.bench, 1);
    return { refused };
  });
  expect(await refused).toBeInstanceOf(NoRoomError);
  expect(await rejecting.states([before, during])).toEqual(['live', 'superseded']);
});

it('ends also what an exemption let in while it waited [P1]', async () => {
  const worker = someone('worker');
  const rejecting = one.bench.sessions({ onLimit: 'reject' });
  const before = await rejecting.login(worker);
  const { during, refused } = await transaction(async (runner) => {
    const exempting = one.bench.sessions({ exempt: { usernames: [worker] } }, storeOver(runner));
    const during = await exempting.login(worker);
    const refused = rejecting.login(worker).catch((error: unknown) => error);
    await waiting(one.bench, 1);
    return { during, refused };
  });
  expect(await refused).toBeInstanceOf(NoRoomError);
  expect(await rejecting.states([before, during])).toEqual(['live', 'superseded']);
});

it('also where the first login of all was admitted meanwhile [P1]', async () => {
  const worker = someone('worker');
  const rejecting = one.bench.sessions({ onLimit: 'reject' });
  const { admitted, refused } = await transaction(async (runner) => {
    const store = storeOver(runner);
    const first = await one.bench.sessions({ onLimit: 'reject' }, store).login(worker);
    const during = await one.bench.sessions({ exempt: { usernames: [worker] } }, store).login(worker);
    const refused = rejecting.login(worker).catch((error: unknown) => error);
    await waiting(one.bench, 1);
    return { admitted: [first, during], refused };
  });
  expect(await refused).toBeInstanceOf(NoRoomError);
  expect(await rejecting.states(admitted)).toEqual(['live', 'superseded']);
});

it.each(['known', 'new'])(
  'writes nothing where all that came in while it waited were limited: a user who is %s',
  async (user) => {
    const worker = someone('worker');
    const rejecting = one.bench.sessions({ onLimit: 'reject' });
    const generation = (by: {
      query(sql: string, parameters: string[]): Promise<unknown>;
    }): Promise<unknown> =>
      by.query('SELECT generation FROM user_session_slots WHERE user_id = $1', [worker]);
    if (user === 'known') await rejecting.logsOut(await rejecting.login(worker));
    const { admitted, refused } = await transaction(async (runner) => {
      await one.bench.sessions({ onLimit: 'reject' }, storeOver(runner)).login(worker);
      const refused = rejecting.login(worker).catch((error: unknown) => error);
      await waiting(one.bench, 1);
      return { admitted: await generation(runner), refused };
    });
    expect(await refused).toBeInstanceOf(NoRoomError);
    expect(await generation(one.bench.dataSource)).toEqual(admitted);
  },
);

it.each<[string, (id: string, refused: () => Promise<unknown>) => Promise<unknown>]>([
  ['has logged out', (id) => one.bench.sessions().ends({ scope: 'session', sessionId: id })],
  ['was ended by a refused login, and nobody has written it down', (_, refused) => refused()],
])('writes nothing where what an exemption let in %s', async (_, die) => {
  const worker = person(someone('worker'));
  const rejecting = one.logins({ onLimit: 'reject' });
  const refused = (): Promise<unknown> => expect(rejecting(worker)).rejects.toThrow(NoRoomError);
  await rejecting(worker);
  await die(await one.logins({ exempt: { usernames: [worker.username] } })(worker), refused);
  const slots = (): Promise<unknown> =>
    one.bench.query('SELECT * FROM user_session_slots WHERE user_id = $1', [worker.id]);
  const before = await slots();
  await refused();
  expect(await slots()).toEqual(before);
});

describe('a login that began under an exemption', () => {
  it('and waits while that is removed and another login is limited, is limited too [P1]', async () => {
    const worker = someone('worker');
    await one.bench.sessions().login(worker);
    await exempt(worker);
    const [passing, slow] = await overtaken(worker, KNOWN);
    expect(await one.bench.sessions().states([passing!, slow!])).toEqual(['superseded', 'live']);
    expect(await one.bench.row(slow!)).toMatchObject({ exempt: false });
  });

  it('is limited also where nobody knew the user when it began [P1]', async () => {
    const worker = someone('worker');
    await exempt(worker);
    const [passing, slow] = await overtaken(worker, UNKNOWN);
    expect(await one.bench.sessions().states([passing!, slow!])).toEqual(['superseded', 'live']);
  });

  it('is limited also where the other has logged out again [P1]', async () => {
    const worker = someone('worker');
    await one.bench.sessions().login(worker);
    await exempt(worker);
    const { slow } = await transaction(async (runner) => {
      await runner.query(KNOWN, [worker]);
      const slow = times(2, () => one.bench.sessions().login(worker));
      await waiting(one.bench, 2);
      await one.store.removeExemption({ kind: 'username', value: worker }, SIGNATURE);
      const passing = await loginIn(runner, worker);
      await one.bench.sessions({}, storeOver(runner)).logsOut(passing);
      return { slow };
    });
    expect(await one.bench.sessions().liveOf(await Promise.all(slow))).toHaveLength(1);
  });

  describe('where the oldest win', () => {
    const rejecting = (worker: string, store = one.bench.store): Promise<string> =>
      one.bench.sessions({ onLimit: 'reject' }, store).login(worker);

    /** Refuses a login that was exempt when it began, after it has waited; resolves to the sessions of before and during the exemption. */
    const refuseAnother = async (
      worker: string,
      meanwhile: (runner: QueryRunner) => Promise<void> = async () => undefined,
    ): Promise<string[]> => {
      const before = await rejecting(worker);
      await exempt(worker);
      const during = await rejecting(worker);
      const { slow } = await transaction(async (runner) => {
        await runner.query(KNOWN, [worker]);
        const slow = rejecting(worker).catch((error: unknown) => error);
        await waiting(one.bench, 1);
        await one.store.removeExemption({ kind: 'username', value: worker }, SIGNATURE);
        await expect(rejecting(worker, storeOver(runner))).rejects.toThrow(NoRoomError);
        await meanwhile(runner);
        return { slow };
      });
      expect(await slow).toBeInstanceOf(NoRoomError);
      return [before, during];
    };

    it('is refused like the other [P1]', async () => {
      const ids = await refuseAnother(someone('worker'));
      expect(await one.bench.sessions().states(ids)).toEqual(['live', 'superseded']);
    });

    it('and is refused like the other ends nothing of an exemption that has been made anew', async () => {
      const worker = someone('worker');
      let anew = '';
      const ids = await refuseAnother(worker, async (runner) => {
        await exempt(worker);
        anew = await rejecting(worker, storeOver(runner));
      });
      expect(await one.bench.sessions().states([...ids, anew])).toEqual(['live', 'superseded', 'live']);
    });
  });

  it('and waits while the others are logged out ends nothing: neither the session that was kept nor one of its like', async () => {
    const worker = someone('worker');
    const sessions = one.bench.sessions();
    const kept = await sessions.login(worker);
    await exempt(worker);
    const { slow } = await transaction(async (runner) => {
      const ending = one.bench.sessions({}, storeOver(runner));
      await ending.ends({ scope: 'others', sessionId: kept, userId: worker });
      const slow = times(2, () => sessions.login(worker));
      await waiting(one.bench, 2);
      return { slow };
    });
    const ids = [kept, ...(await Promise.all(slow))];
    expect(await sessions.liveOf(ids)).toEqual(ids);
  });

  it('and waits for others like it is none of the limit, the first login of its user included', async () => {
    const sessions = one.bench.sessions();
    for (let round = 0; round < 10; round++) {
      const worker = someone('worker');
      await exempt(worker);
      const ids = await Promise.all(times(8, () => sessions.login(worker)));
      expect(await sessions.liveOf(ids)).toEqual(ids);
    }
  });

  it('and finds a limited session of the time before leaves that alone', async () => {
    const worker = someone('worker');
    const sessions = one.bench.sessions();
    const before = await sessions.login(worker);
    await exempt(worker);
    const ids = await Promise.all(times(8, () => sessions.login(worker)));
    expect(await sessions.liveOf([before, ...ids])).toEqual([before, ...ids]);
  });
});

describe('a login that began under an exemption behind one from before it', () => {
  it('limits none of those that wait for it: an exemption counts also where somebody always waits [lesson 31]', async () => {
    const worker = someone('worker');
    const { second } = await transaction(async (runner) => {
      await loginIn(runner, worker);
      await exempt(worker);
      const second = transaction(async (next) => {
        await loginIn(next, worker);
        const third = one.bench.sessions().login(worker);
        await waiting(one.bench, 1);
        return { third };
      });
      await waiting(one.bench, 1);
      return { second };
    });
    const { third } = await second;
    expect(await one.bench.row(await third)).toMatchObject({ exempt: true });
  });
});
