/** The overview: the ladder, the best trial, the best so far, brackets, recent activity. */

import { get } from "../api.js";
import { h, put, redraw, throttle, write } from "../dom.js";
import * as format from "../format.js";
import { Model } from "../model.js";
import { Note } from "../note.js";
import { card, commandLine, copyButton, copyButtons, downloadLink, empty, FINISHED } from "../parts.js";
import { bestLine, hyperparameters, moment, plainTable, tableRow } from "../parts.js";
import { linked } from "./events.js";

const LINES = 8;
// Milliseconds between two verdicts, at least, and the multiple of the time that the last one took.
const TRUST_EVERY = 3_000;
const PATIENCE = 20;
const LOOKED_AT = 120;
const AGAIN = 10_000;

/** @param {import("./experiment.js").Tab} tab */
export default async function overview({ model, signal, figure, openTrial }) {
  // A phone has no room for a point for each trial.
  const defaults = { counts: matchMedia("(max-width: 560px)").matches || false };
  const ladder = figure("ladder", { title: "The ladder", height: 460, defaults, onTrial: openTrial });
  const best = figure("best_so_far", { title: "Best so far", height: 320, onTrial: openTrial });
  const trust = figure("trust", { title: "Does a rung predict a later one?", height: 380, onTrial: openTrial });
  const winner = h("div");
  const verdict = h("div");
  const brackets = h("div");
  const scrolled = { class: "scroll-x", tabindex: 0, role: "group", "aria-label": "Brackets and rungs, table" };
  const troubles = new Troubles(model, signal);
  const lines = h("ol", { class: "happenings" });
  const nothing = h("div", { class: "card", hidden: true });
  const activity = card("Recent activity", lines);
  const heading = activity.querySelector("h2");
  const recent = [];

  const show = () => {
    const { data } = model;
    const { trial, state, download } = data.best_trial ?? {};
    redraw(winner, [trial, state, download, data.best, data.seen, data.recommended], () =>
      data.best_trial
        ? bestTrial(model.id, data)
        : h("p", { class: "muted" }, `No trial has reported a finite ${data.metric} yet.`),
    );
    redraw(brackets, data.brackets, () => bracketsTable(data));
    troubles.show();
    showActivity();
    nothing.hidden = Object.keys(data.trials).length > 0;
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
    showActivity();
  };
  // After the end, the latest events only say that trials have stopped.
  const showActivity = () => {
    const { state, bests, metric, unit } = model.data;
    const isOver = FINISHED.has(state) && bests.length > 0;
    write(heading, isOver ? "New bests" : "Recent activity");
    const best = ({ trial, metric: value, length }) =>
      `trial ${trial}: ${metric} ${format.number(value)} at ${format.length(length, unit)}`;
    const rows = isOver
      ? bests.map((each) => ({ at: each.at, text: best(each), words: best(each) }))
      : recent.map((event) => ({ at: event.at, text: event.text, words: textOf(event) }));
    const line = ({ at, text, words }) =>
      h("li", null, moment(at), h("span", { title: text }, linked(words, model.id)));
    redraw(lines, rows, () => (rows.length ? rows.map(line) : h("li", { class: "muted" }, "Nothing yet")));
  };
  model.on((delta) => {
    show();
    if (delta.events?.length) take(delta.events);
  }, signal);
  show();
  const halving = model.data.lengths.some((lengths) => lengths.length > 1);
  if (halving) showTrust(model, verdict, signal);
  get(`${model.path}/events`, { query: { limit: LOOKED_AT }, signal })
    .then(({ events }) => take(events))
    .catch(() => take([]));

  const side = [
    card("Best trial", winner),
    new Note(model, model.path, "", signal).element,
    troubles.element,
    card("Brackets and rungs", h("div", scrolled, brackets)),
    halving ? card("Can early stopping be believed?", verdict) : null,
    activity,
  ];
  return h(
    "div",
    null,
    nothing,
    h(
      "div",
      { class: "columns" },
      h("div", { class: "wide" }, ladder.element, best.element, halving ? trust.element : null),
      h("div", { class: "side" }, side),
    ),
  );
}

/** Show the verdict on early stopping, and update it while trials change. */
function showTrust(model, element, signal) {
  let [stale, timer, wait] = [false, null, 0];
  const update = async () => {
    const began = performance.now();
    stale = false;
    try {
      const { reading } = await get(`${model.path}/trust`, { signal });
      redraw(element, reading, () => trustCard(model.id, reading));
    } catch (error) {
      if (error.name === "AbortError") return;
      redraw(element, error.what, () => h("p", { class: "muted" }, error.what));
    }
    wait = Math.max(TRUST_EVERY, PATIENCE * (performance.now() - began));
    timer = null;
    if (stale) soon();
  };
  const soon = () => {
    stale = true;
    timer ??= setTimeout(update, wait);
  };
  model.on((delta) => {
    if (Model.moved(delta) || delta.experiment?.state) soon();
  }, signal);
  signal.addEventListener("abort", () => clearTimeout(timer));
  soon();
}

