import type { EndReason } from '../../src/index.js';

/** Somebody, as the application knows them at the moment. */
export interface Person {
  id: string;
  username: string;
  roles: string[];
  /** How many sessions they may have; `Infinity`: not enforced. */
  limit: number;
}

export interface Rules {
  onLimit: 'evict' | 'reject';
  logoutEverywhere: boolean;
  exempt: { usernames: string[]; roles: string[] };
  admin: { roles: string[]; superRoles: string[] };
  /** More logins than that in one window. */
  stormThreshold: number;
}

/** How a session came to its end, as the lists and the events tell it. */
export interface End {
  reason: EndReason;
  by: string | null;
  replacedBy?: string;
}

export interface Except {
  administrators?: boolean;
  roles?: string[];
  usernames?: string[];
  userIds?: string[];
  me?: boolean;
}

export interface Logout {
  userIds?: string[];
  usernames?: string[];
  note?: string;
  dryRun?: boolean;
}

export interface Everyone {
  except?: Except;
  note?: string;
  dryRun?: boolean;
}

/** A line of the record. */
export interface Recorded {
  action: string;
  by: string | null;
  ended: number | null;
  users: number | null;
  note: string | null;
}

export interface Skipped {
  userId?: string;
  username?: string;
  why: 'administrator' | 'no-session';
}

/** Who gives an order. */
export interface Caller {
  userId: string | null;
  name: string | null;
  logoutAdmins: boolean;
}

/** The application's own code, by this name. */
export const CODE = { userId: null, name: 'a job', logoutAdmins: true } satisfies Caller;

export type ExemptionKind = 'username' | 'role';

interface CutOff {
  spared: { administrators: boolean; roles: string[]; usernames: string[]; userIds: string[] };
  by: string | null;
}

export interface Session {
  id: string;
  userId: string;
  /** At the login. */
  username: string;
  /** At the latest request. */
  roles: string[];
  /** Since the login, without a gap. */
  held: string[];
  /** Had a role of administrators at the login and ever since. */
  heldAdministrator: boolean;
  isExempt: boolean;
  /** Counts against the limit. Who has expired or was covered by a cut-off does until the next login. */
  hasPlace: boolean;
  end: End | undefined;
  /** Its row is removed. */
  isGone: boolean;
  /** The cut-offs since its login. */
  cutOffs: CutOff[];
}

interface Storm {
  logins: number;
  /** In windows. */
  age: number;
}

const share = (some: readonly string[], others: readonly string[]): boolean =>
  some.some((one) => others.includes(one));

const usersOf = (sessions: readonly Session[]): number => new Set(sessions.map(({ userId }) => userId)).size;

/** What is live and why it ended, by the words of the documents: everything in memory, one thing after the other. */
export class Oracle {
  /** Oldest first. */
  readonly sessions: Session[] = [];
  private readonly record: Recorded[] = [];
  readonly exemptions: Record<ExemptionKind, Set<string>> = { username: new Set(), role: new Set() };
  private readonly admitted: string[] = [];
  private readonly storms = new Map<string, Storm[]>();
  /** Storms that were announced. */
  private readonly announced: string[] = [];

  constructor(
    readonly rules: Rules,
    private readonly people: readonly Person[],
  ) {}

  get live(): Session[] {
    return this.sessions.filter(({ end }) => end === undefined);
  }

  session(id: string): Session {
    return this.sessions.find((one) => one.id === id)!;
  }

  userOf({ userId }: Session): Person {
    return this.people.find(({ id }) => id === userId)!;
  }

  /** Who may administer, by the roles of now. */
  callerOf(session: Session): Caller | undefined {
    const { id, username, roles } = this.userOf(session);
    if (!this.isAdministrator(roles)) return undefined;
    return { userId: id, name: username, logoutAdmins: share(roles, this.rules.admin.superRoles) };
  }

  liveOf(userId: string): Session[] {
    return this.live.filter((one) => one.userId === userId);
  }

