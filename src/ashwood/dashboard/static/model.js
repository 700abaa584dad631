/** One experiment as far as it is loaded, and the listeners to its changes. */

import { get } from "./api.js";
import { throttle } from "./dom.js";
import { follow } from "./live.js";

const HEADER_EVERY = 2_000;

/**
 * @typedef {object} Delta what changed
 * @property {number} [seq] up to which entry of the log that is
 * @property {Record<string, any>} [experiment] what of its header
 * @property {any[]} [trials] rows
 * @property {number} [many] number of changed trials, if they are too many to be sent
 * @property {{seq: number, at: number, text: string}[]} [events] the latest
 */
export class Model {
  /** @param {AbortSignal} signal */
  constructor(id, signal) {
    this.id = id;
    this.path = `/experiments/${id}`;
    this.signal = signal;
    this.data = null;
    // The entry up to which listeners heard of changes: they get nothing from what is loaded in between.
    this.heard = null;
    this.receivedAt = 0;
    this.listeners = new Set();
    this.reload = throttle(() => this.load().then(() => this.tell({})).catch(() => {}), HEADER_EVERY);
    signal.addEventListener("abort", () => this.reload.stop());
  }

  async load() {
    this.take(await get(this.path, { signal: this.signal }));
    this.heard ??= this.data.seq;
    return this.data;
  }

  take(changes) {
    this.data = { ...this.data, ...changes };
    this.receivedAt = performance.now();
  }

  /** Change what is shown at once, before the server tells it. */
  change(changes) {
    this.take(changes);
    this.tell({ experiment: changes });
  }

  /** Hear of changes until `signal` aborts. @param {(delta: Delta) => void} listener */
  on(listener, signal) {
    this.listeners.add(listener);
    signal.addEventListener("abort", () => this.listeners.delete(listener));
  }

  tell(delta) {
    for (const listener of this.listeners) listener(delta);
  }

  /** Keep up with the server; after a lost connection, from where it was. */
  follow() {
    follow(`${this.path}/live`, {
      signal: this.signal,
      address: () => `${this.path}/live?since=${this.heard}`,
      events: {
        changed: (delta) => {
          const { best } = this.data;
          this.take({ ...delta.experiment, seq: delta.seq });
          this.heard = delta.seq;
          const row = delta.trials?.find((each) => each.trial === this.data.best_trial?.trial);
          if (row) this.data.best_trial = { ...this.data.best_trial, ...row };
          this.tell(delta);
          // Hyperparameters and checkpoint of the best trial come only with the whole, and many changes can replace it.
          if (delta.many || JSON.stringify(best) !== JSON.stringify(this.data.best)) this.reload();
        },
      },
    });
  }

  /** Whether anything happened to trials. @param {Delta} delta */
  static moved(delta) {
    return Boolean(delta.trials?.length || delta.many || delta.events?.length);
  }

  get runs() {
    return this.data.driven;
  }

  /** Seconds since the data came, while they count. */
  get since() {
    return this.runs ? (performance.now() - this.receivedAt) / 1000 : 0;
  }
}