function trustCard(id, reading) {
  if (!reading) return h("p", { class: "muted" }, "This search stops no trial early.");
  const { level, sentence, reasons, advice } = reading;
  const reason = (text) => h("li", null, text);
  const advised = ({ text, settings, price }) => [
    h("p", null, text, h("span", { class: "muted" }, price)),
    settings.length
      ? commandLine(`ashwood run --from ${id} ${settings.map((setting) => `--set ${setting}`).join(" ")}`)
      : null,
  ];
  return h(
    "div",
    { class: "trust" },
    h("p", { class: "verdict", data: { level } }, sentence),
    advice.map(advised),
    reasons.length ? h("details", null, h("summary", null, "Reasons"), h("ul", null, reasons.map(reason))) : null,
  );
}

/** Return the decisions of an entry, or else its event; "" for events that happen too often to be shown here. */
function textOf({ text, decided }) {
  if (decided.length > 3) return `${decided.slice(0, 2).join("; ")}; and ${decided.length - 2} more`;
  if (decided.length) return decided.join("; ");
  return / (reported|saved) at | released its worker, /.test(text) ? "" : text;
}

function bestTrial(id, data) {
  const { best, best_trial: trial, metric, unit } = data;
  const seen = bestLine(data);
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
    copyButtons(() => trial),
    trial.place ? bestCheckpoint(id, trial) : h("p", { class: "muted" }, "No checkpoint"),
  );
}

function bestCheckpoint(id, { place, download }) {
  return h(
    "div",
    { class: "best-checkpoint" },
    downloadLink(download, "Download checkpoint"),
    h(
      "div",
      { class: "place" },
      h("code", { class: "clip", title: place }, `\u200e${place}`),
      copyButton(() => place, "Path of the checkpoint", "Copy"),
    ),
    commandLine(`ashwood download ${id} --out best`),
  );
}

/** Failed and diverged trials, grouped by cause. Each group leads to its trials. */
class Troubles {
  constructor(model, signal) {
    Object.assign(this, { model, signal, known: null });
    this.list = h("ul", { class: "troubles" });
    this.element = card("Failed and diverged trials", this.list);
    this.element.hidden = true;
    this.load = throttle(() => this.#load().catch(() => {}), AGAIN);
    signal.addEventListener("abort", () => this.load.stop());
  }

  show() {
    const { trials, diverged } = this.model.data;
    const now = `${trials.errored ?? 0} ${diverged}`;
    if (now === this.known) return;
    this.known = now;
    if (now === "0 0") this.element.hidden = true;
    else this.load();
  }

  async #load() {
    const { groups } = await get(`${this.model.path}/failures`, { signal: this.signal });
    const item = (group) => {
      const words = h("b", null, group.kind === "failed" ? "Failed" : "Diverged");
      return h("li", null, words, " ", h("a", { href: addressOf(this.model.id, group) }, group.text));
    };
    put(this.list, groups.map(item));
    this.element.hidden = groups.length === 0;
  }
}

/** Return the address of the table with the trials of a group. */
function addressOf(id, { where, q }) {
  const words = [...where, ...(q ? [`"${q.replaceAll('"', "")}"`] : [])].join(" ");
  return `/experiments/${id}?${new URLSearchParams({ tab: "trials", q: words })}`;
}

function bracketsTable({ brackets: all, unit }) {
  // The server counts killed trials as failed, too, because both rank last.
  const own = (rung) => ({ ...rung, failed: rung.failed - rung.killed });
  const brackets = all.map((bracket) => ({ ...bracket, rungs: bracket.rungs.map(own) }));
  if (brackets.length === 0) return h("p", { class: "muted" }, "None yet");
  const has = (name) => brackets.some((bracket) => bracket.rungs.some((rung) => rung[name]));
  const some = (name) => (has(name) ? [name] : []);
  const training = has("training") || !(has("failed") || has("audits")) ? ["training"] : [];
  const ended = [...some("failed"), ...some("killed")];
  const counts = ["length", "arrived", "promoted", ...some("audits"), ...training, ...ended];
  const heads = [unit || "length", "reached", ...counts.slice(2)];
  const right = [...heads.keys()];
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
