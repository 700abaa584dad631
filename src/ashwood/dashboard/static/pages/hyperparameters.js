/** Which hyperparameters matter, and how. */

import { h } from "../dom.js";

/** @param {import("./experiment.js").Tab} tab */
export default async function hyperparameters({ figure, openTrial }) {
  const parallel = figure("parallel_coordinates", { title: "Parallel coordinates", height: 420, onTrial: openTrial });
  const importance = figure("importance", { title: "Importance", height: 380 });
  const scatter = figure("scatter", {
    title: "Metric by hyperparameter",
    height: 380,
    onTrial: openTrial,
  });
  const heat = figure("heatmap", { title: "Metric by two hyperparameters", height: 420 });
  return h(
    "div",
    null,
    parallel.element,
    h("div", { class: "halves" }, importance.element, scatter.element),
    heat.element,
  );
}
