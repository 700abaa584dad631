/** The page of a trial: its metrics, the decisions about it with their reasons, attempts, log, checkpoints. */

import { get, post } from "../api.js";
import { ask, toast } from "../dialog.js";
import { announce, button, checkbox, colour, h, put, redraw, throttle, write } from "../dom.js";
import { drawOwn } from "../figure.js";
import * as format from "../format.js";
import { bind } from "../keys.js";
import { Log } from "../log.js";
import { Model } from "../model.js";
import { Note } from "../note.js";
import { badge, card, copyButton, copyButtons, crumbs, downloadLink, Fact, factList, failure } from "../parts.js";
import { hyperparameters, moment, rebadge, seenLine } from "../parts.js";
import { go } from "../router.js";

const AGAIN = 1_500;
const FEW = 3;

/** @param {import("../router.js").Place} place */
export default async function trialPage(place) {
  const { signal } = place;
  const [id, number] = [Number(place.params.id), Number(place.params.trial)];
  const model = new Model(id, signal);
  const path = `${model.path}/trials/${number}`;
  const address = (other) => `/experiments/${id}/trials/${other}`;
  // The answer contains the trial's row of the table. Its columns become attributes of the trial, too.
  const fetchTrial = async () => {
    const answer = await get(path, { signal });
    return { ...answer.row, ...answer };
  };
  // The model is loaded first: it then reports all changes to the trial that happen after the trial is fetched.
  await model.load();
  let trial = await fetchTrial();
  place.title(`Trial ${number} of ${model.data.name} (#${id})`);

  const state = badge(trial.state);
  const actions = h("div", { class: "actions" });
  const best = new Fact("Best");
  const length = new Fact("Trained to");
  const reached = new Fact("Rung");
  const worked = new Fact("Training time");
  const tries = new Fact("Attempts");
  const why = h("p", { class: "why" });
  const error = h("div", { class: "trial-error" });
  const steps = h("ol", { class: "way" });
  const attempts = h("div");
  const checkpoints = h("div");
  const happenings = h("ol", { class: "happenings" });
  const metrics = new Metrics(model, path, place);
  const log = new Log(`${path}/log`, signal, () => show());
  const given = trial.given ? h("p", { class: "muted" }, `Given by a user: ${trial.given}`) : null;
  const values = h("div", null, hyperparameters(trial.hyperparameters), given, copyButtons(() => trial));

  const show = () => {
    const { data } = model;
    const { unit, metric } = data;
    if (state.dataset.state !== trial.state) announce(`Trial ${number} is ${trial.state}.`);
    rebadge(state, trial.state);
    const [value, seen] = [trial[`best.${metric}`] ?? null, trial[`seen.${metric}`] ?? null];
    const isBetter = seen !== null && (value === null || (data.smaller_is_better ? seen < value : seen > value));
    best.set(
      format.value(value),
      value !== null
        ? `${metric} at ${format.length(trial.best_length, unit)}`
        : seen !== null
        ? `no checkpoint with a ${metric}`
        : `no ${metric}${trial.length ? " that is a finite number" : " yet"}`,
      isBetter ? seenLine({ metric: seen, length: trial.seen_length }, data) : "",
    );
    const longest = data.max_length === null ? "" : `of ${format.length(data.max_length, unit)}`;
    length.set(format.length(trial.length, unit), longest);
    const bracket = data.brackets.length > 1 ? `bracket ${trial.bracket}` : "";
    const original = trial.replicate_of;
    const [rung, at] = original === null ? rungOf(trial, unit) : ["no rung", ""];
    reached.set(rung, original === null ? [at, bracket].filter(Boolean).join(", ") : "");
    const named = (other) => h("a", { href: address(other) }, `trial ${other}`);
    if (original !== null) put(reached.notes[1], "replicate of ", named(original));
    else if (trial.replicates.length) {
      const links = trial.replicates.map((other, at) => [at ? ", " : "", named(other)]);
      put(reached.notes[1], "trained again as ", links);
    }
    const created = trial.created_at ? `created ${format.time(trial.created_at)}` : "";
    worked.set(format.duration(trainingTime(trial, data.driven)), created);
    const failed = trial.attempts.filter((each) => each.error).length;
    tries.set(String(trial.attempts.length), failed ? `${failed} failed` : "");
    const failure = errorOf(trial);
    write(why, standing(trial));
    why.hidden = why.textContent === "";
    redraw(error, failure, () => (failure === null ? [] : [errorText(failure, `Error of trial ${number}`)]));
    put(steps, stepsOf(trial, data));
    put(attempts, attemptsOf(trial, failure));
    log.element.hidden = trial.state !== "running" && log.isEmpty;
    put(checkpoints, checkpointsOf(trial, data));
    const event = ({ at, text }) => h("li", null, moment(at), h("span", null, text));
    const nothing = h("li", { class: "muted" }, "Nothing yet");
    put(happenings, trial.happenings.length ? trial.happenings.map(event) : nothing);
    put(actions, controls(trial, path, refresh));
    metrics.rungs = trial.lengths.filter((each) => each !== null && each <= trial.length);
  };
  const refresh = async () => {
    trial = await fetchTrial();
    show();
    metrics.load();
    return trial;
  };
  const again = throttle(() => refresh().catch(() => {}), AGAIN);
  place.leaving(() => again.stop());
  model.on((delta) => {
    if (delta.many || delta.trials?.some((row) => row.trial === number)) again();
  }, signal);

  const exists = (other) => other >= 0 && other < model.count;
  bind("j", "go to the next trial", () => exists(number + 1) && go(address(number + 1)), signal);
  bind("k", "go to the previous trial", () => exists(number - 1) && go(address(number - 1)), signal);
  bind("u", "go to the experiment of the trial", () => go(`/experiments/${id}`), signal);
  show();
  metrics.load();
  log.start();
  model.follow();

  const link = (other, words, key) => (exists(other) ? h("a", { href: address(other), title: key }, words) : null);
  const above = [
    ["/", "Experiments"],
    [`/experiments/${id}`, `#${id} ${model.data.name}`],
    [`/experiments/${id}?tab=trials`, "trials"],
  ];
  const beside = [link(number - 1, `‹ ${number - 1}`, "k"), link(number + 1, `${number + 1} ›`, "j")];
  return {
    element: h(
      "div",
      { class: "page" },
      crumbs(above, h("span", { class: "beside-nav" }, beside)),
      h("div", { class: "page-head" }, h("div", { class: "title" }, h("h1", null, `Trial ${number}`), state), actions),
      why,
      error,
      factList(best, length, reached, worked, tries),
      h(
        "div",
        { class: "columns" },
        h(
          "div",
          { class: "wide" },
          metrics.element,
          card("Promotion history", steps),
          log.element,
          card("Attempts", attempts),
        ),
        h(
          "div",
          { class: "side" },
          card("Hyperparameters", values),
          new Note(model, path, String(number), signal).element,
          card("Checkpoints", checkpoints),
          card("Events", happenings),
        ),
      ),
    ),
  };
}

