import type { AdministrationStore, Exemption } from './administration-store.js';
import { answered } from './answered.js';
import type { Identity } from './identity.js';
import { toLimit, type ExemptionKey, type Policy, type PolicySettings } from './policy.js';

/** Which limit applies to a user's next login, and why. */
export interface Explanation {
  /** `null`: none applies, or only the user's next login can tell. */
  maxSessions: number | null;
  onLimit: 'evict' | 'reject';
  /** The limit does not apply to the user. */
  exempt: boolean;
  /** For people. */
  why: string;
}

type ExplainerSettings = PolicySettings &
  Pick<Explanation, 'onLimit'> & { findUser?: ((username: string) => unknown) | undefined };

/** Says which limit applies and why. */
export class Explainer {
  constructor(
    private readonly policy: Policy,
    private readonly store: AdministrationStore,
    private readonly settings: ExplainerSettings,
  ) {}

  /** By the application's own user object. */
  async explain(user: unknown): Promise<Explanation> {
    const identity = this.policy.identityOf(user);
    const fixed = await this.policy.exemptBy(user, identity);
    const exemption = await this.exemption(identity, fixed);
    if (exemption !== undefined) return this.exempt(exemption);
    const limit = await this.policy.limitOf(user);
    const from =
      typeof this.settings.maxSessions === 'function' ? 'the function maxSessions answers' : 'maxSessions is';
    return this.limited(limit, `${from} ${limit} for this user`);
  }

  /** By the name. Where the application cannot find its user, with the roles of the latest session, and without asking functions. */
  async explainUsername(username: string): Promise<Explanation> {
    const user = await this.settings.findUser?.(username);
    if (user !== undefined && user !== null) return this.explain(user);
    const latest = await answered(this.store.latestOf(username));
    const roles = latest?.roles ?? [];
    const exemption = await this.exemption(
      { username, roles },
      this.policy.listedExemption({ username, roles }),
    );
    if (exemption !== undefined) return this.exempt(exemption);
    const unless =
      this.settings.exempt.when === undefined ? '' : ', unless the function exempt.when exempts the user';
    const { maxSessions } = this.settings;
    return typeof maxSessions === 'function'
      ? { ...this.limited(1, `the function maxSessions decides at the login${unless}`), maxSessions: null }
      : this.limited(toLimit(maxSessions), `maxSessions is ${maxSessions} for everyone${unless}`);
  }

  private async exemption(
    identity: Pick<Identity, 'username' | 'roles'>,
    fixed: ExemptionKey | { kind: 'when' } | undefined,
  ): Promise<string | undefined> {
    if (fixed?.kind === 'when') return 'exempt: the function exempt.when of the options answers true';
    if (fixed !== undefined)
      return `exempt: the ${fixed.kind} ${JSON.stringify(fixed.value)} is in exempt.${fixed.kind}s of the options`;
    const [atRunTime] = await answered(this.store.exemptionsOf(identity));
    return atRunTime && told(atRunTime);
  }

  private exempt(why: string): Explanation {
    return { maxSessions: null, onLimit: this.settings.onLimit, exempt: true, why };
  }

  private limited(limit: number, why: string): Explanation {
    if (limit === Infinity) return this.exempt(`exempt: ${why}`);
    return { maxSessions: limit, onLimit: this.settings.onLimit, exempt: false, why };
  }
}

function told({ kind, value, addedBy, addedAt, expiresAt }: Exemption): string {
  const until = expiresAt === null ? '' : `, until ${expiresAt.toISOString()}`;
  return `exempt: the ${kind} ${JSON.stringify(value)} was exempted at run time by ${addedBy ?? 'the application'}, ${addedAt?.toISOString()}${until}`;
}
