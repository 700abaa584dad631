/** The table of trials. The server sorts and filters it, and sends one page at a time. */

import { get } from "../api.js";
import { announce, button, checkbox, debounce, h, kept, mark, put, throttle } from "../dom.js";
import * as format from "../format.js";
import { Model } from "../model.js";
import { badge, choice, empty, failure, menu, moment, stateChips } from "../parts.js";
import { Pager, Table } from "../table.js";
import { Selection } from "./selection.js";

const AGAIN = 3_000;
const MOST_WAIT = 700;
const HIDDEN = new Set([
  "error",
  "diverged",
  "given",
  "replicate_of",
  "seed",
  "audits",
  "attempts",
  "best_length",
  "seen_length",
  "result_length",
  "preempted",
  "node",
  "checkpoint",
  "checkpoint_length",
  "created_at",
  "ended_at",
]);
const NAMES = {
  trial: "Trial",
  state: "State",
  bracket: "Bracket",
  rung: "Rung",
  length: "Length",
  best_length: "Best at",
  seen_length: "Best seen at",
  result_length: "Result at",
  error: "Error",
  diverged: "Diverged",
  given: "Given",
  replicate_of: "Replicate of",
  seed: "Seed",
  audits: "Audits",
  attempts: "Attempts",
  failures: "Failures",
  preempted: "Preempted",
  node: "Node",
  seconds: "Training time",
  created_at: "Created",
  ended_at: "Ended",
  checkpoint: "Checkpoint",
  checkpoint_length: "Saved at",
};
const DIVERGED = "diverged=true";
const WHOLE = new Set([
  "bracket",
  "rung",
  "length",
  "best_length",
  "seen_length",
  "result_length",
  "attempts",
  "failures",
]);
// Without a value, = and != ask whether there is one.
const CONDITION = /^[\p{L}\w.\-/]+((<=|>=|<(?!=)|>(?!=)).+|!?=.*)$/u;

