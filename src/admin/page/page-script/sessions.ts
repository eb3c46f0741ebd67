/** Who is signed in where: the table, its filter, and what is selected in it. */
export const sessions = `
const filterForm = byId('filter', HTMLFormElement);
const limitSelect = byId('limit', HTMLSelectElement);
const sessionsHeading = byId('sessions-heading', HTMLElement);
const logOutSelected = byId('log-out-selected', HTMLButtonElement);
const clearSelection = byId('clear-selection', HTMLButtonElement);
const selectAll = element('input', {
  type: 'checkbox',
  'aria-label': 'Select all on this page',
  change: toggleAll,
});

/** @type {Map<string, Session>} */
const selected = new Map();
let filter = readFilter();

/** @type {Column<Session>[]} */
const sessionColumns = [
  {
    name: 'Select',
    heading: () => selectAll,
    className: 'selects',
    value: ({ state, username, ip }) => [state, username, ip],
    show: (session) => (session.state === 'active' ? [checkboxOf(session)] : []),
  },
  {
    name: 'User',
    isHeading: true,
    className: 'user',
    value: ({ username, userId, roles, current, exempt }) => [username, userId, roles, current, exempt],
    show: showUser,
  },
  {
    name: 'Since',
    className: 'when',
    value: ({ createdAt }) => createdAt,
    show: ({ createdAt }) => [timeOf(createdAt)],
  },
  {
    name: 'Last seen',
    className: 'when',
    value: ({ lastSeenAt }) => lastSeenAt,
    show: ({ lastSeenAt }) => [timeOf(lastSeenAt)],
  },
  {
    name: 'Expires',
    className: 'when',
    value: ({ expiresAt, state }) => [expiresAt, state],
    show: ({ expiresAt, state }) => [state === 'active' ? timeOf(expiresAt) : '–'],
  },
  { name: 'Address', className: 'address', value: ({ ip }) => ip, show: ({ ip }) => [foreignOrDash(ip)] },
  {
    name: 'Device',
    className: 'device',
    value: ({ userAgent }) => userAgent,
    show: ({ userAgent }) => [foreignOrDash(userAgent)],
  },
  {
    name: 'State',
    className: 'state',
    value: ({ state, endReason, endedAt, endedBy }) => [state, endReason, endedAt, endedBy],
    show: showState,
  },
  {
    name: 'Log out',
    heading: () => element('span', { class: 'unseen' }, 'Log out'),
    className: 'does',
    value: ({ state, username, ip }) => [state, username, ip],
    show: (session) => (session.state === 'active' ? [logOutButton(session)] : []),
  },
];

/** @type {PagedTable<Session>} */
const sessions = new PagedTable({
  table: {
    rows: byId('session-rows', HTMLElement),
    columns: sessionColumns,
    keyOf: ({ id }) => id,
    heading: sessionsHeading,
  },
  head: byId('session-columns', HTMLElement),
  empty: byId('sessions-empty', HTMLElement),
  emptyText: 'There is no such session.',
  position: byId('position', HTMLElement),
  newer: byId('newer', HTMLButtonElement),
  older: byId('older', HTMLButtonElement),
  name: 'session',
  limit: () => Number(limitSelect.value),
  read: (query) => api.sessions({ ...filter, ...query }),
  onShow: showCaption,
});

/** @param {Session} session */
function showUser({ username, userId, roles, current, exempt }) {
  const chips = [
    ...(current ? [element('span', { class: 'chip you' }, 'this is you')] : []),
    ...roles.map((role) => foreign(role, 'chip')),
    ...(exempt ? [element('span', { class: 'chip exempt' }, 'exempt')] : []),
  ];
  const name = foreign(username, 'name');
  name.title = 'User id ' + userId;
  return [name, ...chips.flatMap((chip) => [' ', chip])];
}

/** @param {Session} session */
function showState({ state, endReason, endedAt, endedBy }) {
  if (state === 'active') return [element('span', { class: 'active' }, 'Active')];
  const reason = END_REASONS.get(endReason ?? '') ?? endReason;
  return [
    element('span', { class: 'ended' }, 'Ended'),
    ...(reason ? [': ' + reason] : []),
    ...(endedAt ? [', ', timeOf(endedAt)] : []),
    ...(endedBy ? [', by ', foreign(endedBy)] : []),
  ];
}

/** @param {Session} session */
function placeOf({ username, ip }) {
  return visible(username) + (ip ? ', ' + ip : '');
}

/** @param {Session} session */
function checkboxOf(session) {
  const box = element('input', { type: 'checkbox', 'aria-label': 'Select ' + placeOf(session) });
  box.checked = selected.has(session.id);
  box.addEventListener('change', () => {
    if (box.checked) selected.set(session.id, session);
    else selected.delete(session.id);
    showSelection();
  });
  return box;
}

/** @param {Session} session */
function logOutButton(session) {
  const properties = { type: 'button', class: 'danger plain', 'aria-label': 'Log out ' + placeOf(session) };
  const button = element('button', properties, 'Log out');
  onPress(button, () => askToLogOut([session]));
  return button;
}

function toggleAll() {
  const isOn = selectAll.checked;
  selected.clear();
  for (const session of sessions.items) {
    if (isOn && session.state === 'active') selected.set(session.id, session);
  }
  checkBoxes();
}

function unselect() {
  selected.clear();
  checkBoxes();
}

function checkBoxes() {
  for (const box of sessions.parts.table.rows.querySelectorAll('input')) {
    box.checked = selected.has(box.closest('tr')?.dataset.key ?? '');
  }
  showSelection();
}

function showSelection() {
  const count = selected.size;
  const active = sessions.items.filter(({ state }) => state === 'active').length;
  selectAll.checked = count > 0 && count === active;
  selectAll.indeterminate = count > 0 && count < active;
  selectAll.disabled = active === 0;
  enable(logOutSelected, count > 0);
  write(logOutSelected, count > 0 ? 'Log out ' + numbers.format(count) + ' selected' : 'Log out selected');
  clearSelection.hidden = count === 0;
  write(
    byId('selection', HTMLElement),
    count > 0 ? 'The list stands still while sessions are selected.' : '',
  );
  showLive();
}

function showCaption() {
  const { state, ...others } = filter;
  const isNarrowed = Object.values(others).some((value) => value !== undefined);
  const which = state === 'all' ? 'All sessions' : state === 'ended' ? 'Ended sessions' : 'Active sessions';
  write(byId('sessions-caption', HTMLElement), which + (isNarrowed ? ' that match' : '') + ', newest first');
  showSelection();
}

function readFilter() {
  return {
    username: written(filterForm, 'username'),
    userId: written(filterForm, 'userId'),
    role: written(filterForm, 'role'),
    state: written(filterForm, 'state') ?? 'active',
  };
}

function restartSessions() {
  filter = readFilter();
  unselect();
  return sessions.restart();
}

/** @param {string} userId */
async function showSessionsOf(userId) {
  filterForm.reset();
  byId('filter-user-id', HTMLInputElement).value = userId;
  await restartSessions();
  sessionsHeading.focus();
}

onSubmit(filterForm, restartSessions);
onPress(byId('clear-filter', HTMLButtonElement), () => {
  filterForm.reset();
  return restartSessions();
});
onPress(clearSelection, () => {
  unselect();
  selectAll.focus();
});
limitSelect.addEventListener('change', () => void restartSessions());
for (const button of [sessions.parts.newer, sessions.parts.older]) onPress(button, unselect);
`;
