import type { TableNames } from './table-names.js';
import { UserSession } from './user-session.entity.js';
import { UserSessionAction } from './user-session-action.entity.js';
import { UserSessionCutoff } from './user-session-cutoff.entity.js';
import { UserSessionExemption } from './user-session-exemption.entity.js';
import { UserSessionSlots } from './user-session-slots.entity.js';

/** The entity of each table. */
export const ENTITIES = {
  sessions: UserSession,
  slots: UserSessionSlots,
  cutoffs: UserSessionCutoff,
  exemptions: UserSessionExemption,
  actions: UserSessionAction,
} satisfies Record<keyof TableNames, Function>;

/** The entities of this package, for the `entities` of a data source that has no `autoLoadEntities: true`. */
export const singleSessionEntities = Object.values(ENTITIES);
