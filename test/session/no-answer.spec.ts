import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { actorOfCode } from '../../src/session/actor.js';
import { Administration } from '../../src/session/administration.js';
import type { AdministrationStore } from '../../src/session/administration-store.js';
import { ANSWER_WITHIN_MS } from '../../src/session/answered.js';
import { Bookkeeper } from '../../src/session/bookkeeper.js';
import { SingleSessionEvents } from '../../src/session/events.js';
import { RunTimeExemptions } from '../../src/session/exemptions.js';
import { Explainer } from '../../src/session/explainer.js';
import { Policy } from '../../src/session/policy.js';
import type { CheckResult } from '../../src/session/session.js';
import { StoreUnavailableError } from '../../src/session/session-store.js';
import { Sessions } from '../../src/session/sessions.js';
import { resolveOptions } from '../../src/single-session.options.js';
import { FakeStore, gate, liveOf, type Gate } from '../support/fake-store.js';

const ID = '00000000-0000-4000-8000-000000000001';
const CODE = actorOfCode(undefined);
const KEY = { kind: 'role' as const, value: 'service' };
const USER = { id: 'u', username: 'u', roles: ['new'] };
const PAGE = { limit: 1 };

/** Answers checks, and nothing else before the test says so. */
class Silent extends FakeStore {
  override async verify(): Promise<CheckResult[]> {
    const dead = { live: false as const, reason: 'superseded' as const, endedAt: null };
    return [{ ...liveOf('u'), ...dead, unmarked: true }];
  }

  override refresh = (): Promise<never> => answer.promise;
  override markChecked = (): Promise<never> => answer.promise;
  override end = (): Promise<never> => answer.promise;
}

let answer: Gate<never>;
let sessions: Sessions;
let administration: Administration;
let exemptions: RunTimeExemptions;
let explainer: Explainer;

beforeEach(() => {
  jest.useFakeTimers({ doNotFake: ['setImmediate', 'nextTick'] });
  answer = gate();
  const options = resolveOptions({});
  const policy = new Policy(options);
  const store = new Silent();
  sessions = new Sessions(store, policy, new Bookkeeper(store), options);
  const ofAdministrators = new Proxy({} as AdministrationStore, { get: () => () => answer.promise });
  const events = new SingleSessionEvents();
  administration = new Administration(ofAdministrators, events, { sweepSoon: () => undefined });
  exemptions = new RunTimeExemptions(ofAdministrators, policy, events);
  explainer = new Explainer(policy, ofAdministrators, options);
});

afterEach(() => {
  jest.useRealTimers();
});

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe('when the store does not answer', () => {
  const WAITING: [string, () => Promise<unknown>][] = [
    ['a session is met dead', () => sessions.verify({ id: ID, limit: 1 })],
    ['roles have changed', () => sessions.keepCurrent({ id: ID, limit: 1 }, liveOf('u'), USER)],
    ['a session is ended', () => sessions.logout(ID, USER, true)],
    ['sessions are listed', () => administration.list({ ...PAGE, state: 'all' })],
    ['actions are listed', () => administration.actions(PAGE)],
    ['an administrator ends a session', () => administration.endSession(ID, CODE)],
    ['an administrator ends those of a user', () => administration.logout({ userIds: ['u'] }, CODE)],
    ['exemptions are listed', () => exemptions.list()],
    ['an exemption is added', () => exemptions.add({ ...KEY, expiresAt: null }, CODE)],
    ['an exemption is removed', () => exemptions.remove(KEY, CODE)],
    ['a limit is explained', () => explainer.explain(USER)],
    ['the limit of a name is explained', () => explainer.explainUsername('u')],
  ];

  it.each(WAITING)('%s: that fails as unavailable, and in time [P5]', async (_, ask) => {
    const outcome = jest.fn();
    void ask().catch(outcome);
    await turn();
    await jest.advanceTimersByTimeAsync(ANSWER_WITHIN_MS - 1);
    expect(outcome).not.toHaveBeenCalled();
    await jest.advanceTimersByTimeAsync(1);
    await turn();
    expect(outcome).toHaveBeenCalledWith(expect.any(StoreUnavailableError));
  });

  it.each(WAITING)('but an error, %s: that fails as unavailable [P5]', async (_, ask) => {
    const asked = ask();
    await turn();
    answer.fail(new Error('gone'));
    await expect(asked).rejects.toThrow(StoreUnavailableError);
  });
});
