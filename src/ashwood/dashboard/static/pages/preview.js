/** The preview: what the search of an experiment file will do. */

import { get, post } from "../api.js";
import { ask, attempt, toast } from "../dialog.js";
import { button, debounce, h, keptInTab, put } from "../dom.js";
import * as format from "../format.js";
import { card, commandLine, crumbs, empty, failure, field, plainTable } from "../parts.js";
import { go } from "../router.js";

const ASSUMPTIONS = [
  ["workers", "Workers", 1, "Number of trials that can train at once"],
  ["unit_seconds", "Seconds per unit", "any", "Average time that training for one unit of max_length takes"],
  ["cost_per_worker_hour", "Cost per worker-hour", "any", "Cost of one worker per hour, in any currency"],
  ["checkpoint_bytes", "Checkpoint size in MB", "any", "Size of a checkpoint, to estimate the disk space", 1_000_000],
];
const UNITS = [[1, "s"], [60, "min"], [3_600, "h"], [86_400, "d"]];
const SIZES = [[1, "B"], [1e3, "kB"], [1e6, "MB"], [1e9, "GB"], [1e12, "TB"]];
const EXAMPLE = `name: digits
entrypoint: train:train
hyperparameters:
  learning_rate: {type: log, minval: -5, maxval: -1}
  hidden: {type: int, minval: 16, maxval: 512}
  optimizer: {type: categorical, vals: [sgd, adam]}
searcher:
  name: adaptive_asha
  metric: accuracy
  smaller_is_better: false
  max_length: {epochs: 64}
  max_trials: 100
  max_concurrent_trials: 8
`;

/** @param {import("../router.js").Place} place */
export default async function previewPage(place) {
  place.title("Preview");
  const source = await sourceOf(place);
  const editor = new Editor((text) => changed(text));
  const messages = h("div", { class: "problems", role: "status" });
  const inputs = ASSUMPTIONS.map(([name, , step, title]) =>
    h("input", { type: "number", name, min: step === 1 ? 1 : 0, step, title, value: source?.known[name] ?? "" }),
  );
  const assumptions = () => {
    const valid = inputs.filter((input) => input.value && input.validity.valid);
    const factors = Object.fromEntries(ASSUMPTIONS.map(([name, , , , factor]) => [name, factor ?? 1]));
    return Object.fromEntries(valid.map((input) => [input.name, Number(input.value) * factors[input.name]]));
  };
  const plan = h("div", { class: "plan" });
  const question = () => ({ text: editor.area.value, ...assumptions() });
  const deadline = new Deadline(question, (text) => editor.set(text), place);
  let asked = 0;
  let request = null;

  const look = async (text) => {
    const mine = ++asked;
    request?.abort();
    request = new AbortController();
    if (!text.trim()) {
      put(messages);
      editor.marks([]);
      const title = "Paste an experiment file, open one, or drop it here.";
      const words = "Its plan appears here: brackets, rungs, and the number of trials that reach each length.";
      const example = button("Insert example", () => editor.set(EXAMPLE));
      put(plan, h("div", { class: "card" }, empty(title, words, example)));
      return;
    }
    plan.setAttribute("aria-busy", "true");
    const waiting = h("div", { class: "card" }, h("p", { class: "muted" }, "Simulating searches…"));
    if (!plan.querySelector("#plan")) put(plan, waiting);
    try {
      const answer = await post("/preview", { text, ...assumptions() }, { signal: request.signal });
      if (mine !== asked) return;
      const { problems, warnings } = answer;
      editor.marks(problems);
      const warn = (warning) => h("div", { class: "notice warn" }, h("b", null, "Warning: "), warning);
      put(messages, problems.length ? problemList(problems, editor) : null, warnings.map(warn));
      const instead = (words) => put(plan, h("div", { class: "card" }, h("p", { class: "muted" }, words)));
      if (answer.ok && answer.plan) showPlan(plan, answer);
      else if (answer.too_large) instead(answer.too_large);
      else instead("The plan appears here when the problems are solved.");
      if (answer.ok) {
        plan.append(deadline.element);
        // A search that can be started here is started near its plan.
        const run = runCard(text, answer, source);
        if (source) plan.firstElementChild.after(run);
        else deadline.element.before(run);
      }
    } catch (error) {
      if (error.name === "AbortError" || mine !== asked) return;
      put(messages, failure(error, { again: () => look(text) }));
    } finally {
      if (mine === asked) plan.removeAttribute("aria-busy");
    }
  };
  const changed = debounce((text) => {
    keptInTab.set("preview", text);
    look(text);
  }, 350);
  place.leaving(() => (changed.stop(), request?.abort()));
  for (const input of inputs) input.addEventListener("input", () => changed(editor.area.value));

  const accept = { type: "file", accept: ".yaml,.yml,.txt" };
  const file = h("input", { ...accept, class: "unseen", tabindex: -1, "aria-label": "Experiment file" });
  const openFile = async (chosen) => {
    if (!chosen) return;
    if (chosen.size > 1_000_000) {
      const words = `${chosen.name} has ${format.bytes(chosen.size)}, which is too large for an experiment file.`;
      return put(messages, h("div", { class: "notice bad", role: "alert" }, words));
    }
    editor.set(await chosen.text());
  };
  file.addEventListener("change", () => {
    openFile(file.files[0]);
    file.value = "";
  });
  const element = h(
    "div",
    { class: "page preview-page" },
    h(
      "div",
      { class: "page-head" },
      h(
        "div",
        null,
        source ? crumbs([["/", "Experiments"], [`/experiments/${source.id}`, `#${source.id} ${source.name}`]]) : null,
        h("h1", null, source ? `New search from #${source.id} ${source.name}` : "Preview"),
        h("p", { class: "muted" }, "What a search will do before it runs. Nothing is stored on the server."),
      ),
      h(
        "div",
        { class: "actions" },
        button("Open a file…", () => file.click()),
        file,
        button("Clear", () => editor.set(""), "ghost"),
      ),
    ),
    h(
      "div",
      { class: "columns even" },
      h(
        "div",
        null,
        editor.element,
        h(
          "fieldset",
          { class: "given" },
          h("legend", null, "Estimate time, cost and disk space"),
          inputs.map((input, at) => field(ASSUMPTIONS[at][1], input)),
        ),
        messages,
      ),
      plan,
    ),
  );
  element.addEventListener("dragover", (event) => {
    event.preventDefault();
    element.classList.add("dropping");
  });
  element.addEventListener("dragleave", () => element.classList.remove("dropping"));
  element.addEventListener("drop", (event) => {
    event.preventDefault();
    element.classList.remove("dropping");
    openFile(event.dataTransfer.files[0]);
  });
  const before = source?.text ?? keptInTab.get("preview") ?? "";
  editor.set(before, { silent: true });
  look(before);
  return { element };
}

