/** A table of many rows that change. Users can sort it, select rows, and move in it with keys. */

import { button, h, mark, put, write } from "./dom.js";
import * as format from "./format.js";

/**
 * @typedef {object} Column
 * @property {string} key
 * @property {string} label
 * @property {"number" | "text" | "time" | "duration" | "state"} [kind]
 * @property {boolean} [sortable]
 * @property {(row: any) => any} [render] nodes or text
 * @property {(row: any) => any} [watch] `render` is called again if the result of this differs
 * @property {boolean} [quiet] whether only screen readers get the label
 * @property {boolean} [spare] whether it is hidden on small screens
 * @property {string} [width]
 * @property {boolean} [fixed] whether all of its numbers have equally many decimals
 * @property {number} [pixels] the width that the user has chosen
 * @property {string} [title]
 */

const SHOWN = {
  number: format.value,
  text: format.value,
  time: format.time,
  duration: format.duration,
};

export class Table {
  /**
   * @param {object} options
   * @param {string} options.label what it shows, for screen readers
   * @param {(row: any) => any} options.key
   * @param {(row: any) => string} [options.href] the address that a row opens
   * @param {(sort: string) => void} [options.onSort] called with a key; with `-` before it, the largest is first
   * @param {(rows: Set<any>) => void} [options.onSelect] if given, rows can be selected
   * @param {(key: any) => void} [options.onHover] called with null if the pointer is on no row
   * @param {(row: any) => string} [options.name] of a row, for labels
   * @param {(key: string, by: number) => void} [options.onMove] if given, columns but the first can be moved by a
   *   number of places
   * @param {(key: string, pixels: number) => void} [options.onResize] if given, columns can be resized
   */
  constructor(options) {
    this.options = options;
    this.columns = [];
    this.rows = new Map();
    this.selected = new Set();
    this.sort = "";
    this.current = null;
    this.precisions = new Map();
    this.head = h("tr");
    this.body = h("tbody");
    this.nothing = h("div", { class: "nothing", hidden: true });
    const table = h(
      "table",
      null,
      h("caption", { class: "unseen" }, options.label),
      h("thead", null, this.head),
      this.body,
    );
    this.element = h("div", { class: "table", tabindex: -1 }, table, this.nothing);
    this.body.addEventListener("keydown", (event) => this.#key(event));
    this.body.addEventListener("click", (event) => this.#click(event));
    this.body.addEventListener("focusin", (event) => this.#focused(event));
    if (options.onHover) {
      this.body.addEventListener("pointerover", (event) => options.onHover(this.#keyOf(event.target)));
      this.body.addEventListener("pointerleave", () => options.onHover(null));
    }
  }

  /** @param {Column[]} columns */
  setColumns(columns, sort = this.sort) {
    this.columns = columns;
    this.sort = sort;
    const cells = columns.map((column) => this.#heading(column));
    if (this.options.onSelect) {
      cells.unshift(h("th", { class: "check", scope: "col" }, h("span", { class: "unseen" }, "Selected")));
    }
    put(this.head, ...cells);
    const rows = [...this.rows.values()].map((shown) => shown.row);
    this.rows.clear();
    this.body.replaceChildren();
    const { hidden } = this.nothing;
    this.setRows(rows);
    this.nothing.hidden = hidden;
  }

  /** Show these rows in this order; rows that stay keep their elements and the focus. */
  setRows(rows, nothing = null) {
    this.#measure(rows);
    const keys = new Set(rows.map(this.options.key));
    for (const [key, shown] of this.rows) {
      if (!keys.has(key)) {
        shown.element.remove();
        this.rows.delete(key);
      }
    }
    let before = null;
    for (const row of rows) {
      const key = this.options.key(row);
      const shown = this.rows.get(key) ?? this.#make(row, key);
      if (shown.row !== row) this.#change(shown, row);
      const place = before === null ? this.body.firstChild : before.nextSibling;
      if (place !== shown.element) this.#move(shown.element, place);
      before = shown.element;
    }
    if (!this.rows.has(this.current)) this.current = rows.length ? this.options.key(rows[0]) : null;
    this.#rove();
    this.nothing.hidden = rows.length > 0 || nothing === null;
    if (nothing !== null) put(this.nothing, nothing);
  }

  /** Choose the number of decimals of each column. If it has changed, all rows that stay are written again. */
  #measure(rows) {
    this.columns.forEach((column, at) => {
      if (!column.fixed) return;
      const precision = format.precision(rows.map((row) => row[column.key]));
      if (JSON.stringify(precision) === JSON.stringify(this.precisions.get(column.key))) return;
      this.precisions.set(column.key, precision);
      for (const shown of this.rows.values()) {
        shown.seen[at] = undefined;
        this.#write(shown, at, shown.row[column.key]);
      }
    });
  }

  /** Change those of the rows that are shown. */
  patch(rows) {
    for (const row of rows) {
      const shown = this.rows.get(this.options.key(row));
      if (shown) this.#change(shown, { ...shown.row, ...row }, true);
    }
  }

  /** Highlight a row, or none if `key` is null. */
  highlight(key) {
    for (const [each, shown] of this.rows) shown.element.classList.toggle("lit", each === key);
  }

  deselect() {
    this.selected.clear();
    for (const shown of this.rows.values()) this.#check(shown);
    this.options.onSelect?.(this.selected);
  }

  #heading(column) {
    const kind = column.kind ?? "text";
    const cell = h("th", {
      scope: "col",
      class: classesOf(column),
      title: column.title,
      style: styleOf(column),
      data: { column: column.key },
    });
    if (!column.sortable) return put(cell, column.quiet ? h("span", { class: "unseen" }, column.label) : column.label);
    const falling = this.sort === `-${column.key}`;
    const rising = this.sort === column.key;
    if (falling || rising) cell.setAttribute("aria-sort", falling ? "descending" : "ascending");
    const first = kind === "number" || kind === "time" || kind === "duration" ? `-${column.key}` : column.key;
    const other = falling ? column.key : `-${column.key}`;
    const next = falling || rising ? other : first;
    const sign = h("i", { "aria-hidden": "true" }, falling ? "▼" : rising ? "▲" : "");
    const { onMove, onResize } = this.options;
    const sort = button([h("span", null, column.label), sign], () => this.#sortBy(column.key, next));
    put(cell, sort);
    if (onMove) this.#makeMovable(cell, sort, column);
    if (onResize) this.#makeResizable(cell, sort, column);
    return cell;
  }

  #makeMovable(cell, sort, { key, label }) {
    const isFirst = this.columns[0].key === key;
    if (isFirst) return;
    const keys = "Drag it, or press Shift+← or Shift+→, to move it; + and − change its width.";
    mark(sort, "title", `Sort by ${label}. ${keys}`);
    sort.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!event.shiftKey || by === undefined) return;
      event.preventDefault();
      this.options.onMove(key, by);
      this.focusHead(key);
    });
    sort.draggable = true;
    sort.addEventListener("dragstart", (event) => {
      event.dataTransfer.effectAllowed = "move";
      event.dataTransfer.setData("text/plain", key);
      this.dragged = key;
    });
    sort.addEventListener("dragend", () => (this.dragged = null));
    cell.addEventListener("dragover", (event) => {
      if (!this.dragged) return;
      event.preventDefault();
      cell.classList.toggle("dropping", this.dragged !== key);
    });
    cell.addEventListener("dragleave", () => cell.classList.remove("dropping"));
    cell.addEventListener("drop", (event) => {
      event.preventDefault();
      cell.classList.remove("dropping");
      if (!this.dragged || this.dragged === key) return;
      const place = (each) => this.columns.findIndex((column) => column.key === each);
      this.options.onMove(this.dragged, place(key) - place(this.dragged));
    });
  }

  #makeResizable(cell, sort, column) {
    const resize = (pixels) => {
      this.#resize(column, Math.max(48, Math.round(pixels)));
      this.options.onResize(column.key, column.pixels);
    };
    sort.addEventListener("keydown", (event) => {
      const by = { "+": 16, "-": -16 }[event.key];
      if (by === undefined) return;
      event.preventDefault();
      resize(cell.getBoundingClientRect().width + by);
    });
    const grip = h("span", { class: "grip", "aria-hidden": "true" });
    grip.addEventListener("pointerdown", (event) => {
      event.preventDefault();
      grip.setPointerCapture(event.pointerId);
      const [from, width] = [event.clientX, cell.getBoundingClientRect().width];
      const move = ({ clientX }) => this.#resize(column, Math.max(48, Math.round(width + clientX - from)));
      grip.addEventListener("pointermove", move);
      grip.addEventListener("lostpointercapture", () => {
        grip.removeEventListener("pointermove", move);
        if (column.pixels) this.options.onResize(column.key, column.pixels);
      }, { once: true });
    });
    cell.append(grip);
  }

