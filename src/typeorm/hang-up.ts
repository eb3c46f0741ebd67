import type { Duplex } from 'node:stream';
import { timeLimit } from '../session/time-limit.js';
import { cancel } from './cancel.js';

/**
 * Runs a query on a client of `pg` and hangs up when the deadline passes. A query that nobody waits for any more must not
 * run late, out of a queue, and evict somebody; and a connection whose other end is silently gone must not stay in the
 * pool, where it would be handed out again and again (neither `statement_timeout` nor `query_timeout` of pg does this).
 */
export async function hangingUpAt<Result>(
  deadline: number,
  client: unknown,
  query: () => Promise<Result>,
): Promise<Result> {
  const timeLeft = deadline - performance.now();
  if (timeLeft <= 0) throw new Error('no connection of the pool became free in time');
  const callOff = timeLimit(timeLeft, () => {
    hangUp(client);
    cancel(client);
  });
  try {
    return await query();
  } finally {
    callOff();
  }
}

/** Breaks the connection of a client of `pg` at once; what waits for it fails. */
export function hangUp(client: unknown): void {
  const { connection } = client as { connection?: { stream?: Duplex } };
  connection?.stream?.destroy(new Error('the database did not answer in time'));
}
