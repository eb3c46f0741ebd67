import { Logger } from '@nestjs/common';
import { sign, type Actor } from './actor.js';
import {
  type AdministrationStore,
  type CutOff,
  type CutOffCounts,
  type CutOffOrder,
  type EndUsersOrder,
  type EndUsersResult,
  type ListedSession,
  type ListQuery,
  type Page,
  type PageQuery,
  type RecordedAction,
  type Summary,
} from './administration-store.js';
import { answered, COUNT_WITHIN_MS } from './answered.js';
import type { SingleSessionEvents, Spared } from './events.js';
import type { Freshness } from './freshness.js';
import { isSessionId } from './session-id.js';
import type { Sweeper } from './sweeper.js';

/** Whose sessions are ended; at least one. */
interface LogoutOrder {
  userIds?: readonly string[] | undefined;
  usernames?: readonly string[] | undefined;
  note?: string | undefined;
  dryRun?: boolean | undefined;
}

export interface Skipped {
  userId?: string;
  username?: string;
  why: 'administrator' | 'no-session';
}

export interface LogoutResult {
  ended: number;
  users: number;
  skipped: Skipped[];
  dryRun: boolean;
}

/** To log out everyone, except some. */
export interface LogoutEveryoneOrder {
  /** Whom to spare. Default: administrators, and the user who asks, if any. */
  except?:
    | {
        /** Default `true`. */
        administrators?: boolean | undefined;
        roles?: readonly string[] | undefined;
        usernames?: readonly string[] | undefined;
        userIds?: readonly string[] | undefined;
        /** The user who asks. Default `true`. */
        me?: boolean | undefined;
      }
    | undefined;
  /** For the record of what administrators did. */
  note?: string | undefined;
  /** Counts, and ends nothing. Default `false`. */
  dryRun?: boolean | undefined;
}

/**
 * How many sessions ended, of how many users, and how many sessions were spared; with `dryRun`, how many would be. The counts
 * are `null` when the end is committed but could not be counted.
 */
export type LogoutEveryoneResult = { [Count in keyof CutOffCounts]: CutOffCounts[Count] | null } & {
  dryRun: boolean;
};

/** The actor has no permission for this. */
export class ForbiddenError extends Error {
  override readonly name = 'ForbiddenError';
}

const SUMMARY_KEPT_MS = 1_000;
const SUMMARY_KEPT_TIMES = 10;

/** Logs people out and shows who is there. Whom an order may touch is decided in the statement that carries it out. */
export class Administration {
  private readonly logger = new Logger('SingleSession');
  private kept: { summary: Promise<Summary>; until: number } | undefined;

  constructor(
    private readonly store: AdministrationStore,
    private readonly events: SingleSessionEvents,
    private readonly sweeper: Pick<Sweeper, 'sweepSoon'>,
    private readonly freshness?: Pick<Freshness, 'changed' | 'everythingChanged'>,
  ) {}

  /** Ends one session. `undefined`: there is none with this id. */
  async endSession(
    sessionId: string,
    actor: Actor,
  ): Promise<Pick<LogoutResult, 'ended' | 'skipped'> | undefined> {
    if (!isSessionId(sessionId)) return undefined;
    const { found, count } = await this.endUsers({ sessionId: sessionId.toLowerCase() }, {}, actor);
    const [user] = found;
    if (user === undefined) return undefined;
    if (count > 0) return { ended: count, skipped: [] };
    const why = user.protected ? 'administrator' : 'no-session';
    return { ended: 0, skipped: [{ userId: user.userId, why }] };
  }

  /** Ends all sessions of the users. Whoever is left alone is told, with the reason. */
  async logout(order: LogoutOrder, actor: Actor): Promise<LogoutResult> {
    const userIds = [...new Set(order.userIds)];
    const usernames = [...new Set(order.usernames)];
    const { found, count, users } = await this.endUsers({ userIds, usernames }, order, actor);
    const skipped = [
      ...userIds.flatMap((userId) =>
        skip(
          { userId },
          found.filter((user) => user.userId === userId),
        ),
      ),
      ...usernames.flatMap((username) =>
        skip(
          { username },
          found.filter((user) => user.username === username),
        ),
      ),
    ];
    return { ended: count, users, skipped, dryRun: order.dryRun ?? false };
  }

