import { A_MOMENT_MS } from '../session/session.js';

/**
 * The cookie sessions that have begun within a moment to carry one and the same session, as after two clicks on "Log in":
 * each click gets a cookie session of its own. When the answer to one click reaches nobody, as a rule the first, the
 * session must not end while the cookie session of another click carries it. (What clicks carried before their login, is
 * in `CarriedSessions`.)
 */
export class Carriers {
  private readonly known = new Map<string, Set<string>>();
  private readonly ending = new Map<string, Promise<void>>();

  constructor(private readonly end: (sessionId: string) => Promise<void>) {}

  /**
   * The cookie session with this secret is to carry the session, in place of the one that its request came with. Resolves
   * when an end that {@link leave} has begun before is done: if the session is live then, it stays.
   */
  async join(sessionId: string, secret: string, replaced: string | undefined): Promise<void> {
    const carriers = this.known.get(sessionId) ?? new Set();
    this.known.set(sessionId, carriers);
    if (replaced !== undefined) carriers.delete(replaced);
    carriers.add(secret);
    setTimeout(() => this.forget(sessionId, secret), A_MOMENT_MS).unref();
    await this.ending.get(sessionId);
  }

  /** No browser holds the cookie of this cookie session: the session ends unless another carries it. `end`: in another way than others. */
  async leave(
    sessionId: string,
    secret: string,
    end: (sessionId: string) => Promise<void> = this.end,
  ): Promise<void> {
    this.forget(sessionId, secret);
    if (this.known.has(sessionId)) return;
    const ending = end(sessionId).finally(() => {
      // A click may be given up twice: the latter end is under way for longer.
      if (this.ending.get(sessionId) === ending) this.ending.delete(sessionId);
    });
    this.ending.set(sessionId, ending);
    await ending;
  }

  private forget(sessionId: string, secret: string): void {
    const carriers = this.known.get(sessionId);
    carriers?.delete(secret);
    if (carriers?.size === 0) this.known.delete(sessionId);
  }
}
