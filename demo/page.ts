import type { Environment } from './environment.js';

/** The settings that the page explains. */
export type PageFacts = Pick<Environment, 'maxSessions' | 'onLimit' | 'exemptUsernames' | 'exemptRoles'>;

/** The page to try the demo with: complete in itself, nothing of it comes from elsewhere. */
export function page(facts: PageFacts): string {
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>One session at a time</title>
<link rel="stylesheet" href="/demo.css">
<script src="/demo.js" defer></script>
</head>
<body>
<header>
<h1>One session at a time</h1>
<p>This is the demo of <strong>nestjs-single-session</strong>. ${rule(facts)}</p>
</header>
<main>

<section class="panel" id="panel" data-state="anonymous" aria-labelledby="panel-heading">
<h2 id="panel-heading">This browser</h2>
<div id="status" role="status" aria-live="polite" aria-atomic="true">
<p id="status-title">Not signed in</p>
<p id="status-text">Sign in to begin.</p>
</div>
<form id="sign-in" action="/login" method="post">
<div class="field">
<label for="username">Username</label>
<input id="username" name="username" value="alice" autocomplete="username" autocapitalize="none" spellcheck="false" required>
</div>
<div class="field">
<label for="password">Password <span class="hint">(the same as the username)</span></label>
<input id="password" name="password" type="password" value="alice" autocomplete="current-password" required>
</div>
<button id="sign-in-button" type="submit">Sign in</button>
</form>
<div id="signed-in" hidden>
<p class="facts">Session <code id="session-id"></code><br><span id="checked"></span></p>
<button id="sign-out" type="button">Sign out</button>
</div>
<noscript><p>This page needs JavaScript. Without it, use the command lines below.</p></noscript>
</section>

<section aria-labelledby="try-heading">
<h2 id="try-heading">Try it</h2>
<ol>
${steps(facts)
  .map((step) => `<li>${step}</li>`)
  .join('\n')}
</ol>
</section>

<section aria-labelledby="who-heading">
<h2 id="who-heading">Who can sign in</h2>
<p>Everybody’s password is the username. A button fills in the form.</p>
<ul class="people">
${PEOPLE.map(person).join('\n')}
</ul>
<p>Exempt, so never put out and putting nobody out: ${exempt(facts)}.</p>
</section>

<section aria-labelledby="admin-heading">
<h2 id="admin-heading">For administrators</h2>
<p>Sign in as <code>admin</code>, who may log out ordinary users, or as <code>root</code>, who may log out anyone, and open <a href="/admin/sessions/ui">the page for administrators</a>: who is signed in where, log out one, several or everyone except some, exemptions, and the record. Every user’s own sessions are at <a href="/sessions/mine"><code>GET /sessions/mine</code></a>.</p>
</section>

<section aria-labelledby="token-heading">
<h2 id="token-heading">The same with a token</h2>
<p>Get an access token and use it. This counts as a sign-in like any other, so one as <code>alice</code> competes with the browsers above.</p>
${commandLines(
  'Token',
  `TOKEN=$(curl -s <b class="origin">http://localhost:3000</b>/token \\
  -H 'Content-Type: application/json' \\
  -d '{"username":"bob","password":"bob"}' \\
  | sed 's/.*"accessToken":"\\([^"]*\\)".*/\\1/')

curl -i <b class="origin">http://localhost:3000</b>/me -H "Authorization: Bearer $TOKEN"`,
)}
<p>${tokenEnd(facts)}</p>
${commandLines(
  'Answer',
  `HTTP/1.1 401 Unauthorized
WWW-Authenticate: Bearer error="invalid_token"

{"statusCode":401,"code":"SESSION_ENDED","reason":"superseded",…}`,
)}
</section>

</main>
<footer><p>While you are signed in, this page listens to <code>GET /sessions/mine/events</code>, and the server tells it when the session ends. An API client gets JSON with the reason; a browser that opens a page is redirected to <code>/?ended=…</code> instead.</p></footer>
</body>
</html>
`;
}

const PEOPLE: ReadonlyArray<readonly [username: string, about: string]> = [
  ['alice', 'an ordinary user'],
  ['bob', 'another one'],
  ['user1', 'and so on, to user2000'],
  ['admin', 'role “admin”'],
  ['root', 'role “superadmin”'],
  ['grader', 'a service account, role “service”'],
  ['xqueue-watcher', 'a service account, role “user”'],
];

function person([username, about]: readonly [string, string]): string {
  return `<li><button type="button" data-username="${username}" aria-label="Fill in ${username}">${username}</button> <span>${about}</span></li>`;
}

function rule({ maxSessions, onLimit }: PageFacts): string {
  if (maxSessions === Infinity) return 'It is set to no limit, so nobody is put out.';
  const limit = maxSessions === 1 ? 'one session' : `${maxSessions} sessions`;
  const consequence =
    onLimit === 'evict'
      ? 'a new sign-in puts the oldest one out, and tells it why'
      : 'a sign-in beyond that is refused until one of them ends';
  return `A user may have ${limit} at a time: ${consequence}.`;
}

function steps({ maxSessions, onLimit }: PageFacts): string[] {
  const others = maxSessions === 1 ? 'a private window' : `${maxSessions} more browsers`;
  const elsewhere = `Open this page in ${others} (a second tab will not do, it shares the cookie) and sign in as <b>alice</b> there too.`;
  const first = 'Sign in here as <b>alice</b>.';
  if (maxSessions === Infinity) return [first, elsewhere, 'All of them stay signed in.'];
  if (onLimit === 'reject')
    return [first, elsewhere, 'The last one is refused. Sign out here, and it is let in.'];
  return [
    first,
    elsewhere,
    'Look back here. This window is signed out already, and says why.',
    'Sign in here again, and the other one is out.',
  ];
}

function tokenEnd({ maxSessions, onLimit }: PageFacts): string {
  if (maxSessions === Infinity || onLimit === 'reject')
    return 'When its session ends, the token is refused although its signature is still good:';
  const times = maxSessions === 1 ? 'once more' : `${maxSessions} times more`;
  return `Now sign in as <code>bob</code> ${times}, here or with <code>/token</code>, and repeat the last line. The token is refused although its signature is still good:`;
}

function exempt({ exemptUsernames, exemptRoles }: PageFacts): string {
  const users = exemptUsernames.map((username) => `<code>${escape(username)}</code> by name`);
  const roles = exemptRoles.map((role) => `everybody with the role <code>${escape(role)}</code>`);
  return [...users, ...roles].join(', ') || 'nobody';
}

/** Can be reached with the keyboard, because it scrolls sideways where it is wider than the screen. */
function commandLines(label: string, html: string): string {
  return `<pre tabindex="0" role="region" aria-label="${label}"><code>${html}</code></pre>`;
}

const ENTITIES: Record<string, string> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
};

function escape(text: string): string {
  return text.replace(/[&<>"']/g, (character) => ENTITIES[character]!);
}
