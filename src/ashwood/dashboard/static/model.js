/** The data of one experiment that the page has loaded, and the listeners to its changes. */

import { get } from "./api.js";
import { throttle } from "./dom.js";
import { follow } from "./live.js";

const HEADER_EVERY = 2_000;

/**
 * @typedef {object} Delta the changes in one message
 * @property {number} [seq] number of the last entry of the log that is included
 * @property {Record<string, any>} [experiment] the changed fields of its header
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
    // The last entry that listeners have received. Loading the whole experiment does not change it, because listeners
    // get only the changes that the stream sends.
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

  /** Show changes at once, before the server sends them. */
  change(changes) {
    this.take(changes);
    this.tell({ experiment: changes });
  }

  /** Call a listener with all changes until `signal` aborts. @param {(delta: Delta) => void} listener */
  on(listener, signal) {
    this.listeners.add(listener);
    signal.addEventListener("abort", () => this.listeners.delete(listener));
  }

  tell(delta) {
    for (const listener of this.listeners) listener(delta);
  }

  /** Follow the changes on the server. After a lost connection, the changes since then are sent. */
  follow() {
    follow(`${this.path}/live`, {
      signal: this.signal,
      address: () => `${this.path}/live?since=${this.heard}`,
      events: {
        changed: (delta) => {
          const before = JSON.stringify([this.data.best, this.data.recommended]);
          this.take({ ...delta.experiment, seq: delta.seq });
          this.heard = delta.seq;
          const row = delta.trials?.find((each) => each.trial === this.data.best_trial?.trial);
          if (row) this.data.best_trial = { ...this.data.best_trial, ...row };
          this.tell(delta);
          // The stream does not send the hyperparameters and the checkpoint of the best trial.
          const after = JSON.stringify([this.data.best, this.data.recommended]);
          if (delta.many || before !== after) this.reload();
        },
      },
    });
  }

  /** Return whether trials have changed. @param {Delta} delta */
  static moved(delta) {
    return Boolean(delta.trials?.length || delta.many || delta.events?.length);
  }

  /** Number of trials in all states, with replicates. */
  get count() {
    return Object.values(this.data.trials).reduce((sum, each) => sum + each, 0);
  }

  get runs() {
    return this.data.driven;
  }

  /** Seconds since the data was received, or 0 if no driver runs. */
  get since() {
    return this.runs ? (performance.now() - this.receivedAt) / 1000 : 0;
  }
}
