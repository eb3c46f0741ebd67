import type { Browser } from '../session/admissions.js';
import { onceClosed } from './once-closed.js';
import type { SessionRequest } from './request.js';
import { knownStateOf } from './request-state.js';
import type { SessionResponse } from './response.js';

/** Names of cookies that have held the id of a cookie session. Applications have one or two. */
const names = new Set<string>();
const MOST_NAMES = 8;
const MOST_GUESSES = 16;
const SHORTEST_ID = 16;

/**
 * What two logins of one browser at the same moment have in common: the id of the cookie session that it sent, a secret
 * of the browser. Where the other login has given the cookie session a new id in between, the session middleware does not
 * find it under the id that was sent, so that is read from the cookie. As long as no login has shown the name of that cookie
 * ({@link learnCookieName}), any cookie may hold it: `perhaps`.
 */
export function browserOf(request: SessionRequest): Browser | undefined {
  const cookies = cookiesOf(request);
  const secret = knownStateOf(request)?.arrivedSessionId;
  const sent = cookies.filter(([name]) => names.has(name)).map(([, value]) => value);
  // What is short is no secret: a client that has lost its id may send a word.
  const id = sent.find((value) => value === secret) ?? sent.find((value) => value.length >= SHORTEST_ID);
  if (id !== undefined) return { secret: id, perhaps: [] };
  if (secret === undefined) return undefined;
  const values = cookies.map(([, value]) => value).filter((value) => value.length >= SHORTEST_ID);
  return { secret, perhaps: values.includes(secret) ? [] : values.slice(0, MOST_GUESSES) };
}

/**
 * Learns in which cookie the ids are, which the middleware does not tell. Only from the answer to a login, whose id nobody
 * knew before: a client may put an id that it knows into a cookie of any name.
 */
export function learnCookieName(response: SessionResponse, id: string): void {
  onceClosed(response, () => {
    const found = setCookiesOf(response).find(([, value]) => value === id);
    if (found !== undefined && names.size < MOST_NAMES) names.add(found[0]);
  });
}

/** Whether the request may have brought this id, in whatever cookie. */
export const mayHaveSent = (request: SessionRequest, id: string): boolean =>
  String(request.headers.cookie ?? '').includes(encodeURIComponent(id)) ||
  cookiesOf(request).some(([, value]) => value === id);

const cookiesOf = ({ headers: { cookie } }: SessionRequest): Cookie[] =>
  typeof cookie === 'string' ? cookie.split(';').map(parse) : [];

function setCookiesOf(response: SessionResponse): Cookie[] {
  const headers = [response.getHeader('set-cookie')].flat();
  return headers
    .filter((header) => typeof header === 'string')
    .map((header) => parse(header.split(';', 1)[0]!));
}

type Cookie = [name: string, value: string];

/** RFC 6265, section 4.2.1; the value without a signature, as express-session, cookie and @fastify/session write it. */
function parse(pair: string): Cookie {
  const [name, ...value] = pair.split('=');
  return [name!.trim(), withoutSignature(decoded(value.join('=').trim()))];
}

const withoutSignature = (value: string): string => value.replace(/^s:/, '').replace(/\.[^.]*$/, '');

function decoded(value: string): string {
  try {
    return decodeURIComponent(value);
  } catch {
    return value;
  }
}
