import { AsyncLocalStorage } from 'node:async_hooks';
import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { Subject } from 'rxjs';
import { SingleSessionEvents } from '../../src/session/events.js';
import type { Check, CheckResult, EndReason, SessionEnd } from '../../src/session/session.js';
import { StoreUnavailableError } from '../../src/session/session-store.js';
import type { Changes } from '../../src/session/signal.js';
import { topicOf, TOPICS } from '../../src/session/verdicts.js';
import { WatchedSessions } from '../../src/session/watched-sessions.js';
import { UNVERIFIED_FOR_MS, Watches, type WatchedSession } from '../../src/session/watches.js';
import { gate, liveOf, type Gate } from '../support/fake-store.js';
import { times } from '../support/store.js';
import { timers } from '../support/timers.js';

const EVERY_MS = 1_000;
const AT = new Date('2026-01-01T00:00:00Z');

/** Sessions that a test ends, and the rules; a session is named as its user in capitals. */
class FakeSessions {
  readonly dead = new Map<string, EndReason>();
  readonly looks: Check[] = [];
  limit: (user: unknown) => number | Promise<number> = () => 1;
  failure: Error | undefined;
  held: Gate<void> | undefined;

  limitAtCheck(user: unknown): number | Promise<number> {
    return this.limit(user);
  }

  async look(check: Check): Promise<CheckResult> {
    this.looks.push(check);
    const answer = this.answer(check.id);
    await this.held?.promise;
    if (this.failure) throw this.failure;
    return answer;
  }

  private answer(id: string): CheckResult {
    const reason = this.dead.get(id);
    const rest = {
      userId: id.toUpperCase(),
      unmarked: false,
      unseen: false,
      roles: '',
      administrator: false,
    };
    return reason === undefined ? { live: true, ...rest } : { live: false, reason, endedAt: AT, ...rest };
  }
}

let sessions: FakeSessions;
let events: SingleSessionEvents;
let changes: Subject<Changes>;
let watches: Watches;

beforeEach(() => {
  jest.useFakeTimers({ doNotFake: ['setImmediate', 'nextTick'] });
  sessions = new FakeSessions();
  events = new SingleSessionEvents();
  changes = new Subject();
  watches = new Watches(sessions, sessions, events, { everyMs: EVERY_MS, changes });
});

afterEach(() => {
  watches.close();
  jest.useRealTimers();
});

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

async function pass(ms: number): Promise<void> {
  jest.advanceTimersByTime(ms);
  await turn();
}

/** What the watch told, in order. */
type Told = SessionEnd | 'complete' | Error;

interface Watch {
  told: Told[];
  stop: () => void;
}

function watch(session: string | WatchedSession): Watch {
  const told: Told[] = [];
  const subscription = watches.whenEnded(typeof session === 'string' ? { id: session } : session).subscribe({
    next: (end) => void told.push(end),
    complete: () => void told.push('complete'),
    error: (error: Error) => void told.push(error),
  });
  return { told, stop: () => subscription.unsubscribe() };
}

const ended = (reason: EndReason, endedAt: Date | null = AT): Told[] => [{ reason, endedAt }, 'complete'];
const looked = (): string[] => sessions.looks.splice(0).map(({ id }) => id);

function emitEnded(id: string, reason: EndReason): void {
  const session = {
    id,
    userId: id.toUpperCase(),
    username: id,
    reason,
    endedAt: AT,
    by: null,
    replacedBy: null,
  };
  events.emitEnded([session]);
}

const emitAdmitted = (userId: string): void =>
  events.emit({
    type: 'admitted',
    at: AT,
    sessionId: 'new',
    userId,
    username: userId,
    roles: [],
    exempt: false,
    ip: null,
    userAgent: null,
  });

