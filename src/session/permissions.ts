import type { OfUser } from './identity.js';

export type PermissionFunction = OfUser<boolean | Promise<boolean>>;

/** Who may log people out. A user with one of the roles, or for whom the function answers true, has the permission. */
export interface PermissionSettings {
  /** May log out people who are not administrators. */
  roles: readonly string[];
  /** May log out anyone. */
  superRoles: readonly string[];
  logout?: PermissionFunction;
  logoutAdmins?: PermissionFunction;
}

export interface Permission {
  logout: boolean;
  logoutAdmins: boolean;
}

/** What a user may do to others' sessions, judged anew from the user of each request. Whoever has one of the permissions counts as an administrator. */
export class Permissions {
  /** The roles that make an administrator. */
  readonly administratorRoles: readonly string[];

  constructor(private readonly settings: PermissionSettings = { roles: [], superRoles: [] }) {
    this.administratorRoles = [...new Set([...settings.roles, ...settings.superRoles])];
  }

  /** Whether one of the roles makes an administrator. */
  hasAdministratorRole(roles: readonly string[]): boolean {
    return has(roles, this.administratorRoles);
  }

  async of(user: unknown, userRoles: readonly string[]): Promise<Permission> {
    const { roles, superRoles, logout, logoutAdmins } = this.settings;
    const anyone = has(userRoles, superRoles) || (await answerOf('admin.logoutAdmins', logoutAdmins, user));
    return {
      logout: anyone || has(userRoles, roles) || (await answerOf('admin.logout', logout, user)),
      logoutAdmins: anyone,
    };
  }

  /** Whether a function, not a role, makes the user an administrator. */
  async byFunction(user: unknown): Promise<boolean> {
    const { logout, logoutAdmins } = this.settings;
    if (logout === undefined && logoutAdmins === undefined) return false;
    return (
      (await answerOf('admin.logoutAdmins', logoutAdmins, user)) ||
      (await answerOf('admin.logout', logout, user))
    );
  }
}

const has = (roles: readonly string[], wanted: readonly string[]): boolean =>
  roles.some((role) => wanted.includes(role));

/**
 * What a function of the application says of the user; no for one that is not there.
 * @throws TypeError for an answer that is neither yes nor no, and what the function throws
 */
export async function answerOf(
  name: string,
  ask: PermissionFunction | undefined,
  user: unknown,
): Promise<boolean> {
  if (ask === undefined) return false;
  const answer = await ask(user);
  if (typeof answer === 'boolean') return answer;
  throw new TypeError(`${name}() answered ${typeof answer}, not a boolean. Return exactly true or false.`);
}
