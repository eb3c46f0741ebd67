import { ANSWER_WITHIN_MS, answered } from './answered.js';
import type { Check, CheckResult } from './session.js';

const LARGEST_BATCH = 500;
const MOST_IN_FLIGHT = 4;

/**
 * Answers many checks with one query. Checks that arrive in the same turn of the event loop go together, and while
 * enough queries are under way the next batch gathers. A check is only ever answered by a query that started after it
 * arrived, so it is as strong as a query of its own. A query that fails fails exactly the checks that waited for it.
 */
export class Checks {
  private readonly waiting: Batch[] = [];
  private inFlight = 0;
  private scheduled = false;

  constructor(
    private readonly ask: (checks: readonly Check[]) => Promise<CheckResult[]>,
    private readonly mostInFlight = MOST_IN_FLIGHT,
  ) {}

  async verify(check: Check): Promise<CheckResult> {
    const batch = this.gathering();
    const place = batch.add(check);
    this.schedule();
    return (await batch.answers)[place]!;
  }

  private gathering(): Batch {
    const last = this.waiting.at(-1);
    if (last !== undefined && last.checks.length < LARGEST_BATCH) return last;
    const batch = new Batch();
    this.waiting.push(batch);
    return batch;
  }

  private schedule(): void {
    if (this.scheduled || this.inFlight >= this.mostInFlight) return;
    this.scheduled = true;
    // After the poll phase, in which all requests of this turn have arrived.
    setImmediate(() => {
      this.scheduled = false;
      this.send();
    });
  }

  private send(): void {
    while (this.inFlight < this.mostInFlight) {
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

class Batch {
  readonly checks: Check[] = [];
  readonly answers: Promise<CheckResult[]>;
  private readonly places = new Map<string, number>();
  private readonly arrivedAt = performance.now();
  private settle!: (answers: CheckResult[] | Promise<CheckResult[]>) => void;

  constructor() {
    this.answers = new Promise((resolve) => (this.settle = resolve));
  }

  /** The place of its answer. The same question asked twice is sent once. */
  add(check: Check): number {
    const key = `${check.id} ${check.limit}`;
    const known = this.places.get(key);
    if (known !== undefined) return known;
    const place = this.checks.push(check) - 1;
    this.places.set(key, place);
    return place;
  }

  /** Asks, and settles either way; what waited before counts towards the time limit. */
  async send(ask: (checks: readonly Check[]) => Promise<CheckResult[]>): Promise<void> {
    const timeLeft = Math.max(0, ANSWER_WITHIN_MS - (performance.now() - this.arrivedAt));
    const answer = answered(this.askOnce(ask), timeLeft);
    this.settle(answer);
    await answer.catch(() => undefined);
  }

  private async askOnce(ask: (checks: readonly Check[]) => Promise<CheckResult[]>): Promise<CheckResult[]> {
    if (performance.now() - this.arrivedAt >= ANSWER_WITHIN_MS)
      throw new Error('its turn did not come in time');
    const answers = await ask(this.checks);
    if (answers.length !== this.checks.length)
      throw new Error(`it gave ${answers.length} answers to ${this.checks.length} questions`);
    return answers;
  }
}
