import { beforeEach, describe, expect, it } from '@jest/globals';
import { Freshness } from '../../src/session/freshness.js';
import { LARGEST_LIMIT } from '../../src/session/policy.js';
import { RememberingStore } from '../../src/session/remembering-store.js';
import type {
  Admission,
  AdmissionResult,
  CheckResult,
  EndedSession,
  EndOrder,
  EndTarget,
} from '../../src/session/session.js';
import { topicOf } from '../../src/session/verdicts.js';
import { FakeSignal } from '../support/fake-signal.js';
import { FakeStore, gate, liveOf, type Gate } from '../support/fake-store.js';
import { NOWHERE } from '../support/store.js';

const ADMITTED: AdmissionResult = { outcome: 'admitted', first: false, exempt: false, logins: 1 };
const EXEMPT: AdmissionResult = { ...ADMITTED, exempt: true };

class Desk extends FakeStore {
  admission: AdmissionResult | Error = ADMITTED;
  ending: EndedSession[] | Error = [];
  checking: Gate<(CheckResult | Error)[]> | undefined;

  override async admit(): Promise<AdmissionResult> {
    if (this.admission instanceof Error) throw this.admission;
    return this.admission;
  }

  override async end(): Promise<EndedSession[]> {
    if (this.ending instanceof Error) throw this.ending;
    return this.ending;
  }

  override async markChecked(): Promise<EndedSession[]> {
    return this.end();
  }

  override verify(checks: readonly { id: string }[]): Promise<(CheckResult | Error)[]> {
    return this.checking?.promise ?? Promise.resolve(checks.map(({ id }) => liveOf(id)));
  }
}

let desk: Desk;
let signal: FakeSignal;
let freshness: Freshness;
let store: RememberingStore;

beforeEach(() => {
  desk = new Desk();
  signal = new FakeSignal();
  freshness = new Freshness(signal, { maxStalenessMs: 60_000 });
  freshness.hearing();
  freshness.proven(performance.now());
  store = new RememberingStore(desk, freshness);
});

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
const check = (id: string) => ({ id, limit: 1 });
const recalls = (id: string): boolean => freshness.recall(check(id)) !== undefined;
const GONE = new Error('gone');

const admission = (more: Partial<Admission> = {}): Admission => ({
  id: 'new',
  loginId: 'login',
  identity: { id: 'alice', username: 'alice', roles: [] },
  limit: 1,
  exempt: false,
  administrator: false,
  entitledBy: null,
  onLimit: 'evict',
  replaces: null,
  origin: NOWHERE,
  ...more,
});

const ended = (userId: string): EndedSession => ({
  id: `of ${userId}`,
  userId,
  username: userId,
  reason: 'logout',
  endedAt: new Date(),
  by: null,
  replacedBy: null,
});
const order = (target: EndTarget): EndOrder => ({ target, reason: 'logout', by: null, limit: LARGEST_LIMIT });

/** Who was told about, by everybody who was remembered: a session named as its user. */
async function forgets(work: () => Promise<unknown>): Promise<string[]> {
  const users = ['alice', 'bob', 'carol'];
  await store.verify(users.map(check));
  expect(users.map(recalls)).toEqual([true, true, true]);
  await work().catch((error: unknown) => {
    if (error !== GONE) throw error;
  });
  const forgotten = users.filter((user) => !recalls(user));
  await turn();
  expect(signal.told.flat()).toEqual(forgotten.map(topicOf));
  return forgotten;
}

describe('an admission', () => {
  it.each<[string, AdmissionResult | Error, Partial<Admission>, string[]]>([
    ['that may have evicted somebody', ADMITTED, {}, ['alice']],
    ['that may have been committed', GONE, {}, ['alice']],
    ['of an exempt user that replaces a session', EXEMPT, { replaces: 'old' }, ['alice']],
    ['that was the first of its user', { ...ADMITTED, first: true } as AdmissionResult, {}, []],
    ['of an exempt user, also by an exemption at run time', EXEMPT, {}, []],
    ['that found no room', { outcome: 'no-room' }, {}, []],
    ['that found none, and ended exempt sessions', { outcome: 'no-room', displaces: true }, {}, ['alice']],
    ['that was there already', { outcome: 'exists' }, {}, []],
  ])('%s: forgets and tells what it must, nothing else', async (_, result, more, expected) => {
    desk.admission = result;
    expect(await forgets(() => store.admit(admission(more)))).toEqual(expected);
  });
});

describe('an end', () => {
  it.each<[string, EndTarget, EndedSession[] | Error, string[]]>([
    ['of a session', { scope: 'session', sessionId: 's' }, [ended('bob')], ['bob']],
    ['that ends nothing', { scope: 'session', sessionId: 's' }, [], []],
    [
      'by a session that is dead, which must cost its user nothing',
      { scope: 'everywhere', sessionId: 's', userId: 'alice' },
      [],
      [],
    ],
    ['of a user', { scope: 'user', userId: 'alice' }, [ended('alice')], ['alice']],
    [
      'of a user whose sessions another process marks at this moment',
      { scope: 'user', userId: 'alice' },
      [],
      ['alice'],
    ],
    ['of all others', { scope: 'others', sessionId: 's', userId: 'carol' }, [], ['carol']],
    [
      'that may have been committed',
      { scope: 'everywhere', sessionId: 's', userId: 'alice' },
      GONE,
      ['alice'],
    ],
    ['of a session that may have been committed', { scope: 'session', sessionId: 's' }, GONE, []],
  ])('%s: forgets and tells what it must, nothing else [lesson 22]', async (_, target, result, expected) => {
    desk.ending = result;
    expect(await forgets(() => store.end(order(target)))).toEqual(expected);
  });

  it('found by a check with a lower limit is told to those who checked by a higher one [lesson 8]', async () => {
    desk.ending = [ended('carol')];
    expect(await forgets(() => store.markChecked(check('carol')))).toEqual(['carol']);
  });
});

describe('a check', () => {
  it('whose query began before an end of this process is not remembered, although its answer came after [lesson 23, S24]', async () => {
    const checking = (desk.checking = gate());
    const answered = store.verify([check('alice')]);
    desk.ending = [ended('alice')];
    await store.end(order({ scope: 'user', userId: 'alice' }));
    checking.open([liveOf('alice')]);
    await answered;
    expect(recalls('alice')).toBe(false);
  });

  it('whose record is broken is not remembered, and harms none of the others', async () => {
    const checking = (desk.checking = gate());
    const answered = store.verify(['alice', 'bob'].map(check));
    checking.open([GONE, liveOf('bob')]);
    expect(await answered).toEqual([GONE, liveOf('bob')]);
    expect(['alice', 'bob'].map(recalls)).toEqual([false, true]);
  });

  it('that fails is not remembered, and fails', async () => {
    desk.checking = gate();
    const answered = store.verify([check('alice')]);
    desk.checking.fail(GONE);
    await expect(answered).rejects.toBe(GONE);
    expect(recalls('alice')).toBe(false);
  });
});