/** Return why the trial has its state, such as "Stopped: 41st of 78 at 4 epochs; 25 were promoted". */
function standing({ state, standing: why }) {
  if (!why || state === "errored") return "";
  return why.startsWith(state) ? `${capital(why)}.` : `${capital(state)}: ${why}.`;
}

/** Return the error that ended the trial, or null if it did not fail. */
function errorOf({ state, errors, standing: why }) {
  return state === "errored" ? errors.at(-1) ?? why : null;
}

function errorText(error, label) {
  const [headline, ...details] = error.split("\n");
  const text = h("pre", { class: "error", tabindex: 0, role: "group", "aria-label": label });
  return put(text, h("b", null, headline), details.length ? `\n${details.join("\n")}` : null);
}

function capital(words) {
  return `${words[0].toUpperCase()}${words.slice(1)}`;
}

function controls(trial, path, refresh) {
  if (document.documentElement.hasAttribute("data-read-only")) return [];
  const end = (what, words, body) =>
    ask({
      title: `${words} trial ${trial.trial}?`,
      body,
      yes: `${words} trial`,
      no: "Keep running",
      danger: true,
      act: async () => {
        await post(`${path}/${what}`);
        const { state } = await refresh();
        toast(`Trial ${trial.trial} is now ${state}.`);
      },
    });
  const stop = "It stops at its current length. Its results still count.";
  const kill = "It stops immediately. The trial is ranked last in its rung.";
  return [
    trial.can.stop ? button("Stop…", () => end("stop", "Stop", stop), "warn") : null,
    trial.can.kill ? button("Kill…", () => end("kill", "Kill", kill), "danger") : null,
  ];
}

