/** Several experiments side by side. */

import { get } from "../api.js";
import { h, put } from "../dom.js";
import { chosen, Figure } from "../figure.js";
import * as format from "../format.js";
import { follow } from "../live.js";
import { badge, copyButton, empty, flatten, moment, seenLine, tableRow } from "../parts.js";

/** @param {import("../router.js").Place} place */
export default async function comparePage(place) {
  const ids = [...new Set((place.query.get("ids") ?? "").split(",").filter((id) => /^\d+$/.test(id)).map(Number))];
  place.title(ids.length ? `Compare ${ids.map((id) => `#${id}`).join(", ")}` : "Compare");
  if (ids.length < 2) {
    const next = h("a", { class: "button", href: "/" }, "All experiments");
    const nothing = empty("Nothing to compare", "Select two or more experiments in the list.", next);
    return { element: h("div", { class: "page" }, h("h1", null, "Compare"), nothing) };
  }
  const load = () => Promise.all(ids.map((id) => get(`/experiments/${id}`, { signal: place.signal })));
  let all = await load();
  const body = h("tbody");
  const head = h("tr");
  const show = () => {
    put(head, h("th", { scope: "col" }, h("span", { class: "unseen" }, "What")), all.map(heading));
    put(body, rows(all));
  };
  show();
  const figure = new Figure({
    path: "/figures/compare",
    title: "Best so far",
    signal: place.signal,
    query: { ids: ids.join(",") },
    height: 420,
    controls: [
      {
        name: "against",
        label: "x-axis",
        values: [["time", "time"], ["trials", "trials created"], ["units", "training"]],
        value: place.query.get("against") ?? chosen.get("compare", "against") ?? "time",
      },
    ],
    onChoice: (name, value) => {
      chosen.set("compare", name, value);
      place.setQuery({ [name]: value });
    },
  });
  const again = async () => {
    all = await load();
    show();
    figure.touch();
  };
  follow("/live", {
    signal: place.signal,
    missed: again,
    events: {
      changed: ({ experiments = [] }) => {
        const changed = new Map(experiments.map((card) => [card.id, card]));
        if (!ids.some((id) => changed.has(id))) return;
        all = all.map((each) => ({ ...each, ...changed.get(each.id) }));
        show();
        figure.touch();
      },
    },
  });
  const metrics = new Set(all.map((each) => `${each.metric} ${each.smaller_is_better}`));
  return {
    element: h(
      "div",
      { class: "page" },
      h("div", { class: "page-head" }, h("h1", null, `Compare ${ids.length} experiments`)),
      metrics.size > 1
        ? h("p", { class: "warning" }, "These experiments have different metrics, so their curves cannot be compared.")
        : null,
      figure.element,
      h(
        "div",
        { class: "card flush scroll", tabindex: 0, role: "region", "aria-label": "Side by side" },
        h(
          "table",
          { class: "beside" },
          h("caption", { class: "unseen" }, "Experiments side by side"),
          h("thead", null, head),
          body,
        ),
      ),
    ),
  };
}

function heading(each) {
  return h(
    "th",
    { scope: "col" },
    h("a", { href: `/experiments/${each.id}` }, `#${each.id} ${each.name}`),
    " ",
    badge(each.state),
  );
}

function rows(all) {
  const lines = [
    [
      "Best",
      (e) => {
        const at = e.best ? `, at ${format.length(e.best.length, e.unit)}` : "";
        const seen = seenLine(e.seen, e, e.best);
        return `${e.best ? format.number(e.best.metric) : format.NONE} ${e.metric}${at}${seen ? `\n${seen}` : ""}`;
      },
    ],
    ["Progress", (e) => format.percent(e.fraction)],
    ["Trials", (e) => `${format.count(e.trials_created)} of ${format.count(e.trials_planned)}`],
    ["Run time", (e) => format.duration(e.seconds)],
    ["Workers busy", (e) => format.percent(e.utilisation)],
    ["Trained", (e) => format.length(e.length_trained, e.unit)],
    ["Method", (e) => e.method],
    ["Longest training", (e) => format.length(e.max_length, e.unit)],
    [
      "Brackets",
      (e) => e.brackets.map((bracket) => bracket.rungs.map((rung) => rung.length ?? "the end").join(" → ")).join("\n"),
    ],
    ["Trials at once", (e) => format.value(e.settings.max_concurrent_trials || "as many as there are slots")],
    ["Seed", (e) => format.value(e.seed)],
    ["Created", (e) => moment(e.created_at), (e) => e.created_at],
  ];
  const hparams = new Map(all.map((each) => [each, Object.fromEntries(flatten(each.best_trial?.hyperparameters))]));
  const names = [...new Set([...hparams.values()].flatMap((each) => Object.keys(each)))];
  const line = ([words, cell, plain]) => {
    const texts = all.map((each) => (plain ?? cell)(each));
    const differs = new Set(texts).size > 1;
    const row = tableRow([words, ...all.map(cell)]);
    row.classList.toggle("differs", differs);
    return row;
  };
  const value = (name) => (each) => format.value(hparams.get(each)[name]);
  const heading = { scope: "colgroup", colspan: all.length + 1 };
  const section = h("tr", { class: "section" }, h("th", heading, "Hyperparameters of the best trial"));
  const copy = (each) =>
    each.best_trial
      ? copyButton(() => each.best_trial.as_yaml, `Hyperparameters of experiment ${each.id}`, "Copy YAML")
      : format.NONE;
  const copies = tableRow(["Copy", ...all.map(copy)]);
  return [
    ...lines.map(line),
    ...(names.length ? [section, ...names.map((name) => line([name, value(name)])), copies] : []),
  ];
}