  #resize(column, pixels) {
    column.pixels = pixels;
    const at = this.columns.indexOf(column) + (this.options.onSelect ? 1 : 0);
    for (const row of [this.head, ...this.body.children]) sizeCell(row.children[at], column);
  }

  /** Focus the heading of a column. */
  focusHead(key) {
    this.head.querySelector(`[data-column="${CSS.escape(key)}"] button`)?.focus();
  }

  #sortBy(key, sort) {
    this.options.onSort?.(sort);
    this.focusHead(key);
  }

  #make(row, key) {
    const element = h("tr", { data: { key: String(key) } });
    const shown = { element, row: null, key, cells: [], seen: [], link: null, box: null };
    if (this.options.onSelect) {
      const label = `Select ${this.options.name?.(row) ?? key}`;
      const onchange = () => this.#toggle(shown);
      shown.box = h("input", { type: "checkbox", tabindex: -1, "aria-label": label, onchange });
      element.append(h("td", { class: "check" }, shown.box));
    }
    this.columns.forEach((column, at) => {
      const cell = h(at === 0 ? "th" : "td", { class: classesOf(column), scope: at === 0 ? "row" : null });
      if (at === 0 && this.options.href) {
        shown.link = h("a", { href: this.options.href(row), tabindex: -1 });
        cell.append(shown.link);
        shown.cells.push(shown.link);
      } else shown.cells.push(cell);
      sizeCell(cell, column);
      element.append(cell);
    });
    this.rows.set(key, shown);
    this.#change(shown, row);
    this.#check(shown);
    return shown;
  }

  #change(shown, row, flash = false) {
    const isNew = shown.row === null;
    shown.row = row;
    this.columns.forEach((column, at) => {
      const cell = shown.cells[at];
      const now = column.render ? JSON.stringify(column.watch ? column.watch(row) : row[column.key]) : row[column.key];
      if (!isNew && Object.is(now, shown.seen[at])) return;
      shown.seen[at] = now;
      if (column.render) put(cell, column.render(row));
      else this.#write(shown, at, now);
      if (flash && !isNew) blink(cell.closest("td, th"));
    });
    if (!isNew) this.#reach(shown);
  }

  #write(shown, at, value) {
    const column = this.columns[at];
    const cell = shown.cells[at];
    const full = SHOWN[column.kind ?? "text"]?.(value) ?? format.value(value);
    const shownText = column.fixed ? format.precise(value, this.precisions.get(column.key) ?? null) : full;
    const text = column.hyperparameter && value === null ? format.setting(value) : shownText;
    const isLong = column.kind === "text" && text.length > 24;
    mark(cell, "title", isLong || text !== full || column.pixels ? full : null);
    cell.classList.toggle("none", text === format.NONE);
    cell.classList.toggle("bad", format.NOT_FINITE.has(value));
    write(cell, text);
  }

  #move(element, place) {
    const active = document.activeElement;
    const had = element.contains(active);
    this.body.insertBefore(element, place);
    if (had) active.focus({ preventScroll: true });
  }

  #check(shown) {
    const on = this.selected.has(shown.key);
    if (shown.box) shown.box.checked = on;
    shown.element.classList.toggle("chosen", on);
  }

  #toggle(shown) {
    if (!this.selected.delete(shown.key)) this.selected.add(shown.key);
    this.#check(shown);
    this.options.onSelect(this.selected);
  }

  #keyOf(target) {
    const element = target.closest("tr");
    for (const [key, shown] of this.rows) if (shown.element === element) return key;
    return null;
  }

  #rove() {
    for (const shown of this.rows.values()) this.#reach(shown);
  }

  /** Let Tab reach the controls of the current row only; the arrow keys lead to the other rows. */
  #reach(shown) {
    const index = shown.key === this.current ? 0 : -1;
    for (const each of [shown.link, shown.box, ...shown.element.querySelectorAll("button, summary")]) {
      if (each) each.tabIndex = index;
    }
  }

  #focused(event) {
    const key = this.#keyOf(event.target);
    if (key === null) return;
    this.options.onHover?.(key);
    if (key !== this.current) {
      this.current = key;
      this.#rove();
    }
  }

  #key(event) {
    const element = event.target.closest("tr");
    const all = [...this.body.children];
    const at = all.indexOf(element);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: all.length - 1 }[event.key];
    if (event.key === "x" && this.options.onSelect && event.target.type !== "checkbox") {
      const shown = this.rows.get(this.#keyOf(event.target));
      if (shown) this.#toggle(shown);
      event.preventDefault();
      return;
    }
    if (to === undefined || at < 0 || !all[to]) return;
    event.preventDefault();
    const target = all[to].querySelector(event.target.type === "checkbox" ? "input[type=checkbox]" : "th a, a");
    target?.focus();
    target?.scrollIntoView({ block: "nearest" });
  }

  #click(event) {
    if (!this.options.href || event.defaultPrevented || getSelection()?.toString()) return;
    if (event.target.closest("a, button, input, label, summary, .menu")) return;
    this.rows.get(this.#keyOf(event.target))?.link?.click();
  }
}

