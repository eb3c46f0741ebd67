import { createServer, type Server } from 'node:http';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import axe, { type AxeResults } from 'axe-core';
import pg from 'pg';
import type { Browser, BrowserContext, BrowserContextOptions, Locator, Page } from 'playwright-core';
import ts from 'typescript';
import { findChromium, launchChromium } from '../support/chromium.js';
import { Browser as ApiBrowser } from '../support/client.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { endAllProcesses, startProcess, type RunningProcess } from '../support/processes.js';

// The page for administrators, as the demo mounts it, in a real browser.

const BASE = '/admin/sessions';
const PATIENCE_MS = 10_000;
/** axe looks at everything, eight times. */
const SLOW_MS = 90_000;
/** How often the page asks for what is new. */
const POLL_MS = 3_000;

const DESKTOP = { width: 1200, height: 900 };
const PHONE = { width: 320, height: 700 };

const INJECT = 'document.body.dataset.injected=1;alert(1)';
/** What has been markup, script or an address somewhere, when somebody wrote a page carelessly. */
const PAYLOADS = [
  `<script>${INJECT}</script>`,
  `</script><script>${INJECT}</script>`,
  `</title></textarea></style><script>${INJECT}</script>`,
  `<img src=x onerror="${INJECT}">`,
  `<img src=x onerror=${INJECT}//`,
  `"><img src=x onerror=${INJECT}>`,
  `'><img src=x onerror=${INJECT}>`,
  `<svg onload="${INJECT}">`,
  `<svg><script>${INJECT}</script></svg>`,
  `<svg><animate onbegin=${INJECT} attributeName=x dur=1s>`,
  `<svg><a xlink:href="javascript:${INJECT}"><text y="20">x</text></a></svg>`,
  `<math><mtext></mtext><mglyph><style><img src=x onerror=${INJECT}></style></mglyph></math>`,
  `<body onload=${INJECT}>`,
  `<iframe src="javascript:${INJECT}"></iframe>`,
  `<iframe srcdoc="<script>${INJECT}</script>"></iframe>`,
  `<object data="javascript:${INJECT}"></object>`,
  `<embed src="javascript:${INJECT}">`,
  `<a href="javascript:${INJECT}">alice</a>`,
  `<a href="data:text/html,<script>${INJECT}</script>">alice</a>`,
  `<form action="javascript:${INJECT}"><button>Log out</button></form>`,
  `<input autofocus onfocus=${INJECT}>`,
  `<details open ontoggle=${INJECT}>`,
  `<video><source onerror=${INJECT}></video>`,
  `<marquee onstart=${INJECT}>alice</marquee>`,
  `<style>@import "//elsewhere.invalid/x.css";*{display:none}</style>`,
  `<link rel=stylesheet href=//elsewhere.invalid/x.css>`,
  `<base href="https://elsewhere.invalid/">`,
  `<meta http-equiv="refresh" content="0;url=https://elsewhere.invalid/">`,
  `<template shadowrootmode=open><script>${INJECT}</script></template>`,
  `" onmouseover="${INJECT}" autofocus onfocus="${INJECT}`,
  `javascript:${INJECT}`,
  `{{constructor.constructor('${INJECT}')()}}\${${INJECT}}<%= ${INJECT} %>`,
  `&lt;script&gt;${INJECT}&lt;/script&gt;&#60;img src=x onerror=${INJECT}&#62;`,
];

let databaseUrl: string;
let demo: RunningProcess;

beforeAll(async () => {
  databaseUrl = await freshDatabase();
  demo = await startProcess({ env: { DATABASE_URL: databaseUrl } });
});

afterAll(async () => {
  await endAllProcesses();
  await dropDatabase(databaseUrl);
});

/** Somebody elsewhere, who is signed in. */
async function signedIn(username: string, userAgent = 'a test'): Promise<ApiBrowser> {
  const browser = new ApiBrowser(demo.url);
  const answer = await browser.post('/login', { username, password: username }, { 'user-agent': userAgent });
  expect(answer.status).toBe(200);
  return browser;
}

async function statusOf(browser: ApiBrowser): Promise<[status: number, reason?: string]> {
  const { status, body } = await browser.get('/me');
  return status === 200 ? [status] : [status, body.reason];
}

async function query(sql: string, values: unknown[] = []): Promise<unknown[]> {
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  try {
    return (await client.query<Record<string, unknown>>(sql, values)).rows;
  } finally {
    await client.end();
  }
}

describe('what the page is made of', () => {
  const fetchAs = async (username: string, path: string) => (await signedIn(username)).get(BASE + path);

  it('has a script in which the type checker finds nothing to complain about, and no way to write markup [threat S9]', async () => {
    const { body: script } = await fetchAs('admin', '/ui/app.js');
    expect(script).toContain('// @ts-check');
    expect(complaintsAbout(script)).toEqual([]);
    // So it would have found something.
    expect(complaintsAbout(`${script}\nbyId('live', HTMLElement).valeu = plural('1', 2);`)).toHaveLength(2);
    expect(script).not.toMatch(
      /innerHTML|outerHTML|insertAdjacentHTML|setHTML|document\.write|DOMParser|createContextualFragment|\beval\b|new Function|\.style\b/,
    );
  });
});

const executablePath = findChromium();
const [inChromium, title] =
  executablePath === undefined
    ? [describe.skip, 'skipped: no Chromium on this machine; apt-get install chromium']
    : [describe, 'the page for administrators in a browser'];
// Jest prints no title of a file of which it ran nothing.
if (executablePath === undefined) process.stderr.write(`test/e2e/admin-page.spec.ts ${title}\n`);

