/** Dialogs, and short messages about what was done. */

import { button, h, put } from "./dom.js";

let number = 0;

/**
 * Ask in a dialog.
 * @param {object} question
 * @param {string} question.title
 * @param {any} question.body nodes or text
 * @param {string} question.yes label of the button that acts
 * @param {string} [question.no] label of the button that closes the dialog
 * @param {boolean} [question.danger]
 * @param {() => Promise<void>} question.act if it fails, the dialog shows the error and stays open; errors of fields
 *   are shown at the inputs of these names, and its attribute `otherwise` says what the user can do instead
 */
export function ask({ title, body, yes, no = "Close", danger = false, act }) {
  const wrong = h("p", { class: "wrong", role: "alert", hidden: true });
  const submit = h("button", { type: "submit", class: danger ? "danger" : "primary" }, yes);
  const onsubmit = async (event) => {
    event.preventDefault();
    submit.disabled = true;
    unmark(form);
    wrong.hidden = true;
    try {
      await act();
      dialog.close();
    } catch (error) {
      const all = Object.entries(error.fields ?? {});
      const marked = all.filter(([name, message]) => markField(form, name, message));
      const isComplete = marked.length > 0 && marked.length === all.length;
      const hint = error.hint ? ` ${error.hint}` : "";
      const words = `${error.what ?? error.message}${hint}`;
      const otherwise = error.otherwise ? `, or ${error.otherwise}` : "";
      put(wrong, isComplete ? `Nothing was changed. Correct the marked fields${otherwise}.` : words);
      wrong.hidden = false;
      form.querySelector("[aria-invalid]")?.focus();
    } finally {
      submit.disabled = false;
    }
  };
  const close = button(no, () => dialog.close());
  const content = [typeof body === "string" ? h("p", null, body) : body, wrong];
  const form = h("form", { onsubmit }, content, h("div", { class: "dialog-end" }, close, submit));
  const dialog = show(title, form);
}

/** Show a message at the field of a form, which describes the field to screen readers; return whether there is one. */
function markField(form, name, message) {
  const input = form.elements.namedItem(name);
  if (!input) return false;
  const id = `problem-${++number}`;
  input.setAttribute("aria-invalid", "true");
  input.setAttribute("aria-describedby", id);
  input.closest(".field").append(h("small", { class: "problem", id }, message));
  return true;
}

function unmark(form) {
  for (const problem of form.querySelectorAll(".problem")) problem.remove();
  for (const input of form.querySelectorAll("[aria-invalid]")) {
    input.removeAttribute("aria-invalid");
    input.removeAttribute("aria-describedby");
  }
}

/** Show content in a dialog with a button to close it. */
export function inform(title, ...content) {
  const end = h("div", { class: "dialog-end" }, button("Close", () => dialog.close()));
  const dialog = show(title, ...content, end);
}

/** Show a dialog. Esc closes it, and the element that had the focus gets it back. */
function show(title, ...content) {
  const from = document.activeElement;
  const id = `dialog-${++number}`;
  const dialog = h("dialog", { "aria-labelledby": id }, h("div", null, h("h2", { id }, title), content));
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

/** Show a message for some seconds. */
export function toast(text, { bad = false } = {}) {
  const close = button("×", () => note.remove(), "ghost", { "aria-label": "Close" });
  const note = h("div", { class: bad ? "toast bad" : "toast" }, h("span", null, text), close);
  document.getElementById("toasts").append(note);
  setTimeout(() => note.remove(), bad ? 12_000 : 5_000);
}

/** Do something that the user asked for, and show a message about it or its error. */
export async function attempt(work, done) {
  try {
    const answer = await work();
    toast(typeof done === "function" ? done(answer) : done);
  } catch (error) {
    if (error.name === "AbortError") return;
    toast([error.what ?? error.message, error.hint].filter(Boolean).join(" "), { bad: true });
  }
}

/** Copy a text to the clipboard. If that is forbidden, show the text in a dialog, so that the user can copy it. */
export async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
    toast(`${what} copied.`);
  } catch {
    const area = h("textarea", { rows: 10, readOnly: true, "aria-label": what, value: text });
    inform(what, area);
    area.select();
  }
}
