/** Keeping the page up to date by itself, and starting it. */
export const live = `
const POLL_MS = 3_000;
const POLL_MS_AT_MOST = 30_000;
/** What costs the server one part may keep it busy for at most a tenth of the time. */
const PAUSE_PER_ANSWER = 10;
const TYPING_MS = 2_000;
const TIMES_MS = 10_000;
/** Exemptions and the record change seldom: they are read in one round of so many. */
const SELDOM = 10;

const UNREADABLE =
  'The answers are not what this page was made for. Does an interceptor of the application, or a proxy, change them?';

let timer = 0;
let rounds = 0;
let failures = 0;
let failure = '';
let typedAt = -Infinity;
let isTouched = true;

function touch() {
  isTouched = true;
  isAbsent = false;
}

/** Nothing moves under the hands of somebody who is choosing, answering or typing. */
function isInUse() {
  return selected.size > 0 || dialog.open || isLoggingOut || performance.now() - typedAt < TYPING_MS;
}

function showLive() {
  if (isOver) return;
  if (failures > 0) setLive('waiting', failure + '; asking again');
  else if (selected.size > 0) setLive('paused', 'Paused');
  else if (!sessions.isFirst) setLive('paused', 'Older page, not live');
  else setLive('live', 'Live');
}

/** @param {boolean} isSeldom */
function readAll(isSeldom) {
  return Promise.all([
    refreshSummary(),
    ...(sessions.isFirst ? [sessions.refresh()] : []),
    ...(isSeldom ? [refreshExemptions()] : []),
    ...(isSeldom && actions.isFirst ? [actions.refresh()] : []),
  ]);
}

/** After an action of the person: everything may be different. */
async function refreshAll() {
  await Promise.all([refreshSummary(), sessions.refresh(), refreshExemptions(), actions.refresh()]);
}

/** What went wrong, if anything, in a word or two. */
async function round() {
  try {
    const answers = await readAll(rounds % SELDOM === 0);
    rounds += 1;
    const [problem] = answers.flatMap((answer) => (answer.ok ? [] : [answer]));
    return problem && (problem.status === 0 ? 'No answer' : 'Error ' + problem.status);
  } catch {
    if (failures === 0) notify(UNREADABLE, 'bad');
    return 'Not readable';
  }
}

async function poll() {
  clearTimeout(timer);
  if (isOver || document.hidden) return;
  if (isInUse()) return pollIn(POLL_MS);
  const started = performance.now();
  isAbsent = !isTouched;
  isTouched = false;
  failure = (await round()) ?? '';
  failures = failure === '' ? 0 : failures + 1;
  showLive();
  const patience = POLL_MS * 2 ** Math.min(failures, 5);
  pollIn(Math.max(Math.min(patience, POLL_MS_AT_MOST), PAUSE_PER_ANSWER * (performance.now() - started)));
}

/** @param {number} ms */
function pollIn(ms) {
  clearTimeout(timer);
  if (!isOver) timer = setTimeout(() => void poll(), ms);
}

document.addEventListener('input', () => (typedAt = performance.now()));
for (const type of ['pointerdown', 'pointermove', 'keydown', 'wheel', 'click']) {
  document.addEventListener(type, touch, { passive: true, capture: true });
}
document.addEventListener('visibilitychange', () => void poll());
setInterval(() => document.hidden || refreshTimes(), TIMES_MS);
void poll();
`;