inChromium(title, () => {
  let chromium: Browser;
  let complaints: string[];

  beforeAll(async () => {
    chromium = await launchChromium(executablePath!);
  });

  beforeEach(() => {
    complaints = [];
  });

  afterEach(async () => {
    await Promise.all(chromium.contexts().map((context) => context.close()));
  });

  afterAll(async () => {
    await chromium?.close();
  });

  /** Shares nothing with another one, as a private window or another machine. What it complains about is collected. */
  async function openBrowser({
    stopsClock = false,
    ...options
  }: BrowserContextOptions & { stopsClock?: boolean } = {}): Promise<BrowserContext> {
    const browser = await chromium.newContext({ baseURL: demo.url, viewport: DESKTOP, ...options });
    browser.setDefaultTimeout(PATIENCE_MS);
    browser.on('weberror', (error) => complaints.push(error.error().message));
    browser.on('dialog', (dialog) => {
      complaints.push(`dialog: ${dialog.message()}`);
      void dialog.dismiss();
    });
    browser.on('console', (message) => {
      if (['error', 'warning', 'assert'].includes(message.type())) complaints.push(message.text());
    });
    if (stopsClock) await stopClock(browser);
    await browser.addInitScript(RECORD);
    return browser;
  }

  async function signIn(browser: BrowserContext, username: string): Promise<void> {
    const answer = await browser.request.post('/login', { data: { username, password: username } });
    expect(answer.status()).toBe(200);
  }

  async function openAs(username: string, options?: Parameters<typeof openBrowser>[0]): Promise<Page> {
    const browser = await openBrowser(options);
    await signIn(browser, username);
    return openPage(browser);
  }

  /** Its clock stands still until the test lets time pass: what the page does next does not depend on the machine. */
  async function openWithClock(username: string): Promise<{ page: Page; clock: BrowserContext['clock'] }> {
    const page = await openAs(username, { stopsClock: true });
    return { page, clock: page.context().clock };
  }

  async function openPage(browser: BrowserContext): Promise<Page> {
    const page = await browser.newPage();
    await page.goto(`${BASE}/ui`);
    await isComplete(page);
    return page;
  }

  it('is reached from a login as admin, and shows who is signed in where, this browser among them', async () => {
    await signedIn('user1', 'Firefox on a desk');
    const page = await (await openBrowser()).newPage();
    await page.goto('/');
    await page.getByLabel('Username', { exact: true }).fill('admin');
    await page.getByLabel('Password').fill('admin');
    await page.getByRole('button', { name: 'Sign in' }).click();
    await page.getByText('Signed in as admin').waitFor();
    // Until then the start page was told that nobody is signed in, which Chromium notes as an error.
    complaints = [];
    await page.getByRole('link', { name: 'the page for administrators' }).click();

    await isComplete(page);
    const mine = rowsOf(page).filter({ hasText: 'this is you' });
    expect(await mine.getByRole('rowheader').innerText()).toMatch(/^admin\b/);
    const other = rowOf(page, 'user1');
    expect(await cellsOf(other)).toMatchObject({
      User: 'user1 user',
      Device: 'Firefox on a desk',
      Address: '127.0.0.1',
      State: 'Active',
    });
    const since = other.locator('[data-name=Since] time');
    expect(await since.innerText()).toMatch(/now|ago/);
    expect(Date.parse((await since.getAttribute('datetime'))!)).toBeCloseTo(Date.now(), -5);
    expect(await since.getAttribute('title')).toContain(String(new Date().getFullYear()));
    expect(await tile(page, 'Active sessions')).toBeGreaterThanOrEqual(2);
    expect(await tile(page, 'Administrators')).toBeGreaterThanOrEqual(1);
    expect(complaints).toEqual([]);
  });

  it('filters by exact username, by role and by state, and clears the filter', async () => {
    await signedIn('user11');
    await signedIn('user12');
    await signedIn('user12');
    await signedIn('grader');
    const page = await openAs('admin');
    await filter(page, { Username: 'user' });
    await says(page, 'There is no such session.');
    await filter(page, { Username: 'user12' });
    await shows(page, ['user12']);
    await filter(page, { State: 'Ended' });
    await rowOf(page, 'user12').getByText('Ended', { exact: true }).waitFor();
    await shows(page, ['user12']);
    expect((await cellsOf(rowOf(page, 'user12')))['State']).toMatch(/^Ended: newer login, /);
    // What has ended cannot be ended: not alone, and not with others.
    expect(await rowsOf(page).locator('button, input').count()).toBe(0);
    await filter(page, { State: 'All' });
    await shows(page, ['user12', 'user12']);
    await page.getByLabel('Select all on this page').click();
    await page.getByRole('button', { name: 'Log out 1 selected' }).waitFor();
    await page.getByRole('button', { name: 'Clear', exact: true }).click();
    await filter(page, { Role: 'service' });
    await shows(page, ['grader']);
    expect((await cellsOf(rowOf(page, 'grader')))['User']).toBe('grader service exempt');
  });

  it('shows what was asked for last, also when an earlier question is answered later', async () => {
    await signedIn('user13');
    await signedIn('user14');
    const page = await openAs('admin');
    let answerLate: () => void;
    const late = new Promise<void>((resolve) => (answerLate = resolve));
    await page.route(/username=user13/, async (route) => {
      await late;
      await route.continue();
    });
    const form = page.getByRole('search');
    await form.getByLabel('Username').fill('user13');
    await form.getByRole('button', { name: 'Filter' }).click();
    await filter(page, { Username: 'user14' });
    await shows(page, ['user14']);
    answerLate!();
    await expectSoon(
      async () => (await recordOf(page)).taken.filter((address) => /username=user13/.test(address)).length,
      1,
    );
    expect(await namesOn(page)).toEqual(['user14']);
  });

  it('leads through a long list to its end and back, each session on one page only', async () => {
    await Promise.all(Array.from({ length: 60 }, (_, index) => signedIn(`user${100 + index}`)));
    const { page } = await openWithClock('admin');
    const pages = page.getByRole('group', { name: 'Pages of sessions' });
    const [newer, older] = ['Newer', 'Older'].map((name) => pages.getByRole('button', { name }));
    const seen: string[][] = [await keysOf(page)];
    await pages.getByText('Sessions 1 to 25').waitFor();
    expect(await newer!.getAttribute('aria-disabled')).toBe('true');
    // What is selected here would be logged out from a page that does not show it.
    await rowsOf(page).getByRole('checkbox').first().check();
    for (let last = 50; (await older!.getAttribute('aria-disabled')) === 'false'; last += 25) {
      await older!.click();
      await pages.getByText(`Sessions ${last - 24} to`).waitFor();
      await page.getByRole('button', { name: 'Log out selected' }).waitFor();
      seen.push(await keysOf(page));
    }
    const total = await query(`SELECT count(*)::int AS live FROM user_session WHERE ended_at IS NULL`);
    expect(new Set(seen.flat()).size).toBe(seen.flat().length);
    expect([{ live: seen.flat().length }]).toEqual(total);
    // The button that has switched itself off keeps the focus of whoever pressed it.
    await hasFocus(older!);
    await page.getByText('Older page, not live').waitFor();

    // One after the other: a second click before the answer to the first leads to the same page.
    for (let first = (seen.length - 2) * 25 + 1; first > 0; first -= 25) {
      await newer!.click();
      await pages.getByText(`Sessions ${first} to`).waitFor();
    }
    expect(await keysOf(page)).toEqual(seen[0]);

    await page.getByLabel('Rows').selectOption('100');
    await expectSoon(() => rowsOf(page).count(), seen.flat().length);
  });

  it('leads to the page that was asked for, also when it asks by itself before the answer is there', async () => {
    await Promise.all(Array.from({ length: 30 }, (_, index) => signedIn(`user${100 + index}`)));
    const { page, clock } = await openWithClock('admin');
    let answerLate: () => void;
    const late = new Promise<void>((resolve) => (answerLate = resolve));
    await page.route(/cursor=./, async (route) => {
      await late;
      await route.continue();
    });
    const pages = page.getByRole('group', { name: 'Pages of sessions' });
    const asked = page.waitForRequest(/cursor=./);
    await pages.getByRole('button', { name: 'Older' }).click();
    await asked;
    await clock.runFor(POLL_MS);
    answerLate!();
    await pages.getByText('Sessions 26 to').waitFor();
  });

  it('logs out one session after it has asked; that browser is thrown out and told why, nobody else is', async () => {
    const other = await (await openBrowser()).newPage();
    await signIn(other.context(), 'alice');
    await other.goto('/');
    await other.getByText('Signed in as alice').waitFor();
    const bob = await signedIn('bob');
    const page = await openAs('admin');
    const visited = visits(other);

    await rowOf(page, 'alice').getByRole('button', { name: 'Log out' }).click();
    await page
      .getByRole('dialog', { name: 'Log out alice?' })
      .getByRole('button', { name: 'Cancel' })
      .click();
    await hasFocus(rowOf(page, 'alice').getByRole('button', { name: 'Log out' }));
    expect((await other.context().request.get('/me')).status()).toBe(200);

    await logOut(page, 'alice');
    await says(page, '1 session ended.');
    await rowOf(page, 'alice').waitFor({ state: 'detached' });
    await other.getByText('Signed out by an administrator').waitFor();
    expect(visited).toEqual([]);
    expect(await statusOf(bob)).toEqual([200]);
    await rowOf(page, 'bob').waitFor();
    // The record knows who did it.
    await isRecorded(page, {
      By: 'admin',
      Action: 'Ended one session',
      Ended: '1 session of 1 user',
    });
  });

  it('logs out the selected ones and says in words which administrators it had to leave alone [lesson 28]', async () => {
    const [user, root] = [await signedIn('user21'), await signedIn('root')];
    const bystander = await signedIn('user22');
    const page = await openAs('admin');
    const button = page.getByRole('button', { name: /^Log out .*selected$/ });
    await button.click({ force: true });
    expect(await page.getByRole('dialog').count()).toBe(0);
    for (const name of ['user21', 'root']) await rowOf(page, name).getByRole('checkbox').check();
    expect(await button.innerText()).toBe('Log out 2 selected');
    await button.click();
    await answerDialog(page, 'Log out 2 sessions?');
    await says(page, '1 session ended. Left alone: root. You may not log out administrators.');
    expect(await Promise.all([user, root, bystander].map(statusOf))).toEqual([[401, 'admin'], [200], [200]]);
    expect(await button.innerText()).toBe('Log out selected');
    await rowOf(page, 'user21').waitFor({ state: 'detached' });
  });

  it('logs the person itself out last, so that the others go too', async () => {
    // More than are logged out at a time.
    const names = Array.from({ length: 9 }, (_, index) => `user${250 + index}`);
    const others = await Promise.all(names.map((name) => signedIn(name)));
    const page = await openAs('root');
    for (const name of ['root', ...names]) await rowOf(page, name).getByRole('checkbox').check();
    await page.getByRole('button', { name: 'Log out 10 selected' }).click();
    await page.getByText('Your own session, in this browser, is among them').waitFor();
    await answerDialog(page, 'Log out 10 sessions?');
    await page.getByRole('heading', { name: 'Your session has ended' }).waitFor();
    expect(await Promise.all(others.map(statusOf))).toEqual(others.map(() => [401, 'admin']));
  });

  it('logs a user out on every device if asked to, with a note for the record, and leaves others alone', async () => {
    // Exempt, so with several sessions at a time.
    const devices = [await signedIn('grader'), await signedIn('grader'), await signedIn('grader')];
    const bystander = await signedIn('user23');
    const page = await openAs('admin');
    await rowOf(page, 'grader').first().getByRole('button', { name: 'Log out' }).click();
    await page.getByLabel('All sessions of grader, on every device').check();
    await page.getByRole('dialog').getByLabel('Note for the record').fill('the old machines');
    await answerDialog(page, 'Log out grader?');
    await says(page, /^\d+ sessions of 1 user ended\.$/);
    expect(await Promise.all(devices.map(statusOf))).toEqual(devices.map(() => [401, 'admin']));
    expect(await statusOf(bystander)).toEqual([200]);
    await isRecorded(page, {
      Action: 'Logged people out',
      Note: 'the old machines',
    });
  });

  it('says that a session had ended already, instead of claiming to have ended it', async () => {
    await signedIn('user24');
    const page = await openAs('admin');
    await rowOf(page, 'user24').getByRole('checkbox').check();
    await signedIn('user24');
    await page.getByRole('button', { name: 'Log out 1 selected' }).click();
    await answerDialog(page, 'Log out user24?');
    await says(page, '1 session had ended already.');
  });

  describe('log out everyone except', () => {
    const region = (page: Page) => page.getByRole('region', { name: /^Log out everyone/ });
    const count = async (page: Page) => {
      await region(page).getByRole('button', { name: 'Count first' }).click();
      await region(page)
        .getByText(/will end|takes the permission/)
        .waitFor();
      return region(page).getByRole('status').innerText();
    };
    const go = (page: Page) => region(page).getByRole('button', { name: /^Log out/ });

    it('counts before its button works, and any change of the form takes the button back', async () => {
      await signedIn('user31');
      const page = await openAs('admin');
      expect(await go(page).isDisabled()).toBe(true);
      expect(await count(page)).toMatch(/^\d+ sessions? of \d+ users? will end, \d+ (is|are) spared\.$/);
      expect(await go(page).innerText()).toMatch(/^Log out \d+ sessions?$/);
      const changes = [
        () => region(page).getByLabel('People with these usernames').fill('user31'),
        () => region(page).getByLabel('People with these roles').fill('service'),
        () => region(page).getByLabel('Me', { exact: true }).uncheck(),
        () => region(page).getByLabel('Note for the record').fill('a test'),
      ];
      for (const change of changes) {
        await count(page);
        expect(await go(page).isEnabled()).toBe(true);
        await change();
        expect(await go(page).isDisabled()).toBe(true);
        expect(await go(page).innerText()).toBe('Log out');
      }
      await region(page).getByLabel('People with these roles').fill('user, service, admin');
      expect(await count(page)).toMatch(/^0 sessions of 0 users will end/);
      expect(await go(page).isDisabled()).toBe(true);
      expect(await query(`SELECT 1 FROM user_session_action WHERE action = 'logout-everyone'`)).toEqual([]);
    });

    it('does not offer a count that comes after the form was changed: somebody may be spared since', async () => {
      const page = await openAs('admin');
      let answerLate: () => void;
      const late = new Promise<void>((resolve) => (answerLate = resolve));
      await page.route(/logout-everyone$/, async (route) => {
        await late;
        await route.continue();
      });
      await region(page).getByRole('button', { name: 'Count first' }).click();
      await region(page).getByText('Counting …').waitFor();
      await region(page).getByLabel('People with these usernames').fill('user31');
      answerLate!();
      const counts = async () =>
        (await recordOf(page)).taken.filter((address) => address.endsWith('/logout-everyone')).length;
      await expectSoon(counts, 1);
      expect(await region(page).getByRole('status').innerText()).toMatch(/^Count first/);
      expect(await go(page).isDisabled()).toBe(true);
    });

    it('ends as many as it counted, and spares administrators, whom it names, and whoever asks [lesson 27]', async () => {
      const [out, spared, root] = await Promise.all(
        ['user32', 'user33', 'root'].map((name) => signedIn(name)),
      );
      const page = await openAs('admin');
      await region(page).getByLabel('People with these usernames').fill('nobody,\n user33 , nobody');
      await region(page).getByLabel('Note for the record').fill('after the incident');
      const counted = /^(\d+ sessions? of \d+ users?) will end, (\d+)/.exec(await count(page))!;
      await go(page).click();
      await says(page, `${counted[1]} ended, ${counted[2]} spared.`);
      expect(await go(page).isDisabled()).toBe(true);
      expect(await Promise.all([out!, spared!, root!].map(statusOf))).toEqual([
        [401, 'cut-off'],
        [200],
        [200],
      ]);
      await shows(page, ['admin', 'root', 'user33']);
      await isRecorded(page, {
        Action: 'Logged out everyone',
        Ended: counted[1]!,
        Note: 'after the incident',
      });
    });

    it('says in words that somebody may not log out administrators, and counts it for who may', async () => {
      const page = await openAs('admin');
      await region(page).getByLabel('Administrators').uncheck();
      expect(await count(page)).toMatch(/permission/);
      expect(await go(page).isDisabled()).toBe(true);

      const other = await openAs('root');
      await region(other).getByLabel('Administrators').uncheck();
      expect(await count(other)).toMatch(/will end/);
    });
  });

  it('shows a login elsewhere without a reload, moves neither focus nor scroll, and says nothing [P1]', async () => {
    // One after the other, so that the row is far down: a page that is not scrolled has no place to keep.
    for (let index = 0; index < 15; index++) await signedIn(`user${200 + index}`);
    const page = await openAs('admin');
    const visited = visits(page);
    const button = rowOf(page, 'user200').getByRole('button', { name: 'Log out' });
    await button.focus();
    expect(await page.evaluate('scrollY')).toBeGreaterThan(0);
    await page.evaluate('window.before = document.activeElement');
    const top = (await button.boundingBox())!.y;
    await signedIn('user41', 'a new device');

    await rowOf(page, 'user41').waitFor();
    expect((await cellsOf(rowOf(page, 'user41')))['Device']).toBe('a new device');
    expect((await cellsOf(rowOf(page, 'user41')))['User']).toBe('user41 user');
    expect(visited).toEqual([]);
    expect(await page.evaluate('document.activeElement === window.before')).toBe(true);
    expect(Math.abs((await button.boundingBox())!.y - top)).toBeLessThan(2);
    const spoken = await page.getByRole('status').allInnerTexts();
    expect(spoken.filter((text) => text !== '' && !text.startsWith('Count first'))).toEqual([]);

    // And what ends elsewhere goes.
    await signedIn('user41');
    await expectSoon(async () => (await cellsOf(rowOf(page, 'user41')))['Device'], 'a test');
  });

  it('stands still while something is selected, asked or typed, and goes on after that', async () => {
    await signedIn('user42');
    const { page, clock } = await openWithClock('admin');
    await rowOf(page, 'user42').getByRole('checkbox').check();
    await page.getByText('Paused', { exact: true }).waitFor();
    const { asked } = await recordOf(page);
    await signedIn('user43');
    await clock.runFor(5 * POLL_MS);
    expect((await recordOf(page)).asked).toEqual(asked);
    expect(await rowOf(page, 'user42').getByRole('checkbox').isChecked()).toBe(true);

    await page.getByRole('button', { name: 'Clear selection' }).click();
    await nextRound(page);
    await rowOf(page, 'user43').waitFor();

    const before = await recordOf(page);
    await rowOf(page, 'user43').getByRole('button', { name: 'Log out' }).click();
    await clock.runFor(POLL_MS);
    await page.getByRole('dialog').getByRole('button', { name: 'Cancel' }).click();
    await clock.runFor(POLL_MS - 1);
    await page.getByLabel('Username (exact)').fill('u');
    await clock.runFor(1);
    expect((await recordOf(page)).asked).toEqual(before.asked);
    await nextRound(page);
  });

  it('ticks no box of what it has forgotten, with another filter or number of rows, also when nobody answers', async () => {
    await signedIn('user44');
    const { page } = await openWithClock('admin');
    const box = rowOf(page, 'user44').getByRole('checkbox');
    const isForgotten = async () => {
      await page.getByRole('button', { name: 'Log out selected' }).waitFor();
      await expectSoon(() => box.isChecked(), false);
    };
    await box.check();
    await filter(page, { Role: 'user' });
    await isForgotten();

    await box.check();
    await page.getByLabel('Rows').selectOption('50');
    await isForgotten();

    await box.check();
    await page.route(`**${BASE}?**`, (route) => route.abort());
    await page.getByRole('button', { name: 'Filter' }).click();
    await says(page, 'The server did not answer.');
    await isForgotten();
  });

  it('keeps what is selected when a button that is off is pressed', async () => {
    await signedIn('user45');
    const { page } = await openWithClock('admin');
    await rowOf(page, 'user45').getByRole('checkbox').check();
    const newer = page
      .getByRole('group', { name: 'Pages of sessions' })
      .getByRole('button', { name: 'Newer' });
    expect(await newer.isDisabled()).toBe(true);
    await newer.click({ force: true });
    await page.getByRole('button', { name: 'Log out 1 selected' }).waitFor();
  });

  it('does not ask while nobody sees it, and leaves a slow server ten times as long alone as it took', async () => {
    const { page, clock } = await openWithClock('admin');
    await page.getByText('Live', { exact: true }).waitFor();
    const summaries = async () =>
      (await recordOf(page)).asked.filter((address) => address.endsWith('/summary')).length;
    const before = await recordOf(page);
    const asked = await summaries();
    await page.evaluate(`
      Object.defineProperty(document, 'hidden', { configurable: true, get: () => window.isHidden });
      window.isHidden = true;
    `);
    await clock.runFor(10 * POLL_MS);
    expect((await recordOf(page)).asked).toEqual(before.asked);

    await page.route(`**${BASE}/summary`, async (route) => {
      await clock.runFor(2_000);
      await route.continue();
    });
    await page.evaluate(`window.isHidden = false; document.dispatchEvent(new Event('visibilitychange'))`);
    // All is answered when the page has set the timer of its next round.
    await expectSoon(async () => (await recordOf(page)).pauses, [...before.pauses, 20_000]);
    await clock.runFor(19_999);
    expect(await summaries()).toBe(asked + 1);
    await clock.runFor(1);
    expect(await summaries()).toBe(asked + 2);
  });

  it('says of what it asks whether somebody is there, so that it does not keep a session from being idle', async () => {
    const { page } = await openWithClock('admin');
    const said: (string | undefined)[] = [];
    page.on('request', (request) => said.push(request.headers()['x-single-session']));
    const saidInRound = async () => {
      said.length = 0;
      await nextRound(page);
      return [...new Set(said)];
    };
    for (const touch of [() => page.keyboard.press('Shift'), () => page.mouse.move(200, 200)]) {
      await touch();
      expect(await saidInRound()).toEqual([undefined]);
      expect(await saidInRound()).toEqual(['absent']);
    }
    said.length = 0;
    // An order is never one that nobody gave.
    await page.evaluate(`document.querySelector('#count').click()`);
    await page.getByText(/will end/).waitFor();
    expect(said).toEqual([undefined]);
  });

  it('says when the server does not answer, keeps what it shows, and goes on by itself', async () => {
    const { page, clock } = await openWithClock('admin');
    await page.route(`**${BASE}*/**`, (route) => route.abort());
    for (let round = 0; round < 5; round += 1) await nextRound(page);
    await page.getByText('No answer; asking again').waitFor();
    await rowOf(page, 'admin').waitFor();
    // Less and less often, so that a server that comes back is not asked by all at once.
    expect((await recordOf(page)).pauses.slice(-5)).toEqual([6_000, 12_000, 24_000, 30_000, 30_000]);
    await page.unrouteAll();
    await clock.runFor(30_000);
    await page.getByText('Live', { exact: true }).waitFor();
  });

  it('says that it was refused, instead of that nobody answers', async () => {
    const { page } = await openWithClock('admin');
    await page.route(`**${BASE}*/**`, (route) => route.fulfill({ status: 429, json: { statusCode: 429 } }));
    await nextRound(page);
    await page.getByText('Error 429; asking again').waitFor();
    await rowOf(page, 'admin').waitFor();
  });

  it('says of an order without an answer to it that it may have been done, and does not say so of a count', async () => {
    await signedIn('user27');
    const { page } = await openWithClock('admin');
    const answers = [
      [undefined, 'The server did not answer.'],
      [
        { status: 503, json: { message: 'inside' } },
        'The session store does not answer at the moment. Try again soon.',
      ],
      [{ status: 504, body: '<h1>Gateway Timeout</h1>' }, 'The server answered with an error (504).'],
      [{ status: 200, body: '{"ended":' }, 'The server answered with an error (200).'],
    ] as const;
    for (const [answer, words] of answers) {
      await page.route(/\/(logout-everyone|[0-9a-f-]{36})$/, (route) =>
        answer === undefined ? route.abort() : route.fulfill(answer),
      );
      await logOut(page, 'user27');
      await says(page, `For 1 session: ${words} It is not known whether it was done.`);
      await page.getByRole('button', { name: 'Count first' }).click();
      await says(page, words);
      await page.unrouteAll();
    }
  });

  it('says that its answers are not those of the API, as behind an interceptor that wraps them, and asks again', async () => {
    const { page, clock } = await openWithClock('admin');
    await page.route(`**${BASE}/summary`, (route) => route.fulfill({ json: { data: {} } }));
    await nextRound(page);
    await says(page, /^The answers are not what this page was made for\./);
    // Once: whoever has dismissed it knows.
    await page.getByRole('button', { name: 'Dismiss' }).click();
    await nextRound(page);
    expect(await page.locator('#notice-text').innerText()).toBe('');
    await page.unrouteAll();
    await clock.runFor(30_000);
    await page.getByText('Live', { exact: true }).waitFor();
  });

  it('says what it is doing while the server is slow, and does once what was pressed twice', async () => {
    await signedIn('user46');
    const { page } = await openWithClock('admin');
    let answer!: () => void;
    let answered: Promise<void>;
    const hold = () => (answered = new Promise((resolve) => (answer = resolve)));
    const asked: string[] = [];
    await page.route(`**${BASE}/**`, async (route, request) => {
      if (request.method() !== 'GET') {
        asked.push(request.method());
        await answered;
      }
      await route.continue();
    });
    void hold();
    await page.getByLabel('Username or role').fill('user46');
    await page.getByRole('button', { name: 'Exempt', exact: true }).dblclick();
    answer();
    await says(page, /^user46 is exempt from now on/);
    await rowOf(page, 'user46', '#exemption-rows').waitFor();

    void hold();
    await logOut(page, 'user46');
    await says(page, 'Logging out …');
    answer();
    await says(page, '1 session ended.');
    expect(asked).toEqual(['PUT', 'DELETE']);
  });

  it('tells a storm with its account, and exempts the account with one click that can be taken back [lesson 31]', async () => {
    const { page } = await openWithClock('admin');
    expect(await page.getByRole('button', { name: 'Exempt user51' }).count()).toBe(0);
    for (let login = 0; login < 12; login += 1) await signedIn('user51');
    const storm = page.getByRole('region', { name: 'Sessions that replace each other' });
    const exempt = storm.getByRole('button', { name: 'Exempt user51' });
    // The server keeps its numbers for a second, so one more round may not be enough.
    await expectSoon(async () => {
      await nextRound(page);
      return exempt.isVisible();
    }, true);
    await rowOf(page, 'user51', '#storm-rows')
      .getByText(/^\d+ logins in 60 seconds$/)
      .waitFor();
    await exempt.click();
    await says(page, 'user51 is exempt from now on. You can undo this under “Exemptions”.');

    const [first, second] = [await signedIn('user51'), await signedIn('user51')];
    expect(await Promise.all([first, second].map(statusOf))).toEqual([[200], [200]]);
    const exemption = rowOf(page, 'user51', '#exemption-rows');
    expect(await cellsOf(exemption)).toMatchObject({
      Who: 'user51 username',
      Note: expect.stringMatching(/^Storm: \d+ logins in 60 seconds$/),
      Until: 'no end',
    });

    await exemption.getByRole('button', { name: 'Remove' }).click();
    await answerDialog(page, 'Remove the exemption of user51?', 'Remove');
    await exemption.waitFor({ state: 'detached' });
    const third = await signedIn('user51');
    expect(await Promise.all([first, second, third].map(async (one) => (await statusOf(one))[0]))).toEqual([
      401, 401, 200,
    ]);
  });

  it('lists exemptions with their origin, adds one that ends, removes it, and cannot touch those of the options', async () => {
    const page = await openAs('admin', { timezoneId: 'America/New_York' });
    const region = page.getByRole('region', { name: 'Exemptions' });
    const fixed = rowOf(page, 'service', '#exemption-rows');
    expect(await cellsOf(fixed)).toMatchObject({ Who: 'service role', Origin: 'Options fixed' });
    expect(await fixed.getByRole('button').count()).toBe(0);

    const fill = async (until: string) => {
      await region.getByLabel('Username or role').fill('user52');
      await region.getByLabel('Note').fill('three machines');
      await region.getByLabel('Until').fill(until);
      await region.getByRole('button', { name: 'Exempt', exact: true }).click();
    };
    await fill('2001-01-01T10:00');
    await says(page, /expiresAt must be in the future/i);
    expect(await rowOf(page, 'user52', '#exemption-rows').count()).toBe(0);
    await fill('2199-01-01T10:00');
    await says(page, /^user52 is exempt from now on/);
    const added = rowOf(page, 'user52', '#exemption-rows');
    expect(await cellsOf(added)).toMatchObject({
      Origin: expect.stringMatching(/^Added by admin, /),
      Note: 'three machines',
      Until: expect.stringMatching(/^in /),
    });
    // Where the person is, and not in Greenwich.
    expect(await added.locator('time').last().getAttribute('datetime')).toBe('2199-01-01T15:00:00.000Z');
    expect(await region.getByLabel('Username or role').inputValue()).toBe('');

    await added.getByRole('button', { name: 'Remove' }).click();
    await answerDialog(page, 'Remove the exemption of user52?', 'Remove');
    await says(page, 'user52 is not exempt any more.');
    await added.waitFor({ state: 'detached' });
    await isRecorded(page, { Action: 'Removed an exemption', Details: 'kind: username; value: user52' });
    await isRecorded(page, { Action: 'Added an exemption', Note: 'three machines' }, 1);
  });

  it('keeps apart a user and a role of one name, and what stands in the options and was added as well', async () => {
    const administrator = await signedIn('root');
    for (const kind of ['username', 'role'])
      await administrator.send('PUT', `${BASE}/exemptions`, { kind, value: 'service' });
    const { page } = await openWithClock('admin');
    await page.getByLabel('Username or role').fill('user54');
    await page.getByRole('button', { name: 'Exempt', exact: true }).click();
    await rowOf(page, 'user54', '#exemption-rows').waitFor();
    const rows = rowOf(page, 'service', '#exemption-rows');
    expect((await Promise.all((await rows.all()).map(cellsOf))).map(({ Who }) => Who).sort()).toEqual([
      'service role',
      'service role',
      'service username',
    ]);
    await query('DELETE FROM user_session_exemption');
  });

  it('says that what somebody removes is not there any more when another administrator was faster', async () => {
    const faster = await signedIn('root');
    const query = '?kind=username&value=user53';
    await faster.send('PUT', `${BASE}/exemptions`, { kind: 'username', value: 'user53' });
    const page = await openAs('admin');
    const exemption = rowOf(page, 'user53', '#exemption-rows');
    await exemption.getByRole('button', { name: 'Remove' }).click();
    expect((await faster.send('DELETE', `${BASE}/exemptions${query}`)).status).toBe(200);
    await answerDialog(page, 'Remove the exemption of user53?', 'Remove');
    await says(page, 'There is no such thing any more.');
    await exemption.waitFor({ state: 'detached' });
  });

  it('says that the own session has ended and why, shows nothing of the others any more, and stops asking', async () => {
    await signedIn('user61');
    const { page, clock } = await openWithClock('admin');
    await signedIn('admin');
    await clock.runFor(POLL_MS);
    const heading = page.getByRole('heading', { name: 'Your session has ended' });
    await hasFocus(heading);
    await page.getByText('that login took the place of this one').waitFor();
    expect(await page.locator('body').innerText()).not.toContain('user61');
    const { asked } = await recordOf(page);
    await page.evaluate(`document.dispatchEvent(new Event('visibilitychange'))`);
    await clock.runFor(10 * POLL_MS);
    expect((await recordOf(page)).asked).toEqual(asked);
    await page.getByRole('link', { name: 'Go to the start page' }).click();
    await page.getByRole('heading', { name: 'One session at a time' }).waitFor();
  });

  it.each([
    ['is no administrator any more', { status: 403, json: {} }, 'You may not see this page any more'],
    [
      'the application sends to its login page',
      { status: 302, headers: { location: '/login' } },
      'You are not signed in any more',
    ],
  ])('shows nothing of the others any more to somebody who %s', async (_, answer, heading) => {
    await signedIn('user62');
    const { page, clock } = await openWithClock('admin');
    let answerLate: () => void;
    const late = new Promise<void>((resolve) => (answerLate = resolve));
    await page.route(`**${BASE}*/**`, async (route) => {
      await late;
      await route.fulfill(answer);
    });
    const asked = page.waitForRequest(`**${BASE}/summary`);
    await clock.runFor(POLL_MS);
    await asked;
    // Nor in a question that stands there when the news comes.
    await rowOf(page, 'user62').getByRole('button', { name: 'Log out' }).click();
    answerLate!();
    await hasFocus(page.getByRole('heading', { name: heading }));
    expect(await page.locator('body').innerText()).not.toContain('user62');
    // What is not there is not offered either, to the keyboard least of all.
    expect(await page.getByRole('link').allInnerTexts()).toEqual(['Go to the start page']);
  });

  it('gives none of the orders that are left when its session has ended: somebody else may sign in here', async () => {
    const names = Array.from({ length: 6 }, (_, index) => `user${260 + index}`);
    await Promise.all(names.map((name) => signedIn(name)));
    const { page } = await openWithClock('admin');
    for (const name of names) await rowOf(page, name).getByRole('checkbox').check();
    await signedIn('admin');
    await page.getByRole('button', { name: 'Log out 6 selected' }).click();
    await answerDialog(page, 'Log out 6 sessions?');
    await page.getByRole('heading', { name: 'Your session has ended' }).waitFor();
    const orders = async (of: 'asked' | 'taken') =>
      (await recordOf(page))[of].filter((address) => /sessions\/[0-9a-f-]{36}$/.test(address)).length;
    await expectSoon(() => orders('taken'), 4);
    expect(await orders('asked')).toBe(4);
  });

  it('shows the characters with which one name looks like another, and keeps each name to itself [threat S9]', async () => {
    // What comes after them would be read backwards, our words and the next name, too.
    const names = new Map([
      ['user47', ['bob\u202Enimda', 'bob[U+202E]nimda']],
      ['user48', ['a\u2069\u202Eevil', 'a[U+2069][U+202E]evil']],
      ['user49', ['مدير', 'مدير']],
    ] as const);
    for (const [username, [name]] of names) {
      await signedIn(username);
      await query(`UPDATE user_session SET username = $1 WHERE username = $2`, [name, username]);
    }
    const page = await openAs('admin');
    const dialog = page.getByRole('dialog');
    for (const [, shown] of names.values()) {
      await rowOf(page, shown).getByRole('button', { name: 'Log out' }).click();
      expect(await dialog.getByRole('heading').innerText()).toBe(`Log out ${shown}?`);
      for (const place of ['h2', '#confirm-all-text'])
        expect(await dialog.locator(`${place} bdi`).innerText()).toBe(shown);
      await dialog.getByRole('button', { name: 'Cancel' }).click();
    }
    await page.getByLabel('Username or role').fill('مدير');
    await page.getByRole('button', { name: 'Exempt', exact: true }).click();
    await says(page, /^مدير is exempt from now on/);
    expect(await page.locator('#notice-text bdi').innerText()).toBe('مدير');
  });

  it('shows markup in a user agent, a name, a role or a note as text, everywhere [threat S9]', async () => {
    const sessions = await Promise.all(
      PAYLOADS.map(async (payload, index) => {
        const { body } = await new ApiBrowser(demo.url).post(
          '/login',
          { username: `user${300 + index}`, password: `user${300 + index}` },
          { 'user-agent': payload },
        );
        return body.session.id as string;
      }),
    );
    // The demo knows no such names. An application that lets people choose theirs does.
    await query(
      `UPDATE user_session SET username = named.name, roles = ARRAY[named.name]
       FROM unnest($1::uuid[], $2::text[]) AS named (id, name) WHERE user_session.id = named.id`,
      [sessions, PAYLOADS],
    );
    const administrator = await signedIn('root');
    for (const [index, value] of PAYLOADS.entries()) {
      const kind = index % 2 === 0 ? 'username' : 'role';
      const { status } = await administrator.send('PUT', `${BASE}/exemptions`, { kind, value, note: value });
      expect(status).toBe(200);
    }
    await administrator.post(`${BASE}/logout`, {
      usernames: ['nobody', ...PAYLOADS.slice(0, 2)],
      note: PAYLOADS[0],
    });

    const browser = await openBrowser();
    const elsewhere: string[] = [];
    browser.on('request', (request) => {
      if (!request.url().startsWith(demo.url)) elsewhere.push(request.url());
    });
    await browser.addInitScript(
      `addEventListener('securitypolicyviolation', ({ violatedDirective }) => console.error('policy: ' + violatedDirective))`,
    );
    await signIn(browser, 'admin');
    const page = await openPage(browser);
    await page.getByLabel('Rows').selectOption('200');
    await filter(page, { State: 'All' });
    const texts = async (selector: string) => page.locator(selector).evaluateAll(readTexts);
    // The first two are logged out: they are there when the list is the one that was asked for.
    await expectSoon(async () => {
      const shown = await texts('#session-rows .user .name');
      return PAYLOADS.every((payload) => shown.includes(payload));
    }, true);

    for (const place of ['.user .name', '.user .chip', '.device bdi'])
      expect(await texts(`#session-rows ${place}`)).toEqual(expect.arrayContaining(PAYLOADS));
    for (const place of ['.name', 'td:nth-child(3) bdi'])
      expect(await texts(`#exemption-rows ${place}`)).toEqual(expect.arrayContaining(PAYLOADS));
    expect(await texts('#action-rows .note bdi')).toContain(PAYLOADS[0]);

    // What says a name elsewhere: a question, and its result.
    for (const payload of PAYLOADS.slice(-2)) {
      await rowsOf(page)
        .filter({ hasText: payload })
        .first()
        .getByRole('button', { name: 'Log out' })
        .click();
      await answerDialog(page, `Log out ${payload}?`);
      await says(page, '1 session ended.');
    }
    const exemption = rowsOf(page, '#exemption-rows').filter({ hasText: PAYLOADS[3]! });
    await exemption.getByRole('button', { name: 'Remove' }).click();
    await answerDialog(page, `Remove the exemption of ${PAYLOADS[3]}?`, 'Remove');
    await says(page, `${PAYLOADS[3]} is not exempt any more.`);

    expect(
      await page
        .locator('script, style, link, img, svg, math, iframe, object, embed, video, form, base, meta')
        .evaluateAll(readTags),
    ).toEqual(['META', 'META', 'META', 'META', 'LINK', 'LINK', 'SCRIPT', 'FORM', 'FORM', 'FORM']);
    expect(await page.locator('body').getAttribute('data-injected')).toBeNull();
    expect(elsewhere).toEqual([]);
    expect(complaints).toEqual([]);
    await query('DELETE FROM user_session_exemption');
  });

  describe('another site, visited by a signed-in administrator', () => {
    let attacker: Server;
    let port: number;

    beforeAll(async () => {
      attacker = createServer((_request, response) => {
        response.setHeader('content-type', 'text/html').end('<!doctype html><title>Kittens</title>');
      }).listen(0);
      await once(attacker, 'listening');
      ({ port } = attacker.address() as AddressInfo);
    });

    afterAll(() => {
      attacker.close();
    });

    const ORDERS = [
      ['application/x-www-form-urlencoded', { note: 'gotcha' }],
      ['multipart/form-data', { note: 'gotcha' }],
      ['text/plain', { '{"note":"': '"}' }],
    ] as const;

    // Ports make no difference to what a site is: the first one is sent the cookie, whatever SameSite says.
    it.each(['127.0.0.1', 'localhost'])(
      'on %s, ends nothing with forms and scripts of its own [threat S5]',
      async (host) => {
        const [victim, other] = [await signedIn('user71'), await signedIn('user72')];
        const browser = await openBrowser();
        await signIn(browser, 'root');
        const recorded = await query('SELECT count(*) FROM user_session_action');
        const page = await browser.newPage();
        const { body } = await victim.get('/me');
        for (const [enctype, fields] of ORDERS) {
          for (const path of ['/logout-everyone', '/logout', `/${body.session.id}`]) {
            await page.goto(`http://${host}:${port}/`);
            const answered = page.waitForResponse((response) => response.url().startsWith(demo.url));
            await page.evaluate(
              call(SUBMIT, { action: demo.url + BASE + path, enctype, fields: { ...fields } }),
            );
            expect((await answered).status()).toBeGreaterThanOrEqual(400);
            await page.waitForURL(`${demo.url}/**`);
          }
        }
        await page.goto(`http://${host}:${port}/`);
        // A beacon is on its way when its page has done with it.
        const beacon = page.waitForEvent('requestfinished', (request) => request.resourceType() === 'ping');
        await page.evaluate(call(ATTACK, { base: demo.url + BASE, sessionId: body.session.id as string }));
        await beacon;

        expect(await Promise.all([victim, other].map(statusOf))).toEqual([[200], [200]]);
        expect(await query('SELECT count(*) FROM user_session_action')).toEqual(recorded);
      },
    );

    it('would have ended everybody from the page itself', async () => {
      const victim = await signedIn('user73');
      const page = await openAs('root');
      await page.evaluate(call(ATTACK, { base: demo.url + BASE, sessionId: '' }));
      expect(await statusOf(victim)).toEqual([401, 'cut-off']);
    });
  });

  it('is used with the keyboard alone, from the skip link to a logout, and shows where it is', async () => {
    const alice = await signedIn('alice');
    const page = await openAs('admin');
    const press = async (...keys: string[]) => {
      for (const key of keys) await page.keyboard.press(key);
    };
    const tabTo = async (name: string) => {
      for (let stops = 0; stops < 40; stops += 1) {
        await press('Tab');
        const now = await focused(page);
        expect(now.outline).toMatch(/solid|auto/);
        if (now.name === name) return;
      }
      throw new Error(`Tab does not lead to ${name}.`);
    };
    await press('Tab');
    expect(await focused(page)).toMatchObject({ name: 'Skip to the sessions' });
    await press('Enter');
    await tabTo('Username (exact)');
    await page.keyboard.type('alice');
    await press('Enter');
    await shows(page, ['alice']);
    await tabTo('Select alice, 127.0.0.1');
    await press('Space');
    await page.getByText('Log out 1 selected').waitFor();
    await press('Space');
    await tabTo('Log out alice, 127.0.0.1');
    await press('Enter');
    await page.getByRole('dialog', { name: 'Log out alice?' }).waitFor();
    expect(await focused(page)).toMatchObject({ name: 'Cancel' });
    await press('Escape');
    expect(await focused(page)).toMatchObject({ name: 'Log out alice, 127.0.0.1' });
    expect(await statusOf(alice)).toEqual([200]);
    await press('Enter', 'Tab', 'Enter');
    await says(page, '1 session ended.');
    expect(await statusOf(alice)).toEqual([401, 'admin']);
    // The row has gone, and the keyboard goes on from where it was.
    await expectSoon(async () => (await focused(page)).name, 'Who is signed in, and where');
  });

  it('begins each question anew: neither what was ticked and noted before nor an earlier yes is an answer', async () => {
    const kept = await signedIn('user75');
    await signedIn('user76');
    const page = await openAs('admin');
    const dialog = page.getByRole('dialog');
    const wider = dialog.getByRole('checkbox');
    const openFor = (name: string) => rowOf(page, name).getByRole('button', { name: 'Log out' }).click();
    await openFor('user75');
    await wider.check();
    await dialog.getByLabel('Note for the record').fill('not this one');
    await dialog.getByRole('button', { name: 'Cancel' }).click();

    await openFor('user76');
    expect(await wider.isChecked()).toBe(false);
    expect(await dialog.getByLabel('Note for the record').isVisible()).toBe(false);
    await wider.check();
    expect(await dialog.getByLabel('Note for the record').inputValue()).toBe('');
    await wider.uncheck();
    await answerDialog(page, 'Log out user76?');
    await says(page, '1 session ended.');

    await openFor('user75');
    await dialog.waitFor();
    // As Escape does it in browsers that leave the last answer there.
    await page.evaluate(`document.getElementById('confirm').close()`);
    await dialog.waitFor({ state: 'hidden' });
    // While anybody is logged out, it does not ask.
    await openFor('user75');
    await dialog.getByRole('button', { name: 'Cancel' }).click();
    expect(await statusOf(kept)).toEqual([200]);
  });

  it('asks again right after a no, and heeds the second answer', async () => {
    await signedIn('user74');
    const page = await openAs('admin');
    const button = rowOf(page, 'user74').getByRole('button', { name: 'Log out' });
    await button.focus();
    // In one turn: the news of the first answer comes when the second question stands there.
    await page.evaluate(`
      document.activeElement.click();
      document.getElementById('confirm-no').click();
      document.activeElement.click();
    `);
    await answerDialog(page, 'Log out user74?');
    await says(page, '1 session ended.');
  });

  it.each([
    ['a desktop', DESKTOP],
    ['a phone', PHONE],
  ])(
    'has no serious or critical fault of accessibility on %s, light or dark, and nothing to scroll sideways',
    async (_device, viewport) => {
      for (let login = 0; login < 12; login += 1) await signedIn('user81');
      const long = `user82${'x'.repeat(200)}`;
      await signedIn('user82', long);
      await query(`UPDATE user_session SET username = $1 WHERE username = 'user82'`, [long]);
      const page = await openAs('admin', { viewport });
      await page.getByRole('button', { name: 'Exempt user81' }).waitFor();
      const isFaultless = async () => {
        expect(await faults(page)).toEqual([]);
        expect(await page.evaluate('document.documentElement.scrollWidth')).toBe(viewport.width);
      };
      // Evaluated, because the page's policy refuses a script element.
      await page.evaluate(axe.source);
      await filter(page, { Username: long });
      await shows(page, [long]);
      await isFaultless();

      await page.getByRole('button', { name: 'Count first' }).click();
      await page.getByText(/will end/).waitFor();
      await rowOf(page, long).getByRole('button', { name: 'Log out' }).click();
      await page.getByLabel(`All sessions of ${long}`).check();
      await isFaultless();

      await answerDialog(page, `Log out ${long}?`);
      await says(page, /ended/);
      await filter(page, { State: 'All' });
      await rowsOf(page).getByText('Ended', { exact: true }).first().waitFor();
      await isFaultless();

      await signedIn('admin');
      await page.getByRole('heading', { name: 'Your session has ended' }).waitFor();
      await isFaultless();
    },
    SLOW_MS,
  );
});

