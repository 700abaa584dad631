/** Parallel coordinates on a canvas. Plotly could draw them only with WebGL; see `points.js`. */

import { colour, h, put, s, write } from "./dom.js";
import * as format from "./format.js";
import { unpacked } from "./packed.js";

const HEIGHT = 400;
const BOTTOM = 18;
// Least distance of two axes, and the width of a character of their titles.
const APART = 84;
const CHARACTER = 6.9;
const SHOWN = 20;
const SHADES = 12;
const STEP = 0.05;
const NEAR = 12;
// The label of values that a trial does not have.
const ABSENT = "not set";
// Ticks without a label have texts of these characters.
const UNSEEN = /[\u200b\u200c]/g;

export class Parallel {
  /**
   * @param {object} options
   * @param {AbortSignal} options.signal
   * @param {(trial: number) => void} [options.onTrial]
   * @param {(trial: number | null) => void} [options.onHover]
   * @param {(kept: Set<number> | null, rows: any[], axes: any[]) => void} [options.onKeep] called with the trials in
   *   all chosen ranges, or null if none is chosen, and with the best of these trials as rows
   */
  constructor({ onTrial, onHover, onKeep, signal }) {
    Object.assign(this, { onTrial, onHover, onKeep });
    this.canvas = h("canvas", { "aria-hidden": "true" });
    this.over = s("svg", { role: "group", "aria-label": "Axes; arrow and Page keys set a range, Escape removes it" });
    this.note = h("p", { class: "hint note", role: "status" });
    const room = h("div", { class: "parallel", style: { height: `${HEIGHT}px` } }, this.canvas, this.over);
    this.legend = h("p", { class: "scale" });
    this.element = h("div", null, room, this.legend, this.note);
    // Names of the axes in their order, or null for those that fit.
    this.names = null;
    this.width = null;
    this.ranges = new Map();
    const observer = new ResizeObserver(() => this.#draw());
    observer.observe(this.element);
    signal.addEventListener("abort", () => observer.disconnect());
    this.over.addEventListener("pointermove", (event) => this.#point(event));
    this.over.addEventListener("pointerleave", () => this.#point(null));
    this.over.addEventListener("click", () => this.lit !== null && this.onTrial?.(this.trials[this.lit]));
  }

  /**
   * @param {any} trace a trace of Plotly's type parcoords
   * @param {any[]} [filters] how the table of trials is filtered by each axis
   */
  show(trace, filters = []) {
    const isFirst = !this.all;
    this.all = trace.dimensions.map((dimension, at) => ({ ...axisOf(dimension), ...boundsOf(dimension, filters[at]) }));
    if (isFirst) this.all.forEach(({ name, chosen }) => chosen && this.ranges.set(name, chosen));
    this.trials = Array.from(unpacked(trace.customdata), (row) => (typeof row === "number" ? row : row[0]));
    this.count = this.all[0]?.places.length ?? 0;
    const { color, colorscale, cmin, cmax } = trace.line;
    const shades = unpacked(color);
    this.shade = Array.from({ length: this.count }, (_, at) => {
      const share = ((shades[at] ?? cmin) - cmin) / (cmax - cmin || 1);
      return Math.min(SHADES - 1, Math.max(0, Math.floor(share * SHADES)));
    });
    this.colours = Array.from({ length: SHADES }, (_, shade) => blend(colorscale, (shade + 0.5) / SHADES));
    this.lit = null;
    const bar = h("i", { style: { background: `linear-gradient(to right, ${this.colours.join(", ")})` } });
    put(this.legend, "Colour: rank by ", this.all.at(-1).label, ", worst ", bar, " best");
    this.#draw();
    this.#keep();
  }

  /** Choose the axes to show, in this order; null for those that fit. @param {string[] | null} names */
  choose(names) {
    this.names = names;
    for (const name of this.ranges.keys()) if (names && !names.includes(name)) this.ranges.delete(name);
    if (!this.all) return;
    this.#draw();
    this.#keep();
  }

  /** Draw at a width in pixels, or as wide as the page if it is null. */
  size(width) {
    this.width = width;
    const style = this.canvas.parentElement.style;
    if (width === null) style.removeProperty("width");
    else style.setProperty("width", `${width}px`);
    this.#draw();
  }

  get #wide() {
    return this.width ?? this.element.clientWidth;
  }

  get #edge() {
    return Math.min(70, Math.max(58, this.#wide * 0.11));
  }

  /** Return the axes to show. If the user has not chosen, these are the most important ones that fit. */
  #shown() {
    const chosen = this.names?.map((name) => this.all.find((axis) => axis.name === name)).filter(Boolean);
    if (chosen?.length > 1) return chosen;
    const usual = this.all.filter((axis) => axis.visible);
    const most = Math.max(3, Math.floor((this.#wide - 2 * this.#edge) / APART) + 1);
    if (usual.length <= most) return usual;
    // The last axes are the length and the metric. A phone has room for the metric only.
    const end = most > 4 ? 2 : 1;
    return [...usual.slice(0, most - end), ...usual.slice(-end)];
  }

  #x(at) {
    return this.#edge + (at * (this.#wide - 2 * this.#edge)) / Math.max(1, this.axes.length - 1);
  }

  #y(place) {
    return HEIGHT - BOTTOM - place * (HEIGHT - this.top - BOTTOM);
  }

  #keeps(trial) {
    for (const [name, [low, high]] of this.ranges) {
      const place = this.all.find((axis) => axis.name === name)?.places[trial];
      if (!isIn(place, low, high)) return false;
    }
    return true;
  }

  #draw() {
    if (!this.all || !this.#wide) return;
    this.axes = this.#shown();
    this.titles = titles(this.axes, (this.#wide - 2 * this.#edge) / Math.max(1, this.axes.length - 1), this.#edge);
    this.top = this.titles.some(({ row }) => row) ? 50 : 34;
    this.#lines();
    this.#axes();
    this.#tell();
  }

  #lines() {
    const scale = devicePixelRatio || 1;
    const width = this.#wide;
    Object.assign(this.canvas, { width: width * scale, height: HEIGHT * scale });
    const context = this.canvas.getContext("2d");
    context.scale(scale, scale);
    this.kept = Array.from({ length: this.count }, (_, trial) => this.#keeps(trial));
    const crowd = Math.min(1, Math.max(0.12, 60 / Math.sqrt(this.count) / 6));
    const faint = colour("muted");
    if (this.ranges.size) this.#stroke(context, (trial) => !this.kept[trial], faint, crowd * 0.12);
    this.colours.forEach((colour, shade) => {
      this.#stroke(context, (trial) => this.kept[trial] && this.shade[trial] === shade, colour, crowd);
    });
  }

  #stroke(context, wanted, colour, opacity) {
    context.beginPath();
    for (let trial = 0; trial < this.count; trial += 1) if (wanted(trial)) this.#path(context, trial);
    context.strokeStyle = colour;
    context.globalAlpha = opacity;
    context.lineWidth = 1.2;
    context.stroke();
  }

  #path(context, trial) {
    let before = false;
    this.axes.forEach((axis, at) => {
      const place = axis.places[trial];
      const known = Number.isFinite(place);
      if (known) context[before ? "lineTo" : "moveTo"](this.#x(at), this.#y(place));
      before = known;
    });
  }

  #axes() {
    const focused = this.over.contains(document.activeElement) ? document.activeElement.dataset.axis : null;
    this.light = s("path", { class: "lit" });
    put(this.over, this.axes.map((axis, at) => this.#axis(axis, at)), this.light);
    this.over.querySelector(`[data-axis="${focused}"]`)?.focus();
  }

  #axis(axis, at) {
    const [x, top, bottom] = [this.#x(at), this.#y(1), this.#y(0)];
    const range = this.ranges.get(axis.name);
    const height = range && this.#y(range[0]) - this.#y(range[1]);
    const hit = s("rect", {
      class: "hit",
      x: x - 14,
      y: top - 6,
      width: 28,
      height: bottom - top + 12,
      tabindex: 0,
      role: "slider",
      "aria-label": axis.label,
      "aria-valuemin": 0,
      "aria-valuemax": 100,
      "aria-valuenow": Math.round((range?.[0] ?? 0) * 100),
      "aria-valuetext": range ? `${axis.tell(range[0])} to ${axis.tell(range[1])}` : "all",
      data: { axis: at },
      onpointerdown: (event) => this.#drag(event, at),
      onclick: (event) => event.stopPropagation(),
      onkeydown: (event) => this.#key(event, at),
    });
    return s(
      "g",
      null,
      s("line", { x1: x, x2: x, y1: top, y2: bottom }),
      range
        ? s("rect", { class: "range", x: x - 5, y: this.#y(range[1]), width: 10, height })
        : null,
      s(
        "text",
        { class: "label", x, y: top - 16 - 16 * this.titles[at].row },
        s("title", null, axis.label),
        this.titles[at].words,
      ),
      axis.ticks.map(([place, words]) => s("text", { x: x - 8, y: this.#y(place) + 4 }, words)),
      hit,
    );
  }

  #placeOf(event) {
    const place = (this.#y(0) - (event.clientY - this.over.getBoundingClientRect().top)) / (this.#y(0) - this.#y(1));
    return Math.min(1, Math.max(0, place));
  }

  #drag(event, at) {
    const from = this.#placeOf(event);
    const move = (moved) => {
      const to = this.#placeOf(moved);
      if (Math.abs(to - from) > 0.01) this.#choose(at, [Math.min(from, to), Math.max(from, to)]);
    };
    const end = (ended) => {
      removeEventListener("pointermove", move);
      removeEventListener("pointerup", end);
      if (Math.abs(this.#placeOf(ended) - from) <= 0.01) this.#choose(at, null);
    };
    addEventListener("pointermove", move);
    addEventListener("pointerup", end);
  }

  #key(event, at) {
    const [low, high] = this.ranges.get(this.axes[at].name) ?? [0, 1];
    const to = {
      ArrowUp: [Math.min(high, low + STEP), high],
      ArrowDown: [Math.max(0, low - STEP), high],
      PageUp: [low, Math.min(1, high + STEP)],
      PageDown: [low, Math.max(low, high - STEP)],
      Escape: null,
    }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    this.#choose(at, to);
  }

  #choose(at, range) {
    const { name } = this.axes[at];
    if (range === null || (range[0] <= 0 && range[1] >= 1)) this.ranges.delete(name);
    else this.ranges.set(name, range);
    this.#draw();
    this.#keep();
  }

  /**
   * Return the chosen ranges as conditions for the table of trials, or null if they cannot be written in this way.
   * @returns {string[] | null}
   */
  get conditions() {
    const all = [...this.ranges].map(([name, range]) => this.all.find((axis) => axis.name === name).filter?.(range));
    return all.some((each) => !each) ? null : all.flat();
  }

  /** Report which trials are in all ranges, a moment after the last change. */
  #keep() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      const places = [];
      // The best trials are last.
      for (let at = this.count - 1; at >= 0; at -= 1) if (this.kept[at]) places.push(at);
      const rows = places.slice(0, SHOWN).map((at) => ({
        trial: this.trials[at],
        ...Object.fromEntries(this.axes.map((axis, number) => [`axis${number}`, axis.tell(axis.places[at])])),
      }));
      const kept = this.ranges.size ? new Set(places.map((at) => this.trials[at])) : null;
      this.onKeep?.(kept, rows, this.axes);
    }, 60);
  }

  /** Highlight the line of a trial, or none if it is null. */
  highlight(trial) {
    const at = trial === null ? -1 : this.trials?.indexOf(trial) ?? -1;
    // The note stays as it is: more lines of text would move what is below from under the pointer.
    if (this.axes) this.#light(at < 0 ? null : at, { quiet: true });
  }

  /** Highlight the line that is nearest to the pointer, among those in all chosen ranges. */
  #point(event) {
    const before = this.lit;
    if (event === null) this.#light(null);
    else this.#near(event);
    if (this.lit !== before) this.onHover?.(this.lit === null ? null : this.trials[this.lit]);
  }

  #near(event) {
    if (event.buttons || !this.axes) return;
    const box = this.over.getBoundingClientRect();
    const x = event.clientX - box.left;
    const width = this.#x(1) - this.#x(0) || 1;
    const at = Math.min(this.axes.length - 2, Math.max(0, Math.floor((x - this.#edge) / width)));
    const share = (x - this.#x(at)) / width;
    const [left, right] = [this.axes[at], this.axes[at + 1]];
    let [best, nearest] = [NEAR, null];
    for (let trial = 0; right && trial < this.count; trial += 1) {
      if (!this.kept[trial]) continue;
      const y = this.#y(left.places[trial] * (1 - share) + right.places[trial] * share);
      const far = Math.abs(y - (event.clientY - box.top));
      if (far < best) [best, nearest] = [far, trial];
    }
    this.#light(nearest);
  }

  #light(trial, { quiet = false } = {}) {
    if (trial === this.lit) return;
    this.lit = trial;
    let path = "";
    const pen = { moveTo: (x, y) => (path += `M${x} ${y}`), lineTo: (x, y) => (path += `L${x} ${y}`) };
    if (trial !== null) this.#path(pen, trial);
    this.light.setAttribute("d", path);
    this.over.classList.toggle("clickable", trial !== null);
    if (!quiet) this.#tell();
  }

  #tell() {
    const kept = this.kept.filter(Boolean).length;
    const words = this.axes.map((axis) => `${axis.label} ${axis.tell(axis.places[this.lit])}`).join(", ");
    const chosen = this.ranges.size
      ? `${format.count(kept)} of ${format.count(this.count)} trials; click an axis to keep all`
      : "Drag along an axis to keep the trials in that range.";
    write(this.note, this.lit === null ? chosen : `Trial ${this.trials[this.lit]}: ${words}`);
  }
}

/** Return an axis: each trial's position on it from 0 to 1, the labels of its ticks, and the initially chosen range. */
function axisOf({ label, name, visible = true, range: [from, to], values, tickvals, ticktext, constraintrange }) {
  const place = (value) => (value - from) / (to - from || 1);
  const known = (ticktext ?? []).map((words) => words.replaceAll(UNSEEN, ""));
  const named = (tickvals ?? []).map((value, at) => [place(value), known[at]]).filter(([, words]) => words);
  const ticks = named.length ? named : roundNumbers(from, to).map((value) => [place(value), format.number(value)]);
  // The values of a logarithmic axis are exponents of 10.
  const labelled = (tickvals ?? []).map((value, at) => [value, known[at]]).filter(([, words]) => words);
  const isLog = labelled.some(([, words]) => words !== ABSENT) && labelled.every(
    ([value, words]) => words === ABSENT || Math.abs(Math.log10(Number(words)) - value) < 1e-3,
  );
  const tell = (share) => {
    if (!Number.isFinite(share)) return format.NONE;
    const near = named.find(([each]) => Math.abs(each - share) < 1e-6);
    if (near) return near[1];
    const value = from + share * (to - from);
    return String(Number((isLog ? 10 ** value : value).toPrecision(4)));
  };
  const chosen = constraintrange?.map(place).sort((one, other) => one - other);
  const full = plain(name ?? label);
  return { label: full, name: full, visible, ticks, tell, chosen, places: Array.from(unpacked(values), place) };
}

// Values of the figure have about seven digits, so that the position of the last one can be a little more than 1.
const NEARLY = 1e-6;

function isIn(place, low, high) {
  return place >= low - NEARLY && place <= high + NEARLY;
}

const WORD = /^[\p{L}\w.\-/]+$/u;
// Values on an axis are rounded to about seven digits.
const ROUNDING = 2e-6;

/** Return a function that returns the conditions of a range of positions on an axis, or null if there are none. */
function boundsOf({ range: [from, to], values, tickvals, ticktext }, { key, values: escaped, log } = {}) {
  if (!WORD.test(key ?? "")) return {};
  const choices = escaped?.map(plain);
  const numbers = Array.from(unpacked(values));
  const at = (ticktext ?? []).findIndex((words) => words.replaceAll(UNSEEN, "") === ABSENT);
  const isAbsent = (number) => at >= 0 && Math.abs(number - tickvals[at]) < 1e-6;
  const place = (number) => (number - from) / (to - from || 1);
  const value = (number) => (log ? 10 ** number : number);
  const filter = ([low, high]) => {
    const isKept = (number) => isIn(place(number), low, high);
    const kept = new Set(numbers.filter(isKept));
    if (choices) return chosenOf(key, choices, [...kept].map((number) => (isAbsent(number) ? "" : choices[number])));
    const absent = [...kept].filter(isAbsent).length;
    if (absent) return absent === kept.size ? [`${key}=`] : null;
    const known = numbers.filter((number) => !isAbsent(number));
    const inside = known.filter(isKept).map(value);
    const outside = known.filter((number) => !isKept(number)).map(value);
    const [one, other] = [low, high].map((each) => value(from + each * (to - from))).sort((a, b) => a - b);
    if (!inside.length) return null;
    const ends = [lowest(inside), highest(inside)];
    const below = highest(outside.filter((number) => number < ends[0]));
    const above = lowest(outside.filter((number) => number > ends[1]));
    // A trial without a value satisfies no bound, so one bound is needed to leave out such trials.
    const least = Number.isFinite(below) || at >= 0 ? shortBound(one, below, ends[0]) : undefined;
    const most = Number.isFinite(above) ? shortBound(other, above, ends[1]) : undefined;
    if (least === null || most === null) return null;
    return [least === undefined ? [] : `${key}>=${least}`, most === undefined ? [] : `${key}<=${most}`].flat();
  };
  return { filter };
}

function lowest(numbers) {
  return numbers.reduce((least, number) => Math.min(least, number), Infinity);
}

function highest(numbers) {
  return numbers.reduce((most, number) => Math.max(most, number), -Infinity);
}

/** Return the condition that a value is one of several; "" stands for no value. */
function chosenOf(key, choices, chosen) {
  if (chosen.some((text) => text === undefined || /[",]/.test(text)) || choices.includes("")) return null;
  const listed = [...new Set(chosen)].sort((a, b) => choices.indexOf(a) - choices.indexOf(b)).join(",");
  return [/\s/.test(listed) ? `${key}="${listed}"` : `${key}=${listed}`];
}

/** Return a bound with few digits near `bound` that keeps `inside` and excludes `outside`, or null if there is none. */
function shortBound(bound, outside, inside) {
  const isLess = outside < inside;
  const fits = (number) => {
    const margin = ROUNDING * Math.abs(number);
    const [a, b] = isLess ? [number - outside, inside - number] : [outside - number, number - inside];
    return a > margin && (b > margin || (b === 0 && Number.isInteger(number)));
  };
  for (const near of [bound, inside, (outside + inside) / 2]) {
    for (let digits = 2; digits <= 9; digits += 1) {
      const number = Number(near.toPrecision(digits));
      if (fits(number)) return number;
    }
  }
  return null;
}

/**
 * Return the title of each axis, shortened so that it fits, and its row: if titles are wide, every other one is higher.
 * Of a nested name, the last part is most telling.
 */
function titles(axes, apart, edge) {
  const last = (name) => name.slice(name.lastIndexOf(".") + 1);
  const fits = (name, room) => name.length * CHARACTER <= room;
  const names = axes.map(({ label }) => (fits(label, apart - 8) ? label : last(label)));
  const isHigh = names.some((name) => !fits(name, apart - 8));
  return names.map((name, at) => {
    const isEnd = at === 0 || at === names.length - 1;
    const room = Math.min((isHigh ? 2 : 1) * apart - 8, isEnd ? 2 * edge - 4 : Infinity);
    const most = Math.max(4, Math.floor(room / CHARACTER));
    const half = Math.floor((most - 1) / 2);
    const words = name.length <= most ? name : `${name.slice(0, most - 1 - half)}…${name.slice(name.length - half)}`;
    return { words, row: isHigh ? at % 2 : 0 };
  });
}

/** Return some round numbers in a range. */
function roundNumbers(from, to) {
  const [low, high] = [Math.min(from, to), Math.max(from, to)];
  const rough = (high - low) / 5 || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((each) => each * power >= rough);
  const first = Math.ceil(low / step);
  return Array.from(
    { length: Math.floor(high / step) - first + 1 },
    (_, at) => Number(((first + at) * step).toPrecision(12)),
  );
}

/** Return the text of a label of Plotly, which may contain a little markup. */
function plain(words) {
  return new DOMParser().parseFromString(String(words ?? ""), "text/html").body.textContent;
}

/** Return the colour at a fraction of a colour scale. */
function blend(scale, share) {
  const after = Math.max(1, scale.findIndex(([place]) => place >= share));
  const [[a, from], [b, to]] = [scale[after - 1], scale[after]];
  const weight = (share - a) / (b - a || 1);
  const channel = (at) => {
    const [x, y] = [from, to].map((colour) => parseInt(colour.slice(1 + 2 * at, 3 + 2 * at), 16));
    return Math.round(x + (y - x) * weight);
  };
  return `rgb(${channel(0)} ${channel(1)} ${channel(2)})`;
}
