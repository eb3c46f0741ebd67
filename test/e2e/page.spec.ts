import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import axe, { type AxeResults } from 'axe-core';
import type {
  Browser,
  BrowserContext,
  BrowserContextOptions,
  ConsoleMessage,
  Page,
  Route,
} from 'playwright-core';
import { Browser as ApiBrowser } from '../support/client.js';
import { findChromium, launchChromium } from '../support/chromium.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import {
  endAllProcesses,
  freePort,
  startCluster,
  startProcess,
  type RunningProcess,
} from '../support/processes.js';

// The page that a stranger tries the demo with, in a real browser.

const MARKUP = '<img id="injected" src="/injected">';
const PATIENCE_MS = 10_000;

const ADD_AN_IMAGE_FROM_ELSEWHERE =
  "document.body.append(Object.assign(new Image(), { src: 'https://elsewhere.invalid/' }))";
const ADD_A_SCRIPT =
  "document.body.append(Object.assign(document.createElement('script'), { text: 'window.ran = true' }))";

const executablePath = findChromium();
const [inChromium, title] =
  executablePath === undefined
    ? [describe.skip, 'skipped: no Chromium on this machine; apt-get install chromium']
    : [describe, 'the page of the demo in a browser'];
// Jest prints no title of a file of which it ran nothing.
if (executablePath === undefined) process.stderr.write(`test/e2e/page.spec.ts ${title}\n`);

