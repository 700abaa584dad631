/** The page of an experiment: its state and its controls, and tabs with everything else. */

import { get, patch, post } from "../api.js";
import { ask, attempt, copy, toast } from "../dialog.js";
import { announce, button, checkbox, h, mark, put, redraw, write } from "../dom.js";
import { chosen, controlsOf, Figure } from "../figure.js";
import * as format from "../format.js";
import { bind } from "../keys.js";
import { Model } from "../model.js";
import { badge, bestLine, commandLine, crumbs, Fact, factList, failure, field, FINISHED } from "../parts.js";
import { menu, Progress, rebadge, tabs } from "../parts.js";
import { go } from "../router.js";
import { budget, hyperparameters, timeline } from "./charts.js";
import config from "./config.js";
import curves from "./curves.js";
import events from "./events.js";
import { archive, editLabels } from "./experiments.js";
import overview from "./overview.js";
import trials from "./trials.js";

const TABS = { overview, trials, curves, hyperparameters, timeline, budget, events, config };
const NAMES = Object.keys(TABS);
const HOUR = 3_600;
const GB = 1e9;
const INVALID = "The experiment pauses at this number of trials with invalid hyperparameters.";
const OUTSIDE = "Allow values outside the space and broken constraints";
const REPLICATES = "Number of the best trials that train again with another seed after all others.";

/**
 * @typedef {object} Tab what a tab gets
 * @property {Model} model
 * @property {AbortSignal} signal aborted when the tab is left
 * @property {import("../router.js").Place} place
 * @property {(name: string, how?: object) => Figure} figure makes a figure of the experiment
 * @property {Promise<any[]>} listed the figures with their options
 * @property {(trial: number) => void} openTrial
 */

/** @param {import("../router.js").Place} place */
export default async function experimentPage(place) {
  const id = Number(place.params.id);
  const model = new Model(id, place.signal);
  await model.load();
  const header = new Header(model, place);
  const panel = h("div", { id: "panel", role: "tabpanel", tabindex: -1 });
  const listed = get(`${model.path}/figures`, { signal: place.signal }).catch(() => []);
  // The figures of the tab, and the names of those that have had the options that this browser stores.
  const figures = new Map();
  const known = new Set();
  let shown = null;
  let leave = null;

  const show = async (name) => {
    if (name === shown) return;
    shown = name;
    leave?.abort();
    leave = new AbortController();
    const { signal } = leave;
    figures.clear();
    place.title(`${model.data.name} (#${id})${name === "overview" ? "" : `, ${name}`}`);
    bar.move(name);
    panel.setAttribute("aria-labelledby", `tab-${name}`);
    const tab = {
      model,
      signal,
      place,
      listed,
      openTrial: (trial) => go(`/experiments/${id}/trials/${trial}`),
      figure: (figure, how) => makeFigure({ model, listed, place, signal, figures, known }, figure, how),
    };
    let element;
    try {
      element = await TABS[name](tab);
    } catch (error) {
      if (error.name === "AbortError") return;
      element = failure(error, { again: () => ((shown = null), show(name)) });
    }
    if (!signal.aborted) put(panel, element);
  };
  const choose = (name) => {
    const tab = name === "overview" ? null : name;
    place.setQuery({ tab, sort: null, q: null, page: null, trial: null, kind: null, compare: null }, { push: true });
    show(name);
  };
  const bar = tabs(
    "Parts of the experiment",
    NAMES.map((name) => [name, name[0].toUpperCase() + name.slice(1)]),
    "overview",
    choose,
  );
  const tabOf = (query) => (NAMES.includes(query.get("tab")) ? query.get("tab") : "overview");

  place.leaving(() => leave?.abort());
  const step = (by) => choose(NAMES.at((NAMES.indexOf(shown) + by) % NAMES.length));
  bind("]", "go to the next tab", () => step(1), place.signal);
  bind("[", "go to the previous tab", () => step(-1), place.signal);
  NAMES.forEach((name, at) => bind(String(at + 1), `open the tab ${name}`, () => choose(name), place.signal));
  model.on(() => header.show(), place.signal);
  header.show();
  await show(tabOf(place.query));
  model.follow();
  return {
    element: h("div", { class: "page" }, header.element, bar.element, panel),
    queried: (query, before) => {
      const name = tabOf(query);
      const changed = [...new Set([...query.keys(), ...before.keys()])].filter(
        (key) => query.get(key) !== before.get(key),
      );
      if (name === shown && changed.every((key) => figures.has(key.split(".")[0]))) {
        for (const [figure, restore] of figures) if (changed.some((key) => key.startsWith(`${figure}.`))) restore();
        return;
      }
      if (name === shown) shown = null;
      show(name);
    },
  };
}

