import { TOPICS } from '../session/verdicts.js';
import type { Changes } from '../session/signal.js';

const VERSION = '1';
const EVERYTHING = '*';
const HELLO = '?';
/** PostgreSQL takes less than 8,000 bytes. */
export const LARGEST_PAYLOAD = 7_900;

/** What a process reads from another, or from itself. */
interface Notification {
  /** Who sent it: a random name of a process. */
  from: string | undefined;
  /** Sent to be heard by the sender itself; nothing has changed. */
  isHello: boolean;
  changes: Changes;
}

/** As text of bounded length: where the topics are too many, everything. */
export function encodeChanges(from: string, changes: Changes): string {
  const topics =
    changes === 'everything' ? EVERYTHING : Array.from(changes, (topic) => topic.toString(36)).join(',');
  const text = `${VERSION} ${from} ${topics}`;
  return text.length <= LARGEST_PAYLOAD ? text : `${VERSION} ${from} ${EVERYTHING}`;
}

export const encodeHello = (from: string): string => `${VERSION} ${from} ${HELLO}`;

/** Never fails: what cannot be read, such as the text of a newer version, says that everything may have changed. */
export function decode(text: string): Notification {
  const [version, from, what] = text.split(' ');
  if (version !== VERSION || what === undefined)
    return { from: undefined, isHello: false, changes: 'everything' };
  return { from, isHello: what === HELLO, changes: toChanges(what) };
}

function toChanges(text: string): Changes {
  if (text === HELLO) return new Set();
  const topics = text.split(',').map((part) => Number.parseInt(part, 36));
  return topics.every((topic) => topic >= 0 && topic < TOPICS) ? new Set(topics) : 'everything';
}