/** What the TypeScript compiler says of a script for browsers, with everything switched on. */
function complaintsAbout(script: string): string[] {
  const name = '/app.js';
  const options: ts.CompilerOptions = {
    allowJs: true,
    checkJs: true,
    noEmit: true,
    skipLibCheck: true,
    strict: true,
    noImplicitReturns: true,
    noUncheckedIndexedAccess: true,
    noUnusedLocals: true,
    noUnusedParameters: true,
    target: ts.ScriptTarget.ES2022,
    module: ts.ModuleKind.ES2022,
    moduleResolution: ts.ModuleResolutionKind.Bundler,
    moduleDetection: ts.ModuleDetectionKind.Force,
    lib: ['lib.es2023.d.ts', 'lib.dom.d.ts', 'lib.dom.iterable.d.ts'],
    types: [],
  };
  const files = ts.createCompilerHost(options);
  const source = ts.createSourceFile(name, script, ts.ScriptTarget.ES2022, true, ts.ScriptKind.JS);
  const host: ts.CompilerHost = {
    ...files,
    getSourceFile: (path, ...rest) => (path === name ? source : files.getSourceFile(path, ...rest)),
    fileExists: (path) => path === name || files.fileExists(path),
  };
  const found = ts.getPreEmitDiagnostics(ts.createProgram([name], options, host));
  return found.map(({ file, start = 0, messageText }) => {
    const line = (file?.getLineAndCharacterOfPosition(start).line ?? 0) + 1;
    return `${line}: ${ts.flattenDiagnosticMessageText(messageText, ' ')}`;
  });
}

