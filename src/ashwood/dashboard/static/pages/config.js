/** The experiment file, and the settings that were read from it. */

import { h } from "../dom.js";
import * as format from "../format.js";
import { copyButton, downloadLink, pairs } from "../parts.js";

/** @param {import("./experiment.js").Tab} tab */
export default async function config({ model }) {
  const { data } = model;
  const text = data.config;
  const { max_concurrent_trials: atOnce, max_trials: trials, metric_at: goal, max_time: seconds } = data.settings;
  const settings = [
    ["entrypoint", data.entrypoint],
    ["seed", data.seed],
    ["max_trials", trials],
    ["max_concurrent_trials", atOnce],
    ["stop_when.metric_at", goal],
    ["stop_when.max_time", seconds === null ? null : format.duration(seconds)],
  ].filter(([, value]) => value !== null);
  const numbers = text.replace(/\n$/, "").split("\n").map((_, at) => at + 1).join("\n");
  return h(
    "section",
    { class: "card", "aria-labelledby": "config" },
    h(
      "header",
      null,
      h("h2", { id: "config" }, "Experiment file"),
      text
        ? h(
          "span",
          { class: "controls" },
          copyButton(() => text, "Experiment file", "Copy"),
          downloadLink(`/api/v1${model.path}/experiment.yaml`, "Download"),
          h("a", { class: "button small", href: `/preview?from=${model.id}` }, "New search from this file…"),
        )
        : null,
    ),
    pairs(settings, "pairs across"),
    text
      ? h(
        "div",
        { class: "source", tabindex: 0, role: "region", "aria-label": "Text of the file" },
        h("pre", { class: "numbers", "aria-hidden": "true" }, numbers),
        h("pre", null, text),
      )
      : h("p", { class: "muted" }, "The experiment was started from Python, so there is no file."),
  );
}