/** Return the experiment whose file is previewed, or null. */
async function sourceOf(place) {
  const id = Number(place.query.get("from"));
  if (!Number.isInteger(id) || id < 1) return null;
  const path = `/experiments/${id}`;
  const [{ name, workdir }, { text }, measured] = await Promise.all([
    get(path, { signal: place.signal }),
    get(`${path}/fork`, { signal: place.signal }),
    get(`${path}/measured`, { signal: place.signal }),
  ]);
  const seconds = measured.unit_seconds && Number(measured.unit_seconds.toPrecision(3));
  return { id, name, text, workdir, known: { workers: measured.workers, unit_seconds: seconds } };
}

/** How to run the file: a button if it is that of an experiment, a download and the commands. */
function runCard(text, answer, source) {
  const { name } = answer;
  const file = `${(name || "experiment").replaceAll(/[^\w.-]+/g, "-")}.yaml`;
  const url = URL.createObjectURL(new Blob([text], { type: "application/yaml" }));
  const change = source?.workdir ? `cd ${quoted(source.workdir)} && ` : "";
  const mayStart = source?.text && !document.documentElement.hasAttribute("data-read-only");
  const save = source ? "save the file in the directory of the training code, then run:" : "save the file, then run:";
  const start = button("Start this search…", () => confirmStart(text, answer, source), "primary");
  return card(
    "Run this search",
    mayStart ? h("p", { class: "copies start" }, start) : null,
    h("p", null, mayStart ? `Or ${save}` : `${save[0].toUpperCase()}${save.slice(1)}`),
    h("p", { class: "copies" }, h("a", { class: "button small", href: url, download: file }, `Download ${file}`)),
    commandLine(`${change}ashwood run ${file}`),
  );
}