const rowsOf = (page: Page, table = '#session-rows'): Locator => page.locator(table).getByRole('row');

/** The rows that are about this user, role or exemption, and no other whose name only begins like it. */
const rowOf = (page: Page, name: string, table?: string): Locator =>
  rowsOf(page, table).filter({ has: page.locator('.name').getByText(name, { exact: true }) });

const keysOf = (page: Page): Promise<string[]> => rowsOf(page).evaluateAll(readKeys);

/** What stands in the columns of a row, as people read it. */
async function cellsOf(row: Locator): Promise<Record<string, string>> {
  const cells = await row.first().evaluate(readCells);
  return Object.fromEntries(cells.map(([name, text]) => [name, text.replace(/\s+/g, ' ').trim()]));
}

/** Waits until the record says so, by default of the latest action. */
async function isRecorded(page: Page, wanted: Record<string, string>, index = 0): Promise<void> {
  const read = async () => {
    const cells = await cellsOf(rowsOf(page, '#action-rows').nth(index));
    return Object.fromEntries(Object.keys(wanted).map((name) => [name, cells[name]]));
  };
  await expectSoon(read, wanted);
}

const tile = async (page: Page, name: string): Promise<number> =>
  Number(await page.locator('.tiles div').filter({ hasText: name }).locator('dd').innerText());