describe('a watch', () => {
  it('says nothing while the session lives, and says its end once, with reason and time, and completes', async () => {
    const { told } = watch('a');
    await pass(EVERY_MS * 3);
    expect(told).toEqual([]);
    sessions.dead.set('a', 'admin');
    await pass(EVERY_MS);
    emitEnded('a', 'admin');
    await pass(EVERY_MS);
    expect(told).toEqual(ended('admin'));
  });

  it('of a session that has ended already, says so at once', async () => {
    sessions.dead.set('a', 'superseded');
    const { told } = watch('a');
    await turn();
    expect(told).toEqual(ended('superseded'));
  });

  it.each<EndReason>(['expired', 'idle', 'cut-off'])(
    'learns that the session is %s, of which nobody tells',
    async (reason) => {
      const { told } = watch('a');
      await turn();
      sessions.dead.set('a', reason);
      await pass(EVERY_MS - 1);
      expect(told).toEqual([]);
      await pass(1);
      expect(told).toEqual(ended(reason));
    },
  );

  it('misses nothing that ends while it begins: an end that comes during the first look is told', async () => {
    sessions.held = gate();
    const { told } = watch('a');
    // The answer on its way says "live", and is older than this.
    emitEnded('a', 'logout');
    expect(told).toEqual(ended('logout'));
    sessions.held.open();
    await turn();
    expect(told).toHaveLength(2);
  });

  it('misses no change that is heard while its user is not known yet [lesson 23]', async () => {
    sessions.held = gate();
    const { told } = watch('a');
    await turn();
    sessions.dead.set('a', 'superseded');
    changes.next(new Set([topicOf('A')]));
    sessions.held.open();
    await turn();
    expect(told).toEqual(ended('superseded'));
  });

  it('is told to everyone who watches the same session, however its id is written, and by one look', async () => {
    const [one, other] = [watch('aa'), watch('AA')];
    await turn();
    looked();
    await pass(EVERY_MS);
    expect(looked()).toEqual(['aa']);
    emitEnded('aa', 'admin');
    expect([one.told, other.told]).toEqual([ended('admin'), ended('admin')]);
  });

  it('goes on when others leave, who are told nothing any more and cost nothing', async () => {
    sessions.held = gate();
    const [one, other] = [watch('a'), watch('b')];
    other.stop();
    changes.next(new Set([topicOf('A')]));
    sessions.held.open();
    await turn();
    expect(looked()).toEqual(['a', 'b', 'a']);
    const stays = watch('a');
    one.stop();
    await turn();
    looked();
    sessions.dead.set('a', 'admin');
    changes.next(new Set(['A', 'B'].map(topicOf)));
    await turn();
    expect([one.told, stays.told, other.told]).toEqual([[], ended('admin'), []]);
    expect(looked()).toEqual(['a']);
  });

  it('asks by the limit of its user, who is the one that was given last', async () => {
    sessions.limit = (user) => Promise.resolve((user as { limit: number } | undefined)?.limit ?? 1);
    watch({ id: 'a', user: { limit: 7 } });
    watch({ id: 'a' });
    await turn();
    await pass(EVERY_MS);
    expect(sessions.looks.map(({ limit }) => limit)).toEqual([7, 7, 7]);
    watch({ id: 'a', user: { limit: 9 } });
    await pass(EVERY_MS);
    expect(sessions.looks.map(({ limit }) => limit)).toEqual([7, 7, 7, 9, 9]);
  });
});

describe('what this process does itself', () => {
  it('is told at once, without a look: an end that it recorded', async () => {
    const [a, b] = [watch('a'), watch('b')];
    await turn();
    looked();
    emitEnded('a', 'logout');
    expect([a.told, b.told]).toEqual([ended('logout'), []]);
    expect(looked()).toEqual([]);
  });

  it('is looked at at once: the sessions of a user whose login it admitted, and no others', async () => {
    const [a, b] = [watch('a'), watch('b')];
    await turn();
    looked();
    sessions.dead.set('a', 'superseded');
    emitAdmitted('A');
    await turn();
    expect([a.told, b.told]).toEqual([ended('superseded'), []]);
    expect(looked()).toEqual(['a']);
  });

  it('is looked at at once: everything, after a cut-off', async () => {
    const [a, b] = [watch('a'), watch('b')];
    await turn();
    sessions.dead.set('a', 'cut-off');
    const except = { administrators: true, roles: [], usernames: [], userIds: [] };
    events.emit({ type: 'cut-off', at: AT, by: null, note: null, except });
    await turn();
    expect([a.told, b.told]).toEqual([ended('cut-off'), []]);
  });
});

