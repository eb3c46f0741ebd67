import { sign, type Actor } from './actor.js';
import type { AdministrationStore, Exemption } from './administration-store.js';
import { answered } from './answered.js';
import type { SingleSessionEvents } from './events.js';
import type { ExemptionKey, Policy } from './policy.js';

/** An exemption with where it comes from; one from the options cannot be removed. */
export type ListedExemption = Exemption & { origin: 'options' | 'runtime' };

/** Whom the limit does not apply to: what the options say, and what is added and removed while the application runs. */
export class RunTimeExemptions {
  constructor(
    private readonly store: AdministrationStore,
    private readonly policy: Policy,
    private readonly events: SingleSessionEvents,
  ) {}

  /** Those of the options, then those made at run time, newest first. */
  async list(): Promise<ListedExemption[]> {
    const atRunTime = await answered(this.store.exemptions());
    return [...this.policy.fixedExemptions().map(fixed), ...atRunTime.map(runtime)];
  }

  /** Whether the options have it. */
  isFixed({ kind, value }: ExemptionKey): boolean {
    return this.policy.fixedExemptions().some((known) => known.kind === kind && known.value === value);
  }

  /** From the next login on, on all processes. Adding it again replaces its note and expiry. */
  async add(
    exemption: ExemptionKey & { expiresAt: Date | null; note?: string | undefined },
    actor: Actor,
  ): Promise<ListedExemption> {
    const added = await answered(this.store.addExemption(exemption, sign(actor, exemption.note)));
    this.announce('added', exemption, actor);
    return runtime(added);
  }

  /** Whether there was one. The user's next login is limited again, and ends what was opened meanwhile. */
  async remove(exemption: ExemptionKey, actor: Actor): Promise<boolean> {
    const removed = await answered(this.store.removeExemption(exemption, sign(actor)));
    if (removed) this.announce('removed', exemption, actor);
    return removed;
  }

  private announce(change: 'added' | 'removed', { kind, value }: ExemptionKey, { username }: Actor): void {
    this.events.emit({ type: 'exemption-changed', at: new Date(), change, kind, value, by: username });
  }
}

const runtime = (exemption: Exemption): ListedExemption => ({ ...exemption, origin: 'runtime' });

const fixed = (exemption: ExemptionKey): ListedExemption => ({
  ...exemption,
  origin: 'options',
  note: null,
  addedBy: null,
  addedAt: null,
  expiresAt: null,
});
