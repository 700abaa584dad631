/** What keys do. */

import { h } from "./dom.js";
import { show } from "./dialog.js";
import { go } from "./router.js";

/** @type {Map<string, {words: string, act: (event: KeyboardEvent) => void}>} */
const bound = new Map();
let before = null;

/**
 * Bind a key, or two after each other ("g e"), until `signal` aborts.
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
  bind("?", "these keys", help);
  bind("/", "to the filter", () => {
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
  ["↑ ↓", "in a table: the row before or after"],
  ["Enter", "open the row"],
  ["x", "select the row, where rows can be selected"],
  ["Esc", "leave a field, close a dialog"],
];

export function help() {
  const rows = [...[...bound].map(([key, { words }]) => [key, words]), ...TABLES];
  const close = h("button", { type: "button", onclick: () => dialog.close() }, "Close");
  const list = h(
    "dl",
    { class: "keys" },
    rows.map(
      ([key, words]) => [h("dt", null, key.split(" ").map((each) => h("kbd", null, each))), h("dd", null, words)],
    ),
  );
  const dialog = show(
    h("div", null, h("h2", { id: "keys" }, "Keys"), list, h("div", { class: "dialog-end" }, close)),
    "keys",
  );
}
