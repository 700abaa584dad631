/** The overview: the ladder, the best trial, the best so far, brackets, recent activity. */

import { get } from "../api.js";
import { h, put, redraw } from "../dom.js";
import * as format from "../format.js";
import { card, copyButtons, downloadLink, empty, hyperparameters, moment, seenLine } from "../parts.js";
import { plainTable, tableRow } from "../parts.js";
import { linked } from "./events.js";

const LINES = 8;
const LOOKED_AT = 120;

/** @param {import("./experiment.js").Tab} tab */
export default async function overview({ model, signal, figure, openTrial }) {
  // A phone has no room for a point for each trial.
  const defaults = { counts: matchMedia("(max-width: 560px)").matches || false };
  const ladder = figure("ladder", { title: "The ladder", height: 460, defaults, onTrial: openTrial });
  const best = figure("best_so_far", { title: "Best so far", height: 320, onTrial: openTrial });
  const winner = h("div");
  const brackets = h("div");
  const lines = h("ol", { class: "happenings" });
  const nothing = h("div", { class: "card", hidden: true });
  const recent = [];

  const show = () => {
    const { data } = model;
    const { trial, state, download } = data.best_trial ?? {};
    redraw(winner, [trial, state, download, data.best, data.seen], () =>
      data.best_trial
        ? bestTrial(model.id, data)
        : h("p", { class: "muted" }, `No trial has reported a finite ${data.metric} yet.`),
    );
    redraw(brackets, data.brackets, () => bracketsTable(data));
    nothing.hidden = data.trials_created > 0;
    redraw(nothing, data.state, () =>
      data.state === "running"
        ? empty("The experiment has just started", "The first trials appear here as soon as they are created.")
        : empty("No trials yet", "Run the experiment in a terminal:", `ashwood resume ${model.id}`),
    );
  };
  const take = (events) => {
    const latest = events.filter((event) => event.seq > (recent[0]?.seq ?? 0) && textOf(event) !== "");
    recent.unshift(...latest.sort((a, b) => b.seq - a.seq));
    recent.length = Math.min(recent.length, LINES);
    const line = (event) =>
      h("li", null, moment(event.at), h("span", { title: event.text }, linked(textOf(event), model.id)));
    put(lines, recent.length ? recent.map(line) : h("li", { class: "muted" }, "Nothing yet"));
  };
  model.on((delta) => {
    show();
    if (delta.events?.length) take(delta.events);
  }, signal);
  show();
  get(`${model.path}/events`, { query: { limit: LOOKED_AT }, signal })
    .then(({ events }) => take(events))
    .catch(() => take([]));

  const side = [card("Best trial", winner), card("Brackets and rungs", brackets), card("Recent activity", lines)];
  return h(
    "div",
    null,
    nothing,
    h(
      "div",
      { class: "columns" },
      h("div", { class: "wide" }, ladder.element, best.element),
      h("div", { class: "side" }, side),
    ),
  );
}

/** Return the decisions of an entry, or else its event; "" for events that happen too often to be shown here. */
function textOf({ text, decided }) {
  if (decided.length > 3) return `${decided.slice(0, 2).join("; ")}; and ${decided.length - 2} more`;
  if (decided.length) return decided.join("; ");
  return / (reported|saved) at | released its worker, /.test(text) ? "" : text;
}

function bestTrial(id, data) {
  const { best, best_trial: trial } = data;
  const seen = seenLine(data.seen, data, best);
  const { metric, unit } = data;
  const at = best ? ` ${metric} at ${format.length(best.length, unit)}` : ` no checkpoint with a ${metric}`;
  return h(
    "div",
    { class: "winner" },
    h(
      "p",
      null,
      h("a", { href: `/experiments/${id}/trials/${trial.trial}`, class: "strong" }, `Trial ${trial.trial}`),
      h("span", { class: "muted" }, ` · ${trial.state}`),
    ),
    h(
      "p",
      { class: "metric" },
      h("b", null, best ? format.number(best.metric) : format.NONE),
      h("span", { class: "muted" }, at),
    ),
    seen ? h("p", { class: "muted" }, seen) : null,
    hyperparameters(trial.hyperparameters),
    copyButtons(() => trial, downloadLink(trial.download, "Download checkpoint")),
  );
}

function bracketsTable({ brackets, unit }) {
  if (brackets.length === 0) return h("p", { class: "muted" }, "None yet");
  const failed = brackets.some((bracket) => bracket.rungs.some((rung) => rung.failed));
  const heads = [unit || "length", "reached", "promoted", "training", ...(failed ? ["failed"] : [])];
  const right = [...heads.keys()];
  const counts = ["length", "arrived", "promoted", "training", ...(failed ? ["failed"] : [])];
  const count = (number) => (number ? format.count(number) : h("span", { class: "none" }, "·"));
  const table = plainTable("Brackets and their rungs", heads, [], right);
  const groups = brackets.map((bracket) => {
    const cell = (rung, name) => (name === "length" && rung.length === null ? "the end" : count(rung[name]));
    const rows = bracket.rungs.map((rung) => tableRow(counts.map((name) => cell(rung, name)), right));
    return h("tbody", null, brackets.length > 1 ? section(bracket, heads.length) : null, rows);
  });
  table.tBodies[0].replaceWith(...groups);
  return table;
}

function section({ number, created, planned }, colspan) {
  const trials = ` ${format.count(created)} of ${format.count(planned)} trials`;
  const words = [`bracket ${number}`, h("span", { class: "muted" }, trials)];
  return h("tr", { class: "section" }, h("th", { scope: "rowgroup", colspan }, words));
}
