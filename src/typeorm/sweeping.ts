import type { EndedSession } from '../session/session.js';
import type { Sweep } from '../session/session-store.js';
import { toEndedSession, type EndedRow } from './ended-row.js';
import type { PrimaryDatabase } from './primary-database.js';
import { BATCH, type Statements } from './statements.js';

/** Where a walk over the sessions that are not marked has come to. */
interface Position {
  expiresAt: string;
  id: string;
  /** The newest cut-off when the walk began. */
  cutOff: string | null;
}

const START = { expiresAt: '-infinity', id: '00000000-0000-0000-0000-000000000000' };

/**
 * The sweeper's work, batch by batch. Expired sessions are found by an index. What a cut-off ended, or disuse, no index
 * shows: after a cut-off, and where there is an idle timeout, all sessions that are not marked are walked through once.
 */
export class Sweeping {
  private position: Position | undefined;

  constructor(
    private readonly database: PrimaryDatabase,
    private readonly sql: Statements,
    private readonly idleTimeout: number | undefined,
  ) {}

  async batch(): Promise<Sweep> {
    const expired = await this.ids(this.sql.nextExpired, []);
    const marked = await this.mark(expired.map(({ id }) => id));
    const walked = await this.walk();
    const { records } = await this.database.run<{ gone: number }>(this.sql.sweepEnded, []);
    const more = expired.length === BATCH || walked.more || records[0]?.gone === BATCH;
    if (!more) await this.database.run(this.sql.dropExemptions, []);
    return { more, ended: [...marked, ...walked.ended] };
  }

  private async walk(): Promise<Sweep> {
    this.position ??= await this.begin();
    const { position } = this;
    if (position === undefined) return { more: false, ended: [] };
    const page = await this.ids(this.sql.nextUnmarked, [position.expiresAt, position.id]);
    const ended = await this.mark(page.map(({ id }) => id));
    const last = page.at(-1);
    if (page.length < BATCH || last === undefined) await this.finish(position);
    else this.position = { ...position, expiresAt: last.expires_at, id: last.id };
    return { more: this.position !== undefined, ended };
  }

  private async begin(): Promise<Position | undefined> {
    const { records } = await this.database.run<{ id: string | null; unswept: boolean }>(
      this.sql.newestCutOff,
      [],
    );
    const { id, unswept } = records[0]!;
    if (unswept || this.idleTimeout !== undefined) return { ...START, cutOff: id };
    if (id !== null) await this.database.run(this.sql.dropCutOffs, []);
    return undefined;
  }

  private async finish({ cutOff }: Position): Promise<void> {
    this.position = undefined;
    if (cutOff === null) return;
    await this.database.run(this.sql.cutOffsSwept, [cutOff]);
    await this.database.run(this.sql.dropCutOffs, []);
  }

  private async ids(sql: string, parameters: unknown[]): Promise<{ id: string; expires_at: string }[]> {
    const { records } = await this.database.run<{ id: string; expires_at: string }>(sql, parameters);
    return records;
  }

  private async mark(ids: string[]): Promise<EndedSession[]> {
    if (ids.length === 0) return [];
    const { records } = await this.database.run<EndedRow>(this.sql.markIds, [ids]);
    return records.map(toEndedSession);
  }
}
