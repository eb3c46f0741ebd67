/** Logging out the sessions that were chosen, or their users, and saying what came of it. */
export const logOut = `
const ENDED_AT_ONCE = 4;

let isLoggingOut = false;

/** @param {Session[]} chosen */
async function askToLogOut(chosen) {
  if (isLoggingOut || chosen.length === 0) return;
  const names = namesOf(chosen.map(({ username }) => username));
  const answer = await ask({
    title:
      chosen.length === 1 ? 'Log out ' + names + '?' : 'Log out ' + plural(chosen.length, 'session') + '?',
    text: textOfQuestion(chosen, names),
    yes: 'Log out',
    wider: 'All sessions of ' + names + ', on every device',
  });
  if (answer === undefined) return;
  isLoggingOut = true;
  enable(logOutSelected, false);
  notify('Logging out …');
  const result = answer.isWider ? await logOutUsers(chosen, answer.note) : await endSessions(chosen);
  isLoggingOut = false;
  selected.clear();
  showSelection();
  if (isOver) return;
  notify(result.text, result.isWhole ? 'good' : 'warn');
  await refreshAll();
  checkBoxes();
}

/**
 * @param {Session[]} chosen
 * @param {string} names
 */
function textOfQuestion(chosen, names) {
  const [first] = chosen;
  const hasOwn = chosen.some(({ current }) => current);
  if (chosen.length > 1) {
    const own = hasOwn ? ' Your own session, in this browser, is among them.' : '';
    return 'They belong to ' + names + ', and end at once.' + own;
  }
  if (hasOwn) return 'This is your own session, in this browser. It ends at once.';
  const device = [first?.ip, first?.userAgent].filter(Boolean).join(', ') || 'an unknown device';
  return 'Its session on ' + device + ' ends at once.';
}

/**
 * Ends these sessions and no others. The person's own comes last: after it nothing else would be done.
 * @param {Session[]} chosen
 */
async function endSessions(chosen) {
  const others = await inTurn(chosen.filter(({ current }) => !current));
  const outcomes = [...others, ...(await inTurn(chosen.filter(({ current }) => current)))];
  const results = outcomes.flatMap(({ session, answer }) => (answer.ok ? [{ session, ...answer.body }] : []));
  const ended = results.reduce((sum, result) => sum + result.ended, 0);
  const spared = results.filter(({ skipped }) => skipped.some(({ why }) => why === 'administrator'));
  const failed = outcomes.flatMap(({ answer }) =>
    answer.ok || answer.status === 404 ? [] : [answer.problem],
  );
  const gone = outcomes.length - ended - spared.length - failed.length;
  return inWords([
    ended > 0 ? plural(ended, 'session') + ' ended.' : '',
    leftAlone(spared.map(({ session }) => session.username)),
    gone > 0 ? plural(gone, 'session') + ' had ended already.' : '',
    failed.length > 0 ? 'For ' + plural(failed.length, 'session') + ': ' + namesOf(failed) : '',
  ]);
}

/**
 * @param {Session[]} chosen
 * @param {string} [note]
 */
async function logOutUsers(chosen, note) {
  const answer = await api.logOut([...new Set(chosen.map(({ userId }) => userId))], note);
  if (!answer.ok) return inWords(['', answer.problem]);
  const { ended, users, skipped } = answer.body;
  const names = new Map(chosen.map(({ userId, username }) => [userId, username]));
  const skippedBecause = (/** @type {Skipped['why']} */ reason) =>
    skipped.flatMap(({ userId, why }) => (why === reason ? [names.get(userId ?? '') ?? userId ?? ''] : []));
  const absent = skippedBecause('no-session');
  return inWords([
    sessionsOf(ended, users) + ' ended.',
    leftAlone(skippedBecause('administrator')),
    absent.length > 0 ? 'Without a session: ' + namesOf(absent) + '.' : '',
  ]);
}

/**
 * The first text tells what was done, the others what was not.
 * @param {string[]} texts
 */
function inWords([done = '', ...undone]) {
  const rest = undone.filter((text) => text !== '');
  return { text: [done, ...rest].filter((text) => text !== '').join(' '), isWhole: rest.length === 0 };
}

/** @param {string[]} administrators */
function leftAlone(administrators) {
  if (administrators.length === 0) return '';
  return 'Left alone: ' + namesOf(administrators) + '. You may not log out administrators.';
}

/**
 * Ends them one after the other, a few at a time.
 * @param {Session[]} chosen
 */
async function inTurn(chosen) {
  /** @type {{ session: Session, answer: Answer<LoggedOut> }[]} */
  const outcomes = [];
  const queue = [...chosen];
  const work = async () => {
    for (let session = queue.shift(); session && !isOver; session = queue.shift()) {
      outcomes.push({ session, answer: await api.endSession(session.id) });
    }
  };
  await Promise.all(Array.from({ length: ENDED_AT_ONCE }, work));
  return outcomes;
}

onPress(logOutSelected, () => askToLogOut([...selected.values()]));
`;
