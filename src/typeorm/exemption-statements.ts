import { recordAction } from './action-statements.js';
import { inTime, ipv4IfMapped } from './sql-parts.js';
import type { Tables } from './table-names.js';

/** Whether the exemption `x` has not expired. */
const IN_FORCE = '(x.expires_at IS NULL OR x.expires_at > now())';

/** Whether the exemption `x` is that of a user with this name and these roles, both as SQL. */
const isFor = (username: string, roles: string): string =>
  `(x.kind = 'username' AND x.value = ${username} OR x.kind = 'role' AND x.value = ANY(${roles}))`;

/** Whether an exemption made at run time applies: read in the statement that it decides, so that it counts everywhere at once. */
export const exemptNow = (exemptions: string, username: string, roles: string): string =>
  `EXISTS (SELECT FROM ${exemptions} x
    WHERE ${isFor(username, roles)}
      AND ${IN_FORCE})`;

/** Exemptions that are made at run time. */
export function exemptionStatements({ exemptions, actions }: Tables) {
  const exemption = `x.kind, x.value, x.note, x.added_by AS "addedBy", x.added_at AS "addedAt", x.expires_at AS "expiresAt"`;
  const exemptionsList = `SELECT ${exemption} FROM ${exemptions} x WHERE ${IN_FORCE} ORDER BY x.added_at DESC, x.kind, x.value`;
  /** $1 username, $2 roles. */
  const exemptionsOf = `SELECT ${exemption} FROM ${exemptions} x WHERE ${IN_FORCE}
    AND ${isFor('$1', '$2::text[]')}`;

  const recordExemption = (action: string, from: string): string =>
    `action AS (${recordAction(actions, {
      by: '$3::text',
      ip: ipv4IfMapped('$4::inet'),
      action: `'${action}'`,
      note: '$5::text',
      target: `jsonb_build_object('kind', $1::text, 'value', $2::text)`,
    })} FROM ${from})`;
  /** $1 kind, $2 value, $3 by, $4 ip, $5 note, $6 expiry, $7 the time left. */
  const addExemption = `WITH x AS (
    INSERT INTO ${exemptions} AS x (kind, value, note, added_by, added_at, expires_at)
    VALUES ($1, $2, $5, $3, now(), $6::timestamptz)
    ON CONFLICT (kind, value) DO UPDATE SET note = EXCLUDED.note, added_by = EXCLUDED.added_by,
      added_at = EXCLUDED.added_at, expires_at = EXCLUDED.expires_at
    RETURNING *),
  ${recordExemption('add-exemption', 'x')}
  SELECT ${exemption} FROM x WHERE ${inTime('$7')}`;
  /** $1 kind, $2 value, $3 by, $4 ip, $5 note, $6 the time left. One that has expired is gone already. */
  const removeExemption = `WITH x AS (
    DELETE FROM ${exemptions} x WHERE x.kind = $1 AND x.value = $2 AND ${IN_FORCE} RETURNING x.kind),
  ${recordExemption('remove-exemption', 'x')}
  SELECT kind FROM x WHERE ${inTime('$6')}`;

  return { exemptionsList, exemptionsOf, addExemption, removeExemption };
}
