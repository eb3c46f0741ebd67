import { setTimeout as pause } from 'node:timers/promises';

/** Resolves after `ms` milliseconds, or earlier when `stop` is given and says so; never fails. Keeps no process alive. */
export async function rest(ms: number, stop?: AbortSignal): Promise<void> {
  await pause(ms, undefined, { ref: false, signal: stop }).catch(() => undefined);
}

/**
 * Calls `onMissed` in `ms` milliseconds, unless it is called off with what this gives back. A process that was busy for
 * long runs its timers before it reads what has come meanwhile; so what is there is read before anything counts as missed.
 */
export function timeLimit(ms: number, onMissed: () => void): () => void {
  let turn: NodeJS.Immediate | undefined;
  const timer = setTimeout(() => (turn = setImmediate(onMissed)), ms);
  return () => {
    clearTimeout(timer);
    clearImmediate(turn);
  };
}

/** The answer, or what `missed` says when it does not come in time. */
export function within<Answer>(ms: number, answer: Promise<Answer>, missed: () => Error): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const callOff = timeLimit(ms, () => reject(missed()));
    answer.then(resolve, reject).finally(callOff);
  });
}
