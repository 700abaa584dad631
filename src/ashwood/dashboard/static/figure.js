/** Figures of the server, drawn by Plotly and updated while they are visible. */

import { getChanged } from "./api.js";
import { button, checkbox, colour, h, kept, put, write } from "./dom.js";
import { Parallel } from "./parallel.js";
import { choice, failure } from "./parts.js";
import { apart, Points } from "./points.js";
import { stamp } from "./symbols.js";

const EVERY = 2_000;
// Figures that are not in sight are drawn after this time, so that they are there when the page is printed.
const LATER = 2_500;
// Width of a figure on paper, which fits A4 between its margins.
const PAPER = 680;
let bundle = null;

/** @returns {Promise<any>} Plotly */
export function plotly() {
  bundle ??= new Promise((resolve, reject) => {
    const script = h("script", { src: "/plotly.js", async: true });
    script.onload = () => resolve(window.Plotly);
    script.onerror = () => {
      bundle = null;
      script.remove();
      const [what, hint] = ["Cannot load the script of the charts.", "Is ashwood ui still running?"];
      reject(Object.assign(new Error(), { what, hint }));
    };
    document.head.append(script);
  });
  return bundle;
}

/** Return the current theme, light or dark. */
export function theme() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
}

const CONFIG = {
  responsive: true,
  displaylogo: false,
  // No data may leave this machine.
  showSendToCloud: false,
  modeBarButtonsToRemove: ["lasso2d", "select2d", "autoScale2d"],
  doubleClickDelay: 400,
};

/** Return the trial in the custom data of a point, or null. */
function trialIn(customdata) {
  const own = typeof customdata === "object" && customdata !== null ? customdata[0] : customdata;
  return Number.isInteger(own) ? own : null;
}

/** Return the trial of a line whose points are all of one trial, or null. */
function trialOfTrace({ customdata, mode = "" }) {
  if (!customdata?.length || !mode.includes("lines")) return null;
  const first = trialIn(customdata[0]);
  return first === trialIn(customdata[customdata.length - 1]) ? first : null;
}

/** Return the text below a figure's title. The page shows the title itself. */
function subtitle(title) {
  const [, , below] = /^(.*?)<br>(.*)$/s.exec(title ?? "") ?? [];
  // The text has a little markup. It is parsed as a separate document, and only its text is used.
  return below ? new DOMParser().parseFromString(below, "text/html").body.textContent : "";
}

// Height of the title, which Plotly does not draw.
const TITLE = 44;
const CLEAR = "rgba(0,0,0,0)";

