/** A long list, read page by page. It has no page numbers: each page names the next, and the way back is remembered. */
export const pagedTable = `
/** @template T */
class PagedTable {
  /** @type {T[]} */
  items = [];
  /** The cursors of the pages up to this one; the first page has none. */
  cursors = [''];
  /** @type {string | null} */
  next = null;
  // Counts questions: an answer to a question before the last one is not shown.
  turn = 0;
  /** @type {Promise<unknown> | undefined} */
  going;

  /**
   * @param {object} parts
   * @param {Table<T>} parts.table
   * @param {HTMLElement} parts.head
   * @param {HTMLElement} parts.empty
   * @param {string} parts.emptyText
   * @param {HTMLElement} parts.position
   * @param {HTMLButtonElement} parts.newer
   * @param {HTMLButtonElement} parts.older
   * @param {string} parts.name  of one item
   * @param {() => number} parts.limit
   * @param {(query: { cursor: string, limit: string }) => Promise<Answer<Page<T>>>} parts.read
   * @param {() => void} [parts.onShow]
   */
  constructor(parts) {
    this.parts = parts;
    parts.head.append(...parts.table.columns.map(headCell));
    onPress(parts.newer, () => this.go(this.cursors.slice(0, -1)));
    onPress(parts.older, () => this.go([...this.cursors, this.next ?? '']));
  }

  get isFirst() {
    return this.cursors.length === 1;
  }

  /** Reads the page that is shown once more. One that the person has asked for is shown first. */
  async refresh() {
    await this.going;
    return this.show(this.cursors, this.turn > 1);
  }

  /** Reads from the beginning, as after a new filter. */
  restart() {
    return this.go(['']);
  }

  /** @param {string[]} cursors */
  async go(cursors) {
    const going = this.show(cursors, false);
    this.going = going;
    const answer = await going;
    if (!answer.ok) notify(answer.problem, 'bad');
    else announce(this.items.length === 0 ? this.parts.emptyText : this.position());
  }

  /**
   * @param {string[]} cursors
   * @param {boolean} marksNew
   */
  async show(cursors, marksNew) {
    const turn = (this.turn += 1);
    const { read, limit, table, empty, emptyText, position, newer, older, onShow } = this.parts;
    const answer = await read({ cursor: cursors.at(-1) ?? '', limit: String(limit()) });
    if (turn !== this.turn || isOver || !answer.ok) return answer;
    this.cursors = cursors;
    this.items = answer.body.items;
    this.next = answer.body.nextCursor;
    fill(table, this.items, marksNew);
    write(empty, emptyText);
    empty.hidden = this.items.length > 0;
    write(position, this.items.length > 0 ? this.position() : '');
    enable(newer, !this.isFirst);
    enable(older, this.next !== null);
    onShow?.();
    return answer;
  }

  position() {
    const before = (this.cursors.length - 1) * this.parts.limit();
    const place = numbers.format(before + 1) + ' to ' + numbers.format(before + this.items.length);
    const isAll = this.isFirst && this.next === null;
    return isAll
      ? plural(this.items.length, this.parts.name)
      : sentence(this.parts.name + 's ' + place).slice(0, -1);
  }
}
`;
