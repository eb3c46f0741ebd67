// `npm run screenshots` takes the pictures of the administrators' page in docs/, of the demo as it was built last.
// It needs Chromium: the one of CHROMIUM_PATH, or `chromium` on PATH.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, statSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import pg from 'pg';
import { chromium } from 'playwright-core';
import { startDevPostgres } from './dev-postgres.mjs';

const LARGEST_BYTES = 250_000;

const WEBKIT = 'AppleWebKit/537.36 (KHTML, like Gecko)';
const CHROME = `Mozilla/5.0 (Windows NT 10.0; Win64; x64) ${WEBKIT} Chrome/142.0.0.0 Safari/537.36`;
const FIREFOX = 'Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0';
const IPHONE =
  'Mozilla/5.0 (iPhone; CPU iPhone OS 18_7 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/26.1 Mobile/15E148 Safari/604.1';
const WORKER = 'grading-worker/4.2';

/** Who stands at the top of the list: login in the demo, name to show, role, minutes since, address, user agent. */
const PEOPLE = [
  ['user1', 'm.okafor', 'teacher', 4, '198.51.100.23', FIREFOX],
  ['user2', 'lena.hoffmann', 'student', 9, '2001:db8:40::1c', IPHONE],
  ['grader', 'grader', 'service', 12, '203.0.113.41', WORKER],
  ['grader', 'grader', 'service', 13, '203.0.113.42', WORKER],
  ['user3', 'yuki.tanaka', 'student', 21, '198.51.100.87', CHROME],
  ['root', 'root', 'superadmin', 35, '192.0.2.15', FIREFOX],
  ['user4', 'd.moreau', 'teacher', 48, '198.51.100.5', CHROME],
  ['user5', 'amara.diallo', 'student', 62, '2001:db8:40::9', FIREFOX],
  ['user6', 's.lindqvist', 'student', 90, '198.51.100.140', CHROME],
];
const ME = ['admin', 'admin', 2, '192.0.2.14'];
/** Without a name of their own, further down. */
const OTHERS = 431;
const STORM = 41;

const DESKTOP = { width: 1200, height: 1000 };
const PHONE = { width: 390, height: 1380 };
const PICTURES = [
  ['admin-light.png', { colorScheme: 'light', viewport: DESKTOP }],
  ['admin-dark.png', { colorScheme: 'dark', viewport: DESKTOP }],
  ['admin-phone.png', { colorScheme: 'light', viewport: PHONE }],
];

const postgres = await startDevPostgres();
const database = new pg.Client({ connectionString: postgres.url });
const { demo, url } = await startDemo();
const browser = await chromium.launch({
  executablePath: findChromium(),
  args: ['--no-sandbox', '--disable-gpu'],
});
try {
  await database.connect();
  await populate();
  for (const [file, options] of PICTURES) await takePicture(file, options);
} finally {
  await browser.close();
  demo.kill('SIGTERM');
  await once(demo, 'close');
  await database.end();
  await postgres.stop();
}

async function startDemo() {
  const child = spawn(process.execPath, [pathOf('../demo/dist/main.js')], {
    // Nobody is exempt by name here: xqueue-watcher is the account of the storm.
    env: { ...process.env, DATABASE_URL: postgres.url, PORT: '0', EXEMPT_USERNAMES: '' },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [output] = await Promise.race([once(child.stdout, 'data'), once(child, 'close')]);
  const [address] = /http:\/\/localhost:\d+/.exec(String(output)) ?? [];
  if (address === undefined) throw new Error('The demo does not start. Has it been built? npm run build');
  return { demo: child, url: address };
}

/** Real logins. What logins of one machine at one moment do not have is written into their rows afterwards. */
async function populate() {
  for (let index = 0; index < OTHERS; index += 1) {
    const { id } = await signIn(`user${100 + index}`, CHROME);
    await rewrite(id, `user${100 + index}`, 'student', 95 + 3 * index, '198.51.100.9');
  }
  for (const [login, username, role, minutes, ip, userAgent] of PEOPLE) {
    const { id, cookie } = await signIn(login, userAgent);
    await rewrite(id, username, role, minutes, ip);
    if (login === 'root') await exempt(cookie, 'nightly-import', 'Three machines until the move');
  }
  for (let login = 0; login < STORM; login += 1) await signIn('xqueue-watcher', WORKER);
  await database.query(`UPDATE user_session SET ip = '203.0.113.40' WHERE username = 'xqueue-watcher'`);
}

async function signIn(username, userAgent) {
  const body = JSON.stringify({ username, password: username });
  const headers = { 'content-type': 'application/json', 'user-agent': userAgent };
  const answer = await fetch(`${url}/login`, { method: 'POST', headers, body });
  if (!answer.ok) throw new Error(`${username} cannot sign in: ${answer.status}`);
  const { session } = await answer.json();
  return { id: session.id, cookie: answer.headers.getSetCookie()[0].split(';', 1)[0] };
}

async function exempt(cookie, value, note) {
  const body = JSON.stringify({ kind: 'username', value, note });
  const headers = { 'content-type': 'application/json', cookie };
  const answer = await fetch(`${url}/admin/sessions/exemptions`, { method: 'PUT', headers, body });
  if (!answer.ok) throw new Error(`${value} cannot be exempted: ${answer.status}`);
}

async function rewrite(id, username, role, minutes, ip) {
  await database.query(
    `UPDATE user_session SET username = $2, roles = ARRAY[$3], ip = $5,
       created_at = now() - $4 * interval '1 minute', last_seen_at = now() - $4 * interval '20 seconds'
     WHERE id = $1`,
    [id, username, role, minutes, ip],
  );
}

async function takePicture(file, options) {
  const context = await browser.newContext({ baseURL: url, userAgent: CHROME, locale: 'en-GB', ...options });
  const answer = await context.request.post('/login', { data: { username: 'admin', password: 'admin' } });
  const { session } = await answer.json();
  await rewrite(session.id, ...ME);
  const page = await context.newPage();
  await page.goto('/admin/sessions/ui');
  await page.getByText('this is you').waitFor();
  await page.getByRole('button', { name: 'Exempt xqueue-watcher' }).waitFor();
  const path = pathOf(`../docs/${file}`);
  await page.screenshot({ path });
  await context.close();
  const { size } = statSync(path);
  if (size > LARGEST_BYTES) throw new Error(`${file} has ${size} bytes, which is too many for a README.`);
  console.log(`docs/${file}: ${size} bytes`);
}

function findChromium({ CHROMIUM_PATH, PATH = '' } = process.env) {
  const found = PATH.split(delimiter).map((place) => join(place, 'chromium'));
  const path = CHROMIUM_PATH ?? found.find((file) => existsSync(file));
  if (path === undefined) throw new Error('There is no chromium on PATH: apt-get install chromium');
  return path;
}

function pathOf(relative) {
  return fileURLToPath(new URL(relative, import.meta.url));
}
