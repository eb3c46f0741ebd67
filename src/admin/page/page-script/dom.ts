/** Finding and making elements. What the server sent becomes text here and nothing else. */
export const dom = String.raw`
// What turns the direction of the text around it, and so can make one name look like another.
const TURNS = /[\u202A-\u202E\u2066-\u2069]/g;

/**
 * @template {HTMLElement} T
 * @param {string} id
 * @param {new () => T} type
 * @returns {T}
 */
function byId(id, type) {
  const found = document.getElementById(id);
  if (found instanceof type) return found;
  throw new Error('There is no ' + type.name + ' #' + id);
}

/**
 * Makes an element. There is no way in it to write markup: a string becomes a text node or an attribute.
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Record<string, string | boolean | EventListener | undefined>} [properties]
 * @param {...(Node | string)} children
 * @returns {HTMLElementTagNameMap[K]}
 */
function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (typeof value === 'function') made.addEventListener(name, value);
    else if (value === true) made.setAttribute(name, '');
    else if (typeof value === 'string') made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

/**
 * With what turns the direction of writing shown by its number.
 * @param {string} text
 */
function visible(text) {
  return text.replace(TURNS, (turn) => '[U+' + turn.charCodeAt(0).toString(16).toUpperCase() + ']');
}

/**
 * Text that somebody else chose, kept to itself: its direction of writing does not spill over.
 * @param {string} text
 * @param {string} [className]
 */
function foreign(text, className) {
  return element('bdi', { class: className }, visible(text));
}

/**
 * Such text, or a dash where there is none.
 * @param {string | null} text
 * @param {string} [className]
 */
function foreignOrDash(text, className) {
  return text ? foreign(text, className) : '–';
}

/**
 * Such text inside a sentence that is not an element yet: between the two characters that Unicode has for it.
 * @param {string} text
 */
function quoted(text) {
  return '\u2068' + visible(text) + '\u2069';
}

/**
 * A sentence as nodes, what is quoted in it as foreign text.
 * @param {string} text
 */
function nodesOf(text) {
  return text.split(/[\u2068\u2069]/).map((part, index) => (index % 2 === 1 ? foreign(part) : part));
}

/**
 * Leaves a text that is right already alone: a screen reader would read it again.
 * @param {HTMLElement} place
 * @param {string} text
 */
function write(place, text) {
  if (place.textContent !== text) place.textContent = text;
}

/**
 * For buttons that switch themselves off: one that is really disabled would drop the focus of whoever pressed it.
 * @param {HTMLButtonElement} button
 * @param {boolean} isOn
 */
function enable(button, isOn) {
  button.setAttribute('aria-disabled', String(!isOn));
}

/**
 * @param {HTMLButtonElement} button
 * @param {() => unknown} work
 */
function onPress(button, work) {
  button.addEventListener('click', () => {
    if (button.getAttribute('aria-disabled') !== 'true') void work();
  });
}

/**
 * @param {HTMLFormElement} form
 * @param {() => unknown} work
 */
function onSubmit(form, work) {
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    void work();
  });
}

/**
 * What is written in a field of a form, or nothing if it is empty.
 * @param {HTMLFormElement} form
 * @param {string} name
 */
function written(form, name) {
  const text = new FormData(form).get(name);
  return typeof text === 'string' && text.trim() !== '' ? text.trim() : undefined;
}
`;