/** Fills in the filter and applies it. */
async function filter(page: Page, fields: Record<string, string>): Promise<void> {
  const form = page.getByRole('search');
  for (const [name, value] of Object.entries(fields)) {
    const field = form.getByLabel(name);
    if (name === 'State') await field.selectOption(value);
    else await field.fill(value);
  }
  const answered = page.waitForResponse((response) => response.url().includes(`${BASE}?`));
  await form.getByRole('button', { name: 'Filter' }).click();
  await answered;
}

/** From the first moment on. A page that does not run yet stops there too. */
async function stopClock({ clock }: BrowserContext): Promise<void> {
  const now = Date.now();
  await clock.install({ time: now });
  await clock.pauseAt(now + 1);
}

/** What the page's script has done: asked for these addresses, taken in these answers, waited so long for the next round. */
const recordOf = (page: Page) =>
  page.evaluate<{ asked: string[]; taken: string[]; pauses: number[] }>('record');

/** Waits until everything on the page has been answered once: only then does it wait for its next round. */
const isComplete = (page: Page): Promise<void> =>
  expectSoon(async () => (await recordOf(page)).pauses.length > 0, true);

/** Lets so much time pass that the page asks once more, and waits until it has made use of the answers. Its clock stands still. */
async function nextRound(page: Page): Promise<void> {
  const { pauses } = await recordOf(page);
  await page.context().clock.runFor(pauses.at(-1)!);
  await expectSoon(async () => (await recordOf(page)).pauses.length, pauses.length + 1);
}