  /**
   * Ends every session that was admitted before, except those that are spared, in the time of one statement. The counts
   * are read after the end is committed.
   * @throws ForbiddenError when administrators are not to be spared and the actor may not log them out
   */
  async logoutEveryone(order: LogoutEveryoneOrder, actor: Actor): Promise<LogoutEveryoneResult> {
    const { except = {}, dryRun = false } = order;
    const spared = sparedBy(except, actor);
    if (!spared.administrators && !actor.permission.logoutAdmins)
      throw new ForbiddenError('To log out administrators takes the permission logoutAdmins.');
    if (dryRun)
      return { ...(await answered(this.store.countCutOff(spared, undefined), COUNT_WITHIN_MS)), dryRun };
    const signature = sign(actor, order.note);
    const cutOff = await answered(this.cutOff({ spared, signature, target: { except: spared } }));
    const counts = await answered(this.store.countCutOff(spared, cutOff), COUNT_WITHIN_MS).catch(
      (error: Error) => {
        this.logger.error(
          `Everyone was logged out, but the ended sessions could not be counted: ${error.message}`,
        );
        return { ended: null, users: null, spared: null };
      },
    );
    return { ...counts, dryRun };
  }

  async list(query: ListQuery): Promise<Page<ListedSession>> {
    return answered(this.store.list(query));
  }

  /** As of a moment ago: it reads every live session, so those who watch share it, and it is read the less often the longer that takes. */
  summary(): Promise<Summary> {
    const now = performance.now();
    if (this.kept !== undefined && now < this.kept.until) return this.kept.summary;
    const summary = answered(this.store.summary(), COUNT_WITHIN_MS);
    const kept = { summary, until: Infinity };
    this.kept = kept;
    const keep = (): void => {
      const took = performance.now() - now;
      kept.until = performance.now() + Math.max(SUMMARY_KEPT_MS, SUMMARY_KEPT_TIMES * took);
    };
    summary.then(keep, () => (this.kept = undefined));
    return summary;
  }

  async actions(query: PageQuery): Promise<Page<RecordedAction>> {
    return answered(this.store.actions(query));
  }

  // Told also when the answer comes after nobody waits for it any more.
  private async cutOff(order: CutOffOrder): Promise<CutOff> {
    const cutOff = await this.store.cutOff(order).finally(() => {
      // Also after an error: it may have been committed all the same.
      this.freshness?.everythingChanged();
    });
    this.sweeper.sweepSoon();
    const { spared, signature } = order;
    const { by, note } = signature;
    this.events.emit({ type: 'cut-off', at: cutOff.at, by, note, except: spared });
    return cutOff;
  }

  private async endUsers(
    whom: Partial<Pick<EndUsersOrder, 'userIds' | 'usernames' | 'sessionId'>>,
    { note, dryRun = false }: Pick<LogoutOrder, 'note' | 'dryRun'>,
    actor: Actor,
  ): Promise<EndUsersResult> {
    const order = { userIds: [], usernames: [], sessionId: null, ...whom };
    const protect = !actor.permission.logoutAdmins;
    const signed = { ...order, protect, dryRun, signature: sign(actor, note) };
    return answered(dryRun ? this.store.endUsers(signed) : this.endAndTell(signed));
  }

  // Told also when the answer comes after nobody waits for it any more.
  private async endAndTell(order: EndUsersOrder): Promise<EndUsersResult> {
    const result = await this.store.endUsers(order).catch((error: unknown) => {
      // It may have been committed all the same, and whom it meant is not known.
      this.freshness?.everythingChanged();
      throw error;
    });
    this.freshness?.changed(new Set(result.found.map(({ userId }) => userId)));
    this.events.emitEnded(result.ended);
    return result;
  }
}

function sparedBy(
  {
    administrators = true,
    roles = [],
    usernames = [],
    userIds = [],
    me = true,
  }: NonNullable<LogoutEveryoneOrder['except']>,
  { userId }: Actor,
): Spared {
  const mine = me && userId !== null ? [userId] : [];
  return { administrators, roles, usernames, userIds: [...new Set([...userIds, ...mine])] };
}

function skip(name: { userId: string } | { username: string }, found: EndUsersResult['found']): Skipped[] {
  if (found.some((user) => user.protected)) return [{ ...name, why: 'administrator' }];
  return found.some(({ ended }) => ended) ? [] : [{ ...name, why: 'no-session' }];
}
