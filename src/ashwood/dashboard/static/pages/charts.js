/** Tabs that consist of figures. */

import { h } from "../dom.js";
import * as format from "../format.js";
import { Fact, factList } from "../parts.js";

/** Which worker trained which trial when. @param {import("./experiment.js").Tab} tab */
export async function timeline({ figure, openTrial }) {
  return h("div", null, figure("timeline", { title: "Workers over time", height: 480, onTrial: openTrial }).element);
}

/** How each hyperparameter influences the results. @param {import("./experiment.js").Tab} tab */
export async function hyperparameters({ figure, openTrial: onTrial }) {
  const parallel = figure("parallel_coordinates", { title: "Parallel coordinates", height: 420, onTrial });
  const importance = figure("importance", { title: "Importance", height: 380 });
  const scatter = figure("scatter", { title: "Metric by hyperparameter", height: 380, onTrial });
  const heat = figure("heatmap", { title: "Metric by two hyperparameters", height: 420 });
  return h(
    "div",
    null,
    parallel.element,
    h("div", { class: "halves" }, importance.element, scatter.element),
    heat.element,
  );
}

/** How the budget was used. @param {import("./experiment.js").Tab} tab */
export async function budget({ model, figure, signal }) {
  const trained = new Fact("Trained");
  const expected = new Fact("Expected", { title: "Median of the preview's simulated searches" });
  const repeated = new Fact("Repeated training", { title: "Training after failures and lost workers" });
  const idle = new Fact("Workers idle");
  const failed = new Fact("Failed attempts");
  const show = () => {
    const { data } = model;
    trained.set(format.length(data.length_trained, data.unit));
    expected.set(data.length_expected ? format.length(Math.round(data.length_expected), data.unit) : format.NONE);
    const share = data.length_trained ? data.length_repeated / data.length_trained : 0;
    repeated.set(format.length(data.length_repeated, data.unit), share ? format.percent(share) : "");
    idle.set(format.percent(1 - data.utilisation));
    failed.set(format.count(data.failed_attempts));
  };
  show();
  model.on(show, signal);
  const spending = figure("spending", { title: "Where the budget went", height: 460 });
  return h("div", null, factList(trained, expected, repeated, idle, failed), spending.element);
}
