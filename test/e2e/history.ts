/**
 * Decides whether what clients saw contradicts the promises. All times are from one monotonic clock, in milliseconds: when
 * a request was sent, and when its answer was there. What happened in between happened at an unknown moment in between, so
 * only what no moment could explain counts as a contradiction.
 */

interface Exchange {
  /** Of the process that answered. */
  process: number;
  session: string;
  user: string;
  sentAt: number;
  answeredAt: number;
}

export type Recorded =
  /** A login that was answered with success; it made the session. */
  | ({ kind: 'login' } & Exchange)
  /** A logout or the like that was answered with success; it ended the session. */
  | ({ kind: 'end' } & Exchange)
  /** A request with the session's credential. `'unavailable'`: neither yes nor no, such as 503. */
  | ({ kind: 'request'; outcome: 'accepted' | 'ended' | 'unavailable' } & Exchange);

export interface Promised {
  /** How many sessions a user may have. Newer ones evict older ones. */
  limit: number;
  /** How old a decision may be; 0: strong. */
  maxStalenessMs: number;
}

export interface Contradiction {
  promise: 'P1' | 'P2' | 'P4';
  session: string;
  what: string;
}

type Accepted = Extract<Recorded, { kind: 'request' }>;

/** Empty when the history can be true. */
export function contradictions(history: readonly Recorded[], promised: Promised): Contradiction[] {
  const bySession = groupedBy(history, ({ session }) => session);
  const byUser = groupedBy(history, ({ user }) => user);
  return [
    ...[...byUser.values()].flatMap((events) => tooMany(events, promised)),
    ...[...bySession.values()].flatMap((events) => acceptedAfterRefusal(events)),
    ...[...byUser.values()].flatMap((events) => acceptedAfterEnd(events, promised)),
  ];
}

/**
 * P1. A session that was accepted was live at most `maxStalenessMs` before, and from its login on until then. More than
 * `limit` of one user at one moment are too many.
 */
function tooMany(events: readonly Recorded[], { limit, maxStalenessMs }: Promised): Contradiction[] {
  const lives = logins(events).flatMap(({ session, answeredAt }) => {
    const until = Math.max(...accepted(events, session).map(({ sentAt }) => sentAt - maxStalenessMs));
    return until >= answeredAt ? [{ session, from: answeredAt, until }] : [];
  });
  return lives.flatMap(({ session, from }) => {
    const together = lives.filter((life) => life.from <= from && from <= life.until);
    if (together.length <= limit) return [];
    const others = together.map((life) => life.session).join(', ');
    return [{ promise: 'P1', session, what: `live at ${from.toFixed(1)} together: ${others}` }];
  });
}

/** P2. No process accepts what it has refused before. */
function acceptedAfterRefusal(events: readonly Recorded[]): Contradiction[] {
  const refusals = events.filter((event) => event.kind === 'request' && event.outcome === 'ended');
  return accepted(events).flatMap(({ process, session, sentAt }) => {
    const before = refusals.find((refusal) => refusal.process === process && refusal.answeredAt <= sentAt);
    if (before === undefined) return [];
    const late = (sentAt - before.answeredAt).toFixed(1);
    return [
      { promise: 'P2', session, what: `accepted by process ${process} ${late} ms after it had refused it` },
    ];
  });
}

/** P4, and P2 beyond the lease. Nobody accepts a session by a request that was sent later than the lease after its end. */
function acceptedAfterEnd(events: readonly Recorded[], promised: Promised): Contradiction[] {
  return logins(events).flatMap((login) => {
    const endedAt = endOf(login, events, promised.limit);
    return accepted(events, login.session)
      .filter(({ sentAt }) => sentAt >= endedAt + promised.maxStalenessMs)
      .map(({ session, process, sentAt }) => ({
        promise: 'P4',
        session,
        what: `accepted by process ${process} by a request sent ${(sentAt - endedAt).toFixed(1)} ms after its end`,
      }));
  });
}

/** The latest moment at which the session was ended; Infinity when nothing shows that it was. */
function endOf(login: Recorded, events: readonly Recorded[], limit: number): number {
  const { session, answeredAt } = login;
  const shown = events
    .filter((event) => event.session === session && (event.kind === 'end' || isRefusal(event)))
    .map((event) => event.answeredAt);
  // As many newer sessions as there may be have taken all the places.
  const newer = logins(events)
    .filter(({ sentAt }) => sentAt >= answeredAt)
    .map((event) => event.answeredAt)
    .sort((a, b) => a - b);
  return Math.min(...shown, newer[limit - 1] ?? Infinity);
}

const isRefusal = (event: Recorded): boolean => event.kind === 'request' && event.outcome === 'ended';

const logins = (events: readonly Recorded[]): Recorded[] => events.filter(({ kind }) => kind === 'login');

const accepted = (events: readonly Recorded[], session?: string): Accepted[] =>
  events.filter(
    (event): event is Accepted =>
      event.kind === 'request' &&
      event.outcome === 'accepted' &&
      (session === undefined || event.session === session),
  );

function groupedBy(events: readonly Recorded[], keyOf: (event: Recorded) => string): Map<string, Recorded[]> {
  const groups = new Map<string, Recorded[]>();
  for (const event of events) {
    const group = groups.get(keyOf(event));
    if (group === undefined) groups.set(keyOf(event), [event]);
    else group.push(event);
  }
  return groups;
}
