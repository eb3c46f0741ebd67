import {
  identifyByConvention,
  toIdentity,
  toUserId,
  type Identity,
  type IdentityLike,
  type OfUser,
} from './identity.js';

/** The largest `maxSessions`; above it a limit is no limit, and `Infinity` says so. */
export const LARGEST_LIMIT = 1_000;

export interface Exemptions {
  usernames: readonly string[];
  roles: readonly string[];
  when?: OfUser<boolean | Promise<boolean>>;
}

export interface PolicySettings {
  maxSessions: number | OfUser<number | Promise<number>>;
  exempt: Exemptions;
  identify: OfUser<IdentityLike>;
}

/** What applies to one user at one moment. */
export interface Ruling {
  identity: Identity;
  limit: number;
  /** Recorded, never evicted, never evicting. */
  exempt: boolean;
}

/** Says which limit applies to a user. Throws what the application's own functions throw: a login that cannot be judged does not happen. */
export class Policy {
  private readonly usernames: ReadonlySet<string>;
  private readonly roles: ReadonlySet<string>;

  constructor(private readonly settings: PolicySettings) {
    this.usernames = new Set(settings.exempt.usernames);
    this.roles = new Set(settings.exempt.roles);
  }

  async rule(user: unknown): Promise<Ruling> {
    const identity = toIdentity(this.settings.identify(user));
    const [limit, exempt] = await Promise.all([this.limitOf(user), this.isExempt(user, identity)]);
    return { identity, limit: Math.min(limit, LARGEST_LIMIT), exempt: exempt || limit === Infinity };
  }

  userIdOf(user: unknown): string {
    return toUserId(this.settings.identify(user));
  }

  /** The limit at a check. Synchronous when the option is a number, so that the request path waits for nothing. */
  limitAtCheck(user: unknown): number | Promise<number> {
    const { maxSessions } = this.settings;
    if (typeof maxSessions === 'number') return Math.min(maxSessions, LARGEST_LIMIT);
    if (user === undefined) return LARGEST_LIMIT;
    return this.limitOf(user).then((limit) => Math.min(limit, LARGEST_LIMIT));
  }

  private async limitOf(user: unknown): Promise<number> {
    const { maxSessions } = this.settings;
    return toLimit(typeof maxSessions === 'number' ? maxSessions : await maxSessions(user));
  }

  private async isExempt(user: unknown, identity: Identity): Promise<boolean> {
    if (this.usernames.has(identity.username) || identity.roles.some((role) => this.roles.has(role)))
      return true;
    const { when } = this.settings.exempt;
    const answer = when === undefined ? false : await when(user);
    if (typeof answer !== 'boolean')
      throw new TypeError(
        `exempt.when() answered ${typeof answer}, not a boolean. Return exactly true or false.`,
      );
    return answer;
  }
}

/** @throws TypeError for anything but a whole number from 1 to {@link LARGEST_LIMIT}, or `Infinity` */
export function toLimit(limit: unknown): number {
  if (limit === Infinity || (Number.isInteger(limit) && Number(limit) >= 1 && Number(limit) <= LARGEST_LIMIT))
    return Number(limit);
  throw new TypeError(
    `maxSessions must be a whole number from 1 to ${LARGEST_LIMIT}, or Infinity for no limit; it was ${String(limit)}.`,
  );
}

export const DEFAULT_POLICY: PolicySettings = {
  maxSessions: 1,
  exempt: { usernames: [], roles: [] },
  identify: identifyByConvention,
};