  isAdministrator(roles: readonly string[]): boolean {
    return share(roles, [...this.rules.admin.roles, ...this.rules.admin.superRoles]);
  }

  isExempt({ username, roles, limit }: Person): boolean {
    return limit === Infinity || this.isExemptByName(username, roles);
  }

  isExemptByName(username: string, roles: readonly string[]): boolean {
    const { exempt } = this.rules;
    return (
      exempt.usernames.includes(username) ||
      share(exempt.roles, roles) ||
      this.isExemptAtRunTime(username, roles)
    );
  }

  private isExemptAtRunTime(username: string, roles: readonly string[]): boolean {
    return this.exemptions.username.has(username) || share([...this.exemptions.role], roles);
  }

  /** A login; `id` is `undefined` where it was refused. `replaces`: the live session of its user that its browser carried. */
  admit(person: Person, id: string | undefined, replaces?: Session): Session | undefined {
    const isExempt = this.isExempt(person);
    const over = (session: Session): void => this.supersede(session, id);
    const room = this.hasRoom(person, replaces);
    if (room && replaces) over(replaces);
    if (!isExempt) {
      const mine = this.liveOf(person.id);
      mine.filter((one) => one.isExempt).forEach(over);
      if (!room) return undefined;
      const enforced = mine.filter((one) => !one.isExempt);
      enforced.slice(0, Math.max(0, enforced.length + 1 - person.limit)).forEach(over);
      for (const one of this.places(person.id)) one.hasPlace = one.end === undefined;
      this.countLogin(person);
    } else this.storms.delete(person.id);
    const session: Session = {
      id: id!,
      userId: person.id,
      username: person.username,
      roles: person.roles,
      held: person.roles,
      heldAdministrator: this.isAdministrator(person.roles),
      isExempt,
      hasPlace: !isExempt,
      end: undefined,
      isGone: false,
      cutOffs: [],
    };
    this.sessions.push(session);
    this.admitted.push(session.id);
    return session;
  }

  hasRoom(person: Person, replaces?: Session): boolean {
    if (this.isExempt(person) || this.rules.onLimit === 'evict') return true;
    const counted = this.places(person.id).slice(0, person.limit);
    return counted.filter((one) => one.end === undefined && one !== replaces).length < person.limit;
  }

  /** The newest first. */
  private places(userId: string): Session[] {
    return this.sessions.filter((one) => one.userId === userId && one.hasPlace).toReversed();
  }

  private supersede(session: Session, by: string | undefined): void {
    session.end = { reason: 'superseded', by: null, ...(by !== undefined && { replacedBy: by }) };
    if (by !== undefined) session.hasPlace = false;
  }

  /** The limit is applied again at each check. */
  check(session: Session, limit: number): string {
    if (session.isGone) return 'unknown';
    if (!session.end && this.isBeyond(session, limit)) this.supersede(session, undefined);
    return session.end?.reason ?? 'live';
  }

  private isBeyond(session: Session, limit: number): boolean {
    return session.hasPlace && this.places(session.userId).indexOf(session) >= limit;
  }

  /** A request with the session's credential, its user having the roles of now. */
  request(session: Session): string {
    const { roles, limit } = this.userOf(session);
    const state = this.check(session, limit);
    if (state !== 'live') return state;
    session.roles = roles;
    session.held = session.held.filter((role) => roles.includes(role));
    session.heldAdministrator &&= this.isAdministrator(roles);
    const covering = session.cutOffs.find(({ spared }) => !this.spares(spared, session));
    if (covering) session.end = { reason: 'cut-off', by: covering.by };
    return session.end?.reason ?? 'live';
  }

  private spares({ administrators, roles, usernames, userIds }: CutOff['spared'], session: Session): boolean {
    return (
      (administrators && session.heldAdministrator) ||
      share(roles, session.held) ||
      usernames.includes(session.username) ||
      userIds.includes(session.userId)
    );
  }

