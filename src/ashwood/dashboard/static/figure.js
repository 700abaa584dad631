/** Figures of the server, drawn by Plotly and updated while they are visible. */

import { getChanged } from "./api.js";
import { checkbox, colour, h, kept, put, write } from "./dom.js";
import { Parallel } from "./parallel.js";
import { choice, failure } from "./parts.js";
import { apart, Points } from "./points.js";

const EVERY = 2_000;
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

/** Return the trial of a trace whose points are all of one trial, or null. */
function trialOfTrace({ customdata }) {
  if (!customdata?.length) return null;
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
   * @param {Promise<void>} [options.ready] the figure is requested when this is resolved
   *
   * @typedef {{name: string, label: string, values?: any[], value?: any, kind?: string}} Control
   *   each of `values` is a value, or a pair of value and words
   */
  constructor({ path, title, signal, query = {}, height = 380, controls = [], onTrial, onHover, onChoice, ready }) {
    Object.assign(this, { path, query, signal, onTrial, onHover, onChoice });
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
    this.last = -Infinity;
    this.timer = null;
    this.plot = h("div", { class: "plot", role: "group", "aria-label": title });
    this.over = h("div", { class: "plot-over" }, h("span", { class: "muted" }, "Drawing…"));
    this.controls = h("div", { class: "controls" });
    this.below = h("p", { class: "hint", hidden: true });
    this.room = h("div", { class: "plot-room", style: { "min-height": `${height}px` } }, this.plot, this.over);
    const id = `figure-${path.replaceAll(/\W+/g, "-")}`;
    this.element = h(
      "section",
      { class: "card figure", "aria-labelledby": id },
      h("header", null, h("h2", { id }, title), this.controls),
      this.below,
      this.room,
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
    const wake = () => this.#wake();
    const recolour = () => {
      this.etag = null;
      this.touch();
    };
    document.addEventListener("visibilitychange", wake, { signal });
    document.addEventListener("ashwood:theme", recolour, { signal });
    signal.addEventListener("abort", () => {
      this.observer.disconnect();
      clearTimeout(this.timer);
      window.Plotly?.purge(this.plot);
    });
  }

  /** @param {Control[]} controls */
  setControls(controls) {
    put(this.controls, controls.map((control) => this.#control(control)));
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
    // Plotly has unpacked the data of these traces.
    const traces = this.plot._fullData ?? [];
    const trials = traces.map(trialOfTrace);
    if (!trials.some((each) => each !== null)) return;
    const is = trial !== null && trials.includes(trial);
    const opacity = traces.map((_, at) => (!is || trials[at] === trial || trials[at] === null ? 1 : 0.12));
    window.Plotly.restyle(this.plot, { opacity });
  }

  #control({ name, label, values, value, kind }) {
    const change = (chosen) => {
      this.onChoice?.(name, chosen);
      this.ask({ [name]: chosen });
    };
    this.query[name] ??= value;
    if (kind === "flag") return checkbox(label, String(this.query[name]) === "true", change);
    return choice(label, values, this.query[name], change);
  }

  #wake() {
    if (!this.stale || !this.visible || document.hidden || this.busy || this.signal.aborted) return;
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

  #parallel(trace) {
    if (!this.own) {
      this.own = new Parallel({ onTrial: this.onTrial, signal: this.signal });
      put(this.plot, this.own.element);
    }
    this.own.show(trace);
    this.below.hidden = true;
    this.room.style.removeProperty("min-height");
  }

  async #draw(figure) {
    const { title, margin = {}, height = this.height } = figure.layout;
    const top = Math.max(8, (margin.t ?? 66) - TITLE);
    const layout = { ...figure.layout, title: undefined, autosize: true, paper_bgcolor: CLEAR, plot_bgcolor: CLEAR };
    layout.margin = { ...margin, t: top };
    layout.height = height - ((margin.t ?? 66) - top);
    delete layout.width;
    write(this.below, subtitle(title?.text));
    this.below.hidden = this.below.textContent === "";
    const isFirst = this.shown === null;
    const before = isFirst ? null : places(this.plot);
    const { lit } = this;
    this.shown = figure;
    this.lit = null;
    if (figure.data[0]?.type === "parcoords") {
      this.#parallel(figure.data[0]);
      return;
    }
    const { traces, groups } = apart(figure);
    await window.Plotly.react(this.plot, traces, layout, CONFIG);
    if (groups.length > 0) this.points ??= new Points(this.plot, this);
    this.points?.show(groups);
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

function controlOf({ name, title, kind, default: value, allowed, least, most }) {
  if (kind === "flag") return { name, label: title, kind, value: value ?? false };
  if (kind === "number") {
    const values = NUMBERS.filter((number) => number >= least && number <= most);
    return { name, label: title, kind, values, value: value ?? values[0] };
  }
  // If a hyperparameter has no default, the figure chooses one. The first metric is the metric of the search.
  if (kind === "hparam" && value === null) {
    return { name, label: title, kind, values: allowed.length > 1 ? [["", "automatic"], ...allowed] : [], value: "" };
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

/** The options that the user has chosen for a figure, stored in this browser. */
export const chosen = {
  get: (name, key) => kept.get(`figure.${name}`)?.[key],
  set: (name, key, value) => kept.set(`figure.${name}`, { ...kept.get(`figure.${name}`), [key]: value }),
};
