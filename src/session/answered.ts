import { within } from './time-limit.js';
import { StoreUnavailableError } from './session-store.js';

/** How long a request waits for the store, in milliseconds, before it is refused with 503. */
export const ANSWER_WITHIN_MS = 5_000;

/** The same for what reads every live session, in milliseconds. Nobody waits for it to be logged out. */
export const COUNT_WITHIN_MS = 30_000;

/**
 * The store's answer, or a {@link StoreUnavailableError} when it fails or does not come in time.
 * A database that stops answering says nothing at all: without a limit of our own a request would hang with it.
 * `leftMs`: what is left of that time, where the question has waited before it was sent.
 */
export function answered<Answer>(
  answer: Promise<Answer>,
  withinMs = ANSWER_WITHIN_MS,
  leftMs = withinMs,
): Promise<Answer> {
  const failed = (error: unknown): never => {
    throw unavailable('a statement failed', error);
  };
  return within(leftMs, answer.catch(failed), () => unavailable(`no answer within ${withinMs} ms`));
}

/** What a request is refused with when the store fails. */
export function unavailable(what: string, cause?: unknown): StoreUnavailableError {
  const said = messageOf(cause);
  return new StoreUnavailableError(`The session store cannot answer: ${what}${said && `: ${said}`}`, {
    cause,
  });
}

// Who finds nobody at any address of a name (RFC 8305) is told so address by address, and in no message of its own.
function messageOf(cause: unknown): string {
  if (!(cause instanceof Error)) return '';
  const [first] = cause instanceof AggregateError ? (cause.errors as unknown[]) : [];
  return cause.message || messageOf(first);
}