function classesOf({ kind = "text", spare }) {
  return spare ? `${kind} spare` : kind;
}

function styleOf({ width, pixels }) {
  if (pixels) return { width: `${pixels}px`, "min-width": `${pixels}px`, "max-width": `${pixels}px` };
  return width ? { width } : null;
}

/** Give a cell the width that the user has chosen for its column. */
function sizeCell(cell, column) {
  if (!column.pixels) return;
  cell.classList.add("sized");
  for (const [name, value] of Object.entries(styleOf(column))) cell.style.setProperty(name, value);
}

function blink(cell) {
  if (!cell?.animate || matchMedia("(prefers-reduced-motion: reduce)").matches) return;
  cell.animate([{ backgroundColor: "var(--flash)" }, { backgroundColor: "transparent" }], { duration: 900 });
}

/** Buttons that turn the pages of a table. */
export class Pager {
  /** @param {(offset: number) => void} turn */
  constructor(turn) {
    const small = (words, offset) => button(words, () => turn(offset()), "small");
    this.back = [small("First", () => 0), small("Previous", () => Math.max(0, this.offset - this.limit))];
    this.forward = [small("Next", () => this.offset + this.limit), small("Last", () => this.#lastPage())];
    this.words = h("span", { class: "muted" });
    const label = { class: "pager", "aria-label": "Pages of the table" };
    this.element = h("nav", label, this.words, this.back, this.forward);
    this.set(0, 100, 0, "rows");
  }

  set(offset, limit, matching, things, total = matching) {
    Object.assign(this, { offset, limit, matching });
    const upTo = Math.min(offset + limit, matching);
    const of = total === matching ? "" : `, of ${format.count(total)} in all`;
    const range = matching > limit ? `${format.count(offset + 1)}–${format.count(upTo)} of ` : "";
    write(this.words, `${range}${format.count(matching)} ${format.plural(matching, things)}${of}`);
    for (const each of this.back) each.disabled = offset <= 0;
    for (const each of this.forward) each.disabled = upTo >= matching;
    const isOnePage = matching <= limit && offset === 0;
    for (const each of [...this.back, ...this.forward]) each.hidden = isOnePage;
  }

  #lastPage() {
    return Math.max(0, Math.floor((this.matching - 1) / this.limit) * this.limit);
  }
}
