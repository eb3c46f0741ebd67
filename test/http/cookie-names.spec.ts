import { EventEmitter } from 'node:events';
import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { browserOf, learnCookieName, mayHaveSent } from '../../src/http/browser.js';
import type { SessionRequest } from '../../src/http/request.js';
import { stateOf } from '../../src/http/request-state.js';
import type { NodeResponse } from '../../src/http/response.js';
import { startApplication, type TestApplication } from '../support/application.js';
import { Browser } from '../support/client.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { newUser } from '../support/sessions.js';

let databaseUrl: string;
let application: TestApplication;

beforeAll(async () => {
  databaseUrl = await freshDatabase();
  application = await startApplication(databaseUrl);
});

afterAll(async () => {
  await application?.close();
  await dropDatabase(databaseUrl);
});

/** The signed id as it stands in the cookie, and as the middleware knows it. */
function valuesOf({ cookie }: Browser): string[] {
  const signed = decodeURIComponent(cookie!.slice(cookie!.indexOf('=') + 1));
  const id = signed.replace(/^s:/, '').replace(/\.[^.]*$/, '');
  return [id, signed, encodeURIComponent(signed)];
}

async function signIn(username: string, cookie?: string): Promise<Browser> {
  const browser = new Browser(application.url, cookie);
  expect((await browser.login(username)).status).toBe(200);
  return browser;
}

it('nobody teaches by what he sends that another cookie names the browser: two browsers with the same one would be one [P1, P2]', async () => {
  const mallory = newUser(application).username;
  for (const place of [0, 1, 2]) {
    const attacker = await signIn(mallory);
    attacker.cookie = `lang=${valuesOf(attacker)[place]}; ${attacker.cookie}`;
    await attacker.get('/me');
    await attacker.login(mallory);
  }
  const alice = newUser(application).username;
  const [first, second] = [await signIn(alice, 'lang=en'), await signIn(alice, 'lang=en')];
  expect((await first.get('/me')).status).toBe(401);
  expect((await second.get('/me')).body.user?.username).toBe(alice);
});

it.each(['null', 'undefined', 'j:null'])(
  'clients that send a word in place of an id have nothing in common (%s) [P1]',
  async (word) => {
    const { cookie } = await signIn(newUser(application).username);
    const name = cookie!.slice(0, cookie!.indexOf('='));
    const alice = newUser(application).username;
    const [first, second] = [await signIn(alice, `${name}=${word}`), await signIn(alice, `${name}=${word}`)];
    expect((await first.get('/me')).status).toBe(401);
    expect((await second.get('/me')).body.user?.username).toBe(alice);
  },
);

it('a cookie that cannot be decoded fails no login', async () => {
  const browser = await signIn(newUser(application).username, 'lang=%; theme=%E0%A4%A');
  expect((await browser.get('/me')).status).toBe(200);
});

it.each([
  ['express-session', (id: string) => encodeURIComponent(`s:${id}.signature/of+it=`)],
  ['@fastify/session', (id: string) => encodeURIComponent(`${id}.signature/of+it=`)],
  ['a middleware that encodes nothing', (id: string) => `s:${id}.signature/of+it=`],
])('an id is read from the cookie as %s writes it, once an answer has shown its name', (writer, write) => {
  const [learned, later] = ['1', '2'].map((end) => `an.id/of+s:one=${end}`.padStart(32, 'a')) as [
    string,
    string,
  ];
  const name = `sid of ${writer}`;
  let sent: string[] | undefined;
  const answer = Object.assign(new EventEmitter(), { getHeader: () => sent });
  learnCookieName(answer as unknown as NodeResponse, learned);
  sent = ['lang=en; Path=/', `${name}=${write(learned)}; Path=/; HttpOnly; Expires=Thu, 01 Jan 1970`];
  answer.emit('close');
  const request = {
    headers: { cookie: `lang=en;  ${name} = ${write(later)} ; theme=dark` },
    sessionID: 'f'.repeat(32),
    session: {},
  } as unknown as SessionRequest;
  stateOf(request);
  expect(browserOf(request)).toEqual({ secret: later, perhaps: [] });
});