/** Waits until the table shows the sessions of these users, in any order, and no others. */
const shows = (page: Page, names: string[]): Promise<void> => expectSoon(() => namesOn(page), names);

const namesOn = async (page: Page): Promise<string[]> =>
  (await rowsOf(page).locator('.name').allInnerTexts()).sort();

/** Polls until it is so, for what no event announces, and says what it was instead when it never is. */
async function expectSoon<T>(read: () => Promise<T>, wanted: T): Promise<void> {
  const end = Date.now() + PATIENCE_MS;
  let found = await read();
  while (JSON.stringify(found) !== JSON.stringify(wanted) && Date.now() < end) {
    await new Promise((resolve) => setTimeout(resolve, 50));
    found = await read();
  }
  expect(found).toEqual(wanted);
}

async function logOut(page: Page, username: string): Promise<void> {
  await rowOf(page, username).getByRole('button', { name: 'Log out' }).click();
  await answerDialog(page, `Log out ${username}?`);
}

async function answerDialog(page: Page, question: string, yes = 'Log out'): Promise<void> {
  const dialog = page.getByRole('dialog', { name: question });
  await dialog.getByRole('button', { name: yes, exact: true }).click();
}

/** Waits until the page says this where the person sees it and a screen reader says it. */
async function says(page: Page, text: string | RegExp): Promise<void> {
  await page.getByRole('status').getByText(text, { exact: true }).waitFor();
}

