import type { Browser } from '../session/admissions.js';
import { knownStateOf, sessionIdOf, type SessionRequest } from './request.js';

/** Names of cookies that have held the id of a cookie session. Applications have one or two. */
const names = new Set<string>();
const MOST_NAMES = 8;
const MOST_GUESSES = 16;
const SHORTEST_ID = 16;

/**
 * What two logins of one browser at the same moment have in common: the id of the cookie session that it sent, a secret
 * of the browser. The session middleware may know that no more, since the other login has given the cookie session a new
 * id in between. Then it is read from the cookie; and as long as the name of that is not known, from any.
 */
export function browserOf(request: SessionRequest): Browser | undefined {
  const cookies = cookiesOf(request);
  const sent = cookies.find(([name]) => names.has(name))?.[1];
  if (sent) return { secret: sent, perhaps: [] };
  const secret = knownStateOf(request)?.arrivedSessionId;
  if (secret === undefined) return undefined;
  const values = cookies.map(([, value]) => value).filter((value) => value.length >= SHORTEST_ID);
  return { secret, perhaps: values.includes(secret) ? [] : values.slice(0, MOST_GUESSES) };
}

/** Whether no cookie is known yet; then every request may teach one. */
export const knowsNoCookie = (): boolean => names.size === 0;

/** Learns in which cookie the ids are: the middleware does not tell. To be called when a request arrives. */
export function learnCookieName(request: SessionRequest): void {
  const id = sessionIdOf(request);
  if (id === undefined || names.size >= MOST_NAMES) return;
  const found = cookiesOf(request).find(([, value]) => value === id);
  if (found !== undefined) names.add(found[0]);
}

/** Name and value of the cookies (RFC 6265, section 4.2.1), the values without a signature, as express-session, cookie and @fastify/session write them. */
function cookiesOf({ headers: { cookie } }: SessionRequest): [string, string][] {
  if (typeof cookie !== 'string') return [];
  return cookie.split(';').map((pair) => {
    const [name, ...value] = pair.split('=');
    return [name!.trim(), withoutSignature(decoded(value.join('=').trim()))];
  });
}

const withoutSignature = (value: string): string => value.replace(/^s:/, '').replace(/\.[^.]*$/, '');

function decoded(value: string): string {
  try {
    return decodeURIComponent(value);
  } catch {
    return value;
  }
}