/**
 * Make a figure whose options are in the address. If the address has none, the first one of its kind gets the options
 * that the user has chosen in this browser before.
 */
function makeFigure({ model, listed, place, signal, figures, known }, name, { onChoice, defaults = {}, ...how }) {
  const isFirst = !known.has(name);
  known.add(name);
  const key = (option) => `${name}.${option}`;
  const figure = new Figure({
    ...how,
    path: `${model.path}/figures/${name}`,
    signal,
    ready: listed.then((all) => set(controlsOf(all.find((each) => each.name === name)?.options))),
    onChoice: (option, value) => {
      if (typeof value !== "boolean") chosen.set(name, option, value);
      place.setQuery({ [key(option)]: value }, { push: true });
      onChoice?.(option, value);
    },
  });
  figures.set(name, () => {
    figure.restore(Object.fromEntries(figure.given.map((control) => [control.name, valueOf(control)])));
    for (const control of figure.given) onChoice?.(control.name, valueOf(control) ?? control.value);
  });
  function valueOf(control, usual = null) {
    const value = place.query.get(key(control.name)) ?? usual;
    const allowed = control.values?.map((each) => String(Array.isArray(each) ? each[0] : each)) ?? ["true", "false"];
    return value !== null && allowed.includes(String(value)) ? value : null;
  }
  function set(controls) {
    for (const control of controls) {
      control.value = defaults[control.name] ?? control.value;
      const usual = isFirst ? chosen.get(name, control.name) : null;
      const value = valueOf(control, usual);
      if (value !== null && String(value) !== String(control.value)) {
        figure.query[control.name] = value;
        place.setQuery({ [key(control.name)]: value });
      }
      onChoice?.(control.name, value ?? control.value);
    }
    figure.setControls(controls);
  }
  model.on((delta) => {
    if (Model.moved(delta) || delta.experiment?.state) figure.touch();
  }, signal);
  return figure;
}

/** A link to the experiment from whose file this one was started, and what was changed. */
function forkTag({ source, provenance }) {
  const { changed = [] } = provenance;
  const title = changed.length ? `Changed: ${changed.join(", ")}` : null;
  return h("a", { class: "tag", href: `/experiments/${source}`, title }, `forked from #${source}`);
}

class Header {
  constructor(model, place) {
    this.model = model;
    this.place = place;
    this.state = null;
    this.title = h("h1");
    this.badge = badge(model.data.state);
    this.labels = h("span", { class: "labels" });
    this.about = h("p", { class: "muted about" });
    this.controls = h("div", { class: "actions" });
    this.progress = new Progress("Progress of the experiment");
    this.done = h("b");
    this.left = h("span", { class: "muted" });
    this.notices = h("div", { class: "notices" });
    this.best = new Fact("Best so far");
    this.trials = new Fact("Trials");
    this.busy = new Fact("Workers busy", { title: "Fraction of the workers' time in which they trained" });
    this.ran = new Fact("Run time");
    this.trained = new Fact("Trained");
    this.share = menu("Share", place.signal, "ghost");
    this.fork = h("a", { class: "button ghost", href: `/preview?from=${model.id}` }, "New search…");
    mark(this.fork, "title", "Preview the experiment file, change it, and run it as a new search");
    const above = crumbs([["/", "Experiments"], [`/experiments/${model.id}`, `#${model.id}`]]);
    const actions = h("div", { class: "actions" }, this.controls, this.fork, this.share.element);
    const title = h("div", { class: "title" }, above, this.title, this.badge, this.labels);
    this.element = h(
      "div",
      { class: "experiment-head" },
      h("div", { class: "page-head" }, title, actions),
      this.about,
      this.notices,
      (this.far = h("div", { class: "far" }, this.progress.element, h("span", null, this.done, " ", this.left))),
      factList(this.best, this.trials, this.busy, this.ran, this.trained),
    );
    const clock = setInterval(() => this.tick(), 1000);
    place.leaving(() => clearInterval(clock));
  }

