import type { DataSource } from 'typeorm';
import {
  AdministrationStore,
  CursorError,
  type CutOff,
  type CutOffCounts,
  type CutOffOrder,
  type EndUsersOrder,
  type EndUsersResult,
  type Exemption,
  type ListedSession,
  type ListQuery,
  type Page,
  type PageQuery,
  type RecordedAction,
  type Signature,
  type Summary,
} from '../session/administration-store.js';
import { COUNT_WITHIN_MS } from '../session/answered.js';
import type { Spared } from '../session/events.js';
import type { ExemptionKey } from '../session/policy.js';
import {
  dated,
  endedAmong,
  toExemption,
  toListed,
  toResult,
  type ListRow,
  type ToldRow,
} from './administration-rows.js';
import { actionStatements } from './action-statements.js';
import { cutOffStatements } from './cut-off-statements.js';
import { endUsersStatements } from './end-users-statements.js';
import { exemptionStatements } from './exemption-statements.js';
import { LateEnds } from './late-ends.js';
import { listingStatements } from './listing-statements.js';
import { toEndedSession } from './ended-row.js';
import { PrimaryDatabase, TIME_LEFT } from './primary-database.js';
import { summaryStatements, type SummarySettings } from './summary-statements.js';
import { quotedTableNames } from './table-names.js';

export interface AdministrationStoreSettings {
  /** Milliseconds. */
  idleTimeout: number | undefined;
  stormWindow: number;
  stormThreshold: number;
  /** The roles that make an administrator. */
  administratorRoles: readonly string[];
}

const SESSION_CURSOR = /^(\d{1,17})\.([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})$/;
const ACTION_CURSOR = /^\d{1,18}$/;

const statements = (settings: SummarySettings) => ({
  ...endUsersStatements(settings),
  ...cutOffStatements(settings),
  ...listingStatements(settings),
  ...summaryStatements(settings),
  ...exemptionStatements(settings),
  ...actionStatements(settings),
});

/** Administration in PostgreSQL, through the application's TypeORM data source. */
export class TypeOrmAdministrationStore extends AdministrationStore {
  private readonly sql: ReturnType<typeof statements>;
  private readonly database: PrimaryDatabase;
  private readonly lateEnds: LateEnds;

  constructor(
    dataSource: DataSource,
    private readonly settings: AdministrationStoreSettings,
  ) {
    super();
    const names = quotedTableNames(dataSource);
    this.sql = statements({ ...settings, ...names });
    this.database = new PrimaryDatabase(dataSource);
    this.lateEnds = new LateEnds(this.database, names.sessions);
  }

  async endUsers(order: EndUsersOrder): Promise<EndUsersResult> {
    const { userIds, usernames, sessionId, protect, dryRun, signature } = order;
    const whom = [userIds, usernames, sessionId, protect, this.settings.administratorRoles];
    const statement = dryRun ? this.sql.wouldEndUsers : this.sql.endUsers;
    const parameters = dryRun ? whom : [...whom, ...recorded(order, signature), TIME_LEFT];
    const rows = await this.database.run<ToldRow>(statement, parameters);
    const late = rows.filter(({ kind }) => kind === 'late').map(({ id }) => id);
    const endedLate = await this.lateEnds.write(late, 'admin', signature.by);
    return { ...toResult(rows), ended: [...endedAmong(rows), ...endedLate.map(toEndedSession)] };
  }

  async cutOff({ spared, signature, target }: CutOffOrder): Promise<CutOff> {
    const { by, ip, note } = signature;
    const [administrators, roles, ...rest] = this.parametersOf(spared);
    const parameters = [by, administrators, roles, ...rest, ip, note, JSON.stringify(target), TIME_LEFT];
    const [row] = await this.database.run<CutOff>(this.sql.insertCutOff, parameters);
    return dated(row!);
  }

  async countCutOff(spared: Spared, cutOff: CutOff | undefined): Promise<CutOffCounts> {
    const parameters = [cutOff?.id ?? null, ...this.parametersOf(spared)];
    const [counts] = await this.database.run<CutOffCounts>(this.sql.countCutOff, parameters, COUNT_WITHIN_MS);
    if (cutOff)
      await this.database.run(this.sql.recordCounts, [cutOff.actionId, counts!.ended, counts!.users]);
    return counts!;
  }

  // Not async, nor is `actions`: a bad cursor is thrown at once.
  list(query: ListQuery): Promise<Page<ListedSession>> {
    const [, position = null, id = null] = read(SESSION_CURSOR, query.cursor);
    return this.listAfter(position, id, query);
  }

