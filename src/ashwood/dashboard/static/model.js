/** One experiment as far as it is known, and who wants to hear of it. */

import { get } from "./api.js";
import { throttle } from "./dom.js";
import { follow } from "./live.js";

const HEADER_EVERY = 2_000;

/**
 * @typedef {object} Delta what changed
 * @property {Record<string, any>} [card]
 * @property {any[]} [trials] rows
 * @property {any[]} [moves] trials that arrived somewhere else
 * @property {{at: number, text: string}[]} [lines] newest events
 * @property {boolean} [missed] unknown what: look again
 */
export class Model {
  /** @param {AbortSignal} signal */
  constructor(id, signal) {
    this.id = id;
    this.path = `/experiments/${id}`;
    this.signal = signal;
    this.data = null;
    this.receivedAt = 0;
    this.listeners = new Set();
    this.reload = throttle(() => this.load().then(() => this.tell({})).catch(() => {}), HEADER_EVERY);
    signal.addEventListener("abort", () => this.reload.stop());
  }

  async load() {
    this.take(await get(this.path, { signal: this.signal }));
    return this.data;
  }

  take(changes) {
    this.data = { ...this.data, ...changes };
    this.receivedAt = performance.now();
  }

  /** Change what is shown at once, before the server tells it. */
  change(changes) {
    this.take(changes);
    this.tell({ card: changes });
  }

  /** Hear of changes until `signal` aborts. @param {(delta: Delta) => void} listener */
  on(listener, signal) {
    this.listeners.add(listener);
    signal.addEventListener("abort", () => this.listeners.delete(listener));
  }

  tell(delta) {
    for (const listener of this.listeners) listener(delta);
  }

  /** Keep up with the server. */
  follow() {
    follow(`${this.path}/live`, {
      signal: this.signal,
      missed: async () => {
        await this.load().catch(() => {});
        this.tell({ missed: true });
      },
      events: {
        changed: (delta) => {
          this.take({ ...delta.card, seq: delta.seq ?? this.data.seq });
          this.tell(delta);
          const isWhole = delta.card && "brackets" in delta.card;
          if (!isWhole && (delta.moves?.length || delta.card?.state)) this.reload();
        },
        ended: () => {
          this.load().then(() => this.tell({ missed: true })).catch(() => {});
        },
      },
    });
  }

  get runs() {
    return ["running", "pausing", "stopping"].includes(this.data.state);
  }

  /** Seconds since the data came, while they count. */
  get since() {
    return this.runs ? (performance.now() - this.receivedAt) / 1000 : 0;
  }
}
