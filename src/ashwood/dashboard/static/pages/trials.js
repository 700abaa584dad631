/** The table of trials. The server sorts and filters it, and sends one page at a time. */

import { get } from "../api.js";
import { announce, button, checkbox, debounce, h, kept, put, throttle } from "../dom.js";
import { Model } from "../model.js";
import { badge, choice, empty, failure, moment, stateChips } from "../parts.js";
import { Pager, Table } from "../table.js";

const AGAIN = 3_000;
const HIDDEN = new Set([
  "given",
  "replicate_of",
  "seed",
  "audits",
  "attempts",
  "best_length",
  "seen_length",
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
const CONDITION = /^([\p{L}\w.\-/]+)(<=|>=|!=|=|<|>)(.+)$/u;

/** Split a filter into conditions and the text that any column must contain. */
function conditions(text) {
  const words = text.match(/(?:[^\s"]|"[^"]*")+/g) ?? [];
  const where = words.filter((word) => CONDITION.test(word)).map((word) => word.replaceAll('"', ""));
  const rest = words.filter((word) => !CONDITION.test(word)).join(" ").replaceAll('"', "");
  return { where, q: rest };
}

/** Return a column as the table shows it. */
function trialColumn(column) {
  const shown = { ...column, label: column.label ?? column.key.replace(/^hparams\./, ""), sortable: true };
  if (column.key in NAMES) shown.label = NAMES[column.key];
  if (column.key === "state") return { ...shown, kind: "state", render: (row) => badge(row.state) };
  if (column.kind === "time") return { ...shown, render: (row) => moment(row[column.key]) };
  if (column.key === "trial") return { ...shown, kind: "number", width: "4.5rem" };
  return shown;
}

/** Return the columns with the rung after the bracket. */
function ordered(columns) {
  const rung = columns.find((column) => column.key === "rung");
  const others = columns.filter((column) => column !== rung);
  if (rung) others.splice(others.findIndex((column) => column.key === "bracket") + 1, 0, rung);
  return others;
}

/** @param {import("./experiment.js").Tab} tab */
export default async function trials({ model, signal, place }) {
  const { id, path } = model;
  const name = `columns.${id}`;
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
    placeholder: "Filter: words, or conditions like state=completed loss<0.1 optimizer!=adam",
    "aria-label": "Filter the trials",
    data: { filter: "" },
  });
  const states = h("div", { class: "chips", role: "group", "aria-label": "States" });
  const chooser = h("details", { class: "menu" });
  const wrong = h("div");
  const per = choice("Rows per page", [50, 100, 250, 500], limit, (value) => {
    limit = Number(value);
    page = 1;
    kept.set("trials.limit", limit);
    place.setQuery({ page: null });
    load();
  });

  const shownIfAny = (key) => key === "replicate_of" && model.data.settings.replicates > 0;
  const isHidden = ({ key }) => (HIDDEN.has(key) && !shownIfAny(key)) || key.startsWith("seen.");
  const hidden = () => new Set(kept.get(name) ?? columns.filter(isHidden).map(({ key }) => key));
  const showColumns = () => {
    const without = hidden();
    const shown = columns.filter(({ key }) => key === "trial" || !without.has(key));
    table.setColumns(shown.map(trialColumn), sort || usual);
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
      kept.set(name, null);
      showColumns();
      showChooser();
    };
    const body = { class: "menu-body", role: "group", "aria-label": "Columns" };
    put(chooser, h("summary", { class: "button" }, "Columns"), h("div", body, boxes, button("Reset", reset, "small")));
  };
  chooser.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    chooser.open = false;
    chooser.querySelector("summary").focus();
  });
  document.addEventListener("pointerdown", (event) => {
    if (!chooser.contains(event.target)) chooser.open = false;
  }, { signal });

  const showStates = () => {
    const { where } = conditions(filter.value);
    const pressed = where.filter((each) => each.startsWith("state=")).map((each) => each.slice(6));
    stateChips(states, Object.entries(model.data.trials), pressed, (state) => {
      const others = filter.value.split(/\s+/).filter((word) => word && !word.startsWith("state="));
      filter.value = [...others, ...(pressed.includes(state) ? [] : [`state=${state}`])].join(" ");
      filtered();
    });
  };

  const load = async () => {
    const mine = ++asked;
    let answer;
    table.element.setAttribute("aria-busy", "true");
    try {
      const { where, q } = conditions(filter.value);
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
      columns = ordered(answer.columns);
      if (!sort) usual = answer.sort;
      showColumns();
      if (!chooser.open) showChooser();
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
      : empty("No trials match.", "", button("Show all", () => ((filter.value = ""), filtered())));
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
    if (Model.moved(delta)) again();
  }, signal);

  await load();
  return h(
    "div",
    null,
    h("div", { class: "filters" }, filter, states, chooser, per),
    wrong,
    h("div", { class: "card flush scroll-x" }, table.element),
    pager.element,
  );
}