function stepsOf(trial, { unit }) {
  if (trial.way.length === 0) return h("li", { class: "muted" }, "No decisions yet");
  const muted = (words) => h("span", { class: "muted" }, words);
  return trial.way.map((step) => {
    const kind = step.kind === "closed" ? (/ is (\w+)/.exec(step.text)?.[1] ?? "closed") : step.kind;
    const title = h("b", null, kind === "other" ? step.text : capital(kind));
    const target = step.target ? muted(`to ${format.length(step.target, unit)}`) : null;
    const where = (rung) => (trial.lengths[rung] === null ? "" : `, ${format.length(trial.lengths[rung], unit)}`);
    const at = (rung) => `rung ${rung}${where(rung)}`;
    const rung = step.rung === null ? null : muted(at(step.rung));
    return h(
      "li",
      { data: { kind } },
      h("div", { class: "step" }, title, target, rung, moment(step.at)),
      h("div", { class: "decision" }, step.reason || step.text),
    );
  });
}

/** Return the rung of a trial, or that it ended or trains on the way to it, and the length of the rung. */
function rungOf({ rung, lengths, length, state }, unit) {
  const needed = rung === null ? null : lengths[rung];
  if (needed === null) return [String(rung ?? format.NONE), ""];
  const isBelow = length < needed && state !== "completed";
  return [isBelow ? `on the way to rung ${rung}` : `rung ${rung}`, format.length(needed, unit)];
}

/** Return the seconds in which the attempts ran, up to now if one runs. */
function trainingTime({ seconds, attempts }, driven) {
  const running = driven ? attempts.find((each) => each.ended_at === null) : null;
  if (!running) return seconds;
  const lasted = (each) => (each.ended_at ?? Date.now() / 1000) - each.started_at;
  return attempts.reduce((sum, each) => sum + lasted(each), 0);
}

/** Return the attempts. Their errors are folded, and the error under the title is not repeated. */
function attemptsOf({ attempts }, shown) {
  if (attempts.length === 0) return h("p", { class: "muted" }, "No attempts yet");
  return [...attempts].sort((a, b) => b.number - a.number).map((each) => {
    const place = [`slot ${each.slot}`, each.node].filter(Boolean).join(" on ");
    const lasted = format.duration((each.ended_at ?? Date.now() / 1000) - each.started_at);
    return h(
      "div",
      { class: each.error ? "attempt bad" : "attempt" },
      h(
        "div",
        { class: "step" },
        h("b", null, `Attempt ${each.number}`),
        h("span", null, each.how),
        h("span", { class: "muted" }, `${place}, ${lasted}`),
        moment(each.started_at),
      ),
      each.error ? attemptError(each, shown) : null,
    );
  });
}

function attemptError({ number, error }, shown) {
  if (error === shown) return h("p", { class: "muted" }, "The error is shown under the title.");
  const [headline, ...details] = error.split("\n");
  if (details.length === 0) return h("p", null, headline);
  return h("details", null, h("summary", null, headline), errorText(error, `Error of attempt ${number}`));
}

function checkpointsOf({ checkpoints }, { unit, metric }) {
  if (checkpoints.length === 0) return h("p", { class: "muted" }, "No checkpoints");
  const item = (each) => {
    const length = format.length(each.length, unit);
    const value = each.metric === null ? "" : `${metric} ${format.number(each.metric)}`;
    const about = [`saved ${format.time(each.saved_at)}`, each.size === null ? "" : format.bytes(each.size)];
    const tags = each.kept_as.map((why) => h("span", { class: "tag" }, why));
    return h(
      "li",
      null,
      h("div", null, h("b", null, length), " ", h("span", { class: "muted" }, value)),
      h("div", { class: "muted" }, about.filter(Boolean).join(", "), tags),
      downloadLink(each.download, "Download", h("span", { class: "unseen" }, ` the checkpoint at ${length}`)),
      h(
        "div",
        { class: "place" },
        h("code", { class: "clip", title: each.place }, `\u200e${each.place}`),
        copyButton(() => each.place, "Path of the checkpoint", "Copy"),
      ),
    );
  };
  const list = (some) => h("ul", { class: "checkpoints" }, some.map(item));
  if (checkpoints.length <= FEW) return list(checkpoints);
  const rest = checkpoints.slice(FEW);
  const more = `${format.count(rest.length)} more ${format.plural(rest.length, "checkpoints")}`;
  return [list(checkpoints.slice(0, FEW)), h("details", null, h("summary", null, more), list(rest))];
}

