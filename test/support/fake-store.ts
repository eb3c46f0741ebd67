import { SessionStore, type Sweep } from '../../src/session/session-store.js';
import type {
  AdmissionResult,
  Check,
  CheckResult,
  EndedSession,
  LiveResult,
} from '../../src/session/session.js';

/** What a store says of a live session of this user. */
export const liveOf = (userId: string, more: Partial<LiveResult> = {}): LiveResult => ({
  live: true,
  userId,
  unmarked: false,
  unseen: false,
  roles: '',
  administrator: false,
  ...more,
});

/** Answers nothing of interest; a test overrides what it is about. */
export class FakeStore extends SessionStore {
  async prepare(): Promise<void> {}

  async admit(): Promise<AdmissionResult> {
    return { outcome: 'admitted', first: false, exempt: false, logins: 1 };
  }

  async share(): Promise<string | undefined> {
    return undefined;
  }

  async verify(checks: readonly Check[]): Promise<(CheckResult | Error)[]> {
    return checks.map(() => liveOf('u'));
  }

  async end(): Promise<EndedSession[]> {
    return [];
  }

  async recordEnded(): Promise<boolean> {
    return true;
  }

  async markUsers(_userIds: readonly string[]): Promise<EndedSession[]> {
    return [];
  }

  async markChecked(): Promise<EndedSession[]> {
    return [];
  }

  async refresh(): Promise<void> {}

  async seen(_ids: readonly string[]): Promise<void> {}

  async sweep(): Promise<Sweep> {
    return { more: false, ended: [] };
  }
}

/** A promise that the test settles. */
export interface Gate<Value> {
  promise: Promise<Value>;
  open: (value: Value) => void;
  fail: (error: Error) => void;
}

export function gate<Value>(): Gate<Value> {
  let open!: Gate<Value>['open'];
  let fail!: Gate<Value>['fail'];
  const promise = new Promise<Value>((resolve, reject) => {
    open = resolve;
    fail = reject;
  });
  return { promise, open, fail };
}
