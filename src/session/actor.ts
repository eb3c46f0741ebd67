import type { Signature } from './administration-store.js';
import type { Permission } from './permissions.js';

/** Who administers: an administrator with a request, or the application's own code. */
export interface Actor {
  /** `null` for the application's own code. */
  userId: string | null;
  username: string | null;
  ip: string | null;
  permission: Permission;
}

/** The application's own code may do anything. */
export const actorOfCode = (by: string | undefined): Actor => ({
  userId: null,
  username: by ?? null,
  ip: null,
  permission: { logout: true, logoutAdmins: true },
});

export const sign = ({ username, ip }: Actor, note?: string): Signature => ({
  by: username,
  ip,
  note: note ?? null,
});
