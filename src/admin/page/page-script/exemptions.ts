/** Who is not limited. */
export const exemptions = `
const exemptForm = byId('exempt', HTMLFormElement);
const exemptionsEmpty = byId('exemptions-empty', HTMLElement);

/** @type {Table<Exemption>} */
const exemptions = {
  rows: byId('exemption-rows', HTMLElement),
  heading: byId('exemptions-heading', HTMLElement),
  keyOf: ({ kind, value, origin }) => JSON.stringify([origin, kind, value]),
  columns: [
    {
      name: 'Who',
      isHeading: true,
      className: 'user',
      value: ({ kind, value }) => [kind, value],
      show: ({ kind, value }) => [foreign(value, 'name'), ' ', element('span', { class: 'chip' }, kind)],
    },
    {
      name: 'Origin',
      value: ({ origin, addedBy, addedAt }) => [origin, addedBy, addedAt],
      show: showOrigin,
    },
    { name: 'Note', value: ({ note }) => note, show: ({ note }) => [foreignOrDash(note)] },
    {
      name: 'Until',
      value: ({ expiresAt }) => expiresAt,
      show: ({ expiresAt }) => [expiresAt ? timeOf(expiresAt) : 'no end'],
    },
    {
      name: 'Remove',
      heading: () => element('span', { class: 'unseen' }, 'Remove'),
      className: 'does',
      value: ({ origin }) => origin,
      show: (exemption) => (exemption.origin === 'runtime' ? [removeButton(exemption)] : []),
    },
  ],
};
byId('exemption-columns', HTMLElement).append(...exemptions.columns.map(headCell));

/** @param {Exemption} exemption */
function showOrigin({ origin, addedBy, addedAt }) {
  if (origin === 'options') return ['Options ', element('span', { class: 'chip' }, 'fixed')];
  return [
    'Added',
    ...(addedBy ? [' by ', foreign(addedBy)] : []),
    ...(addedAt ? [', ', timeOf(addedAt)] : []),
  ];
}

/** @param {Exemption} exemption */
function removeButton(exemption) {
  const name = 'Remove the exemption of ' + visible(exemption.value);
  const button = element('button', { type: 'button', class: 'plain', 'aria-label': name }, 'Remove');
  onPress(button, () => askToRemove(exemption));
  return button;
}

async function refreshExemptions() {
  const answer = await api.exemptions();
  if (!answer.ok || isOver) return answer;
  fill(exemptions, answer.body.items);
  write(exemptionsEmpty, 'Nobody is exempt.');
  exemptionsEmpty.hidden = answer.body.items.length > 0;
  return answer;
}

let isExempting = false;

/**
 * @param {NewExemption} exemption
 * @param {() => void} [onDone]
 */
async function addExemption(exemption, onDone) {
  if (isExempting) return;
  isExempting = true;
  const answer = await api.exempt(exemption);
  isExempting = false;
  if (isOver) return;
  if (!answer.ok) return notify(answer.problem, 'bad');
  onDone?.();
  const value = quoted(exemption.value);
  const who = exemption.kind === 'role' ? 'Everybody with the role ' + value : value;
  notify(who + ' is exempt from now on. You can undo this under “Exemptions”.');
  await refreshAll();
}

async function submitExemption() {
  const value = written(exemptForm, 'value');
  if (value === undefined) return;
  const note = written(exemptForm, 'note');
  const expires = written(exemptForm, 'expiresAt');
  /** @type {NewExemption} */
  const exemption = {
    kind: written(exemptForm, 'kind') === 'role' ? 'role' : 'username',
    value,
    ...(note && { note }),
    ...(expires && { expiresAt: new Date(expires).toISOString() }),
  };
  await addExemption(exemption, () => exemptForm.reset());
}

/** @param {Exemption} exemption */
async function askToRemove(exemption) {
  const answer = await ask({
    title: 'Remove the exemption of ' + quoted(exemption.value) + '?',
    text: 'The limit applies again from the next login on, and that login ends the older sessions.',
    yes: 'Remove',
  });
  if (answer === undefined) return;
  const removed = await api.removeExemption(exemption);
  if (isOver) return;
  if (removed.ok) notify(quoted(exemption.value) + ' is not exempt any more.');
  else notify(removed.problem, 'bad');
  await refreshAll();
}

onSubmit(exemptForm, submitExemption);
`;
