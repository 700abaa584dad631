/** What a search will do, before anything runs: paste or open an experiment file. */

import { post } from "../api.js";
import { debounce, h, put } from "../dom.js";
import * as format from "../format.js";
import { empty, failure } from "../parts.js";

const KEPT = "ashwood.preview";
const GIVEN = [
  ["workers", "workers", 1, "How many trials can train at once"],
  ["unit_seconds", "seconds a unit", "any", "What one unit of max_length takes to train on average"],
  ["cost_per_worker_hour", "cost an hour", "any", "What a worker costs an hour"],
];
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
  const editor = new Editor((text) => changed(text));
  const said = h("div", { class: "problems", role: "status" });
  const given = GIVEN.map(
    ([name, label, step, title]) => h("input", {
      type: "number",
      name,
      min: step === 1 ? 1 : 0,
      step,
      title,
      "aria-label": label,
      placeholder: label,
    }),
  );
  const known = () => Object.fromEntries(
    given.filter((field) => field.value && field.validity.valid).map((field) => [field.name, Number(field.value)]),
  );
  const plan = h("div", { class: "plan" });
  let asked = 0;
  let request = null;

  const look = async (text) => {
    const mine = ++asked;
    request?.abort();
    request = new AbortController();
    if (!text.trim()) {
      put(said);
      editor.marks([]);
      put(
        plan,
        h(
          "div",
          { class: "card" },
          empty(
            "Paste an experiment file, open one, or drop it here.",
            "Its plan shows up here: brackets, rungs, how many trials train how long.",
            h("button", { type: "button", onclick: () => editor.set(EXAMPLE) }, "Put in an example"),
          ),
        ),
      );
      return;
    }
    plan.setAttribute("aria-busy", "true");
    if (!plan.querySelector("#plan")) put(
      plan,
      h("div", { class: "card" }, h("p", { class: "muted" }, "Simulating searches…")),
    );
    try {
      const answer = await post("/preview", { text, ...known() }, { signal: request.signal });
      if (mine !== asked) return;
      const problems = answer.problems ?? [];
      editor.marks(problems);
      put(
        said,
        problems.length ? problemList(problems, editor) : null,
        (answer.warnings ?? []).map(
          (warning) => h("div", { class: "notice warn" }, h("b", null, "Warning: "), warning),
        ),
      );
      if (answer.ok && answer.plan) showPlan(plan, answer);
      else if (answer.too_large) put(plan, h("div", { class: "card" }, h("p", null, answer.too_large)));
      else if (plan.querySelector("#plan")) plan.classList.add("old");
      else put(plan);
    } catch (error) {
      if (error.name === "AbortError" || mine !== asked) return;
      put(said, failure(error, { again: () => look(text) }));
    } finally {
      if (mine === asked) plan.removeAttribute("aria-busy");
    }
  };
  const changed = debounce((text) => {
    keep(text);
    look(text);
  }, 350);
  place.leaving(() => (changed.stop(), request?.abort()));
  for (const field of given) field.addEventListener("input", () => changed(editor.area.value));

  const file = h("input", {
    type: "file",
    accept: ".yaml,.yml,.txt",
    class: "unseen",
    tabindex: -1,
    "aria-label": "Experiment file",
  });
  const openFile = async (chosen) => {
    if (!chosen) return;
    if (chosen.size > 1_000_000) return put(
      said,
      h(
        "div",
        { class: "notice bad", role: "alert" },
        `${chosen.name} is ${format.bytes(chosen.size)}: that is no experiment file.`,
      ),
    );
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
        h("h1", null, "Preview"),
        h("p", { class: "muted" }, "What a search will do, before anything runs. Nothing is stored on the server."),
      ),
      h(
        "div",
        { class: "actions" },
        h("button", { type: "button", onclick: () => file.click() }, "Open a file…"),
        file,
        h("button", { type: "button", class: "ghost", onclick: () => editor.set("") }, "Clear"),
      ),
    ),
    h(
      "div",
      { class: "columns even" },
      h(
        "div",
        null,
        editor.element,
        h("div", { class: "given" }, h("span", { class: "muted" }, "Known, for time and money:"), given),
        said,
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
  const before = kept();
  editor.set(before, { silent: true });
  look(before);
  return { element };
}

function kept() {
  try {
    return sessionStorage.getItem(KEPT) ?? "";
  } catch {
    return "";
  }
}

function keep(text) {
  try {
    sessionStorage.setItem(KEPT, text);
  } catch {
    // Forgotten with the page.
  }
}

function problemList(problems, editor) {
  return h(
    "ol",
    { class: "problem-list", "aria-label": "Problems" },
    problems.map((problem) =>
      h(
        "li",
        null,
        problem.line
          ? h(
            "button",
            { type: "button", class: "link", onclick: () => editor.show(problem.line) },
            `line ${problem.line}`,
          )
          : null,
        problem.key ? h("code", null, problem.key) : null,
        h("span", null, problem.message),
      ),
    ),
  );
}

/** A textarea with numbered lines, some of them marked. */
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
      h("span", { id: "editor-hint", class: "unseen" }, "YAML. Problems are listed after it."),
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
  const { plan } = answer;
  const { unit } = answer;
  place.classList.remove("old");
  put(
    place,
    headline(plan, answer, unit),
    brackets(plan, unit),
    lengths(plan, unit),
    plan.forecast
      ? forecast(plan)
      : h(
        "p",
        { class: "muted hint" },
        "Say how many workers there are and what a unit of training takes, to see time and money; ",
        h("code", null, "ashwood preview-search FILE --measure"),
        " finds it out.",
      ),
  );
}