/** Ask whether to start a search, and start it. */
function confirmStart(text, { plan, name, unit }, source) {
  const { id } = source;
  const facts = [];
  if (plan) {
    const { total_trials: trials, settings, forecast } = plan;
    const length = format.upTo(settings.max_length, unit);
    facts.push(`${format.count(trials)} ${format.plural(trials, "trials")}, each ${length}.`);
    facts.push(forecast ? timeAndCost(forecast) : "The time is not known: enter seconds per unit to estimate it.");
  }
  ask({
    title: `Start ${name}?`,
    body: [
      facts.map((fact) => (typeof fact === "string" ? h("p", null, fact) : fact)),
      h("p", null, `It runs in the background, with the training code and the environment of experiment ${id}.`),
    ],
    yes: "Start search",
    no: "Cancel",
    act: async () => {
      const started = await post(`/experiments/${id}/fork`, { text });
      keptInTab.set("preview", null);
      go(`/experiments/${started.id}`);
      toast(`Experiment ${started.id} is ${started.state}.`);
    },
  });
}

function quoted(path) {
  return /^[\w./~-]+$/.test(path) ? path : `'${path.replaceAll("'", "'\\''")}'`;
}

/** Searches that end within a time limit. */
class Deadline {
  constructor(question, use, place) {
    Object.assign(this, { question, use, place });
    this.hours = h("input", { type: "number", name: "deadline_hours", min: 0, step: "any", required: true });
    this.found = h("div", { role: "status" });
    this.submit = h("button", { type: "submit" }, "Propose searches");
    const onsubmit = (event) => {
      event.preventDefault();
      attempt(() => this.#propose(), "Searches that fit are proposed.");
    };
    this.element = card(
      "Fit a time limit",
      h("form", { class: "deadline", onsubmit }, field("Time limit in hours", this.hours), this.submit),
      this.found,
    );
  }

  async #propose() {
    this.submit.disabled = true;
    put(this.found, h("p", { class: "muted" }, "Simulating searches…"));
    try {
      const body = { ...this.question(), deadline_hours: Number(this.hours.value) };
      const answer = await post("/preview", body, { signal: this.place.signal });
      const why = answer.too_tight ?? answer.too_large ?? answer.problems[0]?.message;
      put(this.found, why ? h("p", { class: "wrong" }, why) : this.#table(answer.fitting));
    } catch (error) {
      put(this.found);
      throw error;
    } finally {
      this.submit.disabled = false;
    }
  }

  #table(fitting) {
    const [one, unit] = unitOf(fitting.map((each) => each.seconds.high), UNITS);
    const label = (each) => ({ "aria-label": `Use ${each.name} with ${each.trials} trials` });
    const use = (each) => button("Use", () => this.use(each.text), "small", label(each));
    const row = (each) =>
      [each.name, format.count(each.trials), range(each.seconds, one), range(each.worker_hours, hours), use(each)];
    const heads = ["search", "trials", `time (${unit})`, "worker-hours", ""];
    const words = "Nine in ten simulated searches end within the limit. Random search has no early stopping.";
    return [
      h("div", { class: "scroll-x" }, plainTable("Searches that fit", heads, fitting.map(row), [1, 2, 3])),
      h("p", { class: "muted" }, words),
    ];
  }
}

function problemList(problems, editor) {
  const item = ({ line, key, message }) =>
    h(
      "li",
      null,
      line ? button(`line ${line}`, () => editor.show(line), "link") : null,
      key ? h("code", null, key) : null,
      h("span", null, message),
    );
  return h("ol", { class: "problem-list", "aria-label": "Problems" }, problems.map(item));
}

/** A text field with line numbers. Lines with problems are marked. */
class Editor {
  constructor(changed) {
    this.changed = changed;
    this.numbers = h("div", { class: "gutter", "aria-hidden": "true" });
    this.area = h("textarea", {
      spellcheck: "false",
      wrap: "off",
      autocapitalize: "off",
      autocomplete: "off",
      "aria-label": "Experiment file",
      "aria-describedby": "editor-hint",
      data: { filter: "" },
    });
    this.element = h(
      "div",
      { class: "editor" },
      this.numbers,
      this.area,
      h("span", { id: "editor-hint", class: "unseen" }, "YAML. Problems are listed after this field."),
    );
    this.bad = new Map();
    this.area.addEventListener("input", () => {
      this.#number();
      changed(this.area.value);
    });
    this.area.addEventListener("scroll", () => (this.numbers.scrollTop = this.area.scrollTop), { passive: true });
    this.#number();
  }

  set(text, { silent = false } = {}) {
    this.area.value = text;
    this.#number();
    if (!silent) this.changed(text);
  }

  /** @param {{line: number | null, message: string}[]} problems */
  marks(problems) {
    this.bad.clear();
    for (const { line, message } of problems) if (line) this.bad.set(line, message);
    this.area.setAttribute("aria-invalid", String(problems.length > 0));
    this.#number();
  }