/** One figure of the server. */
export class Figure {
  /**
   * @param {object} options
   * @param {string} options.path below /api/v1
   * @param {string} options.title
   * @param {AbortSignal} options.signal
   * @param {Record<string, any>} [options.query]
   * @param {number} [options.height]
   * @param {Control[]} [options.controls] options that users can choose
   * @param {(trial: number) => void} [options.onTrial] called when a trial is clicked
   * @param {(trial: number | null) => void} [options.onHover]
   * @param {(name: string, value: any) => void} [options.onChoice]
   * @param {(figure: any) => void} [options.onDraw] called with each figure of the server that is drawn
   * @param {(kept: Set<number> | null, rows: any[], axes: any[]) => void} [options.onKeep] see `Parallel`
   * @param {boolean} [options.legend] whether it has a legend
   * @param {Promise<void>} [options.ready] the figure is requested when this is resolved
   *
   * @typedef {{name: string, label: string, values?: any[], value?: any, kind?: string}} Control
   *   each of `values` is a value, or a pair of value and words
   */
  constructor({ path, title, signal, query = {}, height = 380, controls = [], ready, legend = true, ...how }) {
    const { onTrial, onHover, onChoice, onDraw, onKeep } = how;
    Object.assign(this, { path, query, signal, legend, onTrial, onHover, onChoice, onDraw, onKeep });
    // The figure is not requested before its options are known.
    this.busy = Boolean(ready);
    ready?.then(() => {
      this.busy = false;
      this.#wake();
    });
    this.etag = null;
    this.shown = null;
    this.stale = true;
    this.visible = false;
    this.early = false;
    this.hidden = new Set();
    this.kept = null;
    this.boxes = new Map();
    this.last = -Infinity;
    this.timer = null;
    this.plot = h("div", { class: "plot", role: "group", "aria-label": title });
    this.over = h("div", { class: "plot-over" }, h("span", { class: "muted" }, "Drawing…"));
    this.controls = h("div", { class: "controls" });
    this.below = h("p", { class: "hint", hidden: true });
    this.entries = h("ul", { class: "legend", hidden: true });
    this.room = h("div", { class: "plot-room", style: { "min-height": `${height}px` } }, this.plot, this.over);
    const id = `figure-${path.replaceAll(/\W+/g, "-")}`;
    this.element = h(
      "section",
      { class: "card figure", "aria-labelledby": id },
      h("header", null, h("h2", { id }, title), this.controls),
      this.below,
      this.room,
      this.entries,
    );
    this.height = height;
    this.setControls(controls);
    this.observer = new IntersectionObserver(([entry]) => {
      this.visible = entry.isIntersecting;
      this.#wake();
    }, { rootMargin: "150px" });
    this.observer.observe(this.element);
    // Plotly is large, so it is loaded while the user reads the page.
    setTimeout(() => plotly().catch(() => {}), 100);
    const later = setTimeout(() => {
      this.early = true;
      this.#wake();
    }, LATER);
    const wake = () => this.#wake();
    const recolour = () => {
      this.etag = null;
      this.touch();
    };
    document.addEventListener("visibilitychange", wake, { signal });
    document.addEventListener("ashwood:theme", recolour, { signal });
    addEventListener("beforeprint", () => this.#size(PAPER), { signal });
    addEventListener("afterprint", () => this.#size(null), { signal });
    signal.addEventListener("abort", () => {
      this.observer.disconnect();
      clearTimeout(this.timer);
      clearTimeout(later);
      window.Plotly?.purge(this.plot);
    });
  }

  /** @param {Control[]} controls */
  setControls(controls) {
    this.given = controls;
    this.boxes.clear();
    put(this.controls, controls.map((control) => this.#control(control)));
  }

  /** Set all options again, for example after the user has gone back. @param {Record<string, any>} values */
  restore(values) {
    const before = JSON.stringify(this.query);
    for (const { name, value } of this.given) this.query[name] = values[name] ?? value;
    this.setControls(this.given);
    if (JSON.stringify(this.query) !== before) this.ask({});
  }

  /** Update the figure soon, because its data may have changed. */
  touch() {
    this.stale = true;
    this.#wake();
  }

  /** Update the figure with other options. */
  ask(changes) {
    this.query = { ...this.query, ...changes };
    this.etag = null;
    this.last = -Infinity;
    this.touch();
  }

  /** Highlight a trial and show the others fainter, or highlight none if it is null. */
  highlight(trial) {
    if (!window.Plotly || !this.shown || (this.lit ?? null) === trial) return;
    this.lit = trial;
    this.points?.light(trial);
    this.own?.highlight(trial);
    this.#mark();
    // Plotly has unpacked the data of these traces.
    const traces = this.plot._fullData ?? [];
    const trials = traces.map(trialOfTrace);
    if (!trials.some((each) => each !== null)) return;
    const is = trial !== null && trials.includes(trial);
    const opacity = traces.map((_, at) => (!is || trials[at] === trial || trials[at] === null ? 1 : 0.12));
    window.Plotly.restyle(this.plot, { opacity });
  }

  /** The ranges that are chosen on the axes of parallel coordinates; see `Parallel`. */
  get conditions() {
    return this.own?.conditions ?? null;
  }

  /** Number of trials in parallel coordinates. */
  get count() {
    return this.own?.count ?? 0;
  }

  /** Choose the axes of parallel coordinates; null for those that fit. @param {string[] | null} names */
  choose(names) {
    this.axes = names;
    this.own?.choose(names);
  }

  /** Show only some trials clearly, or all if it is null. @param {Set<number> | null} trials */
  keep(trials) {
    this.kept = trials;
    this.points?.keep(trials);
    this.#mark();
  }

  /** Mark the points that Plotly has drawn: the highlighted trial, and those that are not kept. */
  #mark() {
    for (const point of this.plot.querySelectorAll(".scatterlayer .point")) {
      const trial = trialIn(point.__data__?.data ?? null);
      point.classList.toggle("lit", trial !== null && trial === (this.lit ?? null));
      point.classList.toggle("dim", trial !== null && this.kept !== null && !this.kept.has(trial));
    }
  }

  /** Draw the figure at a width on paper, or as wide as the page if it is null. */
  #size(width) {
    if (this.own) this.own.size(width);
    else if (this.shown && window.Plotly) {
      window.Plotly.relayout(this.plot, width === null ? { width: null, autosize: true } : { width, autosize: false });
    }
  }

  #control({ name, label, values, value, kind }) {
    const change = (chosen) => {
      this.onChoice?.(name, chosen);
      this.ask({ [name]: chosen });
    };
    this.query[name] ??= value;
    if (kind === "flag") {
      const box = checkbox(label, String(this.query[name]) === "true", change);
      // Without a value the figure chooses, and the box shows what it has chosen.
      this.boxes.set(name, box.querySelector("input"));
      this.#check(this.shown?.layout);
      return box;
    }
    return choice(label, values, this.query[name], change);
  }

  /** Show in the boxes of options without a value what the figure has chosen. */
  #check(layout) {
    if (!layout) return;
    const is = (axis) => axis?.type === "log";
    const found = { log_x: is(layout.xaxis), log_y: is(layout.yaxis), ...layout.meta };
    for (const [name, box] of this.boxes) {
      if ((this.query[name] ?? "") === "" && name in found) box.checked = found[name] === true;
    }
  }

