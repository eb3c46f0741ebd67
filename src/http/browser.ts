import { knownStateOf, sessionIdOf, type SessionRequest } from './request.js';

/** Names of cookies that have held the id of a cookie session. Applications have one or two. */
const names = new Set<string>();
const MOST_NAMES = 8;

/**
 * The id of the cookie session that the browser sent, a secret of the browser: what two logins of it at the same moment
 * have in common. Also when the session middleware knows it no more, since the other login has given the cookie session a
 * new id in between; then it is read from the cookie, by its name.
 */
export function browserOf(request: SessionRequest): string | undefined {
  const sent = cookiesOf(request).find(([name]) => names.has(name))?.[1];
  return sent || knownStateOf(request)?.arrivedWith.sessionID;
}

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
