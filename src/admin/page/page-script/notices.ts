/** What the page tells the person, and what it asks before anything ends. */
export const notices = `
const notice = byId('notice', HTMLElement);
const noticeText = byId('notice-text', HTMLElement);
const noticeClose = byId('notice-close', HTMLButtonElement);
const said = byId('said', HTMLElement);
const dialog = byId('confirm', HTMLDialogElement);

let isOver = false;

/**
 * Says what came of an action, for eyes and ears. It stays until it is dismissed or something else is said.
 * @param {string} text
 * @param {'good' | 'warn' | 'bad'} [tone]
 */
function notify(text, tone = 'good') {
  notice.dataset.tone = tone;
  noticeClose.hidden = false;
  // A new element, because the same words would not be read a second time.
  noticeText.replaceChildren(element('p', {}, ...nodesOf(text)));
}

function dismiss() {
  delete notice.dataset.tone;
  noticeClose.hidden = true;
  noticeText.replaceChildren();
}

/**
 * Says to a screen reader what the eye sees anyway.
 * @param {string} text
 */
function announce(text) {
  said.replaceChildren(element('p', {}, text));
}

/**
 * @typedef {object} Question
 * @property {string} title
 * @property {string} text
 * @property {string} yes  what the button that does it says
 * @property {string} [wider]  a wider way of doing it, for a note of which there is room
 */

/**
 * Asks before something that cannot be taken back.
 * @param {Question} question
 * @returns {Promise<{ isWider: boolean, note: string | undefined } | undefined>} nothing if the answer was no
 */
function ask({ title, text, yes, wider }) {
  const all = byId('confirm-all', HTMLInputElement);
  const note = byId('confirm-note', HTMLInputElement);
  const noted = byId('confirm-noted', HTMLElement);
  byId('confirm-title', HTMLElement).replaceChildren(...nodesOf(title));
  byId('confirm-text', HTMLElement).replaceChildren(...nodesOf(text));
  write(byId('confirm-yes', HTMLElement), yes);
  byId('confirm-all-text', HTMLElement).replaceChildren(...nodesOf(wider ?? ''));
  byId('confirm-wider', HTMLElement).hidden = wider === undefined;
  all.checked = false;
  all.onchange = () => (noted.hidden = !all.checked);
  note.value = '';
  noted.hidden = true;
  dialog.returnValue = 'no';
  dialog.showModal();
  return new Promise((resolve) => {
    const answer = () => ({ isWider: all.checked, note: note.value.trim() || undefined });
    dialog.onclose = () => {
      // Open again: this is the late news of an earlier question.
      if (!dialog.open) resolve(dialog.returnValue === 'yes' ? answer() : undefined);
    };
  });
}

/** @typedef {{ state: string, title: string, text: string }} Farewell */

/** @type {Farewell} */
const NOT_ALLOWED = {
  state: 'Not allowed',
  title: 'You may not see this page any more',
  text: 'It is for administrators. If you are one again, reload it.',
};

/**
 * @param {Refusal} refusal
 * @returns {Farewell}
 */
function signedOut({ code, reason = '' }) {
  const hasEnded = code === 'SESSION_ENDED';
  return {
    state: 'Signed out',
    title: hasEnded ? 'Your session has ended' : 'You are not signed in any more',
    text: (hasEnded && OWN_END_REASONS.get(reason)) || 'Sign in again to go on.',
  };
}

/**
 * The person may see nothing any more: nothing of the others' stays on the screen.
 * @param {Farewell} farewell
 */
function leave({ state, title, text }) {
  if (isOver) return;
  isOver = true;
  dialog.close('no');
  for (const part of document.querySelectorAll('#page, nav, .skip')) part.remove();
  setLive('over', state);
  const heading = byId('over-title', HTMLElement);
  write(heading, title);
  write(byId('over-text', HTMLElement), text);
  byId('over', HTMLElement).hidden = false;
  heading.focus();
}

/**
 * @param {'live' | 'paused' | 'waiting' | 'over'} state
 * @param {string} text
 */
function setLive(state, text) {
  const live = byId('live', HTMLElement);
  live.dataset.state = state;
  write(live, text);
}

noticeClose.addEventListener('click', dismiss);
byId('confirm-no', HTMLButtonElement).addEventListener('click', () => dialog.close('no'));
byId('confirm-yes', HTMLButtonElement).addEventListener('click', () => dialog.close('yes'));
`;
