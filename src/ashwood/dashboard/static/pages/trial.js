/** One trial: its metrics, its way through the rungs with the reasons, attempts, log, checkpoints. */

import { get, post } from "../api.js";
import { ask, toast } from "../dialog.js";
import { announce, h, put, throttle, write } from "../dom.js";
import { colours, drawOwn } from "../figure.js";
import * as format from "../format.js";
import { bind } from "../keys.js";
import { Log } from "../log.js";
import { Model } from "../model.js";
import { badge, card, copyButton, Fact, failure, hyperparameters, moment, rebadge, seenLine } from "../parts.js";
import { go } from "../router.js";

const AGAIN = 1_500;

/** @param {import("../router.js").Place} place */
export default async function trialPage(place) {
  const { signal } = place;
  const [id, number] = [Number(place.params.id), Number(place.params.trial)];
  const model = new Model(id, signal);
  const path = `${model.path}/trials/${number}`;
  // Its row of the table, and all else about it.
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
  const where = new Fact("Where");
  const worked = new Fact("Worked for");
  const tries = new Fact("Attempts");
  const way = h("ol", { class: "way" });
  const attempts = h("div");
  const checkpoints = h("div");
  const happenings = h("ol", { class: "happenings" });
  const metrics = new Metrics(model, path, signal);
  const values = h("div", null, hyperparameters(trial.hyperparameters), h(
    "div",
    { class: "copies" },
    trial.as_yaml ? copyButton(() => trial.as_yaml, "Hyperparameters as YAML", "Copy as YAML") : null,
    trial.as_python ? copyButton(() => trial.as_python, "Hyperparameters as Python", "Copy as Python") : null,
  ));

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
    length.set(format.length(trial.length, unit), `of ${format.length(data.max_length, unit)}`);
    where.set(
      `rung ${trial.rung ?? format.NONE}`,
      (data.brackets?.length ?? 1) > 1 ? `of bracket ${trial.bracket}` : "",
    );
    worked.set(format.duration(trial.seconds), trial.created_at ? `created ${format.time(trial.created_at)}` : "");
    const failed = (trial.attempts ?? []).filter((each) => each.error).length;
    tries.set(String((trial.attempts ?? []).length), failed ? `${failed} failed` : "");
    put(way, wayOf(trial, data));
    put(attempts, attemptsOf(trial));
    put(checkpoints, checkpointsOf(trial, data));
    const happened = trial.happenings ?? [];
    put(
      happenings,
      happened.length
        ? happened.map(({ at, text }) => h("li", null, moment(at), h("span", null, text)))
        : h("li", { class: "muted" }, "Nothing yet."),
    );
    put(actions, controls(trial, path, refresh));
    metrics.rungs = (trial.lengths ?? []).filter((each) => each <= trial.length);
  };
  const refresh = async () => {
    trial = await fetchTrial();
    show();
    metrics.load();
  };
  const again = throttle(() => refresh().catch(() => {}), AGAIN);
  place.leaving(() => again.stop());
  model.on((delta) => {
    if (delta.many || delta.trials?.some((row) => row.trial === number)) again();
  }, signal);

  const log = new Log(`${path}/log`, signal);
  bind(
    "j",
    "the next trial",
    () => number + 1 < model.data.trials_created && go(`/experiments/${id}/trials/${number + 1}`),
    signal,
  );
  bind("k", "the trial before", () => number > 0 && go(`/experiments/${id}/trials/${number - 1}`), signal);
  bind("u", "up to its experiment", () => go(`/experiments/${id}`), signal);
  show();
  metrics.load();
  log.start();
  model.follow();

  const next = number + 1 < model.data.trials_created;
  return {
    element: h(
      "div",
      { class: "page" },
      h(
        "nav",
        { class: "crumbs", "aria-label": "Where this is" },
        h("a", { href: "/" }, "Experiments"),
        h("span", { "aria-hidden": "true" }, "/"),
        h("a", { href: `/experiments/${id}` }, `#${id} ${model.data.name}`),
        h("span", { "aria-hidden": "true" }, "/"),
        h("a", { href: `/experiments/${id}?tab=trials` }, "trials"),
        h(
          "span",
          { class: "beside-nav" },
          number > 0
            ? h("a", { href: `/experiments/${id}/trials/${number - 1}`, title: "k" }, `‹ ${number - 1}`)
            : null,
          next ? h("a", { href: `/experiments/${id}/trials/${number + 1}`, title: "j" }, `${number + 1} ›`) : null,
        ),
      ),
      h("div", { class: "page-head" }, h("div", { class: "title" }, h("h1", null, `Trial ${number}`), state), actions),
      h("dl", { class: "facts" }, [best, length, where, worked, tries].map((fact) => fact.element)),
      h(
        "div",
        { class: "columns" },
        h(
          "div",
          { class: "wide" },
          metrics.element,
          card("Its way through the rungs", way),
          log.element,
          card("Attempts", attempts),
        ),
        h(
          "div",
          { class: "side" },
          card("Hyperparameters", values),
          card("Checkpoints", checkpoints),
          card("What happened", happenings),
        ),
      ),
    ),
  };
}

function controls(trial, path, refresh) {
  if (document.documentElement.hasAttribute("data-read-only")) return [];
  const button = (what, words, kind, body) =>
    h("button", {
      type: "button",
      class: kind,
      onclick: () =>
        ask({
          title: `${words} trial ${trial.trial}?`,
          body,
          yes: `${words} it`,
          danger: true,
          act: async () => {
            await post(`${path}/${what}`);
            await refresh();
            toast(`Asked to ${what} trial ${trial.trial}.`);
          },
        }),
    }, `${words}…`);
  return [
    trial.can?.stop ? button("stop", "Stop", "warn", "It ends where it is; its results stand.") : null,
    trial.can?.kill
      ? button("kill", "Kill", "danger", "It ends for good, at once, and counts as the worst in its rung.")
      : null,
  ];
}

