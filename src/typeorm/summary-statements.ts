import { exemptNow } from './exemption-statements.js';
import { isAdministrator, liveness, type StatementSettings } from './liveness.js';
import { ms } from './sql-parts.js';

export interface SummarySettings extends StatementSettings {
  /** Milliseconds. */
  stormWindow: number;
}

/** How many are signed in, and whose sessions replace each other. They read, and lock nothing. */
export function summaryStatements(settings: SummarySettings) {
  const { sessions, slots, exemptions, stormWindow } = settings;
  const { live } = liveness(settings);

  /** $1 the roles that make an administrator. */
  const summary = `SELECT count(*)::int AS "activeSessions", count(DISTINCT s.user_id)::int AS "activeUsers",
    (count(DISTINCT s.user_id) FILTER (WHERE ${isAdministrator('$1')}))::int AS administrators,
    (count(*) FILTER (WHERE s.exempt))::int AS "exemptSessions"
  FROM ${sessions} s JOIN ${slots} u ON u.user_id = s.user_id WHERE ${live('u')}`;

  const logins = `GREATEST(u.storm_logins, u.storm_before)`;
  /** $1 threshold. Of the present window and the one before. */
  const storms = `SELECT u.user_id AS "userId", s.username, ${logins} AS logins
  FROM ${slots} u LEFT JOIN LATERAL (
    SELECT s.username, s.roles FROM ${sessions} s WHERE s.user_id = u.user_id ORDER BY s.generation DESC LIMIT 1) s ON true
  WHERE ${logins} > $1::int AND u.storm_since > now() - 2 * ${ms(stormWindow)}
    AND NOT ${exemptNow(exemptions, 's.username', 's.roles')}
  ORDER BY 3 DESC LIMIT 100`;

  return { summary, storms };
}
