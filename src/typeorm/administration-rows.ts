import type { EndUsersResult, Exemption, ListedSession } from '../session/administration-store.js';
import type { EndedSession, EndReason } from '../session/session.js';
import { toEndedSession, type EndedRow } from './ended-row.js';
import { toDate, toDateOrNull } from './to-date.js';

// The rows that the statements of administration give, and what is made of them.

/** `ended`: what ended; `late`: what ended and was not in the snapshot, see `LateEnds`; `asked`: whom the order meant. */
export type ToldRow = EndedRow & { kind: 'ended' | 'late' | 'asked'; protected: boolean };

/** A session of a list. */
export interface ListRow {
  id: string;
  user_id: string;
  username: string;
  roles: string[];
  created_at: unknown;
  position: string;
  last_seen_at: unknown;
  expires_at: unknown;
  ip: string | null;
  user_agent: string | null;
  exempt: boolean;
  end_reason: EndReason | null;
  ended_at: unknown;
  ended_by: string | null;
}

export const endedAmong = (rows: ToldRow[]): EndedSession[] =>
  rows.filter(({ kind }) => kind === 'ended').map(toEndedSession);

export function toResult(rows: ToldRow[]): Omit<EndUsersResult, 'ended'> {
  const over = rows.filter(({ kind }) => kind !== 'asked');
  const users = new Set(over.map(({ user_id }) => user_id));
  return {
    count: over.length,
    users: users.size,
    found: rows
      .filter(({ kind }) => kind === 'asked')
      .map((row) => ({
        userId: row.user_id,
        username: row.username,
        ended: users.has(row.user_id),
        protected: row.protected,
      })),
  };
}

export const toListed = (row: ListRow): ListedSession => ({
  id: row.id,
  userId: row.user_id,
  username: row.username,
  roles: row.roles,
  createdAt: toDate(row.created_at),
  lastSeenAt: toDate(row.last_seen_at),
  expiresAt: toDate(row.expires_at),
  ip: row.ip,
  userAgent: row.user_agent,
  exempt: row.exempt,
  state: row.end_reason === null && row.ended_at === null ? 'active' : 'ended',
  endReason: row.end_reason,
  endedAt: toDateOrNull(row.ended_at),
  endedBy: row.ended_by,
});

export const toExemption = (row: Exemption): Exemption => ({
  ...row,
  addedAt: toDateOrNull(row.addedAt),
  expiresAt: toDateOrNull(row.expiresAt),
});

export const dated = <Row extends { at: Date }>(row: Row): Row => ({ ...row, at: toDate(row.at) });