function wayOf(trial, { unit }) {
  const steps = trial.way ?? [];
  if (steps.length === 0) return h("li", { class: "muted" }, "Nothing was decided about it yet.");
  return steps.map((step) => {
    const words = step.kind === "closed" ? (/ is (\w+)/.exec(step.text)?.[1] ?? "closed") : step.kind;
    const at = step.rung === null ? null : trial.lengths[step.rung];
    const place = at === null || at === undefined ? null : h(
      "span",
      { class: "muted" },
      `rung ${step.rung}, ${format.length(at, unit)}`,
    );
    const target = step.target ? h("span", { class: "muted" }, `to ${format.length(step.target, unit)}`) : null;
    return h(
      "li",
      { data: { kind: words } },
      h(
        "div",
        { class: "step" },
        h("b", null, words === "other" ? step.text : words[0].toUpperCase() + words.slice(1)),
        target,
        place,
        moment(step.at),
      ),
      h("div", { class: "decision" }, step.reason || step.text),
    );
  });
}

function attemptsOf(trial) {
  const all = [...(trial.attempts ?? [])].sort((a, b) => b.number - a.number);
  if (all.length === 0) return h("p", { class: "muted" }, "No process has worked on it yet.");
  return all.map((each) => {
    const place = [
      each.slot === null || each.slot === undefined ? null : `slot ${each.slot}`,
      each.node,
    ].filter(Boolean).join(" on ");
    const ended = each.ended_at ?? Date.now() / 1000;
    const lasted = each.started_at ? format.duration(ended - each.started_at) : "not started";
    return h(
      "div",
      { class: each.error ? "attempt bad" : "attempt" },
      h(
        "div",
        { class: "step" },
        h("b", null, `Attempt ${each.number}`),
        h("span", null, each.how),
        h("span", { class: "muted" }, [place, lasted].filter(Boolean).join(", ")),
        moment(each.started_at),
      ),
      each.error
        ? h(
          "pre",
          { class: "error", tabindex: 0, role: "group", "aria-label": `Error of attempt ${each.number}` },
          each.error,
        )
        : null,
    );
  });
}

function checkpointsOf(trial, { unit, metric }) {
  const all = trial.checkpoints ?? [];
  if (all.length === 0) return h("p", { class: "muted" }, "It has none.");
  return h(
    "ul",
    { class: "checkpoints" },
    all.map((each) => {
      const value = each.metric === null || each.metric === undefined
        ? ""
        : `, ${metric} ${format.number(each.metric)}`;
      return h(
        "li",
        null,
        h("div", null, h("b", null, format.length(each.length, unit)), h("span", { class: "muted" }, value)),
        h(
          "div",
          { class: "muted" },
          `saved ${format.time(each.saved_at)}`,
          (each.kept_as ?? []).map((why) => h("span", { class: "tag" }, why)),
        ),
        each.download
          ? h(
            "a",
            { href: each.download, class: "button small", download: "" },
            "Download",
            h("span", { class: "unseen" }, ` the checkpoint at ${format.length(each.length, unit)}`),
          )
          : null,
        each.place
          ? h(
            "div",
            { class: "place" },
            h("code", { class: "clip", title: each.place }, `\u200e${each.place}`),
            copyButton(() => each.place, "Place of the checkpoint", "Copy"),
          )
          : null,
      );
    }),
  );
}

/** Every metric that the trial reported, each as a small chart; the searcher's first. */
class Metrics {
  constructor(model, path, signal) {
    Object.assign(this, { model, path, signal, rungs: [], data: null, busy: false, stale: false });
    this.plots = new Map();
    this.room = h("div", { class: "metrics" }, h("div", { class: "plot-room", style: { "min-height": "280px" } }));
    this.note = h("span", { class: "muted" });
    this.element = card("Metrics", this.room);
    this.element.querySelector("header").append(this.note);
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
    if (names.length === 0) return void put(this.room, h("p", { class: "muted" }, "It has reported nothing."));
    write(this.note, `${format.count(total)} ${format.plural(total, "reports")}`);
    if (names.some((name) => !this.plots.has(name)) || this.plots.size !== names.length) {
      this.plots.clear();
      for (const name of names) this.plots.set(
        name,
        h("div", { class: "plot small-plot", role: "group", "aria-label": `${name} against ${unit}` }),
      );
      put(
        this.room,
        names.map(
          (name) => h(
            "figure",
            { class: name === metric ? "main-metric" : null },
            h(
              "figcaption",
              null,
              name,
              name === metric
                ? h(
                  "span",
                  { class: "muted" },
                  this.model.data.smaller_is_better ? " ↓ smaller is better" : " ↑ larger is better",
                )
                : null,
            ),
            this.plots.get(name),
          ),
        ),
      );
    }
    const { accent, muted } = colours();
    const marks = this.rungs.map(
      (length) => (
        {
          type: "line",
          x0: length,
          x1: length,
          y0: 0,
          y1: 1,
          yref: "paper",
          line: { color: muted, width: 1, dash: "dot" },
        }
      ),
    );
    const words = this.rungs.map(
      (length, at) => (
        {
          x: length,
          y: 1,
          yref: "paper",
          text: `rung ${at}`,
          showarrow: false,
          xanchor: "right",
          yanchor: "bottom",
          font: { size: 10, color: muted },
        }
      ),
    );
    for (const name of names) {
      const isMain = name === metric;
      const { lengths, values } = metrics[name];
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
        shapes: marks,
        annotations: isMain ? words : [],
      }, this.signal);
    }
  }
}