inChromium(title, () => {
  let databaseUrl: string;
  let demo: RunningProcess;
  let chromium: Browser;

  beforeAll(async () => {
    databaseUrl = await freshDatabase();
    // An exempt name with markup in it, because the page shows these names.
    const env = { DATABASE_URL: databaseUrl, EXEMPT_USERNAMES: `xqueue-watcher,${MARKUP}` };
    [demo, chromium] = await Promise.all([startProcess({ env }), launchChromium(executablePath!)]);
  });

  afterEach(() => Promise.all(chromium.contexts().map((context) => context.close())));

  afterAll(async () => {
    await chromium?.close();
    await endAllProcesses();
    await dropDatabase(databaseUrl);
  });

  /** Shares nothing with another one, as a private window or another machine. */
  async function openBrowser(options: BrowserContextOptions = {}): Promise<BrowserContext> {
    const browser = await chromium.newContext({ baseURL: demo.url, ...options });
    browser.setDefaultTimeout(PATIENCE_MS);
    return browser;
  }

  async function openPage(browser?: BrowserContext, path = '/'): Promise<Page> {
    const page = await (browser ?? (await openBrowser())).newPage();
    await page.goto(path);
    return page;
  }

  async function signInElsewhere(username: string, { url } = demo): Promise<void> {
    const answer = await new ApiBrowser(url).login(username);
    expect(answer.status).toBe(200);
  }

  it('throws the first browser out without a reload and tells it why, and the second goes on [P1]', async () => {
    const [first, second] = [await openPage(), await openPage()];
    await signIn(first, 'alice');
    const visited = visits(first);
    await signIn(second, 'alice');

    await says(first, 'Signed out by a newer sign-in', 'signed in somewhere else');
    expect(await first.getByRole('status').innerText()).toMatch(
      /took the place of this one.* It happened at \d/s,
    );
    await first.getByRole('button', { name: 'Sign in' }).waitFor();
    expect(visited).toEqual([]);

    await second.reload();
    await says(second, 'Signed in as alice');
  });

  it('tells the first browser the moment it happens: it asks nothing meanwhile [lesson 26]', async () => {
    const browser = await openBrowser();
    const { requests } = watch(browser);
    const page = await openPage(browser);
    await signIn(page, 'alice');
    await isTold(page);
    const asked = requests.length;
    await signInElsewhere('alice');
    await says(page, 'Signed out by a newer sign-in', 'signed in somewhere else');
    expect(requests.slice(asked)).toEqual([]);
  });

  it.each([
    ['strong', 'strong'],
    ['bounded to a minute', '60000'],
  ])(
    'tells it too when the newer sign-in is on another process, with %s freshness [lesson 26]',
    async (_, freshness) => {
      const env = { DATABASE_URL: databaseUrl, SESSION_SECRET: 'shared', FRESHNESS: freshness };
      const [one, other] = await startCluster(2, { env });
      const browser = await openBrowser({ baseURL: one!.url });
      const { requests } = watch(browser);
      const page = await openPage(browser);
      await signIn(page, 'user5');
      await isTold(page);
      const asked = requests.length;
      await signInElsewhere('user5', other!);
      await says(page, 'Signed out by a newer sign-in', 'signed in somewhere else');
      expect(requests.slice(asked)).toEqual([]);
      await Promise.all([one!.stop(), other!.stop()]);
    },
  );

  it('asks while the server cannot tell, and is told again when it can', async () => {
    const port = await freePort();
    const env = { DATABASE_URL: databaseUrl, SESSION_SECRET: 'shared', PORT: String(port) };
    const first = await startProcess({ env });
    const browser = await openBrowser({ baseURL: first.url });
    const page = await openPage(browser);
    await signIn(page, 'user6');
    await isTold(page);
    await first.stop();
    await says(page, 'No answer');
    const second = await startProcess({ env });
    await says(page, 'Signed in as user6');
    await isTold(page);
    await signInElsewhere('user6', second);
    await says(page, 'Signed out by a newer sign-in');
    await second.stop();
  });

  it('signs out in one browser, in all of its tabs, and leaves the browser of another user alone', async () => {
    const browser = await openBrowser();
    const [tab, other] = [await openPage(browser), await openPage()];
    await signIn(other, 'bob');
    await signIn(tab, 'alice');
    const otherTab = await openPage(browser);
    await isTold(otherTab);

    await tab.getByRole('button', { name: 'Sign out' }).click();
    await says(tab, 'Signed out', 'Sign in to begin again.');
    await says(otherTab, 'Signed out', 'This session was signed out in another window.');
    await tab.reload();
    await says(tab, 'Not signed in', 'Sign in to begin.');
    await other.reload();
    await says(other, 'Signed in as bob');
  });

  it('redirects an ended browser that opens a page to one that says why, and only once [section 8]', async () => {
    const browser = await openBrowser();
    const page = await openPage(browser);
    await signIn(page, 'user2');
    // A page that is closed does not ask, unless its question was under way; so the next one is the first to be told.
    await isTold(page);
    await page.close();
    await signInElsewhere('user2');

    const visitor = await browser.newPage();
    const visited = visits(visitor);
    const answer = await visitor.goto('/me');
    expect(visited).toEqual(['/me', '/?ended=superseded']);
    expect(answer?.status()).toBe(200);
    await says(visitor, 'Signed out by a newer sign-in', 'If that was not you, change your password.');
    await visitor.reload();
    await says(visitor, 'Not signed in', 'Sign in to begin.');
    await signIn(visitor, 'user2');
  });

  it('asks for nothing elsewhere and gives the browser nothing to complain about', async () => {
    const browser = await openBrowser();
    const { requests, complaints } = watch(browser);
    const page = await openPage(browser);
    await tryToSignIn(page, 'alice', 'wrong');
    await says(page, 'Not signed in', 'Username or password is wrong.');
    await signIn(page, 'alice');
    await isTold(page);
    await signInElsewhere('alice');
    await says(page, 'Signed out by a newer sign-in');
    await signIn(page, 'alice');
    await page.getByRole('button', { name: 'Sign out' }).click();
    await says(page, 'Signed out');
    await page.goto('/?ended=idle');
    await says(page, 'Signed out after a pause');

    expect(complaints).toEqual([]);
    const paths = requests.map((url) => url.replace(demo.url, ''));
    expect([...new Set(paths)].sort()).toEqual([
      '/',
      '/?ended=idle',
      '/demo.css',
      '/demo.js',
      '/login',
      '/logout',
      '/me',
      '/sessions/mine/events',
    ]);
  });

  it('has a policy that refuses what comes from elsewhere or stands in the page', async () => {
    const browser = await openBrowser();
    const { requests, complaints } = watch(browser);
    const page = await openPage(browser);
    const refusals = [/img-src|default-src/, /script-src/].map((directive) =>
      page.waitForEvent('console', (message) => directive.test(message.text())),
    );
    const [image] = await Promise.all([
      page.waitForEvent('requestfailed'),
      page.evaluate(ADD_AN_IMAGE_FROM_ELSEWHERE),
      page.evaluate(ADD_A_SCRIPT),
      ...refusals,
    ]);
    expect(image.failure()?.errorText).toBe('csp');
    expect(await page.evaluate('window.ran')).toBeUndefined();
    // So the test above would have noticed them.
    expect(requests).toContain(image.url());
    expect(complaints).toHaveLength(2);
  });

  it('is used with Tab, Enter and typing alone, and never loses the focus', async () => {
    const page = await openPage();
    const press = async (...keys: string[]) => {
      for (const key of keys) await page.keyboard.press(key);
    };
    await press('Tab');
    await page.keyboard.type('user3');
    await press('Tab');
    await page.keyboard.type('wrong');
    await press('Tab');
    await hasFocus(page, '#sign-in-button');
    await press('Enter');
    await says(page, 'Not signed in', 'Username or password is wrong.');
    await hasFocus(page, '#sign-in-button');

    await press('Shift+Tab');
    await page.keyboard.type('user3');
    await press('Tab', 'Enter');
    await says(page, 'Signed in as user3');
    await hasFocus(page, '#sign-out');
    await press('Enter');
    await says(page, 'Signed out');
    await hasFocus(page, '#username');

    await press('Tab', 'Tab', 'Tab', 'Tab');
    await hasFocus(page, '[data-username=bob]');
    await press('Enter');
    await hasFocus(page, '#sign-in-button');
    await press('Enter');
    await says(page, 'Signed in as bob');
    await hasFocus(page, '#sign-out');
  });

  it('leads the keyboard to everything in the order of reading, shows where it is, and lets it go on', async () => {
    const page = await openPage();
    const stops = ['Username', 'Password (the same as the username)', 'Sign in'];
    const people = ['alice', 'bob', 'user1', 'admin', 'root', 'grader', 'xqueue-watcher'];
    const links = ['the page for administrators', 'GET /sessions/mine'];
    stops.push(...people.map((username) => `Fill in ${username}`), ...links, 'Token', 'Answer');
    for (const name of stops) {
      await page.keyboard.press('Tab');
      expect(await focused(page)).toEqual({ name, outline: 'solid' });
    }
    await page.keyboard.press('Tab');
    expect(await focused(page)).not.toMatchObject({ name: 'Answer' });
  });

  it.each(['light', 'dark'] as const)(
    'has no serious or critical fault of accessibility in %s',
    async (colorScheme) => {
      const page = await openPage(await openBrowser({ colorScheme }));
      // Evaluated, because the page's policy refuses a script element.
      await page.evaluate(axe.source);
      expect(await faults(page)).toEqual([]);
      await signIn(page, 'user4');
      expect(await faults(page)).toEqual([]);
      await page.getByRole('button', { name: 'Sign out' }).click();
      await tryToSignIn(page, 'user4', 'wrong');
      await says(page, 'Not signed in', 'Username or password is wrong.');
      expect(await faults(page)).toEqual([]);
    },
  );

  it('shows a name with markup in it as text, also when the server knows it', async () => {
    const page = await openPage();
    await tryToSignIn(page, MARKUP, MARKUP);
    await says(page, 'Not signed in', 'Username or password is wrong.');

    const body = { user: { username: MARKUP }, session: { id: MARKUP } };
    await page.route(/\/(login|me)$/, (route: Route) => route.fulfill({ json: body }));
    await signIn(page, MARKUP);
    await page.getByText(`Session ${MARKUP}`).waitFor();
    await page
      .getByText(`Exempt, so never put out and putting nobody out: xqueue-watcher by name, ${MARKUP} by name`)
      .waitFor();
    expect(await page.locator('#injected').count()).toBe(0);
  });

  it.each([MARKUP, 'constructor', ''])(
    'does not take a reason from the address on trust: %j',
    async (reason) => {
      const page = await openPage(undefined, `/?ended=${encodeURIComponent(reason)}`);
      await says(page, 'The session is not known');
      expect(await page.locator('#injected').count()).toBe(0);
      expect(new URL(page.url()).search).toBe('');
    },
  );
});

