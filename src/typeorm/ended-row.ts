import type { EndedSession, EndReason } from '../session/session.js';
import { toDate } from './to-date.js';

/** A session that a statement ended, as SQL gives it. */
export interface EndedRow {
  id: string;
  user_id: string;
  username: string;
  end_reason: EndReason;
  ended_at: unknown;
  ended_by: string | null;
  replaced_by: string | null;
}

/** What is told of a session that ended, for the events. */
export const endedOf = (alias: string): string =>
  ['id', 'user_id', 'username', 'end_reason', 'ended_at', 'ended_by', 'replaced_by']
    .map((column) => `${alias}.${column}`)
    .join(', ');

/**
 * Writes on the sessions of a CTE `due` that they have ended now, and tells of them. The CTE holds their locks, and asks that
 * they have not ended: PostgreSQL asks again when it gets a lock. `reason` and `by` are SQL.
 */
export const endDue = (sessions: string, reason: string, by: string): string =>
  `UPDATE ${sessions} s SET ended_at = now(), end_reason = ${reason}, ended_by = ${by}
    FROM due WHERE s.id = due.id
    RETURNING ${endedOf('s')}`;

export const toEndedSession = (row: EndedRow): EndedSession => ({
  id: row.id,
  userId: row.user_id,
  username: row.username,
  reason: row.end_reason,
  endedAt: toDate(row.ended_at),
  by: row.ended_by,
  replacedBy: row.replaced_by,
});