const hasFocus = (place: Locator): Promise<void> => expectSoon(() => place.evaluate(readFocus), true);

/** The pages to which the browser goes from now on, reloads included. */
function visits(page: Page): string[] {
  const visited: string[] = [];
  page.on('request', (request) => {
    if (request.isNavigationRequest()) visited.push(request.url());
  });
  return visited;
}

/** What has the focus, by the name that it has for people, and how that is shown. */
const focused = (page: Page) =>
  page.evaluate<{ name: string; outline: string }>(`({
    name: document.activeElement.ariaLabel ?? (document.activeElement.labels?.[0] ?? document.activeElement).textContent.trim(),
    outline: getComputedStyle(document.activeElement).outlineStyle,
  })`);

/** The serious and critical findings of axe, which is in the page already, in light and in dark. */
async function faults(page: Page): Promise<string[]> {
  const found: string[] = [];
  for (const colorScheme of ['light', 'dark'] as const) {
    await page.emulateMedia({ colorScheme });
    const { violations, passes } = await page.evaluate<AxeResults>('axe.run()');
    expect(passes.map(({ id }) => id)).toContain('color-contrast');
    for (const { id, impact, nodes } of violations)
      if (impact === 'serious' || impact === 'critical')
        found.push(...nodes.map(({ html }) => `${colorScheme}, ${id}: ${html}`));
  }
  return found;
}