  show() {
    const { data } = this.model;
    if (this.state !== null && this.state !== data.state) announce(`The experiment is ${data.state}.`);
    this.state = data.state;
    write(this.title, data.name);
    rebadge(this.badge, data.state);
    this.#labels(data);
    const better = data.smaller_is_better ? "smaller" : "larger";
    const nodes = data.nodes.length > 1 ? `, on ${data.nodes.length} nodes` : "";
    const trials = `${format.count(data.trials_planned)} trials ${format.upTo(data.max_length, data.unit)}`;
    const method = data.mode ? `${data.method}, ${data.mode} mode,` : data.method;
    const about = `${method} on ${data.metric} (${better} is better), ${trials}, seed ${data.seed}${nodes}`;
    const isFinished = FINISHED.has(data.state);
    this.element.classList.toggle("finished", isFinished);
    write(this.best.label, isFinished ? "Best" : "Best so far");
    this.#share(data);
    this.fork.hidden = !data.config;
    write(this.about, data.description ? `${data.description} — ${about}` : about);
    this.#controls(data);
    this.#notices(data);
    this.progress.set(data.fraction, data.state);
    write(this.done, format.percent(data.fraction));
    const { best } = data;
    this.best.set(
      best ? format.number(best.metric) : format.NONE,
      best
        ? `${data.metric}, trial ${best.trial} at ${format.length(best.length, data.unit)}`
        : data.seen ? `no checkpoint with a ${data.metric}` : `no ${data.metric} yet`,
      bestLine(data),
    );
    // If no driver runs, a running trial does not train until the experiment is resumed.
    const words = (state) => (state === "running" && !this.model.runs ? "to resume" : state);
    const states = Object.entries(data.trials).map(([state, number]) => `${format.count(number)} ${words(state)}`);
    if (data.diverged) states.push(`${format.count(data.diverged)} diverged`);
    this.trials.set(format.created(data), states.join(", "));
    this.busy.set(
      format.percent(data.utilisation),
      this.model.runs ? `${format.count(data.slots_in_use)} of ${format.count(data.slots)} now` : "",
    );
    const repeated = data.length_repeated ? `, ${format.count(data.length_repeated)} repeated` : "";
    const expected = data.length_expected && !isFinished
      ? `of about ${format.count(Math.round(data.length_expected))}`
      : "";
    this.trained.set(format.length(data.length_trained, data.unit), `${expected}${repeated}`.replace(/^, /, ""));
    this.tick();
  }

  /** Update what changes every second. */
  tick() {
    const { data, since, runs } = this.model;
    this.ran.set(format.duration(data.seconds + since), `created ${format.time(data.created_at)}`);
    const left = runs && data.seconds_left !== null ? Math.max(0, data.seconds_left - since) : null;
    write(this.left, left === null ? "done" : `done, about ${format.roughly(left)} left`);
    this.far.classList.toggle("going", runs);
  }