  async summary(): Promise<Summary> {
    const { administratorRoles, stormThreshold, stormWindow } = this.settings;
    const [counts] = await this.database.run<Summary>(
      this.sql.summary,
      [administratorRoles],
      COUNT_WITHIN_MS,
    );
    const storms = await this.database.run<Summary['storms'][number]>(
      this.sql.storms,
      [stormThreshold],
      COUNT_WITHIN_MS,
    );
    return { ...counts!, storms: storms.map((storm) => ({ ...storm, windowMs: stormWindow })) };
  }

  async latestOf(username: string): Promise<{ userId: string; roles: string[] } | undefined> {
    const [row] = await this.database.run<{ userId: string; roles: string[] }>(this.sql.latestOf, [username]);
    return row;
  }

  async exemptions(): Promise<Exemption[]> {
    return (await this.database.run<Exemption>(this.sql.exemptionsList, [])).map(toExemption);
  }

  async exemptionsOf(user: { username: string; roles: readonly string[] }): Promise<Exemption[]> {
    const rows = await this.database.run<Exemption>(this.sql.exemptionsOf, [user.username, user.roles]);
    return rows.map(toExemption);
  }

  async addExemption(
    { kind, value, expiresAt }: ExemptionKey & { expiresAt: Date | null },
    { by, ip, note }: Signature,
  ): Promise<Exemption> {
    const parameters = [kind, value, by, ip, note, expiresAt, TIME_LEFT];
    const [row] = await this.database.run<Exemption>(this.sql.addExemption, parameters);
    return toExemption(row!);
  }

  async removeExemption({ kind, value }: ExemptionKey, { by, ip, note }: Signature): Promise<boolean> {
    const parameters = [kind, value, by, ip, note, TIME_LEFT];
    return (await this.database.run(this.sql.removeExemption, parameters)).length > 0;
  }

  actions({ limit, cursor }: PageQuery): Promise<Page<RecordedAction>> {
    const [after = null] = read(ACTION_CURSOR, cursor);
    return this.actionsAfter(after, limit);
  }

  private async listAfter(
    position: string | null,
    id: string | null,
    { state, limit, userId, username, role }: ListQuery,
  ): Promise<Page<ListedSession>> {
    const filter = [userId ?? null, username ?? null, role ?? null];
    const parameters = [position, id, limit + 1, ...filter];
    const cutOff = state === 'active' ? await this.unsweptCutOff() : undefined;
    const rows = await (cutOff === undefined
      ? this.database.run<ListRow>(this.sql.list[state], parameters)
      : this.database.run<ListRow>(this.sql.listAfterCutOff, [...parameters, ...Object.values(cutOff)]));
    return page(rows, limit, toListed, (row) => `${row.position}.${row.id}`);
  }

  // Asked first, so that PostgreSQL plans the page with what the cut-off spares before its eyes.
  private async unsweptCutOff(): Promise<object | undefined> {
    return (await this.database.run<object>(this.sql.unsweptCutOff, []))[0];
  }

  private async actionsAfter(after: string | null, limit: number): Promise<Page<RecordedAction>> {
    const rows = await this.database.run<RecordedAction>(this.sql.actionsList, [after, limit + 1]);
    return page(rows, limit, dated, ({ id }) => id);
  }

  // A cut-off keeps the roles of its day: what makes an administrator may be configured differently tomorrow.
  private parametersOf({ administrators, roles, usernames, userIds }: Spared): unknown[] {
    const allRoles = administrators ? [...this.settings.administratorRoles, ...roles] : roles;
    return [administrators, allRoles, usernames, userIds];
  }
}

function recorded({ userIds, usernames, sessionId }: EndUsersOrder, { by, ip, note }: Signature): unknown[] {
  const action = sessionId === null ? 'logout' : 'end-session';
  const target = sessionId === null ? { userIds, usernames } : { sessionId };
  return [by, ip, action, note, JSON.stringify(target)];
}

/** A page of rows of which one more than the limit was asked for. */
function page<Row, Item>(
  rows: Row[],
  limit: number,
  toItem: (row: Row) => Item,
  cursorOf: (row: Row) => string,
): Page<Item> {
  const shown = rows.slice(0, limit);
  const last = shown.at(-1);
  const more = rows.length > limit && last !== undefined;
  return { items: shown.map(toItem), nextCursor: more ? cursorOf(last) : null };
}

/** @throws CursorError for one that no answer of ours gave */
function read(pattern: RegExp, cursor: string | undefined): (string | undefined)[] {
  if (cursor === undefined) return [];
  const parts = pattern.exec(cursor);
  if (parts === null) throw new CursorError('cursor must be the nextCursor of the page before');
  return parts;
}
