/** The live output of a trial's training code. */

import { get } from "./api.js";
import { button, checkbox, h, mark, put, write } from "./dom.js";
import { bytes } from "./format.js";
import { follow } from "./live.js";
import { failure } from "./parts.js";

const TAIL = 65_536;
const MOST = 2_000_000;
// eslint-disable-next-line no-control-regex
const ESCAPES = /\u001b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\u0007\u001b]*(?:\u0007|\u001b\\)|[@-_])/g;

/** Return text without escape sequences; of a line that was overwritten, only the last version remains. */
export function plain(text) {
  const clean = text.replaceAll(ESCAPES, "").replaceAll("\r\n", "\n");
  if (!clean.includes("\r")) return clean;
  return clean
    .split("\n")
    .map((line) => line.split("\r").filter(Boolean).at(-1) ?? "")
    .join("\n");
}

export class Log {
  /** @param {string} path below /api/v1 @param {AbortSignal} signal @param {() => void} filled called at the start */
  constructor(path, signal, filled = () => {}) {
    Object.assign(this, { path, signal, filled, pieces: [], begin: 0, end: 0, following: true, ended: false });
    this.text = h("pre", { class: "log", tabindex: 0, role: "group", "aria-label": "Log" });
    this.note = h("span", { class: "muted" });
    this.earlier = button("Earlier", () => this.#earlier(), "small", { hidden: true });
    const following = checkbox("Follow", true, (on) => this.#follow(on));
    this.box = following.control;
    this.wrong = h("div");
    this.element = h(
      "section",
      { class: "card", "aria-labelledby": "log" },
      h(
        "header",
        null,
        h("h2", { id: "log" }, "Log"),
        this.note,
        h("span", { class: "controls" }, this.earlier, following),
      ),
      this.wrong,
      this.text,
    );
    this.text.addEventListener("scroll", () => {
      const isAtEnd = this.text.scrollTop + this.text.clientHeight >= this.text.scrollHeight - 8;
      if (isAtEnd !== this.following) {
        this.following = isAtEnd;
        this.box.checked = isAtEnd;
      }
    }, { passive: true });
  }

  get isEmpty() {
    return this.text.textContent === "" && this.wrong.childElementCount === 0;
  }

  async start() {
    try {
      const answer = await get(this.path, { query: { tail: TAIL }, signal: this.signal });
      this.begin = answer.begin ?? 0;
      this.pieces = [{ begin: this.begin, text: answer.text ?? "" }];
      this.end = answer.end ?? answer.size ?? 0;
      this.exists = answer.exists;
      this.#show();
      this.filled();
    } catch (error) {
      if (error.name === "AbortError") return;
      put(this.wrong, failure(error, { again: () => (put(this.wrong), this.start()) }));
      this.filled();
      return;
    }
    const stream = follow(`${this.path}/live`, {
      signal: this.signal,
      shown: false,
      address: () => `${this.path}/live?after=${this.end}`,
      events: {
        text: ({ text, begin, end }) => {
          // If the output became shorter, the file was replaced.
          if (begin < this.end) Object.assign(this, { pieces: [], begin });
          const wasEmpty = this.isEmpty;
          this.#append(begin, text);
          this.end = end;
          this.exists = true;
          this.#show();
          if (wasEmpty) this.filled();
        },
        end: () => {
          this.ended = true;
          stream.stop();
          this.#note();
        },
      },
    });
  }

  /** Positions come from the server, because bytes that are not text have other lengths when they are shown. */
  #append(begin, text) {
    const last = this.pieces.at(-1);
    if (last !== undefined && last.text.length < TAIL) last.text += text;
    else this.pieces.push({ begin, text });
    let length = this.pieces.reduce((sum, piece) => sum + piece.text.length, 0);
    while (length > MOST && this.pieces.length > 1) length -= this.pieces.shift().text.length;
    this.begin = this.pieces[0].begin;
  }

  #show() {
    const raw = this.pieces.map((piece) => piece.text).join("");
    write(this.text, plain(raw));
    this.#note();
    if (this.following) this.text.scrollTop = this.text.scrollHeight;
  }

  #note() {
    this.earlier.hidden = this.begin <= 0;
    const shown = this.begin > 0 ? `the last ${bytes(this.end - this.begin)} of ${bytes(this.end)}` : bytes(this.end);
    write(this.note, this.exists === false ? "No output yet" : shown);
    mark(this.text, "data-empty", this.text.textContent === "");
  }

  #follow(on) {
    this.following = on;
    if (on) this.text.scrollTop = this.text.scrollHeight;
  }

  async #earlier() {
    this.earlier.disabled = true;
    try {
      const answer = await get(this.path, { query: { until: this.begin, tail: TAIL }, signal: this.signal });
      if (answer.end !== this.begin) return; // The file was replaced or shortened meanwhile.
      const height = this.text.scrollHeight;
      this.pieces.unshift({ begin: answer.begin, text: answer.text });
      this.begin = answer.begin;
      this.following = this.box.checked = false;
      this.#show();
      this.text.scrollTop += this.text.scrollHeight - height;
    } catch (error) {
      if (error.name !== "AbortError") put(this.wrong, failure(error));
    } finally {
      this.earlier.disabled = false;
    }
  }
}
