/** Questions before what can't be taken back, and what came of it. */

import { h, put } from "./dom.js";

let number = 0;

/**
 * Ask in a dialog.
 * @param {object} question
 * @param {string} question.title
 * @param {any} question.body nodes or text
 * @param {string} question.yes what the button says
 * @param {boolean} [question.danger]
 * @param {() => Promise<void>} question.act a failure is shown in the dialog, which stays
 */
export function ask({ title, body, yes, danger = false, act }) {
  const id = `dialog-${++number}`;
  const wrong = h("p", { class: "wrong", role: "alert", hidden: true });
  const button = h("button", { type: "submit", class: danger ? "danger" : "primary" }, yes);
  const form = h(
    "form",
    { method: "dialog" },
    h("h2", { id }, title),
    h("div", { class: "dialog-body" }, typeof body === "string" ? h("p", null, body) : body),
    wrong,
    h(
      "div",
      { class: "dialog-end" },
      h("button", { type: "button", onclick: () => dialog.close() }, "Leave it"),
      button,
    ),
  );
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    button.disabled = true;
    try {
      await act();
      dialog.close();
    } catch (error) {
      put(wrong, error.what ?? error.message, error.hint ? ` ${error.hint}` : "");
      wrong.hidden = false;
    } finally {
      button.disabled = false;
    }
  });
  const dialog = show(form, id);
  return dialog;
}

/** A dialog around an element; Esc closes it, and the focus goes back to where it was. */
export function show(element, labelledby) {
  const from = document.activeElement;
  const dialog = h("dialog", { "aria-labelledby": labelledby }, element);
  dialog.addEventListener("close", () => {
    dialog.remove();
    if (from?.isConnected) from.focus();
  });
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

/** Say for a moment what came of something. */
export function toast(text, { bad = false } = {}) {
  const note = h("div", { class: bad ? "toast bad" : "toast" }, h("span", null, text));
  const close = h(
    "button",
    { type: "button", class: "ghost", "aria-label": "Close", onclick: () => note.remove() },
    "×",
  );
  note.append(close);
  document.getElementById("toasts").append(note);
  setTimeout(() => note.remove(), bad ? 12_000 : 5_000);
}

/** Do something that a person asked for, and say what came of it. */
export async function attempt(work, done) {
  try {
    const answer = await work();
    const words = typeof done === "function" ? done(answer) : done;
    if (words) toast(words);
    return true;
  } catch (error) {
    if (error.name !== "AbortError") toast(
      [error.what ?? error.message, error.hint].filter(Boolean).join(" "),
      { bad: true },
    );
    return false;
  }
}

/** Put a text on the clipboard; where that is forbidden, show it for copying by hand. */
export async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
    toast(`${what} copied.`);
  } catch {
    const area = h("textarea", { rows: 10, readOnly: true, "aria-label": what, value: text });
    const id = `dialog-${++number}`;
    const close = h("button", { type: "button", onclick: () => dialog.close() }, "Close");
    const dialog = show(h("div", null, h("h2", { id }, what), area, h("div", { class: "dialog-end" }, close)), id);
    area.select();
  }
}