describe('what others change', () => {
  it('is looked at at once where it concerns a watched user, and nobody else is looked at', async () => {
    sessions.held = gate();
    const [a, b] = [watch({ id: 'a', userId: 'A' }), watch({ id: 'b', userId: 'B' })];
    changes.next(new Set([topicOf('B')]));
    sessions.held.open();
    await turn();
    expect(looked()).toEqual(['a', 'b', 'b']);
    sessions.dead.set('b', 'admin');
    changes.next(new Set([topicOf('B')]));
    await turn();
    expect([a.told, b.told]).toEqual([[], ended('admin')]);
    expect(looked()).toEqual(['b']);
  });

  it('is looked at at once where anything may have been missed [lesson 24]', async () => {
    const [a, b] = [watch('a'), watch('b')];
    await turn();
    sessions.dead.set('b', 'admin');
    changes.next('everything');
    await turn();
    expect([a.told, b.told]).toEqual([[], ended('admin')]);
  });

  it('by thousands, is looked at by one more look than is under way, which misses none of them', async () => {
    const { told } = watch('a');
    watch('b');
    await turn();
    looked();
    const { held } = Object.assign(sessions, { held: gate<void>() });
    for (let change = 0; change < 1_000; change++) changes.next('everything');
    await turn();
    sessions.dead.set('a', 'admin');
    changes.next(new Set([topicOf('A')]));
    await turn();
    expect(looked()).toEqual(['a', 'b']);
    held.open();
    await turn();
    expect(looked()).toEqual(['a', 'b']);
    expect(told).toEqual(ended('admin'));
  });

  it('of all users at once finds each session whose user is not known yet once, and not once for each of them', async () => {
    sessions.held = gate();
    times(3_000, (n) => watch(`s${n}`));
    await turn();
    const finding = jest.spyOn(WatchedSessions.prototype, 'of');
    changes.next(new Set(times(TOPICS, (n) => n)));
    const found = finding.mock.results.flatMap(({ value }) => value as unknown[]);
    finding.mockRestore();
    expect(found).toHaveLength(3_000);
  });

  it('is noticed by the look of every so often when no notification comes [P4]', async () => {
    const { told } = watch('a');
    await turn();
    sessions.dead.set('a', 'superseded');
    await pass(EVERY_MS);
    expect(told).toEqual(ended('superseded'));
  });
});

describe('the rounds', () => {
  it('are none while nothing is watched, and stop with the last watch', async () => {
    await pass(EVERY_MS * 3);
    expect(looked()).toEqual([]);
    const [a, b] = [watch('a'), watch('b')];
    await turn();
    a.stop();
    looked();
    await pass(EVERY_MS);
    expect(looked()).toEqual(['b']);
    b.stop();
    await pass(EVERY_MS * 3);
    changes.next('everything');
    changes.next(new Set([topicOf('B')]));
    await turn();
    expect(looked()).toEqual([]);
    expect(jest.getTimerCount()).toBe(0);
  });

  it('begin anew for who comes later', async () => {
    watch('a').stop();
    const { told } = watch('b');
    await turn();
    sessions.dead.set('b', 'idle');
    await pass(EVERY_MS);
    expect(told).toEqual(ended('idle'));
  });

  it('come every so often', async () => {
    watch('a');
    await turn();
    looked();
    for (let round = 0; round < 3; round++) {
      await pass(EVERY_MS - 1);
      expect(looked()).toEqual([]);
      await pass(1);
      expect(looked()).toEqual(['a']);
    }
  });

  it('keep no process alive', () => {
    jest.useRealTimers();
    const before = timers();
    watch('a');
    expect(timers()).toBeLessThanOrEqual(before);
  });

  it('do not overlap, however long the store takes', async () => {
    watch('a');
    await turn();
    looked();
    sessions.held = gate();
    await pass(EVERY_MS * 5);
    watch('b');
    await pass(EVERY_MS * 5);
    expect(looked()).toEqual(['a', 'b']);
    sessions.held.open();
    sessions.held = undefined;
    await turn();
    expect(looked()).toEqual([]);
    await pass(0);
    expect(looked()).toEqual(['a', 'b']);
  });

  it('go on where the limit of one user never comes, which is an error of what is open for that user [lesson 13]', async () => {
    const never = { id: 'b', user: 'never' };
    sessions.limit = (user) => (user === 'never' ? new Promise(() => undefined) : 1);
    const [a, b] = [watch('a'), watch(never)];
    await turn();
    await pass(EVERY_MS);
    sessions.dead.set('a', 'admin');
    for (let second = 0; second < 7; second++) await pass(1_000);
    expect(a.told).toEqual(ended('admin'));
    expect(b.told).toEqual([new Error('maxSessions() gave no limit within 5000 ms')]);
  });

  it('go on after a watcher has thrown', async () => {
    const thrown: unknown[] = [];
    watches.whenEnded({ id: 'a' }).subscribe(() => {
      throw new Error('of the application');
    });
    const { told } = watch('b');
    // rxjs reports it in a timer of its own.
    jest.spyOn(globalThis, 'setTimeout').mockImplementationOnce((report) => {
      try {
        (report as () => void)();
      } catch (error) {
        thrown.push(error);
      }
      return undefined as never;
    });
    emitEnded('a', 'admin');
    jest.restoreAllMocks();
    emitEnded('b', 'admin');
    expect([thrown, told]).toEqual([[new Error('of the application')], ended('admin')]);
  });
});

