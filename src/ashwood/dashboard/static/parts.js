/** Small parts that pages are made of. */

import { copy } from "./dialog.js";
import { h, mark, put, s, write } from "./dom.js";
import * as format from "./format.js";

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

/** Change a badge in place. */
export function rebadge(element, state) {
  if (element.dataset.state === state) return;
  element.dataset.state = state;
  put(element, ...badge(state).childNodes);
}

/** What went wrong, and what to do. */
export function failure(error, { again, heading = false } = {}) {
  const words = error.what ?? "Something in this page went wrong.";
  if (!error.what) console.error(error);
  return h(
    "div",
    { class: "failure", role: "alert" },
    h(heading ? "h1" : "strong", null, words),
    error.hint || !error.what ? h("p", null, error.hint || error.message) : null,
    again ? h("button", { type: "button", onclick: again }, "Try again") : null,
    heading ? h("a", { href: "/", class: "button" }, "All experiments") : null,
  );
}

/** Nothing is there yet: what to do next; commands, which can be copied, or other nodes. */
export function empty(title, text, ...commands) {
  return h(
    "div",
    { class: "empty" },
    h("strong", null, title),
    text ? h("p", null, text) : null,
    commands.map((command) => (typeof command === "string" ? commandLine(command) : command)),
  );
}

/** A command, to copy. */
export function commandLine(command) {
  return h("div", { class: "command" }, h("code", null, command), copyButton(() => command, "Command", "Copy"));
}

/** @param {() => string} text */
export function copyButton(text, what, words) {
  const label = words === what ? null : `Copy: ${what}`;
  return h("button", { type: "button", class: "small", "aria-label": label, onclick: () => copy(text(), what) }, words);
}

/** How far something is. */
export class Progress {
  constructor(label) {
    this.bar = h("i");
    this.element = h(
      "div",
      { class: "progress", role: "progressbar", "aria-valuemin": 0, "aria-valuemax": 100, "aria-label": label },
      this.bar,
    );
  }

  set(fraction, state) {
    const known = fraction ?? 0;
    this.bar.style.setProperty("--done", String(known));
    mark(this.element, "aria-valuenow", Math.round(known * 100));
    this.element.dataset.state = state ?? "";
  }
}

/** A label with a value, that can change. */
export class Fact {
  constructor(label, { title } = {}) {
    this.value = h("dd");
    this.note = h("span", { class: "note" });
    this.element = h("div", { class: "fact", title }, h("dt", null, label), this.value);
    this.more = h("span", { class: "note" });
    this.value.append((this.text = h("b")), this.note, this.more);
  }

  set(text, note = "", more = "") {
    write(this.text, text);
    write(this.note, note);
    write(this.more, more);
  }
}

/**
 * The line beside a best result about a better report that has no checkpoint; empty if there is none.
 * @param {{metric: number, length: number, trial?: number}|null} seen
 */
export function seenLine(seen, { smaller_is_better: smaller, unit }, best = null) {
  if (!seen) return "";
  const whose = seen.trial === undefined || seen.trial === best?.trial ? "" : `, trial ${seen.trial}`;
  const at = format.length(seen.length, unit);
  return `${smaller ? "lowest" : "highest"} seen: ${format.number(seen.metric)} at ${at}${whose} (not saved)`;
}

/** A line of best metrics so far, as steps. */
export function spark(points, { width = 104, height = 26 } = {}) {
  const known = (points ?? []).filter(([, metric]) => metric !== null);
  if (known.length === 0) return h("span", { class: "spark", "aria-hidden": "true" });
  const [from, to] = [points[0][0], points.at(-1)[0]];
  const metrics = known.map(([, metric]) => metric);
  const [low, high] = [Math.min(...metrics), Math.max(...metrics)];
  const x = (at) => 2 + ((at - from) / (to - from || 1)) * (width - 6);
  const y = (metric) => height - 3 - ((metric - low) / (high - low || 1)) * (height - 6);
  let path = `M${x(known[0][0]).toFixed(1)} ${y(known[0][1]).toFixed(1)}`;
  for (const [at, metric] of known.slice(1)) path += `H${x(at).toFixed(1)}V${y(metric).toFixed(1)}`;
  path += `H${(width - 4).toFixed(1)}`;
  return s(
    "svg",
    { class: "spark", width, height, viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" },
    s("path", { d: path }),
    s("circle", { cx: width - 4, cy: y(metrics.at(-1)).toFixed(1), r: 2.2 }),
  );
}

/** Links as tabs; which one is shown is in the query. */
export function tabs(label, all, shown, choose) {
  const list = h("div", { class: "tabs", role: "tablist", "aria-label": label });
  const buttons = all.map(([key, words]) =>
    h(
      "button",
      { type: "button", role: "tab", id: `tab-${key}`, "aria-controls": "panel", onclick: () => choose(key) },
      words,
    ),
  );
  list.append(...buttons);
  const move = (key) => {
    all.forEach(([each], at) => {
      const selected = each === key;
      buttons[at].setAttribute("aria-selected", String(selected));
      buttons[at].tabIndex = selected ? 0 : -1;
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

/** Hyperparameters, nested ones with dotted names. */
export function hyperparameters(tree) {
  const rows = flatten(tree);
  if (rows.length === 0) return h("p", { class: "muted" }, "It has no hyperparameters.");
  return h(
    "dl",
    { class: "pairs" },
    rows.map(([name, value]) => h("div", null, h("dt", null, name), h("dd", null, format.value(value)))),
  );
}

function flatten(tree, prefix = "") {
  return Object.entries(tree ?? {}).flatMap(([name, value]) =>
    value !== null && typeof value === "object" && !Array.isArray(value) && Object.keys(value).length
      ? flatten(value, `${prefix}${name}.`)
      : [[`${prefix}${name}`, value]],
  );
}

/** A moment, with all of it in its title. */
export function moment(at) {
  if (at === null || at === undefined) return document.createTextNode(format.NONE);
  return h("time", { datetime: new Date(at * 1000).toISOString(), title: format.timestamp(at) }, format.time(at));
}

/** A field to choose in. `choices`: [value, words] or values. */
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