function headline(plan, answer, unit) {
  const { settings, full_length: full, total_length: total } = plan;
  const atOnce = plan.max_concurrent_trials
    ? `${format.count(plan.max_concurrent_trials)} at once`
    : "as many at once as fit";
  const longest = format.length(settings.max_length, unit);
  const training = `${format.length(Math.round(total.middle), unit)}${between(total)}`;
  const reaching = `${format.count(full.middle)} ${format.plural(full.middle, "trials")}${between(full)}`;
  const least = full.least ? `, at least ${format.count(full.least)}` : "";
  const line = (...words) => h("p", null, ...words);
  return h(
    "section",
    { class: "card", "aria-labelledby": "plan" },
    h("header", null, h("h2", { id: "plan" }, answer.name ? `The plan of ${answer.name}` : "The plan")),
    line(`${settings.method}: ${format.count(plan.total_trials)} trials, each up to ${longest}, ${atOnce}.`),
    h(
      "p",
      { class: "metric" },
      h("b", null, format.percent(plan.share.middle)),
      ` of training all of them to the end: ${training}.`,
    ),
    line(`${reaching} will reach ${longest}${least}.`),
    plan.dropped.length
      ? h(
        "div",
        { class: "notice warn" },
        `max_trials is too small for the brackets of ${plan.dropped.join(", ")} rungs, which are left out.`,
      )
      : null,
    plan.exact
      ? null
      : h("p", { class: "muted" }, `Middle and range are of ${plan.simulations} simulated searches, failures aside.`),
  );
}

function between({ low, high }) {
  return low === high ? "" : ` (${format.count(Math.round(low))} to ${format.count(Math.round(high))})`;
}

function brackets(plan, unit) {
  return table(
    "Brackets",
    ["bracket", `rungs (${unit})`, "trials", "share of slots"],
    plan.brackets.map(
      (bracket) => [
        bracket.number,
        bracket.lengths.map(format.count).join(" → "),
        format.count(bracket.trials),
        format.count(bracket.share),
      ],
    ),
    [0, 2, 3],
  );
}

function lengths(plan, unit) {
  const most = Math.max(...plan.lengths.map((each) => each.reach.middle), 1);
  return table(
    "How long trials train",
    [unit, "get here", "", "from", "to", "at least", "end here"],
    plan.lengths.map(({ length, reach, end }) => [
      format.count(length),
      format.count(reach.middle),
      h("div", { class: "amount", style: { "--share": String(reach.middle / most) } }),
      format.count(reach.low),
      format.count(reach.high),
      format.count(reach.least),
      end ? format.count(end.middle) : format.NONE,
    ]),
    [0, 1, 3, 4, 5, 6],
  );
}

function forecast(plan) {
  const all = [["this search", plan.forecast], ...plan.beside.map((each) => [nameOf(each.settings), each])];
  const columns = [
    ["time", (each) => each.seconds, format.roughly],
    ["worker-hours", (each) => each.worker_hours, (hours) => String(Number(hours.toPrecision(3)))],
    ["cost", (each) => each.cost, (cost) => cost.toFixed(2)],
    ["busy", (each) => each.utilisation, format.percent],
    ["to the end", (each) => each.full_length, format.count],
    ["on disk", (each) => each.disk_bytes, format.bytes],
  ].filter(([, value]) => all.some(([, each]) => value(each) !== null));
  return table(
    "What it takes",
    ["search", ...columns.map(([words]) => words)],
    all.map(([name, each]) => [name, ...columns.map(([, value, words]) => range(value(each), words))]),
    columns.map((_, at) => at + 1),
  );
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

function table(title, heads, rows, right) {
  const kind = (at) => (right.includes(at) ? "number" : null);
  const id = `plan-${title.toLowerCase().replaceAll(" ", "-")}`;
  return h(
    "section",
    { class: "card", "aria-labelledby": id },
    h("header", null, h("h2", { id }, title)),
    h(
      "div",
      { class: "scroll-x", tabindex: 0, role: "region", "aria-label": `${title}, table` },
      h(
        "table",
        { class: "plain" },
        h("caption", { class: "unseen" }, title),
        h(
          "thead",
          null,
          h(
            "tr",
            null,
            heads.map((words, at) => (words === "" ? h("td") : h("th", { scope: "col", class: kind(at) }, words))),
          ),
        ),
        h(
          "tbody",
          null,
          rows.map(
            (cells) => h(
              "tr",
              null,
              cells.map(
                (cell, at) => (
                  at === 0 ? h("th", { scope: "row", class: kind(at) }, cell) : h("td", { class: kind(at) }, cell)
                ),
              ),
            ),
          ),
        ),
      ),
    ),
  );
}
