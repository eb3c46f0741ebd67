import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { Browser } from '../support/client.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { platform } from '../support/platform.js';
import { endAllProcesses, startProcess, type RunningProcess } from '../support/processes.js';

// What a browser gets of the page for administrators, on each platform; what it makes of it is in admin-page.spec.ts.

const BASE = '/admin/sessions';
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

async function signedIn(username: string): Promise<Browser> {
  const browser = new Browser(demo.url);
  expect((await browser.login(username)).status).toBe(200);
  return browser;
}

const fetchAs = async (username: string, path: string) => (await signedIn(username)).get(BASE + path);

describe('what the page is made of', () => {
  it('is served to administrators only, under a policy that knows no inline script or style', async () => {
    const answer = await fetchAs('admin', '/ui');
    expect(answer.status).toBe(200);
    const policy = answer.headers.get('content-security-policy')!;
    // All of it: what is one directive more or less here is a way in.
    expect(policy.split('; ')).toEqual([
      "default-src 'none'",
      "script-src 'self'",
      "style-src 'self'",
      "connect-src 'self'",
      "img-src 'self' data:",
      "base-uri 'none'",
      "form-action 'none'",
      "frame-ancestors 'none'",
      "require-trusted-types-for 'script'",
      "trusted-types 'none'",
    ]);
    expect(answer.body).not.toMatch(/<style|<script(?![^>]* src=)|\sstyle=|\son\w+=|javascript:/i);
    expect((await fetchAs('alice', '/ui')).status).toBe(403);
    expect((await new Browser(demo.url).get(`${BASE}/ui`)).status).toBe(401);
  });

  it.each([
    ['/ui', 'text/html; charset=utf-8'],
    ['/ui/app.js', 'text/javascript; charset=utf-8'],
    ['/ui/app.css', 'text/css; charset=utf-8'],
  ])('serves %s as what it is, and nobody keeps it', async (path, type) => {
    const { status, headers } = await fetchAs('root', path);
    expect([status, headers.get('content-type')]).toEqual([200, type]);
    expect(headers.get('x-content-type-options')).toBe('nosniff');
    expect(headers.get('cache-control')).toBe('no-store');
  });

  // Fastify's router knows no path with a slash behind it, unless it was told to.
  it.each(platform === 'fastify' ? ['/ui'] : ['/ui', '/ui/'])('leads from %s to its parts', async (path) => {
    const browser = await signedIn('admin');
    const { status, body, headers } = await browser.get(BASE + path);
    const address = new URL(headers.get('location') ?? '', new URL(BASE + path, demo.url));
    const html: string = status < 300 ? body : (await browser.get(address.pathname)).body;
    for (const [, part] of html.matchAll(/(?:href|src)="(ui\/[^"]+)"/g))
      expect((await browser.get(new URL(part!, address).pathname)).status).toBe(200);
    expect(html).toContain('src="');
  });
});
