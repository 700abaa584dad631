/** The page of an experiment: its description, its state, and tabs with everything else. */

import { get, patch, post } from "../api.js";
import { ask, attempt, toast } from "../dialog.js";
import { announce, h, put, write } from "../dom.js";
import { chosen, controlsOf, Figure } from "../figure.js";
import * as format from "../format.js";
import { bind } from "../keys.js";
import { Model } from "../model.js";
import { badge, commandLine, Fact, failure, Progress, rebadge, seenLine, tabs } from "../parts.js";
import { go } from "../router.js";
import { budget, timeline } from "./charts.js";
import config from "./config.js";
import curves from "./curves.js";
import events from "./events.js";
import { editLabels } from "./experiments.js";
import hyperparameters from "./hyperparameters.js";
import overview from "./overview.js";
import trials from "./trials.js";

const TABS = { overview, trials, curves, hyperparameters, timeline, budget, events, config };
const NAMES = Object.keys(TABS);
const HOUR = 3_600;

/**
 * @typedef {object} Tab what a tab is given
 * @property {Model} model
 * @property {AbortSignal} signal aborted when the tab is left
 * @property {import("../router.js").Place} place
 * @property {(name: string, how?: object) => Figure} figure one of the experiment's
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
  let shown = null;
  let leave = null;

  const show = async (name) => {
    if (name === shown) return;
    shown = name;
    leave?.abort();
    leave = new AbortController();
    const { signal } = leave;
    place.title(`${model.data.name} (#${id})${name === "overview" ? "" : `, ${name}`}`);
    bar.move(name);
    panel.setAttribute("aria-labelledby", `tab-${name}`);
    const tab = {
      model,
      signal,
      place,
      openTrial: (trial) => go(`/experiments/${id}/trials/${trial}`),
      figure: (figure, how) => makeFigure(model, listed, figure, how, signal),
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
    place.setQuery(
      { tab: name === "overview" ? null : name, sort: null, q: null, page: null, trial: null },
      { push: true },
    );
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
  bind("]", "the next tab", () => choose(NAMES[(NAMES.indexOf(shown) + 1) % NAMES.length]), place.signal);
  bind(
    "[",
    "the tab before",
    () => choose(NAMES[(NAMES.indexOf(shown) + NAMES.length - 1) % NAMES.length]),
    place.signal,
  );
  NAMES.forEach((name, at) => bind(String(at + 1), `tab ${name}`, () => choose(name), place.signal));
  model.on(() => header.show(), place.signal);
  header.show();
  await show(tabOf(place.query));
  model.follow();
  return {
    element: h("div", { class: "page" }, header.element, bar.element, panel),
    queried: (query) => {
      const name = tabOf(query);
      if (name === shown) shown = null;
      show(name);
    },
  };
}

/** A figure as the server lists it, with what was chosen of it in this browser before. */
function makeFigure(model, listed, name, { onChoice, ...how }, signal) {
  const figure = new Figure({
    ...how,
    path: `${model.path}/figures/${name}`,
    signal,
    ready: listed.then((all) => set(controlsOf(all.find((each) => each.name === name)?.options))),
    onChoice: (option, value) => {
      chosen.set(name, option, value);
      onChoice?.(option, value);
    },
  });
  function set(controls) {
    for (const control of controls) {
      const before = chosen.get(name, control.name);
      const known = control.values?.map((each) => String(Array.isArray(each) ? each[0] : each)) ?? ["true", "false"];
      if (known.includes(String(before))) control.value = before;
      onChoice?.(control.name, control.value);
    }
    figure.setControls(controls);
  }
  model.on((delta) => {
    if (Model.moved(delta) || delta.experiment?.state) figure.touch();
  }, signal);
  return figure;
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
    this.busy = new Fact("Workers busy", { title: "Share of the workers' time in which they trained" });
    this.ran = new Fact("Ran for");
    this.trained = new Fact("Trained");
    this.reports = new Fact("Reports");
    this.element = h(
      "div",
      { class: "experiment-head" },
      h(
        "nav",
        { class: "crumbs", "aria-label": "Where this is" },
        h("a", { href: "/" }, "Experiments"),
        h("span", { "aria-hidden": "true" }, "/"),
        h("span", null, `#${model.id}`),
      ),
      h(
        "div",
        { class: "page-head" },
        h("div", { class: "title" }, this.title, this.badge, this.labels),
        this.controls,
      ),
      this.about,
      this.notices,
      (this.far = h("div", { class: "far" }, this.progress.element, h("span", null, this.done, " ", this.left))),
      h("dl", { class: "facts" }, [this.best, this.trials, this.busy, this.ran, this.trained, this.reports].map(
        (fact) => fact.element,
      )),
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
    const nodes = data.nodes?.length > 1 ? `, on ${data.nodes.length} nodes` : "";
    const trials = `${format.count(data.trials_planned)} trials up to ${format.length(data.max_length, data.unit)}`;
    const about = `${data.method} on ${data.metric} (${better} is better), ${trials}, seed ${data.seed}${nodes}`;
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
      seenLine(data.seen, data, best),
    );
    const states = Object.entries(data.trials ?? {}).filter(([, number]) => number);
    this.trials.set(
      `${format.count(data.trials_created)} of ${format.count(data.trials_planned)}`,
      states.map(([state, number]) => `${format.count(number)} ${this.#words(state)}`).join(", "),
    );
    this.busy.set(
      format.percent(data.utilisation),
      this.model.runs ? `${format.count(data.slots_in_use)} of ${format.count(data.slots)} now` : "",
    );
    const repeated = data.length_repeated ? `, ${format.count(data.length_repeated)} repeated` : "";
    const expected = data.length_expected ? `of about ${format.count(Math.round(data.length_expected))}` : "";
    this.trained.set(format.length(data.length_trained, data.unit), `${expected}${repeated}`.replace(/^, /, ""));
    const failed = data.failed_attempts;
    this.reports.set(
      format.count(data.reports),
      failed ? `${format.count(failed)} failed ${format.plural(failed, "attempts")}` : "",
    );
    this.tick();
  }

  /** What changes by the second. */
  tick() {
    const { data, since } = this.model;
    this.ran.set(
      data.seconds === null || data.seconds === undefined ? format.NONE : format.duration(data.seconds + since),
      `created ${format.time(data.created_at)}`,
    );
    let words = "";
    if (this.model.runs && data.seconds_left !== null && data.seconds_left !== undefined) {
      words = `done, about ${format.roughly(Math.max(0, data.seconds_left - since))} left`;
    } else words = "done";
    write(this.left, words);
    this.far.classList.toggle("going", this.model.runs);
  }

  /** Return the words for a trial's state; without a driver, a running trial only resumes later. */
  #words(state) {
    return state === "running" && !this.model.runs ? "to go on" : state;
  }

  #labels(data) {
    const key = JSON.stringify([data.labels, data.archived]);
    if (this.labels.dataset.shown === key) return;
    this.labels.dataset.shown = key;
    put(
      this.labels,
      data.labels.map((label) => h("span", { class: "tag label" }, label)),
      data.archived ? h("span", { class: "tag" }, "archived") : null,
    );
  }

  #controls(data) {
    const may = data.can ?? {};
    const key = JSON.stringify([may, data.archived, data.labels, data.name]);
    if (this.controls.dataset.shown === key) return;
    this.controls.dataset.shown = key;
    const isReadOnly = document.documentElement.hasAttribute("data-read-only");
    if (isReadOnly) return put(this.controls);
    const button = (words, act, kind = "") => h("button", { type: "button", class: kind, onclick: act }, words);
    const had = this.controls.contains(document.activeElement) ? document.activeElement.textContent : null;
    put(
      this.controls,
      may.pause && !may.activate ? button("Pause", () => this.#steer("pause")) : null,
      may.activate ? button("Go on", () => this.#steer("activate"), "primary") : null,
      may.set ? button("Settings…", () => this.#settings()) : null,
      may.cancel ? button("Cancel…", () => this.#end("cancel"), "warn") : null,
      may.kill ? button("Kill…", () => this.#end("kill"), "danger") : null,
      button("Rename…", () => this.#rename(), "ghost"),
      button("Labels…", () => editLabels(this.model.data, (changes) => this.model.change(changes)), "ghost"),
      button(data.archived ? "Unarchive" : "Archive", () => this.#archive(), "ghost"),
    );
    if (had) [...this.controls.children].find((each) => each.textContent === had)?.focus();
  }

  async #steer(what) {
    if (this.steers) return;
    this.steers = true;
    await attempt(() => this.#ask(what), ({ state }) => told(what, state));
    this.steers = false;
  }

  async #ask(what) {
    const answer = await post(`${this.model.path}/${what}`);
    if (answer.state) this.model.change({ state: answer.state });
    await this.model.load();
    this.model.tell({});
    return answer;
  }

  #end(what) {
    const { data } = this.model;
    const body = {
      cancel: "It ends for good. Trials that train now save a checkpoint first; what was found stays.",
      kill: "It ends for good, at once. Trials that train now lose what they did since their last checkpoint.",
    }[what];
    ask({
      title: `${what === "kill" ? "Kill" : "Cancel"} experiment ${data.id}, ${data.name}?`,
      body,
      yes: what === "kill" ? "Kill it" : "Cancel it",
      danger: true,
      act: async () => {
        const { state } = await this.#ask(what);
        toast(told(what, state));
      },
    });
  }

  #settings() {
    const { data } = this.model;
    const now = data.settings ?? {};
    const number = (name, least) => h("input", {
      type: "number",
      min: least,
      step: 1,
      name,
      value: now[name] ?? "",
      required: true,
    });
    const atOnce = number("max_concurrent_trials", 0);
    const trials = number("max_trials", 1);
    const invalid = number("max_invalid_trials", 1);
    const bound = (name, value, least) =>
      h("input", { type: "number", step: "any", min: least, name, value: value ?? "" });
    const metric = bound("metric_at", now.metric_at, null);
    const hours = bound("max_hours", now.max_seconds && now.max_seconds / HOUR, 0);
    ask({
      title: `Settings of experiment ${data.id}`,
      body: h(
        "div",
        null,
        h(
          "label",
          { class: "field" },
          h("span", null, "max_concurrent_trials"),
          atOnce,
          h("small", null, "How many trials train at once; 0: as many as there is room for."),
        ),
        h(
          "label",
          { class: "field" },
          h("span", null, "max_trials"),
          trials,
          h("small", null, "How many trials it creates in all."),
        ),
        h(
          "label",
          { class: "field" },
          h("span", null, "max_invalid_trials"),
          invalid,
          h("small", null, "It pauses when this number of trials have declared their hyperparameters invalid."),
        ),
        h(
          "label",
          { class: "field" },
          h("span", null, "stop_when: metric_at"),
          metric,
          h("small", null, `A ${data.metric} that is enough: it ends then. Empty: none is.`),
        ),
        h(
          "label",
          { class: "field" },
          h("span", null, "stop_when: max_time, in hours"),
          hours,
          h("small", null, "How long it may run in all: it stops then, and can go on. Empty: as long as it takes."),
        ),
      ),
      yes: "Change",
      act: async () => {
        const wanted = {
          max_concurrent_trials: Number(atOnce.value),
          max_trials: Number(trials.value),
          max_invalid_trials: Number(invalid.value),
          metric_at: metric.value === "" ? null : Number(metric.value),
          max_seconds: hours.value === "" ? null : Number(hours.value) * HOUR,
        };
        const changed = ([name, value]) => value !== (now[name] ?? null);
        const changes = Object.fromEntries(Object.entries(wanted).filter(changed));
        if (Object.keys(changes).length === 0) return;
        const { settings } = await patch(`${this.model.path}/settings`, changes);
        const words = Object.keys(changes).map((name) => setTo(name, settings[name])).join(", ");
        const isRaised = settings.max_concurrent_trials > atOnce.valueAsNumber && atOnce.valueAsNumber > 0;
        // Before the page loads anew: that is aborted if an event makes it load once more.
        toast(`${words}${isRaised ? ": every bracket needs one" : ""}.`);
        await this.model.load();
        this.model.tell({});
      },
    });
  }

  #rename() {
    const { data } = this.model;
    const field = h("input", { type: "text", value: data.name, required: true, maxlength: 200, autofocus: true });
    ask({
      title: `Rename experiment ${data.id}`,
      body: h("label", { class: "field" }, h("span", null, "Name"), field),
      yes: "Rename",
      act: async () => {
        await patch(this.model.path, { name: field.value });
        this.model.change({ name: field.value });
      },
    });
  }

  async #archive() {
    const to = !this.model.data.archived;
    await attempt(async () => {
      await patch(this.model.path, { archived: to });
      this.model.change({ archived: to });
    }, to ? "It is archived: hidden from the list, and nothing of it is lost." : "It is no longer archived.");
  }

  #notices(data) {
    const read = data.read < 1 ? format.percent(data.read) : null;
    const key = JSON.stringify([data.warnings, data.why_ended, data.state, data.damage, read]);
    if (this.notices.dataset.shown === key) return;
    this.notices.dataset.shown = key;
    const notice = (kind, ...words) => h("div", { class: `notice ${kind}` }, ...words);
    const warnings = data.warnings ?? [];
    const several = warnings.length > 1 ? `${warnings.length} warnings: ` : "Warning: ";
    put(
      this.notices,
      read
        ? notice("", h("b", null, "Its record is being read: "), `${read} so far. What is shown is as of then.`)
        : null,
      data.damage ? notice("bad", h("b", null, "Its record is damaged: "), data.damage) : null,
      data.why_ended && (data.state === "errored" || data.state === "canceled")
        ? notice(data.state === "errored" ? "bad" : "", h("b", null, `It is ${data.state}: `), data.why_ended)
        : null,
      data.state === "interrupted"
        ? notice(
          "bad",
          h("b", null, "Its driver is gone. "),
          "Nothing that was recorded is lost; it goes on from its latest checkpoints.",
          commandLine(`ashwood resume ${data.id}`),
        )
        : null,
      data.state === "paused" || data.state === "stopped"
        ? notice(
          "",
          h("b", null, `It is ${standing(data.state, data.why_ended)}. `),
          "It goes on where it stands.",
          commandLine(`ashwood resume ${data.id}`),
        )
        : null,
      warnings.length
        ? h(
          "details",
          { class: "notice warn" },
          h("summary", { class: "clip" }, h("b", null, several), warnings.at(-1)),
          h("ul", null, warnings.map((warning) => h("li", null, warning))),
        )
        : null,
    );
  }
}

/** Why it paused or stopped; a reason such as "paused on request" says the state itself. */
function standing(state, why) {
  if (!why) return state;
  return why.startsWith(`${state} `) ? why : `${state}: ${why}`;
}

function setTo(name, value) {
  if (name === "max_seconds") return `max_time is ${value === null ? "not bounded" : format.duration(value)} now`;
  return `${name} is ${value ?? "not bounded"} now`;
}

function told(what, state) {
  const words = {
    pause: "Asked to pause",
    activate: "It goes on",
    cancel: "Asked to cancel",
    kill: "Asked to kill",
  }[what];
  return `${words}. The experiment is ${state ?? "asked"} now.`;
}
