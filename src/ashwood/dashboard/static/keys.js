/** Keyboard shortcuts. */

import { h } from "./dom.js";
import { inform } from "./dialog.js";
import { go } from "./router.js";

/** @type {Map<string, {words: string, act: (event: KeyboardEvent) => void}>} */
const bound = new Map();
let before = null;

/**
 * Bind a key, or two keys in sequence ("g e"), until `signal` aborts.
 * @param {string} key
 * @param {string} words what it does
 */
export function bind(key, words, act, signal) {
  const binding = { words, act };
  bound.set(key, binding);
  signal?.addEventListener("abort", () => {
    if (bound.get(key) === binding) bound.delete(key);
  });
}

export function start() {
  bind("?", "show these keys", help);
  bind("/", "go to the filter", () => {
    const filter = document.querySelector("main [data-filter]");
    filter?.focus();
    filter?.select?.();
  });
  bind("g e", "go to the experiments", () => go("/"));
  bind("g p", "go to the preview", () => go("/preview"));
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    const target = /** @type {HTMLElement} */ (event.target);
    if (document.querySelector("dialog[open]")) return;
    if (target.closest("input:not([type=checkbox]):not([type=radio]), textarea, select, [contenteditable]")) {
      if (event.key === "Escape" && !target.closest("textarea")) target.blur();
      return;
    }
    const both = before === null ? null : `${before} ${event.key}`;
    const binding = bound.get(both ?? event.key) ?? bound.get(event.key);
    before = null;
    if (binding) {
      event.preventDefault();
      binding.act(event);
    } else if ([...bound.keys()].some((key) => key.startsWith(`${event.key} `))) {
      before = event.key;
      setTimeout(() => (before = null), 1500);
    }
  });
}

const TABLES = [
  ["↑ ↓", "in a table: go to the previous or next row"],
  ["Enter", "open the row"],
  ["x", "select the row, if rows can be selected"],
  ["Esc", "leave a field or close a dialog"],
];

export function help() {
  const rows = [...[...bound].map(([key, { words }]) => [key, words]), ...TABLES];
  const keys = (names) => names.split(" ").map((name) => h("kbd", null, name));
  const list = rows.map(([names, words]) => [h("dt", null, keys(names)), h("dd", null, words)]);
  inform("Keys", h("dl", { class: "keys" }, list));
}
