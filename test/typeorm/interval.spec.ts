import { afterAll, beforeAll, expect, it } from '@jest/globals';
import type { DataSource } from 'typeorm';
import { interval } from '../../src/typeorm/sql-parts.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { dataSourceOf } from '../support/store.js';

const DAY = 86_400_000;
const LARGEST_BEFORE_15 = 2 ** 31 - 1;

let url: string;
let dataSource: DataSource;

beforeAll(async () => {
  url = await freshDatabase();
  dataSource = await dataSourceOf(url).initialize();
});

afterAll(async () => {
  await dataSource?.destroy();
  await dropDatabase(url);
});

it.each([0, 1, 999, 3_599_999, 3_600_000, 24 * DAY, 25 * DAY + 1, 30 * DAY, 36_500 * DAY])(
  'PostgreSQL reads %d ms as that, and before version 15, too, which knows no larger number of milliseconds than 2^31',
  async (ms) => {
    const [row] = await dataSource.query<{ ms: string }[]>(
      'SELECT (extract(epoch FROM $1::interval) * 1000)::bigint::text AS ms',
      [interval(ms)],
    );
    expect(row).toEqual({ ms: String(ms) });
    const numbers = interval(ms).match(/\d+/g)!.map(Number);
    expect(Math.max(...numbers)).toBeLessThanOrEqual(LARGEST_BEFORE_15);
  },
);
