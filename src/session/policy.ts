import { inspect } from 'node:util';
import {
  identifyByConvention,
  rolesIn,
  rolesKey,
  sameRoles,
  toIdentity,
  toUserId,
  type Identity,
  type IdentityLike,
  type OfUser,
} from './identity.js';
import { answerOf, Permissions } from './permissions.js';
import type { LiveResult, RefreshOrder, Ruling } from './session.js';

/** The largest `maxSessions`; above it a limit is no limit, and `Infinity` says so. */
export const LARGEST_LIMIT = 1_000;

/** Whom the limit does not apply to. Names and roles are compared exactly. */
export interface Exemptions {
  usernames: readonly string[];
  roles: readonly string[];
  /** Answers exactly true or false. Where it fails, so does the login. */
  when?: OfUser<boolean | Promise<boolean>>;
}

export interface PolicySettings {
  maxSessions: number | OfUser<number | Promise<number>>;
  exempt: Exemptions;
  identify: OfUser<IdentityLike>;
}

/** By what users are exempt. */
export interface ExemptionKey {
  kind: 'username' | 'role';
  value: string;
}

/** Says which limit applies to a user. Throws what the application's own functions throw: a login that cannot be judged does not happen. */
export class Policy {
  private readonly usernames: ReadonlySet<string>;
  private readonly roles: ReadonlySet<string>;

  constructor(
    private readonly settings: PolicySettings,
    private readonly permissions = new Permissions(),
  ) {
    this.usernames = new Set(settings.exempt.usernames);
    this.roles = new Set(settings.exempt.roles);
  }

  async rule(user: unknown): Promise<Ruling> {
    const identity = this.identityOf(user);
    const [limit, exemption, administrator] = await Promise.all([
      this.limitOf(user),
      this.exemptBy(user, identity),
      this.isAdministrator(user, identity.roles),
    ]);
    return {
      identity,
      limit: Math.min(limit, LARGEST_LIMIT),
      exempt: exemption !== undefined || limit === Infinity,
      administrator,
    };
  }

  identityOf(user: unknown): Identity {
    return toIdentity(this.settings.identify(user));
  }

  userIdOf(user: unknown): string {
    return toUserId(this.settings.identify(user));
  }

  /** Nobody is somebody else. */
  isUser(user: unknown, userId: string): boolean {
    return this.knownIdOf(user) === userId;
  }

  /** `undefined` for nobody, and for somebody who cannot be identified: that must not fail the login of the one who can. */
  knownIdOf(user: unknown): string | undefined {
    try {
      return user ? this.userIdOf(user) : undefined;
    } catch {
      return undefined;
    }
  }

  /** `undefined` for somebody who cannot be identified. */
  knownIdentityOf(user: unknown): Identity | undefined {
    try {
      return this.identityOf(user);
    } catch {
      return undefined;
    }
  }

  /**
   * `foreign`: the live session is not that of the user. `same`: it is, and what it says of the user's roles is true now.
   * `changed`: it is not, or it says that the user is an administrator, which has to be asked again; see {@link changeOf}.
   */
  compare(verdict: LiveResult, user: unknown): 'same' | 'changed' | 'foreign' {
    const { userId, roles } = this.subjectOf(user);
    if (userId !== verdict.userId) return 'foreign';
    const isSame = roles === undefined || sameRoles(rolesKey(roles), verdict.roles);
    return isSame && !verdict.administrator ? 'same' : 'changed';
  }

  /** What the session is to say of its user from now on; `undefined` where it says that already. */
  async changeOf(verdict: LiveResult, user: unknown): Promise<Omit<RefreshOrder, 'id'> | undefined> {
    const roles = this.subjectOf(user).roles ?? rolesIn(verdict.roles);
    const administrator = verdict.administrator && (await this.isAdministrator(user, roles));
    if (administrator === verdict.administrator && sameRoles(rolesKey(roles), verdict.roles))
      return undefined;
    return { roles, administrator, protected: this.permissions.hasAdministratorRole(roles) };
  }

  /** The limit at a check when it is the same for everyone; `undefined` when a function of the application must be asked. */
  get fixedLimit(): number | undefined {
    const { maxSessions } = this.settings;
    return typeof maxSessions === 'number' ? Math.min(maxSessions, LARGEST_LIMIT) : undefined;
  }

  /** The limit at a check. Synchronous when the option is a number, so that the request path waits for nothing. */
  limitAtCheck(user: unknown): number | Promise<number> {
    if (this.fixedLimit !== undefined) return this.fixedLimit;
    if (user === undefined) return LARGEST_LIMIT;
    return this.limitOf(user).then((limit) => Math.min(limit, LARGEST_LIMIT));
  }

  async limitOf(user: unknown): Promise<number> {
    const { maxSessions } = this.settings;
    return toLimit(typeof maxSessions === 'number' ? maxSessions : await maxSessions(user));
  }

  /** What of the options exempts the user; `undefined`: nothing does. */
  async exemptBy(user: unknown, identity: Identity): Promise<ExemptionKey | { kind: 'when' } | undefined> {
    const listed = this.listedExemption(identity);
    if (listed !== undefined) return listed;
    return (await answerOf('exempt.when', this.settings.exempt.when, user)) ? { kind: 'when' } : undefined;
  }

  /** The exemption of the options that names the user or a role. */
  listedExemption({ username, roles }: Pick<Identity, 'username' | 'roles'>): ExemptionKey | undefined {
    if (this.usernames.has(username)) return { kind: 'username', value: username };
    const role = roles.find((held) => this.roles.has(held));
    return role === undefined ? undefined : { kind: 'role', value: role };
  }

  /** All exemptions of the options that are lists. */
  fixedExemptions(): ExemptionKey[] {
    return [
      ...[...this.usernames].map((value) => ({ kind: 'username' as const, value })),
      ...[...this.roles].map((value) => ({ kind: 'role' as const, value })),
    ];
  }

  /** By a role or by a function: it may be the one today and the other tomorrow. */
  private async isAdministrator(user: unknown, roles: readonly string[]): Promise<boolean> {
    return this.permissions.hasAdministratorRole(roles) || (await this.permissions.byFunction(user));
  }

  /** Whose request it is at a check. `roles` is `undefined` for a user that does not tell, whose id is still good. */
  private subjectOf(user: unknown): { userId: string; roles: readonly string[] | undefined } {
    const found = this.settings.identify(user);
    const userId = toUserId(found);
    const { roles } = found;
    const tells = Array.isArray(roles) && roles.every((role) => typeof role === 'string');
    return { userId, roles: tells ? roles : undefined };
  }
}

/** @throws TypeError for anything but a whole number from 1 to {@link LARGEST_LIMIT}, or `Infinity` */
export function toLimit(limit: unknown): number {
  if (limit === Infinity || (Number.isInteger(limit) && Number(limit) >= 1 && Number(limit) <= LARGEST_LIMIT))
    return Number(limit);
  throw new TypeError(
    `maxSessions must be a whole number from 1 to ${LARGEST_LIMIT}, or Infinity for no limit; it was ${describe(limit)}.`,
  );
}

// An array of a number reads like the number, and an object may have no toString().
function describe(limit: unknown): string {
  if (typeof limit === 'string') return JSON.stringify(limit);
  if (Array.isArray(limit)) return 'an array';
  return typeof limit === 'object' && limit !== null ? 'an object' : inspect(limit);
}

export const DEFAULT_POLICY: PolicySettings = {
  maxSessions: 1,
  exempt: { usernames: [], roles: [] },
  identify: identifyByConvention,
};
