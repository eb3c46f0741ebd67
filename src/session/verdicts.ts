import { LRUCache } from 'lru-cache';
import type { Check, CheckResult, LiveResult } from './session.js';

export const TOPICS = 65_536;
const MOST_VERDICTS = 100_000;

/** A moment before a query: what the query sees is at least as new. */
export interface Moment {
  /** `performance.now()`. */
  at: number;
  /** How many times something had been forgotten. */
  sequence: number;
}

interface Entry {
  /** `undefined` for a session that was dead: kept only so that an older answer cannot take its place. */
  result: LiveResult | undefined;
  limit: number;
  topic: number;
  moment: Moment;
}

/**
 * Live sessions, remembered for a limited time and in limited number. What was learned from a query that began before
 * something was forgotten does not count, so that an answer on its way cannot bring back what was just ended (the fill
 * race). Forgetting a user is one number: the counter of the user's topic. Users who share a topic cost each other a
 * query, no more. Forgetting everything is one number, too: to clear what is remembered takes longer than to read a
 * notification, and those may come by thousands.
 */
export class Verdicts {
  private readonly entries: LRUCache<string, Entry>;
  private readonly forgotten = new Float64Array(TOPICS);
  private everythingForgotten = 0;
  private sequence = 0;

  constructor(
    private readonly maxAgeMs: number,
    max = MOST_VERDICTS,
  ) {
    this.entries = new LRUCache({ max });
  }

  get size(): number {
    return this.entries.size;
  }

  /** To be taken before a query is sent, and given to {@link remember} with its answer. */
  moment(): Moment {
    return { at: performance.now(), sequence: this.sequence };
  }

  /** What the query said that began at this moment. */
  remember({ id, limit }: Check, result: CheckResult, moment: Moment): void {
    if (result.userId === null) return void this.entries.delete(id);
    const topic = topicOf(result.userId);
    // Whatever was asked before this moment may have been read before the session was dead.
    if (!result.live)
      return void this.entries.set(id, { result: undefined, limit, topic, moment: this.moment() });
    const known = this.entries.peek(id);
    if (known !== undefined && known.moment.at > moment.at) return;
    this.entries.set(id, { result, limit, topic, moment });
  }

  /** That the session is live; `undefined`: the store has to be asked. `unseen`, that its last-seen time is due, is true once for each answer of the store. */
  recall({ id, limit }: Check, now: number): LiveResult | undefined {
    const entry = this.entries.get(id);
    if (entry === undefined || now >= entry.moment.at + this.maxAgeMs) return undefined;
    // Live among the first few is live among the first many, not the other way round.
    if (limit < entry.limit || this.isOutdated(entry.topic, entry.moment)) return undefined;
    const { result } = entry;
    if (result?.unseen) entry.result = { ...result, unseen: false };
    return result;
  }

  forget(topic: number): void {
    this.forgotten[topic] = ++this.sequence;
  }

  forgetEverything(): void {
    this.everythingForgotten = ++this.sequence;
  }

  private isOutdated(topic: number, { sequence }: Moment): boolean {
    return sequence < this.forgotten[topic]! || sequence < this.everythingForgotten;
  }
}

/** The topic of a user, the same in every process (FNV-1a over the UTF-16 units, folded to 16 bits). */
export function topicOf(userId: string): number {
  let hash = 0x811c9dc5;
  for (let place = 0; place < userId.length; place++)
    hash = Math.imul(hash ^ userId.charCodeAt(place), 0x01000193);
  return ((hash >>> 16) ^ hash) & (TOPICS - 1);
}