  show(line) {
    const lines = this.area.value.split("\n");
    const from = lines.slice(0, line - 1).reduce((sum, each) => sum + each.length + 1, 0);
    this.area.focus();
    this.area.setSelectionRange(from, from + (lines[line - 1]?.length ?? 0));
    const height = parseFloat(getComputedStyle(this.area).lineHeight);
    this.area.scrollTop = Math.max(0, (line - 5) * height);
  }

  #number() {
    const lines = this.area.value.split("\n").length;
    const key = `${lines} ${[...this.bad.keys()]}`;
    if (this.key === key) return;
    this.key = key;
    put(
      this.numbers,
      Array.from(
        { length: lines },
        (_, at) => h("div", { class: this.bad.has(at + 1) ? "bad" : null, title: this.bad.get(at + 1) }, at + 1),
      ),
    );
    this.numbers.scrollTop = this.area.scrollTop;
  }
}

function showPlan(place, answer) {
  const { plan, unit } = answer;
  const command = h("code", null, "ashwood preview FILE --measure");
  const hint = ["Enter workers and seconds per unit to estimate time and cost; ", command, " measures them."];
  const isOpenEnded = plan.settings.max_length === null;
  put(
    place,
    headline(plan, answer, unit),
    isOpenEnded ? null : brackets(plan, unit),
    isOpenEnded ? null : lengths(plan, unit),
    plan.forecast ? forecast(plan) : h("p", { class: "muted hint" }, hint),
    plan.storage ? storage(plan.storage, unit) : null,
  );
}

/** Return a card with the disk space of checkpoints, with and without max_size. */
function storage({ checkpoints, bytes, max_size: limit, limited, limited_bytes: limitedBytes, repeated }, unit) {
  const row = (name, count, size, cost) => [name, range(count, format.count), range(size, format.bytes), cost];
  const rows = [row("without max_size", checkpoints, bytes, format.NONE)];
  if (limited) rows.push(row(`max_size ${format.bytes(limit)}`, limited, limitedBytes, range(repeated, format.count)));
  const hint = "Enter the size of a checkpoint to see the effect of max_size.";
  const heads = ["limit", "checkpoints at once", "disk space", `repeated training (${unit})`];
  return [
    tableCard("Checkpoints", heads, rows, [1, 2, 3]),
    limit !== null && !limited ? h("p", { class: "muted hint" }, hint) : null,
  ];
}

function headline(plan, answer, unit) {
  const { settings, full_length: full, total_length: total, audits } = plan;
  const atOnce = plan.max_concurrent_trials
    ? `${format.count(plan.max_concurrent_trials)} at once`
    : "as many at once as there are slots";
  const longest = format.length(settings.max_length, unit);
  const isOpenEnded = settings.max_length === null;
  const ending = "Training code decides how long each trial trains: a trial ends when its code returns.";
  const training = `${format.length(Math.round(total.middle), unit)}${between(total)}`;
  const reaching = `${format.count(full.middle)} ${format.plural(full.middle, "trials")}${between(full)}`;
  const least = full.least ? `, at least ${format.count(full.least)}` : "";
  const dropped = `max_trials is too small for the brackets of ${plan.dropped.join(", ")} rungs, which are left out.`;
  const range = `Median and 5–95 % range of ${plan.simulations} simulated searches, assuming no failures.`;
  return h(
    "section",
    { class: "card", "aria-labelledby": "plan" },
    h("header", null, h("h2", { id: "plan" }, answer.name ? `Plan of ${answer.name}` : "Plan")),
    h(
      "p",
      null,
      `${settings.method}: ${format.count(plan.total_trials)} trials, `,
      `each ${format.upTo(settings.max_length, unit)}, ${atOnce}.`,
    ),
    plan.forecast ? timeAndCost(plan.forecast) : null,
    isOpenEnded ? h("p", null, ending) : h(
      "p",
      { class: plan.forecast ? null : "metric" },
      h("b", null, format.percent(plan.share.middle)),
      ` of the training of all trials to full length: ${training}.`,
    ),
    isOpenEnded ? null : h("p", null, `${reaching} will reach ${longest}${least}.`),
    isOpenEnded || !audits ? null : h("p", null, auditing(audits, total, unit)),
    plan.dropped.length ? h("div", { class: "notice warn" }, dropped) : null,
    plan.exact ? null : h("p", { class: "muted" }, range),
  );
}

