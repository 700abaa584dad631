/** Learning curves, and a table of their trials. */

import { get } from "../api.js";
import { h, throttle } from "../dom.js";
import { unpacked } from "../packed.js";
import { Model } from "../model.js";
import { badge } from "../parts.js";
import { Table } from "../table.js";

const AGAIN = 3_000;

/** @param {import("./experiment.js").Tab} tab */
export default async function curves({ model, signal, figure, openTrial }) {
  const { id, path, data } = model;
  const asked = { top: 10, by: "metric" };
  // The colour of each trial's line. The table is the legend of the figure.
  let colours = new Map();
  const table = new Table({
    label: "Trials of these curves",
    key: (row) => row.trial,
    href: (row) => `/experiments/${id}/trials/${row.trial}`,
    onHover: (trial) => chart.highlight(trial),
  });
  const chart = figure("learning_curves", {
    title: "Learning curves",
    height: 560,
    onTrial: openTrial,
    onHover: (trial) => table.highlight(trial),
    onDraw: ({ data }) => {
      const lines = data.filter(({ customdata, line }) => customdata && line?.color);
      colours = new Map(lines.map(({ customdata, line }) => [unpacked(customdata)[0][0], line.color]));
      // Groups of trials have a legend, because the table shows single trials.
      chart.legend = colours.size === 0;
      show();
    },
    onChoice: (name, value) => {
      asked[name] = value;
      load();
    },
  });
  const best = `best.${data.metric}`;
  const line = (row) => {
    const colour = colours.get(row.trial);
    return colour ? h("i", { class: "line", style: { "border-top": `3px solid ${colour}` } }) : "";
  };
  const show = () => {
    table.setColumns([
      { key: "trial", label: "Trial", kind: "number", width: "4rem" },
      { key: "line", label: "Line", quiet: true, render: line },
      { key: best, label: "best", title: `best ${data.metric}`, kind: "number" },
      { key: "length", label: data.unit || "length", kind: "number" },
      { key: "state", label: "State", kind: "state", render: (row) => badge(row.state) },
    ]);
  };
  show();
  const load = throttle(async () => {
    const limit = Number(asked.top) || 20;
    const sort = asked.by === "length" ? "-length" : null;
    try {
      const { rows } = await get(`${path}/trials`, { query: { limit, sort }, signal });
      table.setRows(rows, h("p", { class: "muted" }, "No trials yet"));
    } catch (error) {
      if (error.name !== "AbortError" && error.status) throw error;
    }
  }, AGAIN);
  signal.addEventListener("abort", () => load.stop());
  model.on((delta) => {
    if (delta.trials?.length) table.patch(delta.trials);
    if (Model.moved(delta)) load();
  }, signal);
  load();
  return h(
    "div",
    { class: "columns" },
    h("div", { class: "wide" }, chart.element),
    h("div", { class: "side" }, h("div", { class: "card flush" }, table.element)),
  );
}
