import type { Tables } from './table-names.js';

/**
 * The statement that records what an administrator did, but for its FROM: a value for each column. It stands in a CTE of
 * the statement that does it.
 */
export const recordAction = (actions: string, columns: Record<string, string>): string =>
  `INSERT INTO ${actions} (at, ${Object.keys(columns)
    .map((name) => `"${name}"`)
    .join(', ')}) SELECT now(), ${Object.values(columns).join(', ')}`;

/** The record of what administrators did. */
export function actionStatements({ actions }: Tables) {
  /** $1 action, $2 ended, $3 users. */
  const recordCounts = `UPDATE ${actions} SET ended = $2, users = $3 WHERE id = $1::bigint`;

  /** $1 the last of the page before, $2 limit. */
  const actionsList = `SELECT a.id::text, a.at, a."by", host(a.ip) AS ip, a.action, a.ended, a.users, a.note, a.target
  FROM ${actions} a WHERE $1::bigint IS NULL OR a.id < $1 ORDER BY a.id DESC LIMIT $2::int`;

  return { recordCounts, actionsList };
}