  #share(data) {
    const { path } = this.model;
    const link = (words, file) =>
      h("a", { href: `/api/v1${path}/${file}`, download: "", class: "button ghost" }, words);
    const address = () => copy(location.href, "Link to this page");
    redraw(this.share.body, [data.config === ""], () => [
      link("Report (HTML)", "report.html"),
      link("Trials (CSV)", "trials.csv"),
      data.config ? link("Experiment file", "experiment.yaml") : null,
      button("Copy link", address, "ghost", { "data-closes": "" }),
    ]);
  }

  #labels(data) {
    redraw(this.labels, [data.labels, data.archived, data.source], () => [
      data.source === null ? null : forkTag(data),
      data.labels.map((label) => h("span", { class: "tag label" }, label)),
      data.archived ? h("span", { class: "tag" }, "archived") : null,
    ]);
  }

  #controls(data) {
    if (document.documentElement.hasAttribute("data-read-only")) return;
    const { can } = data;
    const change = (changes) => this.model.change(changes);
    redraw(this.controls, [can, data.archived], () => [
      can.pause && !can.activate ? button("Pause", () => this.#steer("pause")) : null,
      can.activate ? button("Resume", () => this.#steer("activate"), "primary") : null,
      can.set ? button("Settings…", () => this.#settings()) : null,
      can.add_trial ? button("Add trial…", () => this.#addTrial()) : null,
      can.extend ? button("Extend…", () => this.#extend(), can.set ? "ghost" : "") : null,
      can.cancel ? button("Cancel…", () => this.#end("cancel"), "warn") : null,
      can.kill ? button("Kill…", () => this.#end("kill"), "danger") : null,
      button("Rename…", () => this.#rename(), "ghost"),
      button("Labels…", () => editLabels(this.model.data, change), "ghost"),
      button(data.archived ? "Unarchive" : "Archive", () => archive(this.model.data, change), "ghost"),
    ]);
  }

  async #steer(what) {
    if (this.isRequesting) return;
    this.isRequesting = true;
    await attempt(() => this.#request(what), ({ state }) => done(what, state));
    this.isRequesting = false;
  }

  async #request(what) {
    const answer = await post(`${this.model.path}/${what}`);
    this.model.change({ state: answer.state });
    await this.model.load();
    this.model.tell({});
    return answer;
  }

  #end(what) {
    const { data } = this.model;
    const [verb, body] = {
      cancel: ["Cancel", "It stops permanently. Running trials save a checkpoint first, and all results stay."],
      kill: ["Kill", "It stops immediately and permanently. Running trials do not save a checkpoint."],
    }[what];
    ask({
      title: `${verb} experiment ${data.id}, ${data.name}?`,
      body,
      yes: `${verb} experiment`,
      no: "Keep running",
      danger: true,
      act: async () => {
        const { state } = await this.#request(what);
        toast(done(what, state));
      },
    });
  }

  #settings() {
    const { data } = this.model;
    const now = data.settings;
    const number = (name, value, more) => h("input", { type: "number", name, value: value ?? "", ...more });
    const count = (name, min) => number(name, now[name], { min, step: 1, required: true });
    const atOnce = count("max_concurrent_trials", 0);
    const trials = count("max_trials", 1);
    const invalid = count("max_invalid_trials", 1);
    const again = count("replicates", 0);
    const metric = number("metric_at", now.metric_at, { step: "any" });
    const hours = number("max_time", now.max_time && now.max_time / HOUR, { step: "any", min: 0 });
    const size = number("max_size", now.max_size && now.max_size / GB, { step: "any", min: 0 });
    const goal = `Stop when ${data.metric} reaches this value. Leave empty for no target.`;
    const limit = "The experiment can be resumed later. Leave empty for no limit.";
    ask({
      title: `Settings of experiment ${data.id}`,
      body: [
        field(
          "Trials at once",
          atOnce,
          "Number of trials that train at the same time; 0 for as many as there are slots.",
          "max_concurrent_trials",
        ),
        isFixed(data) ? null : field("Total number of trials", trials, "Replicates are not counted.", "max_trials"),
        field("Limit of invalid trials", invalid, INVALID, "max_invalid_trials"),
        canReplicate(data) ? field("Replicates", again, REPLICATES, "replicates") : null,
        field(`Target of ${data.metric}`, metric, goal, "metric_at"),
        field("Maximum run time in hours", hours, limit, "max_time"),
        field("Maximum size of all checkpoints in GB", size, "Leave empty for no limit.", "max_size"),
      ],
      yes: "Change",
      act: async () => {
        const wanted = {
          max_concurrent_trials: Number(atOnce.value),
          max_trials: Number(trials.value),
          max_invalid_trials: Number(invalid.value),
          replicates: Number(again.value),
          metric_at: metric.value === "" ? null : Number(metric.value),
          max_time: hours.value === "" ? null : Number(hours.value) * HOUR,
          max_size: size.value === "" ? null : Math.round(Number(size.value) * GB),
        };
        const changes = Object.fromEntries(Object.entries(wanted).filter(([name, value]) => value !== now[name]));
        if (Object.keys(changes).length === 0) return;
        const { settings } = await patch(`${this.model.path}/settings`, changes);
        const words = Object.keys(changes).map((name) => settingText(name, settings[name])).join(", ");
        const isRaised = settings.max_concurrent_trials > atOnce.valueAsNumber && atOnce.valueAsNumber > 0;
        // The message comes before the page is loaded again, because an event can abort that request.
        toast(`${words}${isRaised ? ": every bracket needs one trial" : ""}.`);
        await this.model.load();
        this.model.tell({});
      },
    });
  }

  #addTrial() {
    const { data } = this.model;
    const inputs = data.searched.map((each) => [each, each.choices ? choiceInput(each) : numberInput(each)]);
    const value = ({ choices }, input) => (choices ? choices[Number(input.value)] : Number(input.value));
    // A condition is not met if it refers to a field with another value, or to one that is disabled itself.
    const update = () => {
      for (let turn = 0; turn < inputs.length; turn++) {
        for (const [each, input] of inputs) {
          input.disabled = each.when.some(([name, sign, values]) => {
            const [other, from] = inputs.find(([{ name: known }]) => known === name) ?? [];
            return from && (from.disabled || (from.value !== "" && !passes(value(other, from), sign, values)));
          });
        }
      }
    };
    for (const [, input] of inputs) input.addEventListener("input", update);
    const constraints = data.constraints.map((each) => h("li", null, h("code", null, each)));
    const isFull = data.trials_created >= data.trials_planned;
    const extra = checkbox("Extra: one trial more than max_trials", isFull, () => {});
    const outside = checkbox(OUTSIDE, false, () => {});
    ask({
      title: `Add a trial to experiment ${data.id}`,
      body: [
        h("p", null, "It is the next new trial of the first bracket that creates one. Empty fields are drawn."),
        inputs.map(([each, input]) => field(each.name, input, hintOf(each))),
        constraints.length ? [h("p", null, "The values must satisfy:"), h("ul", null, constraints)] : null,
        extra,
        outside,
      ],
      yes: "Add trial",
      act: async () => {
        const filled = inputs.filter(([, input]) => input.value !== "" && !input.disabled);
        const hparams = Object.fromEntries(filled.map(([each, input]) => [each.name, value(each, input)]));
        const [isExtra, isOutside] = [extra, outside].map((each) => each.querySelector("input").checked);
        try {
          await post(`${this.model.path}/trials`, { hparams, extra: isExtra, strict: !isOutside });
        } catch (error) {
          throw isOutside ? error : Object.assign(error, { otherwise: `select “${OUTSIDE}”` });
        }
        toast("The trial is added.");
        await this.model.load();
        this.model.tell({});
      },
    });
  }

  #extend() {
    const { data } = this.model;
    const trials = h("input", { type: "number", name: "max_trials", min: data.trials_planned + 1, step: 1 });
    const length = h("input", { type: "number", name: "max_length", min: data.max_length + 1, step: 1 });
    const least = data.settings.replicates + 1;
    const again = h("input", { type: "number", name: "replicates", min: least, step: 1 });
    const now = (value) => `Now ${value}. Leave empty for no change.`;
    const nowAgain = `${REPLICATES} ${now(format.count(data.settings.replicates))}`;
    ask({
      title: `Extend the search of experiment ${data.id}`,
      body: [
        isFixed(data)
          ? null
          : field("Total number of trials", trials, now(format.count(data.trials_planned)), "max_trials"),
        data.max_length === null
          ? null
          : field(`Full length in ${data.unit}`, length, now(format.count(data.max_length)), "max_length"),
        canReplicate(data) ? field("Replicates", again, nowAgain, "replicates") : null,
        h(
          "p",
          { class: "muted" },
          "Trials continue from their checkpoints. Schedules that are tied to the former max_length, such as learning ",
          "rate schedules, end there. Time and cost: ",
          h("code", null, `ashwood extend ${data.id} --dry-run …`),
        ),
      ],
      yes: "Extend and run",
      act: async () => {
        const wanted = {
          max_trials: trials.value === "" ? null : Number(trials.value),
          max_length: length.value === "" ? null : Number(length.value),
          replicates: again.value === "" ? null : Number(again.value),
        };
        if (Object.values(wanted).every((value) => value === null)) throw new Error("Enter at least one new value.");
        const { can } = await post(`${this.model.path}/extend`, wanted);
        if (can.activate) await post(`${this.model.path}/activate`);
        toast("The search is extended.");
        await this.model.load();
        this.model.tell({});
      },
    });
  }

  #rename() {
    const { data } = this.model;
    const input = h("input", { type: "text", value: data.name, required: true, maxlength: 200, autofocus: true });
    ask({
      title: `Rename experiment ${data.id}`,
      body: field("Name", input),
      yes: "Rename",
      act: async () => {
        await patch(this.model.path, { name: input.value });
        this.model.change({ name: input.value });
      },
    });
  }

  #notices(data) {
    const { warnings, why_ended: why, state, damage } = data;
    const read = data.read < 1 ? format.percent(data.read) : null;
    const notice = (kind, title, ...words) => h("div", { class: `notice ${kind}` }, h("b", null, title), " ", words);
    const resume = () => commandLine(`ashwood resume ${data.id}`);
    redraw(this.notices, [warnings, why, state, damage, read], () => [
      read ? notice("", "Reading the event log:", `${read} so far. The page shows the state at that point.`) : null,
      damage ? notice("bad", "The event log is damaged:", damage) : null,
      why && state === "errored" ? notice("bad", "The experiment is errored:", why) : null,
      why && state === "canceled" ? notice("", "The experiment is canceled:", why) : null,
      state === "interrupted"
        ? notice(
          "bad",
          "The driver process has stopped.",
          "No recorded results are lost; resuming continues from the latest checkpoints.",
          resume(),
        )
        : null,
      state === "paused" || state === "stopped"
        ? notice("", `The experiment is ${standing(state, why)}.`, "It can be resumed.", resume())
        : null,
      warnings.length
        ? h(
          "details",
          { class: "notice warn" },
          h("summary", { class: "clip" }, h("b", null, warningCount(warnings.length)), warnings.at(-1)),
          h("ul", null, warnings.map((warning) => h("li", null, warning))),
        )
        : null,
    ]);
  }
}

