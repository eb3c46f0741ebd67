import type { EndedSession } from '../session/session.js';
import type { Sweep } from '../session/session-store.js';
import { toEndedSession, type EndedRow } from './ended-row.js';
import type { PrimaryDatabase } from './primary-database.js';
import { BATCH, type SweepStatements } from './sweep-statements.js';

/** Where a walk over the sessions that are not marked has come to. */
interface Position {
  expiresAt: string;
  id: string;
  /** The newest cut-off when the walk began. */
  cutOff: string | null;
}

interface Unmarked {
  id: string;
  expires_at: string;
}

type NextUnmarked = { elected: boolean } & (Unmarked | { id: null });

interface NewestCutOff {
  id: string | null;
  unswept: boolean;
}

interface Swept {
  due: number;
  /** Less, where somebody holds what else is due. */
  gone: number;
}

/** For statements that look at every session that is not marked, to see whether any is older than a cut-off. */
const LOOK_WITHIN_MS = 60_000;
const START = { expiresAt: '-infinity', id: '00000000-0000-0000-0000-000000000000' };

/**
 * The sweeper's work, batch by batch. Expired sessions are found by an index. What a cut-off ended, or disuse, no index
 * shows: after a cut-off, and where there is an idle timeout, all sessions that are not marked are walked through once.
 */
export class Sweeping {
  private position: Position | undefined;

  constructor(
    private readonly database: PrimaryDatabase,
    private readonly sql: SweepStatements,
    private readonly idleTimeout: number | undefined,
  ) {}

  async batch(): Promise<Sweep> {
    const ended: EndedSession[] = [];
    try {
      return { more: await this.sweepInto(ended), ended };
    } catch (error) {
      if (ended.length === 0) throw error;
      // What is marked is told; what failed fails again in the next batch.
      return { more: true, ended };
    }
  }

  private async sweepInto(ended: EndedSession[]): Promise<boolean> {
    const expired = await this.database.run<{ id: string }>(this.sql.nextExpired, []);
    await this.mark(expired, ended);
    const walking = await this.walk(ended);
    const [swept] = await this.database.run<Swept>(this.sql.sweepEnded, []);
    const { due, gone } = swept!;
    const more = expired.length === BATCH || walking || (due === BATCH && gone > 0);
    if (!more) await this.database.run(this.sql.dropExemptions, []);
    return more;
  }

  /** Whether there is more to walk. */
  private async walk(ended: EndedSession[]): Promise<boolean> {
    this.position ??= await this.begin();
    const { position } = this;
    if (position === undefined) return false;
    const page = await this.nextUnmarked(position);
    if (page === undefined) return true;
    await this.mark(page, ended);
    const last = page.at(-1);
    if (page.length < BATCH || last === undefined) return this.finish(position);
    this.position = { ...position, expiresAt: last.expires_at, id: last.id };
    return true;
  }

  /** `undefined`: another worker is at it. */
  private async nextUnmarked({ expiresAt, id }: Position): Promise<Unmarked[] | undefined> {
    const parameters = [expiresAt, id];
    const rows = await this.database.run<NextUnmarked>(this.sql.nextUnmarked, parameters);
    return rows[0]?.elected
      ? rows.filter((row): row is NextUnmarked & Unmarked => row.id !== null)
      : undefined;
  }

  private async begin(): Promise<Position | undefined> {
    const { id, unswept } = await this.newestCutOff();
    if (unswept || this.idleTimeout !== undefined) return { ...START, cutOff: id };
    if (id !== null) await this.database.run(this.sql.dropCutOffs, [], LOOK_WITHIN_MS);
    return undefined;
  }

  /** Whether another cut-off has come meanwhile. */
  private async finish({ cutOff }: Position): Promise<boolean> {
    if (cutOff !== null) {
      await this.database.run(this.sql.cutOffsSwept, [cutOff], LOOK_WITHIN_MS);
      await this.database.run(this.sql.dropCutOffs, [], LOOK_WITHIN_MS);
    }
    this.position = undefined;
    const { id, unswept } = await this.newestCutOff();
    return unswept && id !== cutOff;
  }

  private async newestCutOff(): Promise<NewestCutOff> {
    return (await this.database.run<NewestCutOff>(this.sql.newestCutOff, []))[0]!;
  }

  private async mark(found: { id: string }[], ended: EndedSession[]): Promise<void> {
    if (found.length === 0) return;
    const ids = found.map(({ id }) => id);
    const marked = await this.database.run<EndedRow>(this.sql.markIds, [ids]);
    ended.push(...marked.map(toEndedSession));
  }
}
