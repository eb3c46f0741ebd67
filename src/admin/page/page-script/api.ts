/** The calls of the administration API. */
export const api = String.raw`
const PATIENCE_MS = 30_000;

/** Nobody has touched the page since its last round: that it is open does not keep the person's session from being idle. */
let isAbsent = false;

// The script is at <base>/ui/app.js, wherever the application has put that.
const base = new URL('..', import.meta.url).href.replace(/\/$/, '');

// What Nest says where nobody has written anything better.
const UNSAID = ['Forbidden', 'Not Found'];

const PROBLEMS = new Map([
  [403, 'You may not do this.'],
  [404, 'There is no such thing any more.'],
  [503, 'The session store does not answer at the moment. Try again soon.'],
]);

const api = {
  /** @returns {Promise<Answer<Summary>>} */
  summary: () => call('GET', '/summary'),
  /** @param {Record<string, string | undefined>} query @returns {Promise<Answer<Page<Session>>>} */
  sessions: (query) => call('GET', queried('', query)),
  /** @param {string} id @returns {Promise<Answer<LoggedOut>>} */
  endSession: (id) => call('DELETE', '/' + encodeURIComponent(id)),
  /** @param {string[]} userIds @param {string} [note] @returns {Promise<Answer<LoggedOut>>} */
  logOut: (userIds, note) => call('POST', '/logout', { userIds, note }),
  /** @param {EveryoneExcept} whom @returns {Promise<Answer<LoggedOutEveryone>>} */
  countEveryone: (whom) => call('POST', '/logout-everyone', { ...whom, dryRun: true }),
  /** @param {EveryoneExcept} whom @returns {Promise<Answer<LoggedOutEveryone>>} */
  logOutEveryone: (whom) => call('POST', '/logout-everyone', whom),
  /** @returns {Promise<Answer<{ items: Exemption[] }>>} */
  exemptions: () => call('GET', '/exemptions'),
  /** @param {NewExemption} exemption @returns {Promise<Answer<Exemption>>} */
  exempt: (exemption) => call('PUT', '/exemptions', exemption),
  /** @param {ExemptionKey} key @returns {Promise<Answer<unknown>>} */
  removeExemption: ({ kind, value }) => call('DELETE', queried('/exemptions', { kind, value })),
  /** @param {Record<string, string | undefined>} query @returns {Promise<Answer<Page<Action>>>} */
  actions: (query) => call('GET', queried('/actions', query)),
};

/**
 * @param {string} path
 * @param {Record<string, string | undefined>} query
 */
function queried(path, query) {
  const given = Object.entries(query).flatMap(([name, value]) => (value ? [[name, value]] : []));
  return given.length === 0 ? path : path + '?' + new URLSearchParams(given);
}

/**
 * Never throws: what goes wrong comes back in words. That the server keeps to the contract is taken on trust here.
 * @template T
 * @param {string} method
 * @param {string} path
 * @param {object} [body]
 * @returns {Promise<Answer<T>>}
 */
async function call(method, path, body) {
  const isOrder = method !== 'GET' && !(body && 'dryRun' in body);
  const doubt = isOrder ? ' It is not known whether it was done.' : '';
  try {
    const response = await fetch(base + path, {
      method,
      headers: {
        Accept: 'application/json',
        ...(body && { 'Content-Type': 'application/json' }),
        ...(method === 'GET' && isAbsent && { 'X-Single-Session': 'absent' }),
      },
      ...(body && { body: JSON.stringify(body) }),
      credentials: 'same-origin',
      redirect: 'manual',
      signal: AbortSignal.timeout(PATIENCE_MS),
    });
    /** @type {unknown} */
    const answer = await response.json().catch(() => undefined);
    const refusal = /** @type {Refusal | null | undefined} */ (answer);
    if (isSignedOut(response)) leave(signedOut(refusal ?? {}));
    // Whoever may read nothing. What is ordered may be refused to an administrator, too.
    else if (response.status === 403 && method === 'GET') leave(NOT_ALLOWED);
    if (response.ok && typeof answer === 'object') return { ok: true, body: /** @type {T} */ (answer) };
    // Whoever stands between may say that it failed while it goes on.
    const problem = problemOf(response.status, refusal) + (isRefused(response.status) ? '' : doubt);
    return { ok: false, status: response.status, problem };
  } catch {
    return { ok: false, status: 0, problem: 'The server did not answer.' + doubt };
  }
}

/** @param {number} status */
function isRefused(status) {
  return status >= 400 && status < 500;
}

/**
 * An application may also send whoever is not signed in to its own page.
 * @param {Response} response
 */
function isSignedOut({ status, type }) {
  return status === 401 || type === 'opaqueredirect';
}

/**
 * @param {number} status
 * @param {Refusal | null} [refusal]
 */
function problemOf(status, refusal) {
  const message = [refusal?.message ?? []].flat().join('; ');
  const isForPeople = isRefused(status) && message !== '' && !UNSAID.includes(message);
  return isForPeople
    ? sentence(message)
    : (PROBLEMS.get(status) ?? 'The server answered with an error (' + status + ').');
}

/** @param {string} text */
function sentence(text) {
  const begun = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(begun) ? begun : begun + '.';
}
`;
