import { EventEmitter } from 'node:events';
import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { browserOf, learnCookieName } from '../../src/http/browser.js';
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
