/** Logging out everyone except some: counted first, and then done exactly as it was counted. */
export const everyone = String.raw`
const NOT_COUNTED = 'Count first: nothing ends until you have seen how many.';

const everyoneForm = byId('everyone', HTMLFormElement);
const everyoneCount = byId('everyone-count', HTMLElement);
const logOutEveryone = byId('log-out-everyone', HTMLButtonElement);

/** @type {EveryoneExcept | undefined} */
let counted;
// Changes with the form: a count of what stood there before is not shown.
let formVersion = 0;

function readEveryone() {
  const data = new FormData(everyoneForm);
  const roles = listOf(written(everyoneForm, 'roles'));
  const usernames = listOf(written(everyoneForm, 'usernames'));
  const note = written(everyoneForm, 'note');
  /** @type {Except} */
  const except = {
    administrators: data.has('administrators'),
    me: data.has('me'),
    ...(roles.length > 0 && { roles }),
    ...(usernames.length > 0 && { usernames }),
  };
  return { except, ...(note && { note }) };
}

/** @param {string} [text] */
function listOf(text = '') {
  const parts = text.split(/[,\n]/).map((part) => part.trim());
  return [...new Set(parts.filter((part) => part !== ''))];
}

/** @param {string} text */
function uncount(text) {
  counted = undefined;
  formVersion += 1;
  write(everyoneCount, text);
  write(logOutEveryone, 'Log out');
  logOutEveryone.disabled = true;
}

async function countEveryone() {
  uncount('Counting …');
  const version = formVersion;
  const whom = readEveryone();
  const answer = await api.countEveryone(whom);
  if (version !== formVersion || isOver) return;
  if (!answer.ok) return uncount(answer.problem);
  const { ended, users, spared } = answer.body;
  if (ended === null || users === null) return uncount('The count could not be read. Try again.');
  const rest =
    spared === null ? '' : spared === 1 ? ', 1 is spared' : ', ' + numbers.format(spared) + ' are spared';
  const own = whom.except.me ? '' : ' You did not spare yourself.';
  write(everyoneCount, sessionsOf(ended, users) + ' will end' + rest + '.' + own);
  if (ended === 0) return;
  counted = whom;
  write(logOutEveryone, 'Log out ' + plural(ended, 'session'));
  logOutEveryone.disabled = false;
}

async function doLogOutEveryone() {
  if (counted === undefined) return;
  const whom = counted;
  uncount('Logging out …');
  everyoneCount.focus();
  const answer = await api.logOutEveryone(whom);
  if (isOver) return;
  uncount(NOT_COUNTED);
  if (!answer.ok) return notify(answer.problem, 'bad');
  const { ended, users, spared } = answer.body;
  if (ended === null || spared === null) notify('Ended. The count could not be read.', 'warn');
  else notify(sessionsOf(ended, users) + ' ended, ' + numbers.format(spared) + ' spared.');
  await refreshAll();
}

everyoneForm.addEventListener('input', () => uncount(NOT_COUNTED));
onSubmit(everyoneForm, countEveryone);
logOutEveryone.addEventListener('click', () => void doLogOutEveryone());
`;
