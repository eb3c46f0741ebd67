import { jest } from '@jest/globals';
import type { DataSource, QueryRunner } from 'typeorm';

/** A statement that is about to be sent. */
export interface Query {
  sql: string;
  parameters: unknown[];
  /** Sends it; what PostgreSQL answers. */
  send: () => Promise<unknown>;
}

/** Lets `answer` decide what becomes of each statement of this data source. The function that is returned ends that, and so does `jest.restoreAllMocks()`. */
export function interceptQueries(
  dataSource: DataSource,
  answer: (query: Query) => Promise<unknown>,
): () => void {
  const createQueryRunner = dataSource.createQueryRunner.bind(dataSource);
  const spy = jest.spyOn(dataSource, 'createQueryRunner').mockImplementation((mode) => {
    const runner = createQueryRunner(mode);
    const query = runner.query.bind(runner) as (...call: unknown[]) => Promise<unknown>;
    const intercepted = (sql: string, parameters: unknown[], structured: boolean): Promise<unknown> =>
      answer({ sql, parameters, send: () => query(sql, parameters, structured) });
    return Object.assign(runner, { query: intercepted as QueryRunner['query'] });
  });
  return () => spy.mockRestore();
}