describe('a store that cannot answer', () => {
  const unavailable = new StoreUnavailableError('no answer');

  it('at the beginning is an error: nothing is opened that nobody has verified [P5]', async () => {
    sessions.failure = unavailable;
    const { told } = watch('a');
    await turn();
    expect(told).toEqual([unavailable]);
  });

  it('later is borne for a while, and then an error: what cannot be verified does not stay open for ever [P5]', async () => {
    const { told } = watch('a');
    await turn();
    sessions.failure = unavailable;
    await pass(UNVERIFIED_FOR_MS - EVERY_MS);
    expect(told).toEqual([]);
    await pass(EVERY_MS);
    await pass(EVERY_MS);
    expect(told).toEqual([unavailable]);
    looked();
    await pass(EVERY_MS);
    expect(looked()).toEqual([]);
  });

  it('later is borne no longer because the last answer was slow: what it said was true when it was asked for [P5]', async () => {
    const [slow, soon] = [EVERY_MS * 0.9, EVERY_MS * 0.5];
    sessions.held = gate();
    const { told } = watch('a');
    await pass(slow);
    sessions.held.open();
    await turn();
    sessions.failure = unavailable;
    await pass(UNVERIFIED_FOR_MS - slow);
    expect(told).toEqual([]);
    await pass(soon);
    expect(told).toEqual([unavailable]);
  });

  it('may be asked anew by who is told so, and who else is told so takes nothing with them', async () => {
    let anew: Watch | undefined;
    const again = (): void => {
      sessions.failure = undefined;
      anew = watch('a');
    };
    watches.whenEnded({ id: 'a' }).subscribe({ error: again });
    const other = watch('a');
    await turn();
    sessions.failure = unavailable;
    await pass(UNVERIFIED_FOR_MS + EVERY_MS);
    expect(other.told).toEqual([unavailable]);
    emitEnded('a', 'admin');
    expect(anew?.told).toEqual(ended('admin'));
  });

  it('that answers again in time is forgiven', async () => {
    const { told } = watch('a');
    await turn();
    for (let n = 0; n < 3; n++) {
      sessions.failure = unavailable;
      await pass(UNVERIFIED_FOR_MS - EVERY_MS);
      sessions.failure = undefined;
      await pass(EVERY_MS);
    }
    expect(told).toEqual([]);
    sessions.dead.set('a', 'admin');
    await pass(EVERY_MS);
    expect(told).toEqual(ended('admin'));
  });

  it.each([
    [
      'throws',
      () => {
        throw new Error('of the application');
      },
    ],
    ['rejects', () => Promise.reject(new Error('of the application'))],
  ] as const)('is like a limit that %s [lesson 13]', async (_, limit) => {
    sessions.limit = limit;
    const { told } = watch('a');
    await turn();
    expect(told).toEqual([new Error('of the application')]);
  });
});

describe('at the end of the application', () => {
  it('every watch completes, without an end, and nothing is asked any more', async () => {
    const [a, b] = [watch('a'), watch('b')];
    const closed = jest.fn();
    watches.closed.subscribe(closed);
    await turn();
    looked();
    watches.close();
    expect(jest.getTimerCount()).toBe(0);
    expect([a.told, b.told]).toEqual([['complete'], ['complete']]);
    expect(closed).toHaveBeenCalledTimes(1);
    changes.next('everything');
    emitAdmitted('A');
    await pass(EVERY_MS * 3);
    expect(looked()).toEqual([]);
    expect(jest.getTimerCount()).toBe(0);
    expect(watch('a').told).toEqual(['complete']);
  });

  it('a round that is under way begins no other', async () => {
    watch('a');
    await turn();
    sessions.held = gate();
    await pass(EVERY_MS);
    watches.close();
    sessions.held.open();
    await pass(EVERY_MS * 3);
    expect(jest.getTimerCount()).toBe(0);
  });
});

it('what looks runs in the context of no request, whoever has made it look', async () => {
  const request = new AsyncLocalStorage<string>();
  const lookedIn: unknown[] = [];
  sessions.look = async ({ id }) => {
    lookedIn.push(request.getStore());
    return liveOf(id.toUpperCase());
  };
  request.run('of the stream', () => watch('a'));
  await turn();
  request.run('of a login', () => emitAdmitted('A'));
  await turn();
  expect(lookedIn).toEqual([undefined, undefined]);
});

it('the limit is asked for the user who came last, in the context in which that user came', async () => {
  const request = new AsyncLocalStorage<string>();
  const asked: unknown[] = [];
  sessions.limit = (user) => {
    asked.push([user, request.getStore()]);
    return 1;
  };
  for (const user of ['first', 'last']) request.run(user, () => watch({ id: 'a', user }));
  await turn();
  asked.length = 0;
  await pass(EVERY_MS);
  expect(asked).toEqual([['last', 'last']]);
});
