import { A_MOMENT_MS } from '../session/session.js';

/**
 * The cookie sessions that have begun a moment ago to carry one session on, as those of two clicks on "Log in" do. A
 * browser that gives one of them up, which is the first click as a rule, may hold the cookie of another.
 */
export class Carriers {
  private readonly known = new Map<string, Set<string>>();
  private readonly ending = new Map<string, Promise<void>>();

  constructor(private readonly end: (sessionId: string) => Promise<void>) {}

  /**
   * The cookie session with this secret is to carry the session, in place of the one that its request came with. Resolves
   * when the session, if it is live then, is not about to end for the sake of those that were before.
   */
  async join(sessionId: string, secret: string, replaced: string | undefined): Promise<void> {
    const carriers = this.known.get(sessionId) ?? new Set();
    this.known.set(sessionId, carriers);
    if (replaced !== undefined) carriers.delete(replaced);
    carriers.add(secret);
    setTimeout(() => this.forget(sessionId, secret), A_MOMENT_MS).unref();
    await this.ending.get(sessionId);
  }

  /** No browser holds the cookie of this cookie session: the session ends unless another carries it. */
  async leave(sessionId: string, secret: string): Promise<void> {
    this.forget(sessionId, secret);
    if (this.known.has(sessionId)) return;
    const ending = this.end(sessionId).finally(() => this.ending.delete(sessionId));
    this.ending.set(sessionId, ending);
    await ending;
  }

  private forget(sessionId: string, secret: string): void {
    const carriers = this.known.get(sessionId);
    carriers?.delete(secret);
    if (carriers?.size === 0) this.known.delete(sessionId);
  }
}
