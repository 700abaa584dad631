/** Which hyperparameters matter, and how. */

import { get } from "../api.js";
import { h } from "../dom.js";

/** @param {import("./experiment.js").Tab} tab */
export default async function hyperparameters({ model, signal, figure, openTrial }) {
  const { columns } = await get(`${model.path}/trials`, { query: { limit: 1 }, signal });
  const names = columns.filter((column) => column.key.startsWith("hparams.")).map((column) => column.key.slice("hparams.".length));
  // The server's list holds what is the same for every experiment; names are this one's.
  const fill = (wanted) => (controls) => [
    ...controls,
    ...wanted
      .filter((name) => names.length > 1 && !controls.some((control) => control.name === name))
      .map((name, at) => ({ name, label: name, values: names, value: names[at] ?? names[0], kind: "choice" })),
  ];
  const parallel = figure("parallel_coordinates", {
    title: "Parallel coordinates",
    height: 420,
    note: "Drag along an axis to keep only the trials in that range; click the axis to keep all again. Drag a name to move its axis.",
  });
  const importance = figure("importance", { title: "Importance", height: 340 });
  const scatter = figure("scatter", { title: "One against the metric", height: 340, onTrial: openTrial, fill: fill(["x"]) });
  const heat = figure("heatmap", { title: "Two against the metric", height: 420, fill: names.length > 1 ? fill(["x", "y"]) : null });
  return h(
    "div",
    null,
    parallel.element,
    h("div", { class: "halves" }, importance.element, scatter.element),
    names.length > 1 ? heat.element : null,
  );
}