/** Return whether the search has as many trials as its space says. */
function isFixed({ method }) {
  return method === "grid" || method === "single";
}

/** Return whether trials have a full length, which replicates need. */
function canReplicate({ max_length: length }) {
  return length !== null;
}

function numberInput({ name, whole }) {
  return h("input", { type: "number", name, step: whole ? 1 : "any", placeholder: "drawn" });
}

function choiceInput({ name, choices }) {
  const text = (value) => (typeof value === "string" ? value : JSON.stringify(value));
  const options = choices.map((value, at) => h("option", { value: at }, text(value)));
  return h("select", { name }, h("option", { value: "" }, "drawn"), options);
}

/** Return the range of a hyperparameter and the conditions under which a trial has it. */
function hintOf({ choices, least, most, step, ordered, when }) {
  const conditions = when.map(([name, sign, values]) => {
    const words = values.map((each) => (typeof each === "string" ? each : JSON.stringify(each))).join(" or ");
    return `only if ${name} ${sign} ${words}`;
  });
  const range = choices ? [ordered ? "ordered" : null] : [
    `${format.number(least)} to ${format.number(most)}`,
    step ? `step ${format.number(step)}` : null,
  ];
  return [...range, ...conditions].filter(Boolean).join(", ") || null;
}

/** Return whether a value passes the test of a condition. */
function passes(value, sign, values) {
  if (sign === "<") return value < values[0];
  if (sign === "<=") return value <= values[0];
  if (sign === ">") return value > values[0];
  if (sign === ">=") return value >= values[0];
  return values.includes(value) === (sign === "=");
}

function warningCount(number) {
  return number > 1 ? `${number} warnings: ` : "Warning: ";
}

/** Return the state and its reason; a reason such as "paused on request" contains the state. */
function standing(state, why) {
  if (!why) return state;
  return why.startsWith(`${state} `) ? why : `${state}: ${why}`;
}

function settingText(name, value) {
  if (name === "max_time") return `max_time is now ${value === null ? "unlimited" : format.duration(value)}`;
  if (name === "max_size" && value !== null) return `max_size is now ${format.bytes(value)}`;
  return `${name} is now ${value ?? "not set"}`;
}

function done(what, state) {
  const words = {
    pause: "Pause requested",
    activate: "Resumed",
    cancel: "Cancellation requested",
    kill: "Kill requested",
  }[what];
  return `${words}. The experiment is now ${state}.`;
}
