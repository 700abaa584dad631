/** Parts that several pages use. */

import { copy } from "./dialog.js";
import { button, h, mark, put, redraw, s, write } from "./dom.js";
import * as format from "./format.js";

/** States of experiments that have ended. */
export const FINISHED = new Set(["completed", "canceled", "errored", "killed"]);

const SIGNS = {
  running: "▶",
  training: "▶",
  created: "○",
  waiting: "○",
  pausing: "◐",
  paused: "‖",
  stopping: "◐",
  stopped: "■",
  completed: "✓",
  canceled: "■",
  killed: "✕",
  errored: "✕",
  invalid: "⊘",
  interrupted: "!",
  damaged: "!",
};

/** Return a badge that shows a state by its word, a symbol and a colour. */
export function badge(state) {
  return h(
    "span",
    { class: "badge", data: { state } },
    h("i", { "aria-hidden": "true" }, SIGNS[state] ?? "•"),
    h("span", null, state),
  );
}

/** Show another state in a badge. */
export function rebadge(element, state) {
  if (element.dataset.state === state) return;
  element.dataset.state = state;
  put(element, ...badge(state).childNodes);
}

/** An error: what went wrong, and what to do. */
export function failure(error, { again, heading = false } = {}) {
  if (!error.what) console.error(error);
  return h(
    "div",
    { class: "failure", role: "alert" },
    h(heading ? "h1" : "strong", null, error.what ?? "Internal error of this page."),
    error.hint || !error.what ? h("p", null, error.hint || error.message) : null,
    again ? button("Try again", again) : null,
    heading ? h("a", { href: "/", class: "button" }, "All experiments") : null,
  );
}

/** A note that there is nothing yet, and what to do next: commands to copy, or other nodes. */
export function empty(title, text, ...next) {
  const nodes = next.map((each) => (typeof each === "string" ? commandLine(each) : each));
  return h("div", { class: "empty" }, h("strong", null, title), text ? h("p", null, text) : null, nodes);
}

/** A command to copy. */
export function commandLine(command) {
  return h("div", { class: "command" }, h("code", null, command), copyButton(() => command, "Command", "Copy"));
}

/** @param {() => string} text */
export function copyButton(text, what, words) {
  return button(words, () => copy(text(), what), "small", { "aria-label": words === what ? null : `Copy: ${what}` });
}

/** Buttons that copy a trial's hyperparameters. @param {() => any} trial */
export function copyButtons(trial, ...more) {
  return h(
    "div",
    { class: "copies" },
    copyButton(() => trial().as_yaml, "Hyperparameters as YAML", "Copy as YAML"),
    copyButton(() => trial().as_python, "Hyperparameters as Python", "Copy as Python"),
    more,
  );
}

/** A link to download a checkpoint. */
export function downloadLink(href, ...words) {
  return href ? h("a", { href, class: "button small", download: "" }, words) : null;
}

/** Links to the pages above this one. @param {[string, string][]} above address and words of each */
export function crumbs(above, ...more) {
  const slash = () => h("span", { "aria-hidden": "true" }, "/");
  const links = above.flatMap(([href, words], at) => [at ? slash() : null, h("a", { href }, words)]);
  return h("nav", { class: "crumbs", "aria-label": "Breadcrumbs" }, links, more);
}

/** Buttons that filter by state. @param {[string, number][]} counts @param {(state: string) => void} press */
export function stateChips(element, counts, pressed, press) {
  const chip = ([state, number]) =>
    button([state, h("b", null, format.count(number))], () => press(state), "chip", {
      "aria-pressed": String(pressed.includes(state)),
      data: { state },
    });
  redraw(element, [counts, pressed], () => counts.map(chip));
}

/**
 * A small table. The first cell of each row is its heading.
 * @param {string[]} heads
 * @param {any[][]} rows
 * @param {number[]} [right] indices of the columns that contain numbers
 */
export function plainTable(title, heads, rows, right = []) {
  const head = (words, at) => cell(words === "" ? "td" : "th", "col", right, words, at);
  return h(
    "table",
    { class: "plain" },
    h("caption", { class: "unseen" }, title),
    h("thead", null, h("tr", null, heads.map(head))),
    h("tbody", null, rows.map((cells) => tableRow(cells, right))),
  );
}

