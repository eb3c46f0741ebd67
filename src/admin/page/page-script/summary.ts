/** The numbers at the top, and the accounts whose sessions replace each other. */
export const summary = `
/** @type {Table<Storm>} */
const storms = {
  rows: byId('storm-rows', HTMLElement),
  heading: byId('sessions-heading', HTMLElement),
  keyOf: ({ userId }) => userId,
  columns: [
    {
      name: 'Account',
      isHeading: true,
      value: ({ userId, username }) => [userId, username],
      show: (storm) => [foreign(nameOf(storm), 'name')],
    },
    {
      name: 'Logins',
      value: ({ logins, windowMs }) => [logins, windowMs],
      show: (storm) => [stormInWords(storm)],
    },
    {
      name: 'What to do',
      className: 'does',
      value: ({ userId, username }) => [userId, username],
      show: (storm) => [...exemptButton(storm), showButton(storm)],
    },
  ],
};
byId('storm-columns', HTMLElement).append(...storms.columns.map(headCell));

/** @param {Storm} storm */
function stormInWords({ logins, windowMs }) {
  return plural(logins, 'login') + ' in ' + plural(windowMs / 1_000, 'second');
}

/** @param {Storm} storm */
function nameOf({ userId, username }) {
  return username ?? userId;
}

/** @param {Storm} storm */
function exemptButton({ userId, username }) {
  if (username === null) return [];
  const button = element('button', { type: 'button' }, 'Exempt ', foreign(username));
  onPress(button, () => exemptStorm(userId, username));
  return [button];
}

/** @param {Storm} storm */
function showButton(storm) {
  const whose = element('span', { class: 'unseen' }, ' (', foreign(nameOf(storm)), ')');
  const button = element('button', { type: 'button', class: 'plain' }, 'Show its sessions', whose);
  onPress(button, () => showSessionsOf(storm.userId));
  return button;
}

/** @type {Storm[]} */
let knownStorms = [];

async function refreshSummary() {
  const answer = await api.summary();
  if (!answer.ok || isOver) return answer;
  const { activeSessions, activeUsers, administrators, exemptSessions } = answer.body;
  write(byId('active-sessions', HTMLElement), numbers.format(activeSessions));
  write(byId('active-users', HTMLElement), numbers.format(activeUsers));
  write(byId('administrators', HTMLElement), numbers.format(administrators));
  write(byId('exempt-sessions', HTMLElement), numbers.format(exemptSessions));
  knownStorms = answer.body.storms;
  byId('storms', HTMLElement).hidden = knownStorms.length === 0;
  fill(storms, knownStorms);
  return answer;
}

/**
 * @param {string} userId
 * @param {string} username
 */
async function exemptStorm(userId, username) {
  const storm = knownStorms.find((known) => known.userId === userId);
  const note = storm && 'Storm: ' + stormInWords(storm);
  await addExemption({ kind: 'username', value: username, ...(note && { note }) });
}
`;
