import { AsyncResource } from 'node:async_hooks';
import { setImmediate } from 'node:timers';
import { ANSWER_WITHIN_MS, answered, unavailable } from './answered.js';
import type { Check, CheckResult } from './session.js';
import type { SessionStore } from './session-store.js';

const LARGEST_BATCH = 500;

/** How many queries at once. */
export interface Pace {
  /** While so many are under way, what arrives waits and goes together. */
  mostInFlight: number;
  /** So many checks leave at once when none is under way: the database works while the rest of the turn arrives. */
  headStart: number;
}

const OF_REQUESTS: Pace = { mostInFlight: 4, headStart: 8 };

/**
 * Answers many checks with one query. Checks that arrive in the same turn of the event loop go together, or in two
 * queries when they are many and none is under way; while enough queries are under way the next batch gathers. A check
 * is only ever answered by a query that started after it arrived, so it is as strong as a query of its own. A query
 * that fails fails exactly the checks that waited for it.
 */
export class Checks {
  private readonly waiting: Batch[] = [];
  private inFlight = 0;
  private scheduled = false;

  constructor(
    private readonly ask: SessionStore['verify'],
    private readonly pace = OF_REQUESTS,
  ) {}

  verify(check: Check): Promise<CheckResult> {
    const batch = this.gathering();
    const answer = batch.add(check);
    if (this.inFlight === 0 && batch.checks.length === this.pace.headStart) this.send();
    else this.schedule();
    return answer;
  }

  private gathering(): Batch {
    const last = this.waiting.at(-1);
    if (last !== undefined && last.checks.length < LARGEST_BATCH) return last;
    const batch = new Batch();
    this.waiting.push(batch);
    return batch;
  }

  private schedule(): void {
    if (this.scheduled) return;
    this.scheduled = true;
    // After the poll phase, in which all requests of this turn have arrived.
    setImmediate(() => {
      this.scheduled = false;
      this.send();
    });
  }

  private send(): void {
    while (this.inFlight < this.pace.mostInFlight) {
      const batch = this.waiting.shift();
      if (batch === undefined) return;
      this.inFlight++;
      void batch.send(this.ask).finally(() => {
        this.inFlight--;
        this.send();
      });
    }
  }
}

interface Asking {
  resolve: (answer: CheckResult) => void;
  reject: (error: unknown) => void;
}

class Batch {
  readonly checks: Check[] = [];
  private readonly answers = new Map<string, Promise<CheckResult>>();
  private readonly asking: Asking[] = [];
  private readonly arrivedAt = performance.now();
  // The async context of the check that came first: its request still waits for the answer. Without it the query would run
  // in that of the batch before, whose return sends this one, and whose request may be over.
  private readonly context = new AsyncResource('SingleSession');

  /** Its answer. The same question asked twice is sent once. */
  add(check: Check): Promise<CheckResult> {
    const key = `${check.id} ${check.limit}`;
    const known = this.answers.get(key);
    if (known !== undefined) return known;
    this.checks.push(check);
    const answer = new Promise<CheckResult>((resolve, reject) => this.asking.push({ resolve, reject }));
    this.answers.set(key, answer);
    return answer;
  }

  /** Asks, and settles all either way; what waited before counts towards the time limit. */
  async send(ask: SessionStore['verify']): Promise<void> {
    const timeLeft = Math.max(0, ANSWER_WITHIN_MS - (performance.now() - this.arrivedAt));
    try {
      const answers = await answered(
        this.context.runInAsyncScope(() => this.askOnce(ask)),
        ANSWER_WITHIN_MS,
        timeLeft,
      );
      this.asking.forEach(({ resolve, reject }, place) => {
        const answer = answers[place]!;
        if (answer instanceof Error) reject(unavailable('a record is broken', answer));
        else resolve(answer);
      });
    } catch (error) {
      for (const { reject } of this.asking) reject(error);
    }
  }

  private async askOnce(ask: SessionStore['verify']): Promise<(CheckResult | Error)[]> {
    if (performance.now() - this.arrivedAt >= ANSWER_WITHIN_MS)
      throw new Error('its turn did not come in time');
    const answers = await ask(this.checks);
    if (answers.length !== this.checks.length)
      throw new Error(`it gave ${answers.length} answers to ${this.checks.length} questions`);
    return answers;
  }
}
