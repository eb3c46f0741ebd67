// Parts of SQL that know nothing of sessions.

const HOUR_MS = 3_600_000;

/** A duration as the value of a parameter. Before version 15, PostgreSQL reads no milliseconds beyond 2^31, which are 25 days: so in hours, too. */
export const interval = (milliseconds: number): string =>
  `${Math.floor(milliseconds / HOUR_MS)} hours ${milliseconds % HOUR_MS} milliseconds`;

/** A duration in the text of a statement. */
export const ms = (milliseconds: number): string => `interval '${interval(milliseconds)}'`;

/**
 * A condition that is true, or fails the statement when it has waited for locks for longer than its caller waits for the
 * answer: what was answered with an error must not be carried out later, on people who have signed in since. What fails is
 * the cast of the text to boolean; the error says the text. `timeLeft`: the parameter whose value is `TIME_LEFT`.
 *
 * It must be evaluated when the locks are held: over a materialized CTE that takes them, in the WHERE of an ON CONFLICT, or
 * over what the statement gives back. The wait is counted from the beginning of the transaction, which is this statement's
 * own: locks of tables are waited for while it is parsed, and PostgreSQL sets `statement_timestamp()` anew after that.
 */
export const inTime = (
  timeLeft: string,
): string => `CASE WHEN clock_timestamp() < transaction_timestamp() + ${timeLeft}::interval THEN true
    ELSE format('nothing was done: nobody waits for it any more, now that it has its locks, after %s', clock_timestamp() - transaction_timestamp())::boolean END`;

/** One value for one address, however it is written (RFC 4291, section 2.5.5.2). */
export const ipv4IfMapped = (ip: string): string =>
  `CASE WHEN ${ip} <<= '::ffff:0:0/96' THEN '0.0.0.0'::inet + (${ip} - '::ffff:0.0.0.0'::inet) ELSE ${ip} END`;
