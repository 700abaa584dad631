/** A card with the note on an experiment or a trial, and a form to edit it. */

import { get, replace } from "./api.js";
import { toast } from "./dialog.js";
import { button, h, keptInTab, mark, put } from "./dom.js";
import { card, failure } from "./parts.js";

/** The number of bytes that the server stores. */
const MOST = 65_536;

export class Note {
  /**
   * @param {import("./model.js").Model} model
   * @param {string} path of the experiment or the trial
   * @param {string} key of the note in `notes` of the experiment: "" or the number of the trial
   * @param {AbortSignal} signal
   */
  constructor(model, path, key, signal) {
    Object.assign(this, { model, key, signal, path: `${path}/note`, text: "", shown: null, isEditing: false });
    this.isReadOnly = document.documentElement.hasAttribute("data-read-only");
    this.body = h("div", { class: "note" });
    this.edit = button("Edit", () => this.#edit(), "small");
    this.element = card("Note", this.body);
    if (!this.isReadOnly) this.element.querySelector("header").append(this.edit);
    model.on(() => this.load(), signal);
    this.load();
  }

  get version() {
    return this.model.data.notes[this.key] ?? "";
  }

  /** Show the note again if it has changed on the server. A note that is being edited stays as it is. */
  async load() {
    const { version } = this;
    if (this.isEditing || version === this.shown) return;
    this.shown = version;
    if (version === "") return this.#show({ text: "", content: [] });
    try {
      this.#show(await get(this.path, { signal: this.signal }));
    } catch (error) {
      if (error.name === "AbortError") return;
      this.shown = null;
      if (!this.isEditing) put(this.body, failure(error, { again: () => this.load() }));
    }
  }

  #show({ text, content }) {
    this.text = text;
    if (this.isEditing) return;
    this.edit.hidden = false;
    this.edit.textContent = text ? "Edit" : "Write a note";
    mark(this.edit, "aria-label", text ? "Edit the note" : null);
    put(this.body, text ? content.map(element) : h("p", { class: "muted" }, "None yet"));
    this.element.hidden = this.isReadOnly && !text;
  }

  #edit() {
    this.isEditing = true;
    this.edit.hidden = true;
    const draft = keptInTab.get(this.path);
    const wrong = h("p", { class: "wrong", role: "alert", hidden: true });
    const area = h("textarea", { rows: 10, "aria-label": "Note", "aria-describedby": "note-hint" });
    area.value = draft ?? this.text;
    // A draft outlives the page, for example if a link is clicked.
    area.addEventListener("input", () => keptInTab.set(this.path, area.value));
    area.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
      event.preventDefault();
      form.requestSubmit();
    });
    const save = h("button", { type: "submit", class: "primary" }, "Save");
    const onsubmit = async (event) => {
      event.preventDefault();
      if (save.disabled) return;
      save.disabled = true;
      try {
        await this.#save(area.value);
      } catch (error) {
        put(wrong, error.what ?? error.message, error.hint ? ` ${error.hint}` : "");
        wrong.hidden = false;
      } finally {
        save.disabled = false;
      }
    };
    const hint = h("p", { class: "hint", id: "note-hint" }, "Markdown. Ctrl+Enter saves the note.");
    const end = h("div", { class: "dialog-end" }, button("Discard changes", () => this.#discard()), save);
    const form = h("form", { onsubmit }, area, hint, wrong, end);
    put(this.body, form);
    area.focus();
  }

  async #save(text) {
    const size = new TextEncoder().encode(text).length;
    if (size > MOST) throw new Error(`The note has ${size} bytes, and at most ${MOST} are stored. Shorten it.`);
    const saved = await replace(this.path, { text });
    this.#close();
    const { [this.key]: before, ...notes } = this.model.data.notes;
    this.shown = saved.version;
    this.model.change({ notes: saved.version ? { ...notes, [this.key]: saved.version } : notes });
    this.#show(saved);
    this.edit.focus();
    toast(saved.text ? "The note is saved." : "The note is removed.");
  }

  #close() {
    keptInTab.set(this.path, null);
    this.isEditing = false;
    this.shown = null;
  }

  #discard() {
    this.#close();
    this.load();
    this.edit.hidden = false;
    this.edit.focus();
  }
}

/** Return an element of the note, whose tag and attributes the server has checked. */
function element(node) {
  return typeof node === "string" ? node : h(node.tag, node.attributes, node.children.map(element));
}
