import { setImmediate } from 'node:timers';
import { Subject, type Observable } from 'rxjs';
import { answered } from './answered.js';
import { apart } from './apart.js';
import type { Check, CheckResult } from './session.js';
import type { Changes, Signal, SignalListener } from './signal.js';
import { topicOf, Verdicts, type Moment } from './verdicts.js';

export interface FreshnessSettings {
  /** How old a decision may be at most, in milliseconds: from 100 to 3,600,000. */
  maxStalenessMs: number;
}

type Gathered = Set<number> | 'everything';

/**
 * Bounded freshness: what may be answered from memory, and until when.
 *
 * Two clocks bound it, both monotonic and both read at the moment of use. A verdict counts for `maxStalenessMs` from the
 * moment before its query: that holds even when every notification is lost. And none counts when the way on which
 * notifications come has not been proved for as long, by an answer to a question that was sent within that time: then the
 * store is asked again, as in strong mode.
 */
export class Freshness implements SignalListener {
  private readonly verdicts: Verdicts;
  private readonly maxStalenessMs: number;
  private trustedUntil = -Infinity;
  private untold: Gathered = new Set();
  private telling: Promise<void> | undefined;
  private unpassed: Gathered | undefined;
  private readonly changing = new Subject<Changes>();

  /** What other processes change, or may have changed unheard: all of one turn as one, after it is forgotten here. */
  readonly changes: Observable<Changes> = this.changing.asObservable();

  constructor(
    private readonly signal: Signal,
    { maxStalenessMs }: FreshnessSettings,
  ) {
    this.maxStalenessMs = maxStalenessMs;
    this.verdicts = new Verdicts(maxStalenessMs);
  }

  /** Resolves when memory may be used, or not for now; never fails. */
  async start(): Promise<void> {
    await this.signal.start(this);
  }

  /** Tells what is not told yet, and stops listening: from then on the store is asked. */
  async stop(): Promise<void> {
    this.deaf();
    await answered(Promise.resolve(this.telling)).catch(() => undefined);
    await this.signal.stop();
  }

  /** That the session is live, as it was at most `maxStalenessMs` ago; `undefined`: ask the store. */
  recall(check: Check): CheckResult | undefined {
    const now = performance.now();
    return now < this.trustedUntil ? this.verdicts.recall(check, now) : undefined;
  }

  /** To be taken before the store is asked. */
  moment(): Moment {
    return this.verdicts.moment();
  }

  /** What the store answered to a question that was sent after this moment. */
  learn(checks: readonly Check[], results: readonly (CheckResult | Error)[], moment: Moment): void {
    checks.forEach((check, place) => {
      const result = results[place]!;
      if (!(result instanceof Error)) this.verdicts.remember(check, result, moment);
    });
  }

  /** This process ended something of these users, or may have: forgets them at once, and tells the others with all else of this turn. */
  changed(userIds: Iterable<string>): void {
    for (const userId of userIds) {
      const topic = topicOf(userId);
      this.verdicts.forget(topic);
      this.untold = gathered(this.untold, [topic]);
      this.tellLater();
    }
  }

  /** This process ended something of users that it does not know one by one. */
  everythingChanged(): void {
    this.verdicts.forgetEverything();
    this.untold = 'everything';
    this.tellLater();
  }

  hearing(): void {
    this.heard('everything');
  }

  proven(sentAt: number): void {
    this.trustedUntil = sentAt + this.maxStalenessMs;
  }

  heard(changes: Changes): void {
    if (changes === 'everything') this.verdicts.forgetEverything();
    else for (const topic of changes) this.verdicts.forget(topic);
    this.passOnLater(changes);
  }

  deaf(): void {
    this.trustedUntil = -Infinity;
  }

  // All of one turn together: whoever watches what is open goes through it for each, and they may come by thousands.
  private passOnLater(changes: Changes): void {
    if (this.unpassed === undefined) setImmediate(() => this.passOn());
    this.unpassed = gathered(this.unpassed ?? new Set(), changes);
  }

  private passOn(): void {
    const changes = this.unpassed!;
    this.unpassed = undefined;
    this.changing.next(changes);
  }

  // One notification at a time: what changes meanwhile goes into the next.
  private tellLater(): void {
    this.telling ??= apart(() => this.tellAll());
  }

  private async tellAll(): Promise<void> {
    await new Promise((resolve) => setImmediate(resolve));
    while (this.untold === 'everything' || this.untold.size > 0) {
      const changes: Changes = this.untold;
      this.untold = new Set();
      await this.signal.tell(changes);
    }
    // Here and not in a `finally`: no change may come between the last look and this.
    this.telling = undefined;
  }
}

/** What was gathered, and these. */
function gathered(before: Gathered, changes: Iterable<number> | 'everything'): Gathered {
  if (before === 'everything' || changes === 'everything') return 'everything';
  for (const topic of changes) before.add(topic);
  return before;
}