  #wake() {
    const isWanted = this.visible || (this.early && this.shown === null);
    if (!this.stale || !isWanted || document.hidden || this.busy || this.signal.aborted) return;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.#fetch(), Math.max(0, this.last + EVERY - performance.now()));
  }

  async #fetch() {
    if (this.busy || this.signal.aborted) return;
    this.busy = true;
    this.stale = false;
    this.last = performance.now();
    try {
      const query = { ...this.query, theme: theme() };
      const [answer] = await Promise.all([
        getChanged(this.path, { query, etag: this.etag, signal: this.signal }),
        plotly(),
      ]);
      if (answer.data !== null) {
        this.etag = answer.etag;
        await this.#draw(answer.data);
      }
      this.over.hidden = true;
      if (answer.again !== null) {
        this.stale = true;
        this.last = performance.now() + answer.again * 1_000 - EVERY;
      }
    } catch (error) {
      if (error.name === "AbortError") return;
      // While the server cannot be reached, the figure stays as it is. A banner shows the lost connection.
      if (!this.shown || error.status) {
        put(this.over, failure(error, { again: () => this.ask({}) }));
        this.over.hidden = false;
      } else this.stale = true;
    } finally {
      this.busy = false;
    }
    if (this.stale) this.#wake();
  }

  /** Show the entries of the legend. A click on one hides or shows its traces. */
  #legend(traces, { showlegend, legend = {} }) {
    const named = traces.map((trace, at) => ({ trace, at })).filter(
      ({ trace }) => trace.name && trace.showlegend !== false && (trace.x?.length ?? 1) !== 0,
    );
    named.sort((one, other) => (one.trace.legendrank ?? 1_000) - (other.trace.legendrank ?? 1_000));
    this.entries.hidden = !this.legend || showlegend === false || named.length < 2;
    if (this.entries.hidden) return;
    const fixed = legend.itemclick === false;
    const words = (text) => new DOMParser().parseFromString(text, "text/html").body.textContent;
    const item = ({ trace }) => {
      const inside = [swatch(trace), h("span", null, words(trace.name))];
      if (fixed) return h("li", null, inside);
      const toggle = button(inside, () => {
        const isHidden = !this.hidden.has(trace.name);
        this.hidden[isHidden ? "add" : "delete"](trace.name);
        toggle.setAttribute("aria-pressed", String(!isHidden));
        const group = legend.groupclick === "toggleitem" ? null : trace.legendgroup;
        const places = traces.flatMap((each, at) =>
          each === trace || (group && each.legendgroup === group) ? [at] : [],
        );
        window.Plotly.restyle(this.plot, { visible: isHidden ? "legendonly" : true }, places);
      }, null, { "aria-pressed": String(!this.hidden.has(trace.name)) });
      return h("li", null, toggle);
    };
    const heading = (text) => h("li", { class: "muted" }, words(text));
    let group = null;
    const all = named.flatMap((each) => {
      const title = each.trace.legendgrouptitle?.text;
      const isNew = title && title !== group;
      group = title ?? group;
      return [isNew ? heading(title) : null, item(each)];
    });
    put(this.entries, legend.title?.text ? heading(legend.title.text) : null, all);
  }

  #parallel(trace, axes) {
    if (!this.own) {
      const { onTrial, onHover, signal } = this;
      this.own = new Parallel({ onTrial, onHover, signal, onKeep: (...kept) => this.onKeep?.(...kept) });
      this.own.choose(this.axes ?? null);
      put(this.plot, this.own.element);
    }
    this.own.show(trace, axes);
    this.below.hidden = true;
    this.room.style.removeProperty("min-height");
  }

  async #draw(figure) {
    const { title, margin = {}, height = this.height } = figure.layout;
    const top = Math.max(8, (margin.t ?? 66) - TITLE);
    const layout = { ...figure.layout, title: undefined, autosize: true, paper_bgcolor: CLEAR, plot_bgcolor: CLEAR };
    // The legend is below the figure, where it has room on any screen.
    const bottom = Math.min(margin.b ?? 48, figure.layout.xaxis?.visible === false ? 8 : 48);
    layout.margin = { ...margin, t: top, b: bottom };
    layout.height = height - ((margin.t ?? 66) - top) - ((margin.b ?? 48) - bottom);
    layout.showlegend = false;
    delete layout.width;
    write(this.below, subtitle(title?.text));
    this.below.hidden = this.below.textContent === "";
    const isFirst = this.shown === null;
    const before = isFirst ? null : places(this.plot);
    const { lit } = this;
    this.shown = figure;
    this.lit = null;
    this.#check(figure.layout);
    this.onDraw?.(figure);
    if (figure.data[0]?.type === "parcoords") {
      this.#parallel(figure.data[0], figure.layout.meta?.axes);
      return;
    }
    const { traces, groups } = apart(figure);
    for (const trace of traces) if (this.hidden.has(trace.name)) trace.visible = "legendonly";
    await window.Plotly.react(this.plot, traces, layout, CONFIG);
    if (groups.length > 0) this.points ??= new Points(this.plot, this);
    this.points?.show(groups);
    this.points?.keep(this.kept);
    this.#legend(traces, figure.layout);
    this.#mark();
    this.room.style.setProperty("min-height", `${layout.height}px`);
    this.highlight(lit ?? null);
    if (!isFirst) {
      glide(this.plot, before);
      return;
    }
    this.plot.on("plotly_click", ({ points }) => {
      const trial = points.map((point) => trialIn(point.customdata)).find((each) => each !== null);
      if (trial !== undefined) this.onTrial?.(trial);
    });
    this.plot.on("plotly_hover", ({ points }) => {
      const trial = points.map((point) => trialIn(point.customdata)).find((each) => each !== null) ?? null;
      if (this.points) this.points.quiet = true;
      this.plot.classList.toggle("clickable", trial !== null && Boolean(this.onTrial));
      this.onHover?.(trial);
    });
    this.plot.on("plotly_unhover", () => {
      if (this.points) this.points.quiet = false;
      this.plot.classList.remove("clickable");
      this.onHover?.(null);
    });
  }
}