/** Split a filter into conditions and the text that any column must contain. */
function conditions(text) {
  const words = text.match(/(?:[^\s"]|"[^"]*")+/g) ?? [];
  const where = words.filter((word) => CONDITION.test(word)).map((word) => word.replaceAll('"', ""));
  const rest = words.filter((word) => !CONDITION.test(word)).join(" ").replaceAll('"', "");
  return { where, q: rest };
}

/** Return a column as the table shows it. @param {(trial: number) => boolean} [hasNote] */
function trialColumn(column, hasNote = () => false) {
  const shown = { ...column, label: column.label ?? column.key.replace(/^hparams\./, ""), sortable: true };
  if (column.key in NAMES) shown.label = NAMES[column.key];
  if (column.kind === "number" && !WHOLE.has(column.key)) return { ...shown, fixed: true };
  if (column.key === "state") return { ...shown, kind: "state", render: (row) => badge(row.state) };
  if (column.kind === "time") return { ...shown, render: (row) => moment(row[column.key]) };
  if (column.key === "trial") {
    const sign = () => h("span", { class: "noted", title: "Has a note" }, "✎", h("span", { class: "unseen" }, "note"));
    const render = ({ trial }) => (hasNote(trial) ? [sign(), ` ${trial}`] : format.value(trial));
    return { ...shown, kind: "number", width: "4.5rem", render, watch: ({ trial }) => [trial, hasNote(trial)].join() };
  }
  return shown;
}

/**
 * Return the columns in the order of importance: state, best result, hyperparameters with the most important first,
 * then the others. The user's order comes first.
 * @param {string[]} hparams names of hyperparameters, the most important first
 * @param {string[]} chosen keys in the order that the user has chosen
 */
function ordered(columns, hparams, chosen) {
  const rank = ({ key, hyperparameter }, at) => {
    const own = chosen.indexOf(key);
    if (own >= 0) return own - 1_000_000;
    if (key === "state") return 0;
    if (key.startsWith("best.")) return 1;
    if (key === "length") return 2;
    const place = hyperparameter ? hparams.indexOf(key.replace(/^hparams\./, "")) : -1;
    if (hyperparameter) return 10 + (place < 0 ? hparams.length + at : place);
    return 100_000 + (key === "rung" ? columns.findIndex((column) => column.key === "bracket") + 0.5 : at);
  };
  const ranks = new Map(columns.map((column, at) => [column, column.key === "trial" ? -Infinity : rank(column, at)]));
  return [...columns].sort((a, b) => ranks.get(a) - ranks.get(b));
}

/** Return an example of a filter for this search. */
function exampleOf({ metric, best, smaller_is_better: smaller, searched }) {
  const word = /^[\p{L}\w.\-/]+$/u;
  const parts = ["state=completed"];
  if (best && word.test(metric)) {
    const nearly = best.metric * (smaller === best.metric > 0 ? 1.2 : 0.8);
    parts.push(`${metric}${smaller ? "<" : ">"}${Number(nearly.toPrecision(2))}`);
  }
  const known = searched.filter(({ name }) => word.test(name));
  const choices = known.find((each) => each.choices?.some((value) => word.test(String(value))));
  const range = known.find((each) => !each.choices);
  if (choices) parts.push(`${choices.name}=${choices.choices.find((value) => word.test(String(value)))}`);
  else if (range) parts.push(`${range.name}>${Number(((range.least + range.most) / 2).toPrecision(2))}`);
  return `Filter: words, or conditions like ${parts.join(" ")}`;
}

/** @param {import("./experiment.js").Tab} tab */
export default async function trials({ model, signal, place, listed }) {
  const { id, path } = model;
  const [name, orderName, widthsName] = ["columns", "order", "widths"].map((each) => `${each}.${id}`);
  let hparams = [];
  let columns = [];
  let known = null;
  let sort = place.query.get("sort") ?? "";
  // The order in which the server sorts if the user has not chosen one.
  let usual = "";
  let page = Math.max(1, Number(place.query.get("page")) || 1);
  let limit = kept.get("trials.limit") ?? 100;
  let asked = 0;

  const table = new Table({
    label: "Trials",
    key: (row) => row.trial,
    name: (row) => `trial ${row.trial}`,
    href: (row) => `/experiments/${id}/trials/${row.trial}`,
    onSelect: (selected) => selection.show(selected),
    onMove: (key, by) => {
      const keys = table.columns.map((column) => column.key);
      const from = keys.indexOf(key);
      const to = Math.min(keys.length - 1, Math.max(1, from + by));
      keys.splice(to, 0, keys.splice(from, 1)[0]);
      const others = columns.map((column) => column.key).filter((each) => !keys.includes(each));
      kept.set(orderName, [...keys, ...others]);
      columns = ordered(columns, hparams, kept.get(orderName));
      showColumns();
      announce(`Column ${to + 1} of ${keys.length}`);
    },
    onResize: (key, pixels) => kept.set(widthsName, { ...kept.get(widthsName), [key]: pixels }),
    onSort: (wanted) => {
      sort = wanted;
      page = 1;
      place.setQuery({ sort, page: null });
      showColumns();
      load();
    },
  });
  const pager = new Pager((offset) => {
    page = Math.floor(offset / limit) + 1;
    place.setQuery({ page: page === 1 ? null : page });
    load();
  });
  const filter = h("input", {
    type: "search",
    value: place.query.get("q") ?? "",
    placeholder: exampleOf(model.data),
    "aria-label": "Filter the trials",
    data: { filter: "" },
  });
  const states = h("div", { class: "chips", role: "group", "aria-label": "States" });
  const chooser = menu("Columns", signal);
  const selection = new Selection({ model, place, signal, table });
  const csv = h("a", { class: "button small", download: "" }, "CSV");
  const wrong = h("div");
  const per = choice("Rows per page", [50, 100, 250, 500], limit, (value) => {
    limit = Number(value);
    page = 1;
    kept.set("trials.limit", limit);
    place.setQuery({ page: null });
    load();
  });

  const shownIfAny = (key) => key === "replicate_of" && model.data.settings.replicates > 0;
  const isHidden = ({ key }) => (HIDDEN.has(key) && !shownIfAny(key)) || /^(seen|result)\./.test(key);
  const hidden = () => new Set(kept.get(name) ?? columns.filter(isHidden).map(({ key }) => key));
  const showColumns = () => {
    const without = hidden();
    const shown = columns.filter(({ key }) => key === "trial" || !without.has(key));
    const widths = kept.get(widthsName) ?? {};
    const hasNote = (trial) => String(trial) in model.data.notes;
    const sized = (column) => ({ ...trialColumn(column, hasNote), pixels: widths[column.key] });
    table.setColumns(shown.map(sized), sort || usual);
  };

  const showChooser = () => {
    const without = hidden();
    const change = (key, on) => {
      const now = hidden();
      if (on) now.delete(key);
      else now.add(key);
      kept.set(name, [...now]);
      showColumns();
    };
    const boxes = columns
      .filter(({ key }) => key !== "trial")
      .map((column) => checkbox(trialColumn(column).label, !without.has(column.key), (on) => change(column.key, on)));
    const reset = () => {
      for (const each of [name, orderName, widthsName]) kept.set(each, null);
      columns = ordered(columns, hparams, []);
      showColumns();
      showChooser();
    };
    put(chooser.body, boxes, button("Reset", reset, "small"));
  };

  const showStates = () => {
    const { where } = conditions(filter.value);
    const pressed = where.filter((each) => each.startsWith("state=")).map((each) => each.slice(6));
    if (where.includes(DIVERGED)) pressed.push("diverged");
    const { trials: counts, diverged } = model.data;
    const all = [...Object.entries(counts), ...(diverged ? [["diverged", diverged]] : [])];
    stateChips(states, all, pressed, (state) => {
      const others = filter.value.split(/\s+/).filter((word) => word && !/^(state|diverged)=/.test(word));
      const condition = state === "diverged" ? DIVERGED : `state=${state}`;
      filter.value = [...others, ...(pressed.includes(state) ? [] : [condition])].join(" ");
      filtered();
    });
  };

  const load = async () => {
    const mine = ++asked;
    let answer;
    table.element.setAttribute("aria-busy", "true");
    const { where, q } = conditions(filter.value);
    mark(csv, "href", `/api/v1${path}/trials.csv?${parametersOf({ where, q, sort })}`);
    try {
      answer = await get(`${path}/trials`, { query: { offset: (page - 1) * limit, limit, sort, where, q }, signal });
    } catch (error) {
      if (error.name === "AbortError" || mine !== asked) return;
      put(wrong, failure(error));
      return;
    } finally {
      if (mine === asked) table.element.removeAttribute("aria-busy");
    }
    if (mine !== asked) return;
    put(wrong);
    const keys = answer.columns.map((column) => column.key).join("\n");
    if (keys !== known) {
      known = keys;
      columns = ordered(answer.columns, hparams, kept.get(orderName) ?? []);
      if (!sort) usual = answer.sort;
      showColumns();
      if (!chooser.element.open) showChooser();
    }
    if (page > 1 && answer.rows.length === 0 && answer.matching > 0) {
      page = 1;
      place.setQuery({ page: null });
      load();
      return;
    }
    table.setRows(answer.rows, nothing(answer));
    pager.set((page - 1) * limit, limit, answer.matching, "trials", answer.total);
    showStates();
  };
  const nothing = (answer) =>
    answer.total === 0
      ? empty("No trials yet", "Trials appear here as soon as they are created.")
      : empty(
        "No trials match.",
        "",
        answer.known.map(knownValues),
        button("Show all", () => ((filter.value = ""), filtered())),
      );
  const knownValues = ({ condition, key, values, least, most }) => {
    const replace = (value) => {
      const word = /\s/.test(value) ? `${key}="${value}"` : `${key}=${value}`;
      const isSame = (each) => each.replaceAll('"', "") === condition;
      const words = filter.value.match(/(?:[^\s"]|"[^"]*")+/g) ?? [];
      filter.value = words.map((each) => (isSame(each) ? word : each)).join(" ");
      filtered();
    };
    const range = least === null ? "no values" : `${format.number(least)} to ${format.number(most)}`;
    const known = values.length ? values.map((value) => button(value, () => replace(value), "small")) : range;
    return h("p", { class: "known" }, h("code", null, condition), ` matches no trial. Values of ${key}: `, known);
  };
  const filtered = () => {
    page = 1;
    place.setQuery({ q: filter.value, page: null });
    showStates();
    load().then(() => announce(pager.words.textContent));
  };
  const typed = debounce(filtered, 200);
  filter.addEventListener("input", typed);

  const again = throttle(() => {
    if (!document.hidden) load();
  }, AGAIN);
  signal.addEventListener("abort", () => (again.stop(), typed.stop()));
  model.on((delta) => {
    showStates();
    if (delta.trials?.length) table.patch(delta.trials);
    if (Model.moved(delta) || delta.experiment?.notes) again();
  }, signal);

  // The options of the scatter chart name the most important hyperparameter first.
  // If the list comes late, because a long log is still read, hyperparameters are in the order of the file.
  const late = new Promise((resolve) => setTimeout(resolve, MOST_WAIT, []));
  const [figures] = await Promise.all([Promise.race([listed, late]), load()]);
  const scatter = figures.find((figure) => figure.name === "scatter");
  hparams = scatter?.options.find((option) => option.name === "hparam")?.allowed ?? [];
  columns = ordered(columns, hparams, kept.get(orderName) ?? []);
  showColumns();
  showChooser();
  await selection.begin();
  return h(
    "div",
    null,
    h("div", { class: "filters" }, filter, states, chooser.element, csv, per),
    wrong,
    selection.bar,
    selection.comparison,
    h("div", { class: "card flush scroll-box" }, table.element),
    pager.element,
  );
}

function parametersOf({ where, q, sort }) {
  const others = Object.entries({ q, sort }).filter(([, value]) => value);
  return new URLSearchParams([...where.map((each) => ["where", each]), ...others]);
}
