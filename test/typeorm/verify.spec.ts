import { randomUUID } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';
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

/** Loses the rows of so many answers, as a broken pooler or driver might. */
function loseRowsOf(answers: number): void {
  interceptQueries(bench.dataSource, async ({ send }) => {
    const result = (await send()) as { records: unknown[] };
    return answers-- > 0 ? { ...result, records: [] } : result;
  });
}

describe('a check', () => {
  it('is one statement when the sessions are known, and one more when one is not', async () => {
    expect(await bench.store.verify([checkOf(live)])).toMatchObject([{ live: true }]);
    expect(watch.statements).toHaveLength(1);
    expect(await bench.store.verify([checkOf(randomUUID()), checkOf(live.toUpperCase())])).toMatchObject([
      unknown,
      { live: true },
    ]);
    expect(watch.statements).toHaveLength(3);
  });

  it('believes no answer that was cut short: nobody is logged out by it', async () => {
    loseRowsOf(1);
    expect(await bench.store.verify([checkOf(live)])).toMatchObject([{ live: true }]);
    jest.restoreAllMocks();
    loseRowsOf(2);
    await expect(bench.store.verify([checkOf(live)])).rejects.toThrow('the answer is not whole');
  });
});