  private endAll(sessions: readonly Session[], reason: EndReason, by: string | null): number {
    for (const session of sessions) {
      session.end = { reason, by };
      if (reason !== 'cut-off') session.hasPlace = false;
    }
    return sessions.length;
  }

  /** A logout of the session's own. Beyond the limit it ends none but itself. */
  logout(session: Session): void {
    const person = this.userOf(session);
    if (session.end || session.isGone) return;
    if (this.isBeyond(session, person.limit)) return void this.endAll([session], 'logout', null);
    const others = this.liveOf(session.userId).filter((one) => one !== session);
    this.endAll([session], 'logout', null);
    const isAlone = session.isExempt || this.isExempt(person);
    if (!this.rules.logoutEverywhere || isAlone) return;
    this.endAll(others, 'logout-everywhere', null);
    this.clear(session.userId);
  }

  end(session: Session, { reason, by }: End): number {
    return session.end ? 0 : this.endAll([session], reason, by);
  }

  endUser({ userId }: Session, { reason, by }: End): number {
    this.clear(userId);
    return this.endAll(this.liveOf(userId), reason, by);
  }

  /** None when that one is not live itself. */
  endOthers(keep: Session, { reason, by }: End): number {
    if (keep.end) return 0;
    this.clear(keep.userId);
    keep.hasPlace = !keep.isExempt;
    return this.endAll(
      this.liveOf(keep.userId).filter((one) => one !== keep),
      reason,
      by,
    );
  }

  private clear(userId: string): void {
    for (const one of this.places(userId)) one.hasPlace = false;
  }

  private isAdministrators(session: Session): boolean {
    return session.heldAdministrator || this.isAdministrator(session.roles);
  }

  private isProtected(userId: string): boolean {
    return this.liveOf(userId).some((one) => this.isAdministrators(one));
  }

  /** `DELETE /:id` */
  endSession(session: Session, caller: Caller): object | 404 {
    const { userId } = session;
    if (session.isGone) return 404;
    const isProtected = !caller.logoutAdmins && this.isProtected(userId);
    const ended = isProtected ? 0 : this.end(session, { reason: 'admin', by: caller.name });
    this.note('end-session', caller, ended, ended, undefined);
    if (ended) return { ended, skipped: [] };
    return { ended, skipped: [{ userId, why: isProtected ? 'administrator' : 'no-session' }] };
  }

  /** `POST /logout` */
  logoutUsers({ userIds = [], usernames = [], note, dryRun = false }: Logout, caller: Caller): object {
    const skipped: Skipped[] = [];
    const ending = new Set<Session>();
    const meet = (name: { userId: string } | { username: string }, found: Session[]): void => {
      const whose = [...new Set(found.map(({ userId }) => userId))];
      const [kept, left] = [true, false].map((is) =>
        whose.filter((id) => (!caller.logoutAdmins && this.isProtected(id)) === is),
      ) as [string[], string[]];
      for (const one of left.flatMap((id) => this.liveOf(id))) ending.add(one);
      if (kept.length > 0) skipped.push({ ...name, why: 'administrator' });
      else if (left.length === 0) skipped.push({ ...name, why: 'no-session' });
    };
    for (const userId of new Set(userIds)) meet({ userId }, this.liveOf(userId));
    for (const username of new Set(usernames))
      meet(
        { username },
        this.live.filter((one) => one.username === username),
      );
    const ended = ending.size;
    const users = usersOf([...ending]);
    if (!dryRun) {
      for (const { userId } of ending) this.clear(userId);
      this.endAll([...ending], 'admin', caller.name);
      this.note('logout', caller, ended, users, note);
    }
    return { ended, users, skipped, dryRun };
  }