it('a name is learned, too, where the cookie is the only one and is not signed', () => {
  const [learned, later] = ['a', 'b'].map((letter) => letter.repeat(32)) as [string, string];
  const answer = Object.assign(new EventEmitter(), { getHeader: () => `plain=${learned}; Path=/` });
  learnCookieName(answer as unknown as NodeResponse, learned);
  answer.emit('close');
  const request = { headers: { cookie: `plain=${later}` }, sessionID: learned, session: {} };
  stateOf(request as unknown as SessionRequest);
  expect(browserOf(request as unknown as SessionRequest)).toEqual({ secret: later, perhaps: [] });
});

it.each([
  ['none', undefined],
  ['one of something else', 'lang=en; Path=/'],
])('an answer with no cookie of the login teaches nothing, and ends no process: %s', (_, sent) => {
  const answer = Object.assign(new EventEmitter(), { getHeader: () => sent });
  learnCookieName(answer as unknown as NodeResponse, 'a'.repeat(32));
  expect(() => answer.emit('close')).not.toThrow();
});

it.each([
  ['as it is, and signed', 'an.id/of=one.signature', true],
  ['encoded', 'an.id%2Fof%3Done', true],
  ['encoded in another way, and signed', 's:an%2eid%2fof=one.signature', true],
  ['another', 'an.id', false],
  ['none', undefined, false],
])('a request may have sent an id that is in its cookie: %s', (_, value, may) => {
  const cookie = value === undefined ? undefined : `lang=en; sid=${value}`;
  const request: SessionRequest = { headers: { cookie } };
  expect(mayHaveSent(request, value === undefined ? 'undefined' : 'an.id/of=one')).toBe(may);
});

it('a cookie session that was found names the browser, whatever else that sends: another may send the same', () => {
  const [own, other] = ['c', 'd'].map((letter) => letter.repeat(32)) as [string, string];
  const request = {
    headers: { cookie: `theme=${other}; unheard-of.sid=${own}` },
    sessionID: own,
    session: {},
  } as unknown as SessionRequest;
  stateOf(request);
  expect(browserOf(request)).toEqual({ secret: own, perhaps: [] });
});

it('one whose cookie session was not found may be any browser that holds one of its cookies, but for words, and not of hundreds', () => {
  const ids = Array.from({ length: 17 }, (_, n) => `${n}`.padStart(32, 'e'));
  const request = {
    headers: { cookie: ['lang=en', ...ids.map((id, n) => `unheard-of-${n}=${id}`)].join('; ') },
    sessionID: 'f'.repeat(32),
    session: {},
  } as unknown as SessionRequest;
  stateOf(request);
  expect(browserOf(request)).toEqual({ secret: 'f'.repeat(32), perhaps: ids.slice(0, 16) });
});

it('one that had no cookie session when it came is nobody in particular, whatever it sends', () => {
  const request: SessionRequest = { headers: { cookie: `unheard-of=${'g'.repeat(32)}` } };
  expect(browserOf(request)).toBeUndefined();
  stateOf(request);
  expect(browserOf(request)).toBeUndefined();
});

it('of two cookies with ids, that of the cookie session names the browser', () => {
  const [own, other] = ['a', 'b'].map((letter) => letter.repeat(32)) as [string, string];
  for (const [name, id] of [
    ['own.sid', own],
    ['other.sid', other],
  ]) {
    const answer = Object.assign(new EventEmitter(), { getHeader: () => `${name}=${id}` });
    learnCookieName(answer as unknown as NodeResponse, id!);
    answer.emit('close');
  }
  const request = {
    headers: { cookie: `other.sid=${other}; own.sid=${own}` },
    sessionID: own,
    session: {},
  } as unknown as SessionRequest;
  stateOf(request);
  expect(browserOf(request)).toEqual({ secret: own, perhaps: [] });
});

it.each([
  [15, false],
  [16, true],
])('what has %i characters may be an id: %p', (length, isId) => {
  const [own, sent] = ['h'.repeat(32), 'i'.repeat(length)];
  const answer = Object.assign(new EventEmitter(), { getHeader: () => `length.sid=${own}` });
  learnCookieName(answer as unknown as NodeResponse, own);
  answer.emit('close');
  const browserWith = (cookie: string): ReturnType<typeof browserOf> => {
    const request = { headers: { cookie }, sessionID: own, session: {} } as unknown as SessionRequest;
    stateOf(request);
    return browserOf(request);
  };
  expect(browserWith(`length.sid=${sent}`)?.secret).toBe(isId ? sent : own);
  expect(browserWith(`unheard-of=${sent}`)?.perhaps).toEqual(isId ? [sent] : []);
});