/** A row of a table whose first cell is its heading. */
export function tableRow(cells, right = []) {
  return h("tr", null, cells.map((words, at) => cell(at === 0 ? "th" : "td", "row", right, words, at)));
}

function cell(tag, scope, right, words, at) {
  return h(tag, { scope: tag === "th" ? scope : null, class: right.includes(at) ? "number" : null }, words);
}

/** A progress bar. */
export class Progress {
  constructor(label) {
    this.bar = h("i");
    const range = { role: "progressbar", "aria-valuemin": 0, "aria-valuemax": 100 };
    this.element = h("div", { class: "progress", ...range, "aria-label": label }, this.bar);
  }

  set(fraction, state) {
    this.bar.style.setProperty("--done", String(fraction));
    mark(this.element, "aria-valuenow", Math.round(fraction * 100));
    this.element.dataset.state = state;
  }
}

/** A label with a value and two notes, which can change. */
export class Fact {
  constructor(label, { title } = {}) {
    this.label = h("dt", null, label);
    this.text = h("b");
    this.notes = [h("span", { class: "note" }), h("span", { class: "note" })];
    this.element = h("div", { class: "fact", title }, this.label, h("dd", null, this.text, this.notes));
  }

  set(text, ...notes) {
    write(this.text, text);
    this.notes.forEach((element, at) => write(element, notes[at]));
  }
}

/** @param {Fact[]} all */
export function factList(...all) {
  return h("dl", { class: "facts" }, all.map((fact) => fact.element));
}

/**
 * Return a note about a report that is better than the best result but has no checkpoint, or "" if there is none.
 * @param {{metric: number, length: number, trial?: number}|null} seen
 */
export function seenLine(seen, { smaller_is_better: smaller, unit }, best = null) {
  if (!seen) return "";
  const whose = seen.trial === undefined || seen.trial === best?.trial ? "" : `, trial ${seen.trial}`;
  const at = format.length(seen.length, unit);
  return `${smaller ? "lowest" : "highest"} seen: ${format.number(seen.metric)} at ${at}${whose} (not saved)`;
}

/**
 * Return a note beside the result of an experiment, or "" if there is none: all results of the recommended trial and
 * the lowest report, or a better report without checkpoint. It names the trial of that report.
 */
export function bestLine(data) {
  const words = data.recommended?.words;
  return words ? `${data.metric} ${words}` : seenLine(data.seen, data, data.best);
}

/** A small chart of the best metric so far. */
export function spark(points, { width = 104, height = 26 } = {}) {
  const known = (points ?? []).filter(([, metric]) => metric !== null);
  if (known.length === 0) return h("span", { class: "spark", "aria-hidden": "true" });
  const [from, to] = [points[0][0], points.at(-1)[0]];
  // A search improves fast at first, so that most of a linear line would be flat.
  const scale = format.isWide(known.map(([, metric]) => metric)) ? Math.log : Number;
  const metrics = known.map(([, metric]) => scale(metric));
  const [low, high] = [Math.min(...metrics), Math.max(...metrics)];
  const x = (at) => 2 + ((at - from) / (to - from || 1)) * (width - 6);
  const y = (metric) => height - 3 - ((metric - low) / (high - low || 1)) * (height - 6);
  let path = `M${x(known[0][0]).toFixed(1)} ${y(metrics[0]).toFixed(1)}`;
  for (const [at, metric] of known.slice(1)) path += `H${x(at).toFixed(1)}V${y(scale(metric)).toFixed(1)}`;
  path += `H${(width - 4).toFixed(1)}`;
  return s(
    "svg",
    { class: "spark", width, height, viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" },
    s("path", { d: path }),
    s("circle", { cx: width - 4, cy: y(metrics.at(-1)).toFixed(1), r: 2.2 }),
  );
}

function showTab(list, tab) {
  const [bar, box] = [list.getBoundingClientRect(), tab.getBoundingClientRect()];
  if (box.left < bar.left) list.scrollLeft -= bar.left - box.left + 24;
  else if (box.right > bar.right) list.scrollLeft += box.right - bar.right + 24;
}

/** A bar of tabs. @param {(key: string) => void} choose */
export function tabs(label, all, shown, choose) {
  const list = h("div", { class: "tabs", role: "tablist", "aria-label": label });
  const buttons = all.map(([key, words]) =>
    button(words, () => choose(key), null, { role: "tab", id: `tab-${key}`, "aria-controls": "panel" }),
  );
  list.append(...buttons);
  const move = (key) => {
    all.forEach(([each], at) => {
      const selected = each === key;
      buttons[at].setAttribute("aria-selected", String(selected));
      buttons[at].tabIndex = selected ? 0 : -1;
      // On a phone, the bar is wider than the screen.
      if (selected) requestAnimationFrame(() => showTab(list, buttons[at]));
    });
  };
  list.addEventListener("keydown", (event) => {
    const at = buttons.indexOf(document.activeElement);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: all.length - 1 }[event.key];
    if (at < 0 || to === undefined) return;
    event.preventDefault();
    const next = (to + all.length) % all.length;
    buttons[next].focus();
    choose(all[next][0]);
  });
  move(shown);
  return { element: list, move };
}

