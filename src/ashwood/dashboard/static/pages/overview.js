/** The overview: the ladder, the best trial, the best so far, brackets, what has just happened. */

import { get } from "../api.js";
import { h, put } from "../dom.js";
import * as format from "../format.js";
import { card, copyButton, empty, hyperparameters, moment, seenLine } from "../parts.js";
import { linked } from "./events.js";

const LINES = 8;
const LOOKED_AT = 120;

/** @param {import("./experiment.js").Tab} tab */
export default async function overview({ model, signal, figure, openTrial }) {
  const ladder = figure("ladder", { title: "The ladder", height: 460, onTrial: openTrial });
  const best = figure("best_so_far", { title: "Best so far", height: 320, onTrial: openTrial });
  const winner = h("div");
  const brackets = h("div");
  const lines = h("ol", { class: "happenings" });
  const nothing = h("div", { class: "card", hidden: true });
  const happened = [];

  const showBest = () => {
    const { data } = model;
    const { trial, state, download } = data.best_trial ?? {};
    const key = JSON.stringify([trial, state, download, data.best, data.seen]);
    if (winner.dataset.shown === key) return;
    winner.dataset.shown = key;
    put(
      winner,
      data.best_trial
        ? bestTrial(model.id, data)
        : h("p", { class: "muted" }, `No trial has reported a ${data.metric} that is a number yet.`),
    );
  };
  const showBrackets = () => {
    const key = JSON.stringify(model.data.brackets);
    if (brackets.dataset.shown === key) return;
    brackets.dataset.shown = key;
    put(brackets, bracketsTable(model.data));
  };
  const showLines = () => put(
    lines,
    happened.length
      ? happened.map(
        (event) => h("li", null, moment(event.at), h("span", { title: event.text }, linked(told(event), model.id))),
      )
      : h("li", { class: "muted" }, "Nothing yet."),
  );
  const showNothing = () => {
    const { data } = model;
    nothing.hidden = data.trials_created > 0;
    if (nothing.hidden) return;
    put(
      nothing,
      data.state === "running"
        ? empty("It has just begun.", "The first trials show up here as soon as they are created.")
        : empty("It has no trial yet.", "Run it in a terminal:", `ashwood resume ${model.id}`),
    );
  };

  const take = (events) => {
    const news = events.filter((event) => event.seq > (happened[0]?.seq ?? 0) && told(event) !== "");
    happened.unshift(...news.sort((a, b) => b.seq - a.seq));
    happened.length = Math.min(happened.length, LINES);
  };
  const loadLines = async () => {
    const { events } = await get(`${model.path}/events`, { query: { limit: LOOKED_AT }, signal });
    take(events);
    showLines();
  };
  model.on((delta) => {
    showBest();
    showBrackets();
    showNothing();
    if (delta.events?.length) {
      take(delta.events);
      showLines();
    }
  }, signal);
  showBest();
  showBrackets();
  showNothing();
  loadLines().catch(() => showLines());

  return h(
    "div",
    null,
    nothing,
    h(
      "div",
      { class: "columns" },
      h("div", { class: "wide" }, ladder.element, best.element),
      h(
        "div",
        { class: "side" },
        card("Best trial", winner),
        card("Brackets and rungs", brackets),
        card("Just happened", lines),
      ),
    ),
  );
}

/** What matters of an entry: what was decided, else what happened; a report alone is nothing new here. */
function told({ text, decided }) {
  if (decided?.length) return decided.length > 3
    ? `${decided.slice(0, 2).join("; ")}; and ${decided.length - 2} more`
    : decided.join("; ");
  return / (reported|saved) at | released its worker, /.test(text) ? "" : text;
}

function bestTrial(id, data) {
  const { best, best_trial: trial } = data;
  const seen = seenLine(data.seen, data, best);
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
      h(
        "span",
        { class: "muted" },
        best ? ` ${data.metric} at ${format.length(best.length, data.unit)}` : ` no checkpoint with a ${data.metric}`,
      ),
    ),
    seen ? h("p", { class: "muted" }, seen) : null,
    hyperparameters(trial.hyperparameters),
    h(
      "div",
      { class: "copies" },
      copyButton(() => trial.as_yaml, "Hyperparameters as YAML", "Copy as YAML"),
      copyButton(() => trial.as_python, "Hyperparameters as Python", "Copy as Python"),
      trial.download
        ? h("a", { href: trial.download, class: "button small", download: "" }, "Download checkpoint")
        : null,
    ),
  );
}

function bracketsTable(data) {
  const all = data.brackets ?? [];
  if (all.length === 0) return h("p", { class: "muted" }, "None yet.");
  const failed = all.some((bracket) => bracket.rungs.some((rung) => rung.failed));
  const heads = [data.unit || "length", "reached", "promoted", "training", ...(failed ? ["failed"] : [])];
  const count = (number) => h("td", { class: number ? "number" : "number none" }, number ? format.count(number) : "·");
  return h(
    "table",
    { class: "plain" },
    h("caption", { class: "unseen" }, "Brackets and their rungs"),
    h("thead", null, h("tr", null, heads.map((words) => h("th", { scope: "col", class: "number" }, words)))),
    all.map((bracket) =>
      h(
        "tbody",
        null,
        all.length > 1
          ? h(
            "tr",
            { class: "section" },
            h(
              "th",
              { scope: "rowgroup", colspan: heads.length },
              `bracket ${bracket.number}`,
              h(
                "span",
                { class: "muted" },
                ` ${format.count(bracket.created)} of ${format.count(bracket.planned)} trials`,
              ),
            ),
          )
          : null,
        bracket.rungs.map(
          (rung) => h(
            "tr",
            null,
            h("th", { scope: "row", class: "number" }, format.count(rung.length)),
            count(rung.arrived),
            count(rung.promoted),
            count(rung.training),
            failed ? count(rung.failed) : null,
          ),
        ),
      ),
    ),
  );
}
