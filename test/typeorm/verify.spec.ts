import { randomUUID } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { Checks } from '../../src/session/checks.js';
import { StoreUnavailableError } from '../../src/session/session-store.js';
import { interceptQueries } from '../support/queries.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { watchStatements, type StatementWatch } from '../support/statements.js';
import { someone, StoreBench } from '../support/store.js';

let databaseUrl: string;
let watch: StatementWatch;
let bench: StoreBench;
let live: string;

const checkOf = (id: string) => ({ id, limit: 1 });
const unknown = { live: false, reason: 'unknown', userId: null };

beforeEach(async () => {
  databaseUrl = await freshDatabase();
  watch = await watchStatements(databaseUrl);
  bench = await StoreBench.open(watch.url);
  const sessions = bench.sessions();
  live = await sessions.login(someone());
  await bench.settled();
  watch.clear();
});
afterEach(async () => {
  jest.restoreAllMocks();
  await bench.close();
  await watch.stop();
  await dropDatabase(databaseUrl);
});

/** From now on, checks are answered with something else than PostgreSQL says. */
function spoilAnswers(spoil: (rows: unknown[]) => unknown[]): void {
  interceptQueries(bench.dataSource, async ({ send }) => {
    const { records, ...more } = (await send()) as { records: [{ answer: string }] };
    const rows = spoil(JSON.parse(records[0].answer) as unknown[]);
    return { ...more, records: [{ answer: JSON.stringify(rows) }] };
  });
}

describe('a check', () => {
  it('is one statement, whether the sessions are known or not', async () => {
    const id = randomUUID();
    const checks = [checkOf(id), checkOf(live), checkOf(id), checkOf(live.toUpperCase())];
    expect(await bench.store.verify(checks)).toMatchObject([
      unknown,
      { live: true },
      unknown,
      { live: true },
    ]);
    expect(watch.statements).toHaveLength(1);
  });

  it.each([
    ['without a reason', 'now()', null],
    ['for ever', "'infinity'", 'logout'],
  ])(
    'of a session that somebody has ended by hand %s fails, and those beside it do not',
    async (_, time, reason) => {
      const { store } = bench;
      const byHand = await bench.sessions().login(someone());
      await bench.query(`UPDATE user_session SET ended_at = ${time}, end_reason = $2 WHERE id = $1`, [
        byHand,
        reason,
      ]);
      const answers = await store.verify([checkOf(byHand), checkOf(live)]);
      expect(answers).toEqual([expect.any(Error), expect.objectContaining({ live: true })]);
      const checks = new Checks((all) => store.verify(all));
      const one = checks.verify(checkOf(byHand));
      const other = checks.verify(checkOf(live));
      await expect(one).rejects.toThrow(StoreUnavailableError);
      await expect(one).rejects.toThrow(new RegExp(`${byHand} is not readable`));
      expect((await other).live).toBe(true);
    },
  );

  it.each<[string, number, unknown]>([
    ['user', 1, 7],
    ['end', 2, 'soon'],
    ['reason', 3, 'somehow'],
    ['place, were it the first', 4, '1'],
    ['last-seen', 5, 'f'],
    ['roles', 6, null],
    ['administrator', 7, 0],
  ])('of which the %s is none of ours fails, and those beside it do not', async (_, place, value) => {
    const other = await bench.sessions().login(someone());
    spoilAnswers(([first, second]) => [(first as unknown[]).with(place, value), second]);
    expect(await bench.store.verify([checkOf(live), checkOf(other)])).toEqual([
      new Error(`the row of session ${live} is not readable`),
      expect.objectContaining({ live: true }),
    ]);
  });

  it.each<[string, (rows: unknown[]) => unknown[]]>([
    ['was cut short', (rows) => rows.slice(0, 1)],
    ['is empty', () => []],
    ['is too long', (rows) => [...rows, null]],
    ['is in another order', (rows) => rows.toReversed()],
  ])('believes no answer that %s: nobody is logged out by it', async (_, spoil) => {
    const other = await bench.sessions().login(someone());
    spoilAnswers(spoil);
    await expect(bench.store.verify([checkOf(live), checkOf(other)])).rejects.toThrow(/^the .* is not/);
  });
});