/** Waits until the page says this, where a screen reader says it too. */
async function says(page: Page, title: string, text = ''): Promise<void> {
  const status = page.getByRole('status').filter({ has: page.getByText(title, { exact: true }) });
  await status.filter({ hasText: text }).waitFor();
}

async function tryToSignIn(page: Page, username: string, password: string): Promise<void> {
  await page.getByLabel('Username', { exact: true }).fill(username);
  await page.getByLabel('Password').fill(password);
  await page.getByRole('button', { name: 'Sign in' }).click();
}

async function signIn(page: Page, username: string): Promise<void> {
  await tryToSignIn(page, username, username);
  await says(page, `Signed in as ${username}`);
}

/** Waits until the server would tell the page. */
const isTold = (page: Page): Promise<void> =>
  page.getByText('The server tells this page when the session ends.').waitFor();

/** The pages to which the browser goes from now on, redirections and reloads included. */
function visits(page: Page): string[] {
  const visited: string[] = [];
  page.on('request', (request) => {
    const { pathname, search } = new URL(request.url());
    if (request.isNavigationRequest()) visited.push(pathname + search);
  });
  return visited;
}

/** Collects what the browser asks for and what it complains about. */
function watch(browser: BrowserContext): { requests: string[]; complaints: string[] } {
  const requests: string[] = [];
  const complaints: string[] = [];
  browser.on('request', (request) => requests.push(request.url()));
  browser.on('weberror', (error) => complaints.push(error.error().message));
  browser.on('console', (message) => {
    if (isComplaint(message)) complaints.push(`${message.text()} (${message.location().url})`);
  });
  return { requests, complaints };
}

/** Chromium notes every 401 as an error. From these two it is the answer that the page asks for. */
function isComplaint(message: ConsoleMessage): boolean {
  const isRefusal = message.text().includes('status of 401') && /\/(me|login)$/.test(message.location().url);
  return ['error', 'warning', 'assert'].includes(message.type()) && !isRefusal;
}

const hasFocus = (page: Page, selector: string) => page.locator(`${selector}:focus`).waitFor();

/** What has the focus, by the name that it has for people, and how that is shown. */
const focused = (page: Page) =>
  page.evaluate<{ name: string | null; outline: string }>(`({
    name: document.activeElement.ariaLabel ?? (document.activeElement.labels?.[0] ?? document.activeElement).textContent,
    outline: getComputedStyle(document.activeElement).outlineStyle,
  })`);

/** The serious and critical findings of axe, which is in the page already. */
async function faults(page: Page): Promise<string[]> {
  const { violations, passes } = await page.evaluate<AxeResults>('axe.run()');
  expect(passes.map(({ id }) => id)).toContain('color-contrast');
  return violations
    .filter(({ impact }) => impact === 'serious' || impact === 'critical')
    .flatMap(({ id, nodes }) => nodes.map(({ html }) => `${id}: ${html}`));
}
