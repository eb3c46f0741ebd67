/** The script of the page. What it shows it writes as text, never as markup. */
export const script = `'use strict';

// Where the server cannot tell by itself, the page asks.
const POLL_MS = 2000;

const REASONS = {
  superseded: ['Signed out by a newer sign-in', 'This account signed in somewhere else, and the newer sign-in took the place of this one. If that was not you, change your password.'],
  logout: ['Signed out', 'This session was signed out in another window.'],
  'logout-everywhere': ['Signed out everywhere', 'This account signed out in another browser, and that ends all of its sessions.'],
  admin: ['Signed out by an administrator', 'An administrator ended this session.'],
  'cut-off': ['Everybody was signed out', 'An administrator ended the sessions of all users.'],
  expired: ['The session has expired', 'It reached its greatest age. Sign in again to go on.'],
  idle: ['Signed out after a pause', 'The session was not used for too long. Sign in again to go on.'],
  unknown: ['The session is not known', 'The server has no record of it. Sign in again to go on.'],
};

const element = (id) => document.getElementById(id);
const panel = element('panel');
const form = element('sign-in');
const signedIn = element('signed-in');
const people = document.querySelectorAll('[data-username]');

let user;
let timer;
// Stays open while somebody is signed in: the server tells here when the session ends.
let stream;
// Counts sign-ins and sign-outs: an answer to a question of before is not shown.
let turn = 0;
// Not by disabling the button: that would take the focus away from whoever uses the keyboard.
let isSigningIn = false;

function say(state, title, text) {
  panel.dataset.state = state;
  write('status-title', title);
  write('status-text', text);
}

// A screen reader reads what is written anew, so the same words are not written again.
function write(id, text) {
  if (element(id).textContent !== text) element(id).textContent = text;
}

function show(isSignedIn) {
  const hadFocus = (isSignedIn ? form : signedIn).contains(document.activeElement);
  form.hidden = isSignedIn;
  signedIn.hidden = !isSignedIn;
  for (const button of people) button.disabled = isSignedIn;
  if (hadFocus) element(isSignedIn ? 'sign-out' : 'username').focus();
}

function enter(body) {
  user = body.user.username;
  say('signed-in', 'Signed in as ' + user, 'Leave this window open and sign in as ' + user + ' somewhere else.');
  write('session-id', body.session.id);
  show(true);
  checked();
}

const isTold = () => stream?.readyState === EventSource.OPEN;

function checked() {
  const time = new Date().toLocaleTimeString();
  write('checked', isTold() ? 'The server tells this page when the session ends.' : 'Last checked at ' + time + '.');
}

function leave(state, title, text) {
  turn += 1;
  clearTimeout(timer);
  stream?.close();
  stream = undefined;
  user = undefined;
  say(state, title, text);
  show(false);
}

function thrownOut(reason, endedAt) {
  const [title, text] = Object.hasOwn(REASONS, reason) ? REASONS[reason] : REASONS.unknown;
  const time = endedAt ? ' It happened at ' + new Date(endedAt).toLocaleTimeString() + '.' : '';
  leave('ended', title, text + time);
}

async function ask(method, path, body) {
  try {
    const response = await fetch(path, {
      method,
      headers: { Accept: 'application/json', ...(body && { 'Content-Type': 'application/json' }) },
      body: body && JSON.stringify(body),
    });
    return { status: response.status, body: await response.json().catch(() => ({})) };
  } catch {
    return { status: 0, body: {} };
  }
}

// Being told takes no time, and asks nothing of the server. While the stream is down, also because the server cannot
// look after it, the page asks; the browser connects again by itself unless it was refused.
function beTold() {
  if (stream && stream.readyState !== EventSource.CLOSED) return;
  const asked = turn;
  const opened = new EventSource('/sessions/mine/events');
  stream = opened;
  opened.addEventListener('ended', ({ data }) => {
    opened.close();
    if (asked === turn) thrownOut(JSON.parse(data).reason, JSON.parse(data).endedAt);
  });
  opened.onopen = () => {
    if (asked !== turn) return;
    clearTimeout(timer);
    checked();
    if (panel.dataset.state === 'waiting') poll();
  };
  opened.onerror = () => asked === turn && pollLater();
}

function pollLater() {
  clearTimeout(timer);
  timer = setTimeout(poll, POLL_MS);
}

async function poll() {
  const asked = turn;
  const { status, body } = await ask('GET', '/me');
  if (asked !== turn) return;
  if (status === 401) return refused(body);
  if (status === 200) {
    enter(body);
    beTold();
  } else say('waiting', 'No answer', 'The server cannot tell at the moment whether this session is still good. Asking again.');
  if (!isTold()) pollLater();
}

function refused(body) {
  if (body.code === 'SESSION_ENDED') return thrownOut(body.reason, body.endedAt);
  if (body.code === 'SESSION_UNKNOWN') return thrownOut('unknown');
  leave('ended', 'Not signed in any more', 'The session of this browser has ended. If another tab is open here, it may have been told why.');
}

async function signIn(event) {
  event.preventDefault();
  if (isSigningIn) return;
  isSigningIn = true;
  turn += 1;
  const credentials = { username: form.elements.username.value, password: form.elements.password.value };
  const { status, body } = await ask('POST', '/login', credentials);
  isSigningIn = false;
  if (status !== 200) return say('ended', ...loginProblem(status, body));
  enter(body);
  beTold();
}

function loginProblem(status, body) {
  if (status === 401) return ['Not signed in', 'Username or password is wrong. The password is the same as the username.'];
  if (status === 409) return ['No room', 'This account has ' + body.maxSessions + ' session(s) already, and here a new one is refused. Sign out in another browser first.'];
  return ['Not signed in', 'The server does not answer as it should. Try again in a moment.'];
}

async function signOut() {
  // That the session ends then is no news.
  stream?.close();
  const { status } = await ask('POST', '/logout');
  if (status === 204) return leave('anonymous', 'Signed out', 'Sign in to begin again.');
  say('waiting', 'Still signed in', 'The server could not sign you out. Try again in a moment.');
  pollLater();
}

function fillIn(username) {
  form.elements.username.value = username;
  form.elements.password.value = username;
  element('sign-in-button').focus();
}

async function start() {
  for (const place of document.querySelectorAll('.origin')) place.textContent = location.origin;
  form.addEventListener('submit', signIn);
  element('sign-out').addEventListener('click', signOut);
  for (const button of people) button.addEventListener('click', () => fillIn(button.dataset.username));

  const ended = new URLSearchParams(location.search).get('ended');
  if (ended !== null) {
    thrownOut(ended);
    history.replaceState(null, '', '/');
  }
  const asked = turn;
  const { status, body } = await ask('GET', '/me');
  if (asked !== turn || status !== 200) return;
  enter(body);
  beTold();
}

start();
`;
