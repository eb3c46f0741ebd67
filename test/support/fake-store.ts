import { SessionStore } from '../../src/session/session-store.js';
import type { AdmissionResult, Check, CheckResult, EndedSession } from '../../src/session/session.js';

/** Answers nothing of interest; a test overrides what it is about. */
export class FakeStore extends SessionStore {
  async prepare(): Promise<void> {}

  async admit(): Promise<AdmissionResult> {
    return 'admitted';
  }

  async verify(checks: readonly Check[]): Promise<CheckResult[]> {
    return checks.map(() => ({ live: true, userId: 'u', unmarked: false, unseen: false }));
  }

  async end(): Promise<EndedSession[]> {
    return [];
  }

  async markUsers(_userIds: readonly string[]): Promise<EndedSession[]> {
    return [];
  }

  async markChecked(): Promise<EndedSession[]> {
    return [];
  }

  async seen(_ids: readonly string[]): Promise<void> {}

  async sweep(): Promise<boolean> {
    return false;
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
