/** The trials that are selected in the table: what can be done with them, and their comparison. */

import { get, post } from "../api.js";
import { ask, toast } from "../dialog.js";
import { button, colour, h, put } from "../dom.js";
import { drawOwn } from "../figure.js";
import * as format from "../format.js";
import { flatten, plainTable } from "../parts.js";

const MOST = 12;
const POINTS = 300;
const ENDED = new Set(["completed", "stopped", "errored", "invalid", "killed"]);
const COLOURS = ["accent", "bad", "good", "warm", "muted", "ink"];
const DASHES = ["solid", "dash"];

export class Selection {
  /** @param {{model: any, place: any, signal: AbortSignal, table: any}} parts */
  constructor({ model, place, signal, table }) {
    Object.assign(this, { model, place, signal, table });
    const region = { role: "region", "aria-label": "Selected trials", hidden: true };
    this.bar = h("div", { class: "selection", ...region });
    this.comparison = h("section", { class: "card", "aria-label": "Comparison of trials", hidden: true });
    document.addEventListener("ashwood:theme", () => this.#draw?.(), { signal });
  }

  /** Show the comparison that the address contains. */
  async begin() {
    const asked = (this.place.query.get("compare") ?? "").split(",").filter(Boolean).map(Number);
    const trials = asked.filter((trial) => Number.isInteger(trial) && trial >= 0).slice(0, MOST);
    if (trials.length) await this.#compare(trials);
  }

  show(selected) {
    const trials = [...selected].sort((a, b) => a - b);
    this.bar.hidden = trials.length === 0;
    if (trials.length === 0) return void put(this.bar);
    const states = new Map([...this.table.rows].map(([key, { row }]) => [key, row.state]));
    const alive = trials.filter((trial) => !ENDED.has(states.get(trial)));
    const isReadOnly = document.documentElement.hasAttribute("data-read-only");
    const query = trials.map((trial) => `trial=${trial}`).join("&");
    const words = `${format.count(trials.length)} ${format.plural(trials.length, "trials")} selected`;
    const compare = () => {
      this.place.setQuery({ compare: trials.slice(0, MOST).join(",") });
      this.#compare(trials.slice(0, MOST)).then(() => this.comparison.scrollIntoView({ block: "nearest" }));
    };
    const title = trials.length > MOST ? `The first ${MOST}` : null;
    put(
      this.bar,
      h("span", null, words),
      button("Compare", compare, "primary", { title }),
      h("a", { class: "button", href: `/api/v1${this.model.path}/trials.csv?${query}`, download: "" }, "CSV"),
      alive.length && !isReadOnly ? button("Kill…", () => this.#kill(alive), "danger") : null,
      button("Deselect", () => this.table.deselect(), "ghost"),
    );
  }

  #kill(trials) {
    const words = `${format.count(trials.length)} ${format.plural(trials.length, "trials")}`;
    ask({
      title: `Kill ${words}?`,
      body: `Trials ${trials.join(", ")} stop immediately. Each is ranked last in its rung.`,
      yes: "Kill trials",
      no: "Keep running",
      danger: true,
      act: async () => {
        for (const trial of trials) await post(`${this.model.path}/trials/${trial}/kill`);
        toast(`${words} killed.`);
        this.table.deselect();
      },
    });
  }

  async #compare(trials) {
    const { data, path, id } = this.model;
    const fetched = await Promise.all(trials.map(async (trial) => {
      const [page, curves] = await Promise.all([
        get(`${path}/trials/${trial}`, { signal: this.signal }),
        get(`${path}/trials/${trial}/metrics`, { query: { points: POINTS }, signal: this.signal }),
      ]);
      return { trial, row: page.row, hparams: new Map(flatten(page.hyperparameters)), curves };
    }));
    const line = (name, value) => [name, ...fetched.map(value)];
    const names = [...new Set(fetched.flatMap(({ hparams }) => [...hparams.keys()]))];
    const best = line(data.metric, ({ row }) => format.value(row[`best.${data.metric}`]));
    const rows = [
      line("State", ({ row }) => row.state),
      best,
      line("Length", ({ row }) => format.length(row.length, data.unit)),
      line("Training time", ({ row }) => format.duration(row.seconds)),
      ...names.map((name) => line(name, ({ hparams }) => format.setting(hparams.get(name)))),
    ];
    const heads = fetched.map(({ trial }) => h("a", { href: `/experiments/${id}/trials/${trial}` }, `Trial ${trial}`));
    const table = plainTable("Selected trials", ["", ...heads], rows, fetched.map((_, at) => at + 1));
    rows.forEach((cells, at) => {
      const differs = at > 3 && new Set(cells.slice(1)).size > 1;
      if (differs) table.tBodies[0].rows[at].classList.add("differs");
    });
    const chart = h("div", { class: "plot", role: "group", "aria-label": `${data.metric} of the selected trials` });
    const close = () => {
      this.place.setQuery({ compare: null });
      this.comparison.hidden = true;
      this.#draw = null;
      put(this.comparison);
    };
    put(
      this.comparison,
      h(
        "header",
        null,
        h("h2", null, `Comparison of ${format.count(trials.length)} ${format.plural(trials.length, "trials")}`),
        h("span", { class: "muted" }, "Highlighted rows differ."),
        h("span", { class: "controls" }, button("Close", close, "small")),
      ),
      chart,
      h("div", { class: "scroll-x", tabindex: 0, role: "region", "aria-label": "Selected trials, table" }, table),
    );
    this.comparison.hidden = false;
    this.#draw = () => this.#curves(chart, fetched);
    await this.#draw();
  }

  #draw = null;

  async #curves(chart, fetched) {
    const { metric, unit } = this.model.data;
    const colours = COLOURS.map(colour);
    const traces = fetched.map(({ trial, curves }, at) => ({
      type: "scatter",
      mode: "lines+markers",
      name: `trial ${trial}`,
      x: curves.metrics[metric]?.lengths ?? [],
      y: curves.metrics[metric]?.values ?? [],
      line: {
        width: 2,
        dash: DASHES[Math.floor(at / colours.length) % DASHES.length],
        color: colours[at % colours.length],
      },
      marker: { size: 4 },
      hovertemplate: `trial ${trial}: %{y:.6~g} at %{x}<extra></extra>`,
    }));
    const values = traces.flatMap(({ y }) => y).filter((value) => typeof value === "number");
    const isWide = Math.min(...values) > 0 && Math.max(...values) > 10 * Math.min(...values);
    await drawOwn(chart, traces, {
      height: 300,
      showlegend: true,
      legend: { orientation: "h", y: 1.02, yanchor: "bottom" },
      margin: { l: 60, r: 16, t: 40, b: 40 },
      xaxis: { title: { text: unit }, rangemode: "tozero" },
      yaxis: { title: { text: metric }, type: isWide ? "log" : "linear" },
    }, this.signal);
  }
}