/** Return a picture of how a trace is drawn, for the legend. */
function swatch({ type, mode = "", marker = {}, line = {}, fillcolor }) {
  const own = marker.pattern?.fgcolor ?? marker.color ?? line.color ?? fillcolor;
  const paint = typeof own === "string" ? own : marker.line?.color ?? "currentcolor";
  if (type !== "bar" && !mode.includes("lines")) {
    const symbol = typeof marker.symbol === "string" ? marker.symbol : "circle";
    const scale = Math.max(2, devicePixelRatio || 1);
    const drawn = stamp(symbol, paint, 9, scale);
    const picture = h("canvas", { width: drawn.width, height: drawn.height, "aria-hidden": "true" });
    picture.getContext("2d").drawImage(drawn, 0, 0);
    picture.style.setProperty("width", `${drawn.width / scale}px`);
    return picture;
  }
  const dash = { dash: "dashed", dot: "dotted" }[line.dash] ?? "solid";
  const style = type === "bar" ? { background: paint } : { "border-top": `3px ${dash} ${paint}` };
  return h("i", { class: type === "bar" ? "box" : "line", style, "aria-hidden": "true" });
}

/** Return the positions of points that have an id. Plotly binds its data to its elements. */
function places(plot) {
  const found = new Map();
  const points = plot.querySelectorAll(".scatterlayer .point");
  for (const point of points) {
    const id = point.__data__?.id;
    const at = point.transform?.baseVal.consolidate()?.matrix;
    if (id && at) found.set(id, { point, x: at.e, y: at.f });
  }
  return { found, width: plot.clientWidth };
}