  /** `POST /logout-everyone`; 403 where the caller may not. */
  logoutEveryone({ except = {}, note, dryRun = false }: Everyone, caller: Caller): object | 403 {
    const { administrators = true, roles = [], usernames = [], userIds = [], me = true } = except;
    if (!administrators && !caller.logoutAdmins) return 403;
    const mine = me && caller.userId !== null ? [caller.userId] : [];
    const spared = { administrators, roles, usernames, userIds: [...userIds, ...mine] };
    const ending = this.live.filter((one) => !this.spares(spared, one));
    const answer = {
      ended: ending.length,
      users: usersOf(ending),
      spared: this.live.length - ending.length,
      dryRun,
    };
    if (dryRun) return answer;
    this.endAll(ending, 'cut-off', caller.name);
    for (const one of this.live) one.cutOffs.push({ spared, by: caller.name });
    this.note('logout-everyone', caller, answer.ended, answer.users, note);
    return answer;
  }

  addExemption(kind: ExemptionKind, value: string, caller: Caller): number {
    this.exemptions[kind].add(value);
    this.record.push({ action: 'add-exemption', by: caller.name, ended: null, users: null, note: null });
    return 200;
  }

  /** The status of the answer. */
  removeExemption(kind: ExemptionKind, value: string, caller: Caller): number {
    const fixed = kind === 'username' ? this.rules.exempt.usernames : this.rules.exempt.roles;
    if (!this.exemptions[kind].delete(value)) return fixed.includes(value) ? 409 : 404;
    this.record.push({ action: 'remove-exemption', by: caller.name, ended: null, users: null, note: null });
    return 200;
  }

  private note(action: string, caller: Caller, ended: number, users: number, note: string | undefined): void {
    this.record.push({ action, by: caller.name, ended, users, note: note ?? null });
  }

  private countLogin({ id }: Person): void {
    const storms = this.storms.get(id) ?? [];
    const [current] = storms;
    if (current?.age === 0) current.logins++;
    else storms.unshift({ logins: 1, age: 0 });
    this.storms.set(id, storms);
    if (storms[0]!.logins === this.rules.stormThreshold + 1) this.announced.push(id);
  }

  windowsPass(userId: string, windows: number): void {
    for (const storm of this.storms.get(userId) ?? []) storm.age += windows;
  }

  timeOut(session: Session, reason: 'expired' | 'idle'): void {
    session.end ??= { reason, by: null };
  }

  /** Its row is as old as the retention. */
  remove(session: Session): void {
    session.isGone = true;
    session.hasPlace = false;
  }

  /** What everybody can see. `person` is whose limit is asked for. */
  foreseen(person: Person): object {
    const { live, record, admitted, announced } = this;
    const exempt = this.isExempt(person);
    return {
      sessions: this.sessions
        .filter(({ isGone }) => !isGone)
        .map(({ id, userId, username, roles, isExempt, end }) => ({
          id,
          userId,
          username,
          roles,
          isExempt,
          state: end ? 'ended' : 'active',
          reason: end?.reason ?? null,
          by: end?.by ?? null,
        }))
        .toSorted((one, other) => (one.id < other.id ? -1 : 1)),
      active: live.map(({ id }) => id).toSorted(),
      counts: {
        activeSessions: live.length,
        activeUsers: usersOf(live),
        administrators: usersOf(live.filter((one) => this.isAdministrators(one))),
        exemptSessions: live.filter((one) => one.isExempt).length,
      },
      storms: [...this.storms.keys()].flatMap((userId) => this.stormOf(userId)).toSorted(),
      limit: {
        maxSessions: exempt ? null : person.limit,
        onLimit: this.rules.onLimit,
        exempt,
      },
      record,
      endedUnlike: [],
      admitted,
      announced,
    };
  }

  /** Of the present window and the one before, and not of who was exempted at run time. */
  private stormOf(userId: string): string[] {
    const recent = this.storms.get(userId)!.filter(({ age }) => age < 2);
    const logins = Math.max(0, ...recent.map((storm) => storm.logins));
    const latest = this.sessions.findLast((one) => one.userId === userId);
    const isExempted = latest && this.isExemptAtRunTime(latest.username, latest.roles);
    return logins > this.rules.stormThreshold && !isExempted ? [`${userId}: ${logins}`] : [];
  }
}
