import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { SingleSessionService, type UserSession } from '../../src/index.js';
import { startApplication, Users, type TestApplication } from '../support/application.js';
import { Browser } from '../support/client.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { newUser, rowsOf } from '../support/sessions.js';

const users = new Users();
let databaseUrl: string;
let application: TestApplication;
let proxied: TestApplication;

beforeAll(async () => {
  databaseUrl = await freshDatabase();
  application = await startApplication(databaseUrl, { users, options: { maxSessions: 1_000 } });
  proxied = await startApplication(databaseUrl, {
    users,
    options: { maxSessions: 1_000 },
    trustProxy: true,
  });
});

afterAll(async () => {
  await proxied?.close();
  await application?.close();
  await dropDatabase(databaseUrl);
});

async function loginFrom(app: TestApplication, headers: Record<string, string>): Promise<UserSession> {
  const user = newUser({ users });
  const { username } = user;
  const answer = await new Browser(app.url).post('/token', { username, password: username }, headers);
  expect(answer.status).toBe(200);
  return (await rowsOf(app, user))[0]!;
}

/** What no HTTP client sends, but what another transport or a framework may hand over. */
async function admitFrom(request: { ip?: unknown; headers?: object }): Promise<UserSession> {
  const user = newUser({ users });
  await application.app
    .get(SingleSessionService)
    .admit(user, { headers: {}, ...request }, { credential: 'token' });
  return (await rowsOf(application, user))[0]!;
}

describe('the address of a session', () => {
  it('is that of the connection: no forged header reaches the row while "trust proxy" is off [S8]', async () => {
    for (let n = 0; n < 100; n++) {
      const forged = [`10.0.0.${n}`, `10.0.0.${n}, 127.0.0.2`, `2001:db8::${n}`, `${n}`, `for="[::1]:${n}"`][
        n % 5
      ]!;
      const { ip } = await loginFrom(application, {
        'x-forwarded-for': forged,
        'x-real-ip': forged,
        forwarded: `for=${n}`,
        'cf-connecting-ip': forged,
      });
      expect(ip).toBe('127.0.0.1');
    }
  });

  it.each([
    ['2001:db8::1', '2001:db8::1'],
    ['2001:DB8:0:0:0:0:0:1', '2001:db8::1'],
    ['2001:0db8:0000::0001', '2001:db8::1'],
    ['203.0.113.7', '203.0.113.7'],
    ['::ffff:203.0.113.7', '203.0.113.7'],
    ['::FFFF:203.0.113.7', '203.0.113.7'],
    ['::ffff:cb00:7107', '203.0.113.7'],
    ['0:0:0:0:0:ffff:203.0.113.7', '203.0.113.7'],
    ['fe80::1%eth0', 'fe80::1'],
    ['::1', '::1'],
  ])('%s, as "trust proxy" gives it, is one value: %s [S8]', async (given, canonical) => {
    expect((await loginFrom(proxied, { 'x-forwarded-for': given })).ip).toBe(canonical);
  });

  it.each([
    'unknown',
    '_hidden',
    '999.1.1.1',
    '1.2.3',
    '01.02.03.04',
    '[::1]',
    '[::1]:80',
    '1.2.3.4:80',
    '1.2.3.4/8',
    '::1/128',
    `';--`,
    '%',
    '%eth0',
    ':::',
    '1::2::3',
    'a'.repeat(8_000),
  ])('%s is no address: null, and the login works [S8]', async (given) => {
    expect((await loginFrom(proxied, { 'x-forwarded-for': given })).ip).toBeNull();
  });

  it.each([undefined, '', '\0', '127.0.0.1\0', '\ud800', null])(
    '%j is no address either [S8]',
    async (ip) => {
      expect((await admitFrom({ ip })).ip).toBeNull();
    },
  );
});

describe('the user agent of a session', () => {
  it('is stored as it came', async () => {
    const agent = 'Mozilla/5.0 (X11; Linux x86_64) "quoted" <script>alert(1)</script>';
    expect((await loginFrom(application, { 'user-agent': agent })).userAgent).toBe(agent);
  });

  it('is cut to 512 characters [S8, S20]', async () => {
    expect((await loginFrom(application, { 'user-agent': 'x'.repeat(8_000) })).userAgent).toBe(
      'x'.repeat(512),
    );
    expect((await admitFrom({ headers: { 'user-agent': 'x'.repeat(65_536) } })).userAgent).toBe(
      'x'.repeat(512),
    );
  });

  const SAME = (text: string): unknown => expect.stringMatching(new RegExp(`^${text}$`, 'u'));

  it.each([
    ['control characters', 'a\x01b\x1b[31mc\x7f\r\nd', SAME('ab\\[31mcd')],
    ['NUL', 'a\0b', SAME('ab')],
    ['C1 control characters', 'a\x85\x9bb', SAME('ab')],
    ['a lone surrogate', 'a\ud800b', SAME('a.?b')],
    ['a pair that the cut divides', `${'x'.repeat(511)}😀`, SAME('x{511}.?')],
    ['nothing but control characters', '\x01\x02', null],
    ['nothing', '', null],
    ['a list', ['a', 'b'], null],
    ['no string', 7, null],
  ])('with %s is stored without harm [S8]', async (_, agent, stored) => {
    const { userAgent } = await admitFrom({ headers: { 'user-agent': agent } });
    expect(userAgent).toEqual(stored);
  });
});