/**
 * A button that opens a list. Esc and a click elsewhere close it.
 * @param {AbortSignal} signal @param {string} [kind] class of the button
 * @param {string | null} [label] what screen readers say instead of the words
 */
export function menu(words, signal, kind = "", label = null) {
  const body = h("div", { class: "menu-body", role: "group", "aria-label": label ?? words });
  const summary = h("summary", { class: `button ${kind}`, "aria-label": label }, words);
  const element = h("details", { class: "menu" }, summary, body);
  const close = () => (element.open = false);
  element.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !element.open) return;
    close();
    element.querySelector("summary").focus();
  });
  body.addEventListener("click", (event) => {
    if (event.target.closest("a, [data-closes]")) close();
  });
  document.addEventListener("pointerdown", (event) => element.contains(event.target) || close(), { signal });
  return { element, body, close };
}

/** A list of names and values. */
export function pairs(rows, kind = "pairs") {
  const pair = ([name, value]) => h("div", null, h("dt", null, name), h("dd", null, format.value(value)));
  return h("dl", { class: kind }, rows.map(pair));
}

/** The hyperparameters of a trial; nested ones have dotted names. */
export function hyperparameters(tree) {
  const rows = flatten(tree).map(([name, value]) => [name, format.setting(value)]);
  return rows.length ? pairs(rows) : h("p", { class: "muted" }, "No hyperparameters");
}

/** Return nested hyperparameters as pairs of a dotted name and a value. */
export function flatten(tree, prefix = "") {
  return Object.entries(tree ?? {}).flatMap(([name, value]) =>
    value !== null && typeof value === "object" && !Array.isArray(value) && Object.keys(value).length
      ? flatten(value, `${prefix}${name}.`)
      : [[`${prefix}${name}`, value]],
  );
}

/** A time; its title has the date and the time zone. */
export function moment(at) {
  if (at === null || at === undefined) return document.createTextNode(format.NONE);
  return h("time", { datetime: new Date(at * 1000).toISOString(), title: format.timestamp(at) }, format.time(at));
}

/** A labelled drop-down list. `choices`: values, or pairs of value and words. */
export function choice(label, choices, chosen, change, { unseen = false } = {}) {
  const select = h(
    "select",
    { onchange: () => change(select.value) },
    choices.map((each) => {
      const [value, words] = Array.isArray(each) ? each : [each, each];
      return h("option", { value, selected: String(value) === String(chosen) }, words);
    }),
  );
  return h("label", { class: "choice" }, h("span", { class: unseen ? "unseen" : null }, label), select);
}

/** A card with a heading. */
export function card(title, ...children) {
  const id = `card-${title.toLowerCase().replaceAll(/\W+/g, "-")}`;
  return h("section", { class: "card", "aria-labelledby": id }, h("header", null, h("h2", { id }, title)), ...children);
}

/** A labelled field of a form, with a hint, and with the key of an experiment file that it sets. */
export function field(label, input, hint = null, key = null) {
  const words = h("span", null, label, key ? [" ", h("code", null, key)] : null);
  const small = hint ? h("small", null, hint) : null;
  return h("div", { class: "field" }, h("label", null, words, input, small));
}
