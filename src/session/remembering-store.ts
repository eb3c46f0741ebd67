import type { Freshness } from './freshness.js';
import { SessionStore, type Sweep } from './session-store.js';
import type {
  Admission,
  AdmissionResult,
  Check,
  CheckResult,
  EndedSession,
  EndedUnknown,
  EndOrder,
  RefreshOrder,
  ShareOrder,
} from './session.js';

/**
 * A store that tells {@link Freshness} what it answered and what it ended. A new verb of the store does not compile
 * until it is said here what it changes.
 */
export class RememberingStore extends SessionStore {
  constructor(
    private readonly store: SessionStore,
    private readonly freshness: Freshness,
  ) {
    super();
  }

  prepare(): Promise<void> {
    return this.store.prepare();
  }

  async verify(checks: readonly Check[]): Promise<(CheckResult | Error)[]> {
    const moment = this.freshness.moment();
    const results = await this.store.verify(checks);
    this.freshness.learn(checks, results, moment);
    return results;
  }

  async admit(admission: Admission): Promise<AdmissionResult> {
    let displaces = true;
    try {
      const result = await this.store.admit(admission);
      displaces = doesDisplace(result, admission);
      return result;
    } finally {
      // Also after an error: it may have been committed all the same.
      if (displaces) this.freshness.changed([admission.identity.id]);
    }
  }

  /** Who was live stays live. */
  share(order: ShareOrder): Promise<string | undefined> {
    return this.store.share(order);
  }

  async end(order: EndOrder): Promise<EndedSession[]> {
    const { target } = order;
    // In doubt, whoever was meant; and nobody because of an ended session's logout, which ends nothing.
    let users = target.userId === undefined ? [] : [target.userId];
    try {
      const ended = await this.store.end(order);
      if (target.scope !== 'others' && target.scope !== 'user') users = [];
      users.push(...ended.map(({ userId }) => userId));
      return ended;
    } finally {
      this.freshness.changed(new Set(users));
    }
  }

  /** Nobody remembers what nobody knew. */
  recordEnded(session: EndedUnknown): Promise<boolean> {
    return this.store.recordEnded(session);
  }

  /** What an admission displaced was told when it was admitted. */
  markUsers(userIds: readonly string[]): Promise<EndedSession[]> {
    return this.store.markUsers(userIds);
  }

  /** Others may have checked it by a higher limit. */
  async markChecked(check: Check): Promise<EndedSession[]> {
    const ended = await this.store.markChecked(check);
    this.freshness.changed(new Set(ended.map(({ userId }) => userId)));
    return ended;
  }

  /** Whoever wrote the roles checks the session again, and that is remembered. */
  refresh(order: RefreshOrder): Promise<void> {
    return this.store.refresh(order);
  }

  seen(ids: readonly string[]): Promise<void> {
    return this.store.seen(ids);
  }

  sweep(): Promise<Sweep> {
    return this.store.sweep();
  }
}

function doesDisplace(result: AdmissionResult, { replaces }: Admission): boolean {
  if (result.outcome === 'no-room') return result.displaces === true;
  return result.outcome === 'admitted' && !result.first && !(result.exempt && replaces === null);
}
