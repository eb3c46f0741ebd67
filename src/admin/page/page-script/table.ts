/** Tables that are written anew every few seconds without disturbing whoever reads or uses them. */
export const table = `
/**
 * @template T
 * @typedef {object} Column
 * @property {string} name  stands above the column, and beside the value where rows are cards
 * @property {() => Node} [heading]  stands above the column instead of the name
 * @property {string} [className]
 * @property {boolean} [isHeading]  what the row is about
 * @property {(item: T) => unknown} value  the cell is written anew only when this has changed
 * @property {(item: T) => (Node | string)[]} show
 */

/** @type {WeakMap<Element, string>} */
const versions = new WeakMap();

/**
 * @template T
 * @param {Column<T>} column
 */
function headCell({ name, heading, className }) {
  const properties = { role: 'columnheader', scope: 'col', class: className };
  return element('th', properties, heading ? heading() : name);
}

/**
 * @template T
 * @typedef {object} Table
 * @property {HTMLElement} rows
 * @property {Column<T>[]} columns
 * @property {(item: T) => string} keyOf
 * @property {HTMLElement} heading  gets the focus when the row that had it has gone and no other is left
 */

/**
 * Shows these items. A row that is there already stays the same element, and so do its buttons, its check box and the
 * focus on them. Rows never change places: they come and go, in the order of the items.
 * @template T
 * @param {Table<T>} table
 * @param {T[]} items
 * @param {boolean} [marksNew]  draws attention to the rows that came
 */
function fill({ rows, columns, keyOf, heading }, items, marksNew = false) {
  const left = new Map(
    Array.from(rows.children, (row) => [/** @type {HTMLElement} */ (row).dataset.key, row]),
  );
  const wanted = items.map((item) => {
    const key = keyOf(item);
    const row = left.get(key) ?? newRow(key, columns, marksNew);
    left.delete(key);
    columns.forEach((column, index) => fillCell(row.children[index], column, item));
    return row;
  });
  const giveFocusOn = removeRows([...left.values()]);
  let place = rows.firstElementChild;
  for (const row of wanted) {
    if (row === place) place = row.nextElementSibling;
    else rows.insertBefore(row, place);
  }
  giveFocusOn(rows, heading);
}

/**
 * @template T
 * @param {string} key
 * @param {Column<T>[]} columns
 * @param {boolean} isMarked
 */
function newRow(key, columns, isMarked) {
  const cells = columns.map(({ name, className, isHeading }) =>
    isHeading
      ? element('th', { role: 'rowheader', scope: 'row', class: className, 'data-name': name })
      : element('td', { role: 'cell', class: className, 'data-name': name }),
  );
  return element('tr', { role: 'row', 'data-key': key, class: isMarked ? 'came' : undefined }, ...cells);
}

/**
 * @template T
 * @param {Element | undefined} cell
 * @param {Column<T>} column
 * @param {T} item
 */
function fillCell(cell, { value, show }, item) {
  const version = JSON.stringify(value(item)) ?? '';
  if (cell === undefined || versions.get(cell) === version) return;
  versions.set(cell, version);
  cell.replaceChildren(...show(item));
}

/**
 * @param {Element[]} rows
 * @returns {(rows: HTMLElement, heading: HTMLElement) => void} gives the focus that one of them had to its neighbour
 */
function removeRows(rows) {
  const active = document.activeElement;
  const focused = rows.find((row) => row.contains(active));
  const tag = active?.tagName ?? '';
  const index = focused ? [...(focused.parentElement?.children ?? [])].indexOf(focused) : -1;
  for (const row of rows) row.remove();
  return (body, heading) => {
    if (!focused) return;
    const neighbour = body.children[Math.min(index, body.children.length - 1)];
    const heir = neighbour?.querySelector(tag) ?? heading;
    if (heir instanceof HTMLElement) heir.focus({ preventScroll: true });
  };
}
`;
