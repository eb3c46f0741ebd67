import { Logger } from '@nestjs/common';
import type { SingleSessionEvents } from './events.js';
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
import { SessionStore, type Sweep } from './session-store.js';

/** When one account's logins are a storm. */
export interface StormSettings {
  /** More logins than this in one window. */
  threshold: number;
  /** Milliseconds. */
  windowMs: number;
}

export interface AnnouncingSettings extends StormSettings {
  /** Where an administrator may exempt accounts at run time, if anywhere. */
  exemptionsPath?: (() => string) | undefined;
}

/**
 * A store that emits an event for whatever its statements did, whoever called it. What administrators end does not come
 * through here: `Administration` emits that itself.
 */
export class AnnouncingStore extends SessionStore {
  private readonly logger = new Logger('SingleSession');

  constructor(
    private readonly store: SessionStore,
    private readonly events: SingleSessionEvents,
    private readonly settings: AnnouncingSettings,
  ) {
    super();
  }

  prepare(): Promise<void> {
    return this.store.prepare();
  }

  async admit(admission: Admission): Promise<AdmissionResult> {
    const result = await this.store.admit(admission);
    if (result.outcome === 'admitted') {
      this.announceAdmitted(admission, result.exempt);
      // The store counts one at a time, so exactly one process sees this number in each window.
      if (result.logins === this.settings.threshold + 1) this.announceStorm(admission, result.logins);
    }
    if (result.outcome === 'no-room') this.announceLimit(admission);
    return result;
  }

  share(order: ShareOrder): Promise<string | undefined> {
    return this.store.share(order);
  }

  verify(checks: readonly Check[]): Promise<(CheckResult | Error)[]> {
    return this.store.verify(checks);
  }

  end(order: EndOrder): Promise<EndedSession[]> {
    return this.announceEnded(this.store.end(order));
  }

  /** Nobody was told that it began. */
  recordEnded(session: EndedUnknown): Promise<boolean> {
    return this.store.recordEnded(session);
  }

  markUsers(userIds: readonly string[]): Promise<EndedSession[]> {
    return this.announceEnded(this.store.markUsers(userIds));
  }

  markChecked(check: Check): Promise<EndedSession[]> {
    return this.announceEnded(this.store.markChecked(check));
  }

  refresh(order: RefreshOrder): Promise<void> {
    return this.store.refresh(order);
  }

  seen(ids: readonly string[]): Promise<void> {
    return this.store.seen(ids);
  }

  async sweep(): Promise<Sweep> {
    const sweep = await this.store.sweep();
    this.events.emitEnded(sweep.ended);
    return sweep;
  }

  private async announceEnded(statement: Promise<EndedSession[]>): Promise<EndedSession[]> {
    const ended = await statement;
    this.events.emitEnded(ended);
    return ended;
  }

  private announceAdmitted({ id, identity, origin }: Admission, exempt: boolean): void {
    const { id: userId, username, roles } = identity;
    this.events.emit({
      type: 'admitted',
      at: new Date(),
      sessionId: id,
      userId,
      username,
      roles,
      exempt,
      ...origin,
    });
  }

  private announceLimit({ identity, limit, origin }: Admission): void {
    const { id: userId, username } = identity;
    this.events.emit({
      type: 'limit-reached',
      at: new Date(),
      userId,
      username,
      maxSessions: limit,
      ...origin,
    });
  }

  private announceStorm({ identity: { id: userId, username } }: Admission, logins: number): void {
    const { windowMs, exemptionsPath } = this.settings;
    this.events.emit({ type: 'storm', at: new Date(), userId, username, logins, windowMs });
    const name = JSON.stringify(username);
    const atOnce =
      exemptionsPath === undefined
        ? ''
        : `PUT ${exemptionsPath()} {"kind":"username","value":${name}}, at once and everywhere; or for good: `;
    this.logger.warn(
      `Storm: the account ${name} signed in ${logins} times within ${windowMs / 1_000} s, and its sessions replace each other. If several programs share it, ` +
        `exempt it: ${atOnce}forRoot({ exempt: { usernames: [${name}] } }).`,
    );
  }
}