// These run in the browser, whose types the tests do not have.

interface Element {
  children: Iterable<Element>;
  dataset: Record<string, string>;
  innerText: string;
  tagName: string;
  textContent: string;
  matches(selector: string): boolean;
}

const readCells = ({ children }: Element) =>
  [...children].map(({ dataset, innerText }) => [dataset['name']!, innerText] as const);
const readKeys = (rows: Element[]) => rows.map(({ dataset }) => dataset['key']!);
const readTags = (elements: Element[]) => elements.map(({ tagName }) => tagName);
const readTexts = (elements: Element[]) => elements.map(({ textContent }) => textContent);
const readFocus = (element: Element) => element.matches(':focus');

const call = (source: string, argument: object) => `(${source})(${JSON.stringify(argument)})`;

const RECORD = `
  window.record = { asked: [], taken: [], pauses: [] };
  const { fetch, setTimeout } = window;
  window.fetch = async (address, ...rest) => {
    record.asked.push(address);
    const response = await fetch(address, ...rest);
    const { port1, port2 } = new MessageChannel();
    // A message comes after all that the script does at once with what it has read.
    port2.onmessage = () => record.taken.push(address);
    const read = response.json.bind(response);
    response.json = () => read().finally(() => port1.postMessage(''));
    return response;
  };
  window.setTimeout = (work, ms, ...rest) => {
    record.pauses.push(ms);
    return setTimeout(work, ms, ...rest);
  };
`;

const SUBMIT = `({ action, enctype, fields }) => {
  const form = Object.assign(document.createElement('form'), { method: 'post', action, enctype });
  for (const [name, value] of Object.entries(fields)) {
    form.append(Object.assign(document.createElement('input'), { name, value }));
  }
  document.body.append(form);
  form.submit();
}`;

const ATTACK = `async ({ base, sessionId }) => {
  const json = { 'content-type': 'application/json' };
  const ways = [
    [base + '/logout-everyone', { method: 'POST', body: '{}', headers: json }],
    [base + '/logout-everyone', { method: 'POST', body: '{}', mode: 'no-cors' }],
    [base + '/logout-everyone', { method: 'POST', body: new URLSearchParams({ note: 'gotcha' }), mode: 'no-cors' }],
    [base + '/logout-everyone', { method: 'POST', body: new Blob(['{}'], { type: 'text/plain' }), mode: 'no-cors' }],
    [base + '/logout-everyone', { method: 'GET', mode: 'no-cors' }],
    [base + '/' + sessionId, { method: 'DELETE' }],
    [base + '/' + sessionId + '?_method=DELETE', { method: 'POST', mode: 'no-cors' }],
  ];
  for (const [address, way] of ways) await fetch(address, { credentials: 'include', ...way }).catch(() => undefined);
  navigator.sendBeacon(base + '/logout-everyone', new URLSearchParams({ note: 'gotcha' }));
}`;
