import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { startApplication, type TestApplication } from '../support/application.js';
import { ADMIN, ADMIN_OPTIONS, Client, contentOf, someoneNew, statesOf } from '../support/administration.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { platform } from '../support/platform.js';
import { newUser } from '../support/sessions.js';
import { times } from '../support/store.js';

type Headers = Record<string, string>;

const MINE = '/sessions/mine';
const JSON_TYPE = { 'content-type': 'application/json' };

let databaseUrl: string;
let application: TestApplication;
let root: Client;
let victim: Client;
let other: Client;

beforeAll(async () => {
  databaseUrl = await freshDatabase();
  application = await startApplication(databaseUrl, {
    options: { ...ADMIN_OPTIONS, exempt: { usernames: ['fixed'], roles: ['service'] } },
  });
});

beforeEach(async () => {
  const user = newUser(application, { roles: ['superadmin', 'service'] });
  [root, other] = [await Client.signIn(application, user), await Client.signIn(application, user)];
  victim = await someoneNew(application);
  await root.put(`${ADMIN}/exemptions`, { kind: 'username', value: 'there' });
});

afterAll(async () => {
  await application?.close();
  await dropDatabase(databaseUrl);
});

/** As a browser would send it, which cannot be asked to send what `fetch` of this process refuses to. */
async function send(
  method: string,
  path: string,
  headers: Headers,
  body: string,
  caller = root,
): Promise<number> {
  const cookie: Headers = caller.browser.cookie ? { cookie: caller.browser.cookie } : {};
  const { status } = await fetch(application.url + path, {
    method,
    headers: { ...cookie, ...caller.headers, ...headers },
    ...(body !== '' && { body }),
  });
  return status;
}

/** Every route that changes something, with a good body. */
const changes = (): [string, string, string][] => [
  ['POST', `${ADMIN}/logout`, JSON.stringify({ usernames: [victim.user.username] })],
  ['POST', `${ADMIN}/logout-everyone`, '{}'],
  ['POST', `${ADMIN}/logout-everyone`, ''],
  ['DELETE', `${ADMIN}/${victim.sessionId}`, ''],
  ['PUT', `${ADMIN}/exemptions`, '{"kind":"username","value":"mallory"}'],
  ['DELETE', `${ADMIN}/exemptions?kind=username&value=there`, ''],
  ['DELETE', `${MINE}/${other.sessionId}`, ''],
  ['POST', `${MINE}/logout-others`, ''],
  ['POST', `${MINE}/logout-others`, '{}'],
];

/** Fastify's own parser refuses an empty body that is said to be JSON; without the type, ours must refuse. */
function ofNothing({ 'content-type': type, ...headers }: Headers): Headers {
  return type === undefined || (platform === 'fastify' && type === 'application/json')
    ? headers
    : { ...headers, 'content-type': type };
}

async function expectRefused(headers: Headers, statuses: number[], only = changes()): Promise<void> {
  const before = await contentOf(application);
  for (const [method, path, body] of only) {
    const status = await send(method, path, body === '' ? ofNothing(headers) : headers, body);
    if (!statuses.includes(status))
      throw new Error(`${method} ${path} answered ${status} to ${JSON.stringify(headers)}`);
  }
  expect(await contentOf(application)).toBe(before);
  expect(await statesOf([root, other, victim])).toEqual(['live', 'live', 'live']);
}

const forms: [string, string][] = [
  ['text/plain', '{"except":{"administrators":false},"x":"="}'],
  ['text/plain;charset=UTF-8', '{"usernames":["alice"]}'],
  ['application/x-www-form-urlencoded', 'note=x'],
  [
    'multipart/form-data; boundary=x',
    '--x\r\nContent-Disposition: form-data; name="note"\r\n\r\nx\r\n--x--\r\n',
  ],
];

describe('a request from another site in the name of a signed-in administrator changes nothing [S5]', () => {
  it.each(forms)(
    'a form of type %s, whatever the browser says of where it comes from',
    async (type, body) => {
      const posts = changes().flatMap(([method, path]): [string, string, string][] =>
        method === 'POST' ? [[method, path, body]] : [],
      );
      const form = { 'content-type': type };
      const { host } = new URL(application.url);
      await expectRefused(form, [415], posts);
      await expectRefused({ ...form, origin: 'null' }, [403, 415], posts);
      await expectRefused({ ...form, origin: 'https://evil.example' }, [403, 415], posts);
      await expectRefused({ ...form, 'sec-fetch-site': 'cross-site' }, [403, 415], posts);
      await expectRefused(
        { ...form, origin: `http://${host}`, 'sec-fetch-site': 'same-origin' },
        [415],
        posts,
      );
    },
  );

  it('an Origin of another host, scheme-less, opaque or with a look-alike host or port', async () => {
    const { host, hostname, port } = new URL(application.url);
    const origins = [
      'https://evil.example',
      'null',
      `http://${host}.evil.example`,
      `http://${host}@evil.example`,
      `http://evil.example/${host}`,
      `http://${hostname}`,
      `http://${hostname}:${Number(port) + 1}`,
      `http://localhost:${port}`,
      host,
      `https://evil.example#http://${host}`,
      '',
      'file://',
    ];
    for (const origin of origins) await expectRefused({ ...JSON_TYPE, origin }, [403]);
  });

  it('Sec-Fetch-Site that says cross-site or same-site, also beside an Origin that would do', async () => {
    const { host } = new URL(application.url);
    for (const site of ['cross-site', 'same-site', 'Cross-Site', 'unheard-of', 'none, cross-site', ''])
      for (const origin of [{}, { origin: `http://${host}` }] as Headers[])
        await expectRefused({ ...JSON_TYPE, 'sec-fetch-site': site, ...origin }, [403]);
  });

  it('a type that only begins like JSON, or is not one', async () => {
    const types = [
      'application/jsonp',
      'application/json-seq',
      'text/json',
      'application/xml',
      'text/plain; application/json',
    ];
    for (const type of types) await expectRefused({ 'content-type': type }, [415]);
  });

  it('is not let in by a header that a form cannot send but a proxy may add', async () => {
    for (const name of ['x-forwarded-host', 'x-original-host', 'referer', 'x-requested-with'])
      await expectRefused(
        { ...JSON_TYPE, origin: 'https://evil.example', [name]: new URL(application.url).host },
        [403],
      );
  });

  it('a cookie beside a credential that is no bearer token', async () => {
    for (const authorization of ['', 'Basic cm9vdDpyb290', 'Bearer', 'Token x'])
      await expectRefused({ ...JSON_TYPE, origin: 'https://evil.example', authorization }, [403, 401]);
  });
});

