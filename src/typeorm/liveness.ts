import { ms } from './sql-parts.js';
import type { Tables } from './table-names.js';

/** What statements are made for; all of it is fixed at start. */
export interface StatementSettings extends Tables {
  /** Milliseconds. */
  idleTimeout: number | undefined;
}

/** The roles that `s` has held since its admission without a break. */
export const HELD_ROLES = 'COALESCE(s.held_roles, s.roles)';

/** Whether `s` is an administrator's now; `roles` is a parameter with the roles that make one. */
export const isAdministrator = (roles: string): string => `(s.administrator OR s.roles && ${roles}::text[])`;

/**
 * When a session is live, as fragments of SQL. In all of them `s` is the session and `u` the slots row of its user. What
 * is dead stays dead whatever snapshot it is read from: nothing that a fragment looks at ever turns back.
 */
export function liveness({ cutoffs, idleTimeout }: StatementSettings) {
  return livenessBy(cutoffs, idleTimeout === undefined ? 'NULL::interval' : ms(idleTimeout));
}

/** The same with an idle timeout that is SQL: an interval, or NULL for none. */
export function livenessBy(cutoffs: string, idleTimeout: string) {
  const idleSince = `s.last_seen_at + ${idleTimeout}`;
  const timedOut = `(s.expires_at <= now() OR COALESCE(${idleSince} <= now(), false))`;

  /** Whether the cut-off `c` spares `s`. By what `s` was at its admission and still is: nobody comes back by a promotion. */
  const spared = `(${HELD_ROLES} && c.roles OR (c.administrators AND s.administrator)
    OR s.user_id = ANY(c.user_ids) OR s.username = ANY(c.usernames))`;
  // A counter, not a time: immune to clocks.
  const covered = `s.cutoff < c.id AND NOT ${spared}`;
  const cutOff = `EXISTS (SELECT FROM ${cutoffs} c WHERE ${covered})`;
  /** A column of the cut-off that ended `s`. */
  const ofCutOff = (column: string): string =>
    `(SELECT c.${column} FROM ${cutoffs} c WHERE ${covered} ORDER BY c.id LIMIT 1)`;

  const held = (
    u: string,
    limit?: string,
  ): string => `COALESCE(CASE WHEN s.exempt THEN s.generation > ${u}.floor
    ELSE s.id = ANY(${limit === undefined ? `${u}.active` : `${u}.active[1:${limit}]`}) END, false)`;

  /** Why `s` is dead, as far as its own row and the cut-offs say. */
  const over = `CASE WHEN s.expires_at <= now() THEN 'expired' WHEN ${idleSince} <= now() THEN 'idle'
    WHEN ${cutOff} THEN 'cut-off' END`;

  return {
    spared,
    cutOff,
    timedOut,
    ofCutOff,
    held,
    over,
    isOver: `(${timedOut} OR ${cutOff})`,
    /** Whether `s` is live, given the slots row `u` of its user. */
    live: (u: string, limit?: string): string =>
      `(s.ended_at IS NULL AND NOT ${timedOut} AND ${held(u, limit)} AND NOT ${cutOff})`,
    /** Why an unmarked session is dead; NULL when it is live. */
    deadBecause: (limit?: string): string =>
      `COALESCE(${over}, CASE WHEN NOT ${held('u', limit)} THEN 'superseded' END)`,
    /** When an unmarked session that is dead for this reason died. */
    diedAt: (
      reason: string,
    ): string => `CASE ${reason} WHEN 'expired' THEN s.expires_at WHEN 'idle' THEN ${idleSince}
      WHEN 'cut-off' THEN ${ofCutOff('created_at')} ELSE now() END`,
  };
}