/** A small chart of each metric that the trial has reported; the metric of the search comes first. */
class Metrics {
  constructor(model, path, place) {
    const { signal } = place;
    Object.assign(this, { model, path, signal, rungs: [], data: null, busy: false, stale: false });
    this.plots = new Map();
    this.room = h("div", { class: "metrics" }, h("div", { class: "plot-room", style: { "min-height": "280px" } }));
    this.note = h("span", { class: "muted" });
    // Without a choice in the address, each chart has the scale that fits its values.
    const switched = checkbox("Log y", false, (on) => {
      this.log = on;
      place.setQuery({ log_y: on });
      this.#draw();
    });
    this.box = switched.querySelector("input");
    this.element = card("Metrics", this.room);
    this.element.querySelector("header").append(this.note, h("div", { class: "controls" }, switched));
    this.log = { true: true, false: false }[place.query.get("log_y")] ?? null;
    document.addEventListener("ashwood:theme", () => this.#draw(), { signal });
  }

  async load() {
    if (this.busy) {
      this.stale = true;
      return;
    }
    this.busy = true;
    this.stale = false;
    try {
      this.data = await get(`${this.path}/metrics`, { query: { points: 500 }, signal: this.signal });
      await this.#draw();
    } catch (error) {
      if (error.name !== "AbortError" && !this.plots.size) put(this.room, failure(error, { again: () => this.load() }));
    } finally {
      this.busy = false;
    }
    if (this.stale && !this.signal.aborted) this.load();
  }

  async #draw() {
    if (!this.data) return;
    const { metrics, total } = this.data;
    const { metric, unit } = this.model.data;
    const names = Object.keys(metrics).sort(
      (a, b) => Number(b === metric) - Number(a === metric) || a.localeCompare(b),
    );
    if (names.length === 0) return void put(this.room, h("p", { class: "muted" }, "No reports yet"));
    write(this.note, `${format.count(total)} ${format.plural(total, "reports")}`);
    if (names.some((name) => !this.plots.has(name)) || this.plots.size !== names.length) {
      const plot = (name) => ({ class: "plot small-plot", role: "group", "aria-label": `${name} against ${unit}` });
      this.plots = new Map(names.map((name) => [name, h("div", plot(name))]));
      put(this.room, names.map((name) => this.#chart(name, name === metric)));
    }
    const [accent, muted] = [colour("accent"), colour("muted")];
    const line = { color: muted, width: 1, dash: "dot" };
    const font = { size: 10, color: muted };
    const marks = this.rungs.map((at) => ({ type: "line", x0: at, x1: at, y0: 0, y1: 1, yref: "paper", line }));
    const label = { y: 1, yref: "paper", showarrow: false, xanchor: "right", yanchor: "bottom", font };
    const words = this.rungs.map((x, at) => ({ ...label, x, text: `rung ${at}` }));
    for (const name of names) {
      const isMain = name === metric;
      const { lengths, values } = metrics[name];
      const isLog = this.log ?? format.isWide(values);
      if (isMain) this.box.checked = isLog;
      const trace = {
        type: "scatter",
        mode: lengths.length > 60 ? "lines" : "lines+markers",
        x: lengths,
        y: values,
        line: { color: isMain ? accent : muted, width: isMain ? 2 : 1.4 },
        marker: { size: 5 },
        hovertemplate: "%{y:.6~g}<br>at %{x}<extra></extra>",
        connectgaps: false,
      };
      await drawOwn(this.plots.get(name), [trace], {
        height: isMain ? 280 : 170,
        margin: { l: 56, r: 16, t: isMain ? 18 : 8, b: 38 },
        xaxis: { title: { text: unit, font: { size: 11 } }, rangemode: "tozero" },
        yaxis: isLog ? { type: "log", tickformat: "~g", nticks: 4 } : { type: "linear" },
        shapes: marks,
        annotations: isMain ? words : [],
      }, this.signal);
    }
  }
  #chart(name, isMain) {
    const better = this.model.data.smaller_is_better ? " ↓ smaller is better" : " ↑ larger is better";
    const caption = h("figcaption", null, name, isMain ? h("span", { class: "muted" }, better) : null);
    return h("figure", { class: isMain ? "main-metric" : null }, caption, this.plots.get(name));
  }
}