describe('the same request is allowed [S5]', () => {
  const expectAll = async (headers: Headers, caller = root): Promise<void> => {
    const users = [];
    for (const [method, path, body] of changes().slice(0, 6)) {
      const type = body === '' ? {} : JSON_TYPE;
      users.push(await send(method, path, { ...type, ...headers }, body, caller));
    }
    expect(users).toEqual(times(6, () => 200));
    expect(await victim.state()).not.toBe('live');
  };

  it('from a page of this origin', async () => {
    await expectAll({ 'sec-fetch-site': 'same-origin', origin: application.url });
  });

  it('from a page of this origin in a browser without Fetch Metadata', () =>
    expectAll({ origin: application.url }));

  it('that the user made by hand', () => expectAll({ 'sec-fetch-site': 'none' }));

  it('from a program, with JSON of any spelling', async () => {
    await expectAll({});
    const spelled = { 'content-type': 'Application/JSON; charset=utf-8' };
    expect(await send('POST', `${ADMIN}/logout-everyone`, spelled, '{"dryRun":true}')).toBe(200);
  });

  it('with a bearer token from anywhere, since no browser sends it on its own', async () => {
    const program = await someoneNew(application, ['superadmin'], 'token');
    await expectAll({ origin: 'https://app.example', 'sec-fetch-site': 'cross-site' }, program);
  });
});

it("a bearer token that somebody made up does not open the way for the administrator's cookie [S5]", async () => {
  await expectRefused(
    { ...JSON_TYPE, origin: 'https://evil.example', authorization: 'Bearer x' },
    [401, 403],
  );
});

it('nor does it where the application reads no tokens at all, so that only the cookie counts [S5]', async () => {
  const { roles, superRoles } = ADMIN_OPTIONS.admin;
  const options = { admin: { roles, superRoles }, selfService: true };
  const cookiesOnly = await startApplication(databaseUrl, { users: application.users, options });
  try {
    const boss = await Client.signIn(cookiesOnly, newUser(cookiesOnly, { roles: ['superadmin'] }));
    const before = await contentOf(cookiesOnly);
    const headers = { origin: 'https://evil.example', authorization: 'Bearer x' };
    const statuses = [
      (await boss.send('POST', `${ADMIN}/logout-everyone`, {}, headers)).status,
      (await boss.send('DELETE', `${ADMIN}/${victim.sessionId}`, undefined, headers)).status,
      (await boss.send('POST', `${MINE}/logout-others`, {}, headers)).status,
    ];
    expect(statuses).toEqual([403, 403, 403]);
    expect(await contentOf(cookiesOnly)).toBe(before);
  } finally {
    await cookiesOnly.close();
  }
});

it('300 random GETs, of any origin, change nothing [S5]', async () => {
  const paths = [
    '',
    '/summary',
    '/policy',
    '/exemptions',
    '/actions',
    '/ui',
    '/logout',
    '/logout-everyone',
    '/ui/app.js',
    `/${victim.sessionId}`,
  ];
  const queries = [
    '',
    'state=ended',
    'limit=3',
    'username=there',
    'kind=username&value=there',
    '_method=DELETE',
    'dryRun=false',
    'note=x',
  ];
  const headers: Headers[] = [
    {},
    { origin: 'https://evil.example', 'sec-fetch-site': 'cross-site' },
    { 'x-http-method-override': 'DELETE' },
    { 'x-http-method-override': 'POST', 'content-type': 'application/json' },
  ];
  const pick = <Item>(items: Item[]): Item => items[Math.floor(Math.random() * items.length)]!;
  const before = await contentOf(application);
  const statuses = await Promise.all(
    times(300, () => {
      const mine = Math.random() < 0.2;
      const path = mine
        ? pick([MINE, `${MINE}/logout-others`, `${MINE}/${other.sessionId}`])
        : ADMIN + pick(paths);
      return send(pick(['GET', 'GET', 'HEAD']), `${path}?${pick(queries)}`, pick(headers), '');
    }),
  );
  expect([...new Set(statuses)].filter((status) => ![200, 304, 400, 404].includes(status))).toEqual([]);
  expect(statuses.filter((status) => status === 200).length).toBeGreaterThan(50);
  expect(await contentOf(application)).toBe(before);
});
