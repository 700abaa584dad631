/** Tabs that are a chart and little else. */

import { h } from "../dom.js";
import * as format from "../format.js";
import { Fact } from "../parts.js";

/** Which worker trained which trial when. @param {import("./experiment.js").Tab} tab */
export async function timeline({ figure, openTrial }) {
  return h("div", null, figure("timeline", { title: "Workers over time", height: 480, onTrial: openTrial }).element);
}

/** Where the training went. @param {import("./experiment.js").Tab} tab */
export async function budget({ model, figure, signal }) {
  const trained = new Fact("Trained");
  const expected = new Fact("Expected", { title: "By the preview's simulated searches" });
  const repeated = new Fact("Trained twice", { title: "After failures and lost workers, from the latest checkpoint" });
  const idle = new Fact("Workers idle");
  const failed = new Fact("Failed attempts");
  const show = () => {
    const { data } = model;
    trained.set(format.length(data.length_trained, data.unit));
    expected.set(data.length_expected ? format.length(Math.round(data.length_expected), data.unit) : format.NONE);
    const share = data.length_trained ? data.length_repeated / data.length_trained : 0;
    repeated.set(format.length(data.length_repeated, data.unit), share ? format.percent(share) : "");
    idle.set(
      data.utilisation === null || data.utilisation === undefined ? format.NONE : format.percent(1 - data.utilisation),
    );
    failed.set(format.count(data.failed_attempts));
  };
  show();
  model.on(show, signal);
  const facts = h("dl", { class: "facts" }, [trained, expected, repeated, idle, failed].map((fact) => fact.element));
  return h("div", null, facts, figure("spending", { title: "Where the budget went", height: 460 }).element);
}
