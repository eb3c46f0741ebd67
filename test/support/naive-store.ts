import type { DataSource } from 'typeorm';
import type { Admission, AdmissionResult, Check, CheckResult } from '../../src/session/session.js';
import { SessionStore, type Sweep } from '../../src/session/session-store.js';

interface Row {
  user_id: string;
  ended_at: Date | null;
}

/** What people write by hand: read the user's sessions, decide, write. It shows that a test of the limit can fail. */
export class NaiveStore extends SessionStore {
  constructor(private readonly dataSource: DataSource) {
    super();
  }

  async prepare(): Promise<void> {}

  async admit({ id, identity, limit, onLimit }: Admission): Promise<AdmissionResult> {
    const live = (await this.dataSource.query(
      'SELECT id FROM user_session WHERE user_id = $1 AND ended_at IS NULL ORDER BY created_at DESC',
      [identity.id],
    )) as { id: string }[];
    if (onLimit === 'reject' && live.length >= limit) return { outcome: 'no-room' };
    const surplus = live.slice(limit - 1).map((row) => row.id);
    await this.dataSource.query(
      `UPDATE user_session SET ended_at = now(), end_reason = 'superseded' WHERE id = ANY($1)`,
      [surplus],
    );
    await this.dataSource.query(
      `INSERT INTO user_session (id, user_id, username, roles, generation, exempt, created_at, last_seen_at, expires_at)
       VALUES ($1, $2, $2, '{}', 0, false, clock_timestamp(), now(), now() + interval '1 day')`,
      [id, identity.id],
    );
    return { outcome: 'admitted', first: false, exempt: false, logins: 1 };
  }

  async share(): Promise<undefined> {
    return undefined;
  }

  async verify(checks: readonly Check[]): Promise<CheckResult[]> {
    return Promise.all(
      checks.map(async ({ id }) => {
        const sql = 'SELECT user_id, ended_at FROM user_session WHERE id = $1';
        const [row] = (await this.dataSource.query(sql, [id])) as Row[];
        const answer = { unmarked: false, unseen: false, roles: '', administrator: false };
        const rest = { userId: row?.user_id ?? '', ...answer };
        return row && row.ended_at === null
          ? { live: true, ...rest }
          : { live: false, reason: 'superseded', endedAt: null, ...rest };
      }),
    );
  }

  async end(): Promise<[]> {
    return [];
  }

  async recordEnded(): Promise<boolean> {
    return false;
  }

  async markUsers(): Promise<[]> {
    return [];
  }

  async markChecked(): Promise<[]> {
    return [];
  }

  async refresh(): Promise<void> {}

  async seen(): Promise<void> {}

  async sweep(): Promise<Sweep> {
    return { more: false, ended: [] };
  }
}