/** Animate points from their previous positions. Points without an id and new points are not animated. */
function glide(plot, before) {
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
  const now = places(plot);
  if (now.width !== before.width) return;
  for (const [id, { point, x, y }] of now.found) {
    const from = before.found.get(id);
    if (!from || Math.hypot(from.x - x, from.y - y) < 1) continue;
    point.animate([{ transform: `translate(${from.x}px, ${from.y}px)` }, { transform: `translate(${x}px, ${y}px)` }], {
      duration: 600,
      easing: "ease-in-out",
    });
  }
}

const NUMBERS = [5, 10, 20, 50, 100, 200, 500];

/** Return the controls for the options of a figure. @returns {Control[]} */
export function controlsOf(options = []) {
  return options.map(controlOf).filter((control) => control.kind === "flag" || control.values.length > 1);
}

function controlOf({ name, title, kind, default: value, allowed, least, most, offered }) {
  // Without a value, the figure chooses.
  if (kind === "flag") return { name, label: title, kind, value: value ?? "" };
  if (kind === "number") {
    const values = offered?.length ? offered : NUMBERS.filter((number) => number >= least && number <= most);
    return { name, label: title, kind, values, value: value ?? values[0] };
  }
  // If a hyperparameter has no default, the figure chooses one. The first metric is the metric of the search.
  if (kind === "hparam" && value === null) {
    const first = name === "group" ? "no groups" : allowed.length ? `most important` : "";
    return { name, label: title, kind, values: allowed.length > 1 ? [["", first], ...allowed] : [], value: "" };
  }
  return { name, label: title, kind, values: allowed ?? [], value: value ?? allowed?.[0] };
}

/** Draw a chart of data that the page has. */
export async function drawOwn(element, data, layout, signal) {
  const Plotly = await plotly();
  if (signal.aborted) return;
  const [ink, muted, line, paper] = ["ink", "muted", "line", "surface"].map(colour);
  const axis = { gridcolor: line, zerolinecolor: line, linecolor: line, tickcolor: line, automargin: true };
  const base = {
    autosize: true,
    margin: { l: 52, r: 14, t: 12, b: 40 },
    paper_bgcolor: paper,
    plot_bgcolor: paper,
    font: { color: ink, size: 12, family: "system-ui, sans-serif" },
    hoverlabel: { bgcolor: paper, bordercolor: muted, font: { color: ink } },
    showlegend: false,
    ...layout,
    xaxis: { ...axis, ...layout.xaxis },
    yaxis: { ...axis, ...layout.yaxis },
  };
  await Plotly.react(element, data, base, CONFIG);
}

/**
 * The options that the user has chosen for a figure, stored in this browser. Switches are only kept in the address,
 * because they depend on the data.
 */
export const chosen = {
  get: (name, key) => kept.get(`figure.${name}`)?.[key],
  set: (name, key, value) => kept.set(`figure.${name}`, { ...kept.get(`figure.${name}`), [key]: value }),
};
