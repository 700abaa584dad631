/** Several experiments side by side. */

import { get } from "../api.js";
import { h, put } from "../dom.js";
import { Figure } from "../figure.js";
import * as format from "../format.js";
import { follow } from "../live.js";
import { unpacked } from "../packed.js";
import { badge, bestLine, copyButton, crumbs, empty, flatten, moment, tableRow } from "../parts.js";

const LOG = { name: "log_y", label: "Log y", kind: "flag", value: "" };
const ZOOM = { name: "zoom", label: "Zoom to best 10%", kind: "flag", value: false };
const AGAINST = [["units", "training"], ["trials", "trials created"], ["time", "time"]];

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
  // The best metric of each experiment at the budget that all have used, from the figure.
  let equal = null;
  const metrics = new Set(all.map((each) => `${each.metric} ${each.smaller_is_better}`));
  const show = () => {
    put(head, h("th", { scope: "col" }, h("span", { class: "unseen" }, "What")), all.map(heading));
    put(body, rows(all, metrics.size === 1 ? equal : null));
  };
  show();
  // The options are in the address; those of the second figure have its name before them.
  const given = (controls, prefix = "") =>
    controls.map((control) => ({ ...control, value: place.query.get(prefix + control.name) ?? control.value }));
  const change = (prefix = "") => (name, value) => place.setQuery({ [prefix + name]: value }, { push: true });
  const against = { name: "against", label: "x-axis", values: AGAINST, value: "units" };
  const names = [...new Set(all.flatMap((each) => each.searched.map(({ name }) => name)))];
  const hparam = { name: "hparam", label: "Hyperparameter", values: [["", "most important"], ...names], value: "" };
  const figure = new Figure({
    path: "/figures/compare",
    title: "Best so far",
    signal: place.signal,
    query: { ids: ids.join(",") },
    height: 420,
    controls: given([against, LOG, ZOOM]),
    onChoice: change(),
    onDraw: (drawn) => {
      equal = atEqualBudget(drawn, all);
      show();
    },
  });
  const scatter = new Figure({
    path: "/figures/compare/scatter",
    title: "Metric by hyperparameter",
    signal: place.signal,
    query: { ids: ids.join(",") },
    height: 420,
    controls: given([hparam, LOG, ZOOM], "scatter."),
    onChoice: change("scatter."),
  });
  const touch = () => {
    figure.touch();
    scatter.touch();
  };
  const again = async () => {
    all = await load();
    show();
    touch();
  };
  follow("/live", {
    signal: place.signal,
    missed: again,
    events: {
      changed: ({ experiments = [] }) => {
        const changed = new Map(experiments.map((card) => [card.id, card]));
        if (!ids.some((id) => changed.has(id))) return;
        const subject = ({ state, best }) => JSON.stringify([state, best?.trial]);
        const isOther = all.some((each) => changed.has(each.id) && subject(changed.get(each.id)) !== subject(each));
        all = all.map((each) => ({ ...each, ...changed.get(each.id) }));
        show();
        touch();
        // The stream does not send the hyperparameters of another best trial, nor what the search recommends. If the
        // server does not answer, the stream ends too, and all is loaded when it is back.
        if (isOther) again().catch(() => null);
      },
    },
  });
  return {
    queried: () => {
      const values = (controls, prefix = "") =>
        Object.fromEntries(controls.map(({ name }) => [name, place.query.get(prefix + name)]));
      for (const control of figure.given) control.value = { against: "units", zoom: false }[control.name] ?? "";
      for (const control of scatter.given) control.value = control.name === "zoom" ? false : "";
      figure.restore(values(figure.given));
      scatter.restore(values(scatter.given, "scatter."));
    },
    element: h(
      "div",
      { class: "page" },
      crumbs([["/", "Experiments"]]),
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
      h("p", { class: "muted" }, h("span", { class: "sample" }, "Marked rows"), " differ between the experiments."),
      scatter.element,
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

/**
 * Return the best metric of each experiment at the least budget that any of them has used, and the words for it. All
 * have used that budget, so the comparison is fair also if one has trained longer.
 */
function atEqualBudget({ data, layout }, all) {
  const courses = new Map(data.filter(({ x }) => x).map(({ name, x, y }) => [name, [unpacked(x), unpacked(y)]]));
  if (courses.size < 2) return null;
  const least = Math.min(...[...courses.values()].map(([x]) => x[x.length - 1]));
  const text = (words) => new DOMParser().parseFromString(words, "text/html").body.textContent;
  const found = [...courses].map(([name, [x, y]]) => {
    let best = null;
    for (let at = 0; at < x.length && x[at] <= least; at += 1) best = y[at];
    return [Number(/^#(\d+)/.exec(text(name))?.[1]), best];
  });
  const axis = text(layout.xaxis.title.text);
  const unit = /\(([^)]*)\)$/.exec(axis)?.[1] ?? "trials";
  const amount = format.count(Number.isInteger(least) ? least : Number(least.toPrecision(3)));
  const kind = { trials: "trials" }[unit] ?? (axis.startsWith("run time") ? "time" : "training");
  const known = all.filter(({ id }) => found.some(([each, best]) => each === id && best !== null));
  return { words: `Best at equal ${kind} (${amount} ${unit})`, values: new Map(found), known };
}

function rows(all, equal) {
  const values = equal?.known.map(({ id }) => equal.values.get(id)) ?? [];
  const winner = all[0].smaller_is_better ? Math.min(...values) : Math.max(...values);
  const atEqual = (e) => {
    const value = equal.values.get(e.id) ?? null;
    return value === null ? format.NONE : `${format.number(value)}${value === winner ? " (best)" : ""}`;
  };
  const lines = [
    [
      "Best trial",
      (e) => {
        const { best, metric } = e;
        const at = best ? ` at ${format.length(best.length, e.unit)}` : "";
        const result = best ? `Trial ${best.trial}: ${format.number(best.metric)} ${metric}${at}` : format.NONE;
        return [result, bestLine(e)].filter(Boolean).join("\n");
      },
    ],
    ...(equal ? [[equal.words, atEqual]] : []),
    ["Progress", (e) => format.percent(e.fraction)],
    ["Trials", format.created],
    ["Run time", (e) => format.duration(e.seconds)],
    ["Workers busy", (e) => format.percent(e.utilisation)],
    ["Trained", (e) => format.length(e.length_trained, e.unit)],
    ["Method", (e) => (e.mode ? `${e.method}, ${e.mode}` : e.method)],
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
  const value = (name) => (each) => format.setting(hparams.get(each)[name]);
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
