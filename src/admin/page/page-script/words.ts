/** How the page says things: numbers, names, times, reasons. */
export const words = String.raw`
const MANY_NAMES = 5;
const UNITS = /** @type {const} */ ([
  ['day', 86_400],
  ['hour', 3_600],
  ['minute', 60],
]);

const numbers = new Intl.NumberFormat('en');
const listing = new Intl.ListFormat('en');
const ago = new Intl.RelativeTimeFormat(undefined, { numeric: 'auto', style: 'short' });
const moment = new Intl.DateTimeFormat(undefined, { dateStyle: 'full', timeStyle: 'medium' });

/** Why a session ended, as a row of the table says it. */
const END_REASONS = new Map([
  ['superseded', 'newer login'],
  ['logout', 'logged out'],
  ['logout-everywhere', 'logged out everywhere'],
  ['admin', 'by an administrator'],
  ['cut-off', 'everyone was logged out'],
  ['expired', 'too old'],
  ['idle', 'not used'],
  ['unknown', 'reason not known'],
]);

/** Why the person's own session ended. */
const OWN_END_REASONS = new Map([
  ['superseded', 'You signed in somewhere else, and that login took the place of this one.'],
  ['logout', 'You signed out in another window.'],
  ['logout-everywhere', 'You signed out in another browser, which ends all of your sessions.'],
  ['admin', 'An administrator ended it.'],
  ['cut-off', 'An administrator logged out everyone, and this session was not spared.'],
  ['expired', 'It reached its greatest age.'],
  ['idle', 'It was not used for too long.'],
]);

const ACTIONS = new Map([
  ['end-session', 'Ended one session'],
  ['logout', 'Logged people out'],
  ['logout-everyone', 'Logged out everyone'],
  ['add-exemption', 'Added an exemption'],
  ['remove-exemption', 'Removed an exemption'],
]);

/**
 * '1 session', '1,204 sessions'
 * @param {number} count
 * @param {string} one
 */
function plural(count, one) {
  return numbers.format(count) + ' ' + one + (count === 1 ? '' : 's');
}

/**
 * @param {number} ended
 * @param {number | null | undefined} users
 */
function sessionsOf(ended, users) {
  return plural(ended, 'session') + (users == null ? '' : ' of ' + plural(users, 'user'));
}

/**
 * Each name once, and no more of them than can be read.
 * @param {string[]} names
 */
function namesOf(names) {
  const all = [...new Set(names)];
  const shown = all.length > MANY_NAMES ? all.slice(0, MANY_NAMES - 1) : all;
  const rest = all.length - shown.length;
  return listing.format([...shown.map(quoted), ...(rest > 0 ? [numbers.format(rest) + ' more'] : [])]);
}

/**
 * A time beside now; the exact one is in its title. Seconds go in tens, so that rows do not flicker.
 * @param {string} iso
 */
function timeOf(iso) {
  const properties = {
    datetime: iso,
    title: moment.format(new Date(iso)),
    lang: ago.resolvedOptions().locale,
  };
  return element('time', properties, distance(iso));
}

/** @param {string} iso */
function distance(iso) {
  const seconds = (Date.parse(iso) - Date.now()) / 1_000;
  for (const [unit, size] of UNITS) {
    if (Math.abs(seconds) >= size) return ago.format(Math.trunc(seconds / size), unit);
  }
  return ago.format(Math.trunc(seconds / 10) * 10 || 0, 'second');
}

function refreshTimes() {
  for (const time of document.querySelectorAll('time')) write(time, distance(time.dateTime));
}

/**
 * The members of an object in words: 'roles: staff, teacher; me'. What is off or empty is left out.
 * @param {Record<string, unknown>} details
 * @returns {string}
 */
function detailsOf(details) {
  return Object.entries(details)
    .map(([name, value]) => detailOf(name.replace(/([A-Z])/g, ' $1').toLowerCase(), value))
    .filter((text) => text !== '')
    .join('; ');
}

/**
 * @param {string} name
 * @param {unknown} value
 */
function detailOf(name, value) {
  if (value === true) return name;
  if (value === false || value === null || value === undefined || value === '') return '';
  if (Array.isArray(value)) return value.length === 0 ? '' : name + ': ' + namesOf(value.map(String));
  if (typeof value !== 'object') return name + ': ' + quoted(String(value));
  const inner = detailsOf(/** @type {Record<string, unknown>} */ (value));
  return inner === '' ? '' : name + ' ' + inner;
}
`;