function auditing({ promotions, length }, total, unit) {
  const count = `${format.count(promotions.middle)}${between(promotions)}`;
  const training = `${format.length(Math.round(length.middle), unit)}${between(length)}`;
  const part = `${Number(((100 * length.middle) / total.middle).toPrecision(2))} %`;
  const each = "Each promotes a trial that is drawn at random";
  return `Expected audits: ${count}. ${each}; together they train ${training}, ${part} of the total.`;
}

/** The time and the cost of a search, as the first thing to read. */
function timeAndCost({ seconds, cost, worker_hours: work }) {
  const [words, unit] = unitOf([seconds.high], UNITS);
  const span = words(seconds.low) === words(seconds.high) ? "" : ` (${words(seconds.low)} to ${words(seconds.high)})`;
  const price = cost
    ? [h("b", null, cost.middle.toFixed(2)), ` cost (${cost.low.toFixed(2)} to ${cost.high.toFixed(2)}), `]
    : null;
  const spent = `${hours(work.middle)} worker-hours`;
  return h("p", { class: "metric" }, h("b", null, `${words(seconds.middle)} ${unit}`), span, ", ", price, spent);
}

function between({ low, high }) {
  return low === high ? "" : ` (${format.count(Math.round(low))} to ${format.count(Math.round(high))})`;
}

function brackets(plan, unit) {
  const row = ({ number, lengths, trials, share }) =>
    [number, lengths.map(format.count).join(" → "), format.count(trials), format.count(share)];
  const heads = ["bracket", `rungs (${unit})`, "trials", "share of slots"];
  return tableCard("Brackets", heads, plan.brackets.map(row), [0, 2, 3]);
}

function lengths(plan, unit) {
  const most = Math.max(...plan.lengths.map((each) => each.reach.middle), 1);
  const row = ({ length, reach, end }) => [
    format.count(length),
    format.count(reach.middle),
    h("div", { class: "amount", style: { "--share": String(reach.middle / most) } }),
    format.count(reach.low),
    format.count(reach.high),
    format.count(reach.least),
    end ? format.count(end.middle) : format.NONE,
  ];
  const heads = [unit, "reach", "", "from", "to", "at least", "stop here"];
  return tableCard("Trials per length", heads, plan.lengths.map(row), [0, 1, 3, 4, 5, 6]);
}

function forecast(plan) {
  const all = [["this search", plan.forecast], ...plan.beside.map((each) => [nameOf(each.settings), each])];
  const highest = (value) => all.map(([, each]) => value(each)?.high ?? 0);
  const [seconds, time] = unitOf(highest((each) => each.seconds), UNITS);
  const [bytes, size] = unitOf(highest((each) => each.disk_bytes), SIZES);
  const columns = [
    [`time (${time})`, (each) => each.seconds, seconds],
    ["worker-hours", (each) => each.worker_hours, hours],
    ["cost", (each) => each.cost, (cost) => cost.toFixed(2)],
    ["busy", (each) => each.utilisation, format.percent],
    ["full length", (each) => each.full_length, format.count],
    [`on disk (${size})`, (each) => each.disk_bytes, bytes],
  ].filter(([, value]) => all.some(([, each]) => value(each) !== null));
  const row = ([name, each]) => [name, ...columns.map(([, value, words]) => range(value(each), words))];
  const heads = ["search", ...columns.map(([words]) => words)];
  return tableCard("Time and cost", heads, all.map(row), columns.map((_, at) => at + 1));
}

function hours(value) {
  return value >= 100 ? format.count(Math.round(value)) : String(Number(value.toPrecision(2)));
}

/** Return how to write all values of a column in one unit, and the unit. */
function unitOf(values, units) {
  const most = Math.max(...values);
  const [size, unit] = [...units].reverse().find(([each]) => most >= 1.5 * each) ?? units[0];
  return [(value) => hours(value / size), unit];
}

function range(value, words) {
  if (value === null) return format.NONE;
  const { low, middle, high } = value;
  const span = words(low) === words(high) ? null : h("small", null, `${words(low)} – ${words(high)}`);
  return [h("div", { class: "clip" }, words(middle)), span];
}

function nameOf(settings) {
  return settings.method === "adaptive_asha" ? `${settings.mode} mode` : settings.method;
}

function tableCard(title, heads, rows, right) {
  const region = { class: "scroll-x", tabindex: 0, role: "region", "aria-label": `${title}, table` };
  return card(title, h("div", region, plainTable(title, heads, rows, right)));
}
