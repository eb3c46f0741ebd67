import { Logger } from '@nestjs/common';
import type { EndReason } from '../session/session.js';
import { endDue, type EndedRow } from './ended-row.js';
import type { PrimaryDatabase } from './primary-database.js';

/**
 * Writes down the end of sessions that another statement took out of the slots row while their own rows were not in its
 * snapshot: they were admitted while it waited for the lock.
 */
export class LateEnds {
  private readonly logger = new Logger('SingleSession');
  /** $1 ids, $2 reason, $3 by. */
  private readonly sql: string;

  constructor(
    private readonly database: PrimaryDatabase,
    sessions: string,
  ) {
    this.sql = `WITH due AS (
      SELECT s.id FROM ${sessions} s WHERE s.id = ANY($1::uuid[]) AND s.ended_at IS NULL ORDER BY s.id FOR NO KEY UPDATE)
    ${endDue(sessions, '$2', '$3')}`;
  }

  /** Never fails: the sessions are dead already, and so are those of the first statement, whose events must not be lost. */
  async write(ids: readonly string[], reason: EndReason, by: string | null): Promise<EndedRow[]> {
    if (ids.length === 0) return [];
    try {
      return await this.database.run<EndedRow>(this.sql, [ids, reason, by]);
    } catch (error) {
      this.logger.warn(
        `Sessions were ended, but the reason could not be written down for ${ids.join(', ')}: they will be recorded as superseded. ${(error as Error).message}`,
      );
      return [];
    }
  }
}
