/** The record: which administrator did what. */
export const actions = `
const ACTIONS_PER_PAGE = 10;

/** @type {PagedTable<Action>} */
const actions = new PagedTable({
  table: {
    rows: byId('action-rows', HTMLElement),
    heading: byId('actions-heading', HTMLElement),
    keyOf: ({ id }) => String(id),
    columns: [
      { name: 'When', className: 'when', value: ({ at }) => at, show: ({ at }) => [timeOf(at)] },
      { name: 'By', value: ({ by }) => by, show: ({ by }) => [foreignOrDash(by, 'name')] },
      {
        name: 'Action',
        isHeading: true,
        value: ({ action }) => action,
        show: ({ action }) => [ACTIONS.get(action) ?? action],
      },
      { name: 'Ended', value: ({ action, ended, users }) => [action, ended, users], show: showEnded },
      {
        name: 'Details',
        className: 'details',
        value: ({ target }) => target,
        show: ({ target }) => nodesOf((target && detailsOf(target)) || '–'),
      },
      { name: 'Note', className: 'note', value: ({ note }) => note, show: ({ note }) => [foreignOrDash(note)] },
      { name: 'From', className: 'address', value: ({ ip }) => ip, show: ({ ip }) => [foreignOrDash(ip)] },
    ],
  },
  head: byId('action-columns', HTMLElement),
  empty: byId('actions-empty', HTMLElement),
  emptyText: 'Nothing has been done yet.',
  position: byId('actions-position', HTMLElement),
  newer: byId('newer-actions', HTMLButtonElement),
  older: byId('older-actions', HTMLButtonElement),
  name: 'action',
  limit: () => ACTIONS_PER_PAGE,
  read: (query) => api.actions(query),
});

/** @param {Action} action */
function showEnded({ action, ended, users }) {
  if (action.endsWith('exemption')) return ['–'];
  if (ended === null) return ['not counted'];
  return [sessionsOf(ended, users)];
}
`;
