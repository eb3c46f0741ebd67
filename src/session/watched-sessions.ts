import type { AsyncResource } from 'node:async_hooks';
import type { Subscriber } from 'rxjs';
import type { SessionEnd } from './session.js';

/** A session that something is open of. */
export interface Watched {
  readonly id: string;
  user: unknown;
  /** In which that user came. */
  context: AsyncResource;
  /** `undefined` until the session's user is known. */
  topic: number | undefined;
  /** The moment before the last look that found it live. */
  liveAt: number;
  /** The look that is under way, and the one that follows it. */
  looking: Promise<void> | undefined;
  lookingAgain: Promise<void> | undefined;
  /** With the context in which each began. */
  readonly subscribers: Map<Subscriber<SessionEnd>, AsyncResource>;
}

/** What is watched, found by its id and by the topic of its user. */
export class WatchedSessions {
  private readonly byId = new Map<string, Watched>();
  private readonly byTopic = new Map<number | undefined, Set<Watched>>();

  get isEmpty(): boolean {
    return this.byId.size === 0;
  }

  get all(): Watched[] {
    return [...this.byId.values()];
  }

  /** Those of these topics, and those of which it is not known yet. */
  of(topics: Iterable<number>): Watched[] {
    return [...topics, undefined].flatMap((topic) => [...(this.byTopic.get(topic) ?? [])]);
  }

  get(id: string): Watched | undefined {
    return this.byId.get(id);
  }

  /** Whether it is watched still. */
  has(watched: Watched): boolean {
    return this.byId.get(watched.id) === watched;
  }

  add({ id, user, context, topic }: Pick<Watched, 'id' | 'user' | 'context' | 'topic'>): Watched {
    const watched: Watched = {
      id,
      user,
      context,
      topic,
      liveAt: -Infinity,
      looking: undefined,
      lookingAgain: undefined,
      subscribers: new Map(),
    };
    this.byId.set(id, watched);
    this.place(watched);
    return watched;
  }

  move(watched: Watched, topic: number): void {
    if (watched.topic === topic) return;
    this.displace(watched);
    watched.topic = topic;
    this.place(watched);
  }

  remove(watched: Watched): void {
    if (!this.has(watched)) return;
    this.byId.delete(watched.id);
    this.displace(watched);
  }

  private place(watched: Watched): void {
    const neighbours = this.byTopic.get(watched.topic) ?? new Set();
    this.byTopic.set(watched.topic, neighbours.add(watched));
  }

  private displace(watched: Watched): void {
    const neighbours = this.byTopic.get(watched.topic);
    neighbours?.delete(watched);
    if (neighbours?.size === 0) this.byTopic.delete(watched.topic);
  }
}
