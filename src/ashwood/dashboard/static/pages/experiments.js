/** The list of all experiments of the home. */

import { get, patch, post, remove } from "../api.js";
import { ask, attempt, toast } from "../dialog.js";
import { announce, button, checkbox, debounce, h, put, redraw } from "../dom.js";
import * as format from "../format.js";
import { follow } from "../live.js";
import { badge, choice, commandLine, empty, field, menu, moment, Progress, spark, stateChips } from "../parts.js";
import { go } from "../router.js";
import { Pager, Table } from "../table.js";

const PER_PAGE = 100;

const SORTS = {
  id: (card) => card.id,
  name: (card) => card.name.toLowerCase(),
  state: (card) => card.state,
  progress: (card) => card.fraction,
  best: (card) => card.best?.metric,
  trials: (card) => card.trials_created,
  started: (card) => card.created_at,
  seconds: (card) => card.seconds,
};

/** @param {import("../router.js").Place} place */
export default async function experimentsPage(place) {
  place.title("Experiments");
  const cards = new Map();
  const sparks = new Map();
  const table = new Table({
    label: "Experiments",
    key: (card) => card.id,
    name: (card) => `experiment ${card.id}, ${card.name}`,
    href: (card) => `/experiments/${card.id}`,
    onSort: (sort) => {
      place.setQuery({ sort, page: null });
      table.setColumns(columns(), sort);
      show();
    },
    onSelect: () => showSelection(),
  });
  table.element.classList.add("experiments");
  const pager = new Pager((offset) => {
    place.setQuery({ page: offset ? offset / PER_PAGE + 1 : null });
    show();
    scrollTo(0, 0);
  });
  const filter = h("input", {
    type: "search",
    placeholder: "Filter by name, label, method, metric",
    "aria-label": "Filter",
    data: { filter: "" },
  });
  const states = h("div", { class: "chips", role: "group", "aria-label": "States" });
  const labels = h("span");
  const showArchived = checkbox("Show archived", false, (on) => {
    place.setQuery({ archived: on ? "1" : null, page: null });
    show();
  });
  const archived = showArchived.control;
  const region = { role: "region", "aria-label": "Selected experiments", hidden: true };
  const selection = h("div", { class: "selection", ...region });
  const summary = h("p", { class: "muted summary" });

  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries.filter((each) => each.isIntersecting)) loadSpark(Number(entry.target.dataset.spark));
  }, { rootMargin: "200px" });
  place.leaving(() => seen.disconnect());

  async function loadSpark(id) {
    const card = cards.get(id);
    const known = sparks.get(id);
    const at = JSON.stringify(card?.best ?? null);
    if (!card || known?.at === at) return;
    sparks.set(id, { at, points: known?.points ?? null });
    try {
      const { points } = await get(`/experiments/${id}/spark`, { signal: place.signal });
      sparks.set(id, { at, points });
      const room = document.querySelector(`[data-spark="${id}"]`);
      if (room) put(room, spark(points));
    } catch {
      sparks.delete(id);
    }
  }

  function sparkRoom(card) {
    const room = h("div", { class: "spark-room", data: { spark: card.id } }, spark(sparks.get(card.id)?.points));
    seen.observe(room);
    return room;
  }

  function columns() {
    const number = (key, label, width, render, watch) =>
      ({ key, label, width, render, watch, kind: "number", sortable: true });
    return [
      number("id", "No.", "3.6rem", (card) => `#${card.id}`),
      {
        key: "name",
        label: "Experiment",
        sortable: true,
        // A part of the table has precedence over the widths of the other columns.
        width: "20%",
        render: nameCell,
        watch: (card) => [card.name, card.labels, card.archived, card.method, card.mode, card.id, card.damage],
      },
      { ...number("state", "State", "7.6rem", (card) => badge(card.state)), kind: "state" },
      number("progress", "Progress", "9.5rem", progressCell, (card) => [card.fraction, card.seconds_left, card.state]),
      number("best", "Best", "7rem", bestCell, (card) => [card.best, card.metric]),
      {
        key: "spark",
        label: "History",
        width: "7.4rem",
        title: "Best metric so far, over time",
        render: sparkRoom,
        watch: (card) => card.id,
      },
      number("trials", "Trials", "6.4rem", trialsCell, (card) => [card.trials, format.created(card)]),
      {
        key: "started",
        label: "Created",
        sortable: true,
        kind: "time",
        spare: true,
        width: "6.4rem",
        render: (card) => moment(card.created_at),
        watch: (card) => card.created_at,
      },
      { key: "seconds", label: "Run time", sortable: true, kind: "duration", width: "6rem" },
      {
        key: "more",
        label: "Actions",
        quiet: true,
        width: "8rem",
        render: moreCell,
        watch: (card) => [card.labels, card.archived, card.name, card.can_resume, card.driven, card.damage],
      },
    ];
  }

  function moreCell(card) {
    const isReadOnly = document.documentElement.hasAttribute("data-read-only");
    const own = menu("⋯", place.signal, "ghost small", `Actions of experiment ${card.id}`);
    const item = (words, act) => button(words, act, "ghost", { "data-closes": "" });
    const report = { href: `/api/v1/experiments/${card.id}/report.html`, download: "", class: "button ghost" };
    put(
      own.body,
      card.damage ? null : h("a", report, "Report (HTML)"),
      isReadOnly
        ? null
        : [
          item("Labels…", () => editLabels(card, change)),
          item(card.archived ? "Unarchive" : "Archive", () => archive(card, change)),
          card.driven ? null : item("Delete…", () => deleteExperiment(card)),
        ],
    );
    const label = { "aria-label": `Resume experiment ${card.id}` };
    const resume = card.can_resume && !isReadOnly
      ? button("Resume", (event) => resumeExperiment(card, event.currentTarget), "small", label)
      : null;
    own.element.addEventListener("toggle", () => own.element.open && placeMenu(own));
    return h("span", { class: "row-actions" }, resume, own.body.children.length ? own.element : null);
  }

  async function resumeExperiment(card, button) {
    button.disabled = true;
    await attempt(async () => {
      const { state, driven, can_resume } = await post(`/experiments/${card.id}/activate`);
      change({ id: card.id, state, driven, can_resume });
    }, `Experiment ${card.id} is resumed.`);
    button.disabled = false;
  }

  function deleteExperiment(card) {
    ask({
      title: `Delete experiment ${card.id}, ${card.name}?`,
      body: "All checkpoints, logs and files of its trials are deleted permanently. To hide it only, archive it.",
      yes: "Delete experiment",
      danger: true,
      act: async () => {
        await remove(`/experiments/${card.id}`);
        cards.delete(card.id);
        table.selected.delete(card.id);
        show();
        toast(`Experiment ${card.id} is deleted.`);
      },
    });
  }

  function change(card) {
    cards.set(card.id, { ...cards.get(card.id), ...card });
    show();
  }

  function wanted() {
    const { query } = place;
    const words = (query.get("q") ?? "").toLowerCase().split(/\s+/).filter(Boolean);
    const state = query.get("state");
    const label = query.get("label");
    const sort = query.get("sort") ?? "-id";
    const order = SORTS[sort.replace(/^-/, "")] ?? SORTS.id;
    const direction = sort.startsWith("-") ? -1 : 1;
    return [...cards.values()]
      .filter((card) => archived.checked || !card.archived)
      .filter((card) => !label || card.labels.includes(label))
      .filter((card) => !state || (state === "active" ? card.driven : card.state === state))
      .filter((card) => {
        const { name, labels, method, mode, metric } = card;
        const text = [`#${card.id}`, name, ...labels, method, mode, metric, card.state].join(" ").toLowerCase();
        return words.every((word) => text.includes(word));
      })
      .map((card) => [order(card), card])
      .sort(([a, x], [b, y]) => missing(a) - missing(b) || direction * compare(a, b) || y.id - x.id)
      .map(([, card]) => card);
  }

  function show() {
    showFilters();
    const rows = wanted();
    const last = Math.max(1, Math.ceil(rows.length / PER_PAGE));
    const offset = (Math.min(last, Math.max(1, Number(place.query.get("page")) || 1)) - 1) * PER_PAGE;
    table.setRows(rows.slice(offset, offset + PER_PAGE), nothing());
    pager.set(
      offset,
      PER_PAGE,
      rows.length,
      "experiments",
      [...cards.values()].filter((card) => archived.checked || !card.archived).length,
    );
    const active = [...cards.values()].filter((card) => card.driven).length;
    put(summary, cards.size === 0 ? "" : active ? `${active} running` : "Nothing running");
    showSelection();
  }

  function nothing() {
    if (cards.size === 0) {
      const step = (title, ...content) => h("li", null, h("b", null, title), content);
      return empty(
        "No experiments yet",
        "The first search takes three steps:",
        h(
          "ol",
          { class: "first-steps" },
          step("Create an experiment file with an example of training code:", commandLine("ashwood init my-search")),
          step(
            "Preview what it will do, and how long it will take:",
            h("p", null, h("a", { class: "button", href: "/preview" }, "Open the preview")),
          ),
          step("Run it. It appears here without a reload:", commandLine("ashwood run my-search/experiment.yaml")),
        ),
      );
    }
    return empty("No experiments match.", "", button("Show all", clearFilters));
  }

  function clearFilters() {
    place.setQuery({ q: null, state: null, label: null, page: null });
    filter.value = "";
    show();
  }

  function showFilters() {
    const all = [...cards.values()].filter((card) => archived.checked || !card.archived);
    const counts = new Map();
    for (const card of all) counts.set(card.state, (counts.get(card.state) ?? 0) + 1);
    const chosen = place.query.get("state");
    if (chosen && !counts.has(chosen)) counts.set(chosen, 0);
    stateChips(states, [...counts].sort(([a], [b]) => compare(a, b)), [chosen], (state) => {
      place.setQuery({ state: state === chosen ? null : state, page: null });
      show();
    });
    const names = [...new Set(all.flatMap((card) => card.labels))].sort();
    const label = place.query.get("label") ?? "";
    const choices = [["", "any label"], ...new Set(label ? [...names, label] : names)];
    const choose = (value) => {
      place.setQuery({ label: value, page: null });
      show();
    };
    redraw(labels, [choices, label], () =>
      choices.length > 1 ? choice("Label", choices, label, choose, { unseen: true }) : null,
    );
  }

  function showSelection() {
    const ids = [...table.selected].filter((id) => cards.has(id)).sort((a, b) => a - b);
    selection.hidden = ids.length === 0;
    if (ids.length === 0) return;
    const address = `/compare?ids=${ids.join(",")}`;
    const words = ids.length < 2 ? "Select another to compare" : `Compare ${ids.length}`;
    put(
      selection,
      h("span", null, `${ids.length} selected: ${ids.map((id) => `#${id}`).join(", ")}`),
      button(words, () => go(address), "primary", { disabled: ids.length < 2 }),
      button("Select none", () => table.deselect()),
    );
  }

  async function load() {
    const answer = await get("/experiments", { signal: place.signal });
    cards.clear();
    for (const card of answer.experiments) cards.set(card.id, card);
  }

  const typed = debounce(() => {
    place.setQuery({ q: filter.value, page: null });
    show();
    announce(`${table.rows.size} experiments`);
  }, 120);
  filter.addEventListener("input", typed);

  function takeQuery(query) {
    filter.value = query.get("q") ?? "";
    archived.checked = query.has("archived");
    table.setColumns(columns(), query.get("sort") ?? "-id");
  }

  takeQuery(place.query);
  await load();
  show();
  follow("/live", {
    signal: place.signal,
    missed: async () => {
      await load();
      show();
    },
    events: {
      changed: ({ experiments = [], gone = [] }) => {
        for (const card of experiments) {
          const before = cards.get(card.id);
          if (before && before.state !== card.state) announce(`Experiment ${card.id}, ${card.name}, is ${card.state}.`);
          cards.set(card.id, { ...before, ...card });
          const room = document.querySelector(`[data-spark="${card.id}"]`);
          if (room && sparks.has(card.id)) loadSpark(card.id);
        }
        for (const id of gone) cards.delete(id);
        show();
      },
    },
  });

  const element = h(
    "div",
    { class: "page" },
    h("div", { class: "page-head" }, h("h1", null, "Experiments"), summary),
    h(
      "div",
      { class: "filters" },
      filter,
      states,
      labels,
      showArchived,
    ),
    selection,
    h("div", { class: "card flush" }, table.element),
    pager.element,
  );
  const queried = (query) => {
    takeQuery(query);
    show();
  };
  return { element, queried };
}

function nameCell(card) {
  return h(
    "div",
    { class: "name" },
    h("a", { href: `/experiments/${card.id}`, tabindex: -1, class: "strong" }, card.name),
    h(
      "div",
      { class: "tags muted" },
      card.mode ? `${card.method}, ${card.mode}` : card.method,
      card.source === null ? null : h("span", { class: "tag" }, `forked from #${card.source}`),
      card.archived ? h("span", { class: "tag" }, "archived") : null,
      card.labels.map((label) => h("span", { class: "tag label" }, label)),
    ),
    card.damage ? h("div", { class: "muted" }, card.damage) : null,
  );
}

function progressCell(card) {
  const bar = new Progress(`Progress of experiment ${card.id}`);
  bar.set(card.fraction, card.state);
  const left = card.driven && card.seconds_left !== null ? `, ${format.roughly(card.seconds_left)} left` : "";
  return h("div", null, bar.element, h("div", { class: "muted" }, `${format.percent(card.fraction)}${left}`));
}

function bestCell(card) {
  const value = card.best ? h("b", null, format.number(card.best.metric)) : h("span", { class: "none" }, format.NONE);
  const metric = `${card.smaller_is_better ? "↓" : "↑"} ${card.metric}`;
  return h("div", null, value, h("div", { class: "muted clip" }, metric));
}

function trialsCell(card) {
  const failed = (card.trials?.errored ?? 0) + (card.trials?.invalid ?? 0);
  const running = card.trials?.running ?? 0;
  const { replicates_created: again } = card;
  // Each note has its own line, so that the column stays narrow and leaves room for the names.
  const note = (words, kind = "muted") => h("div", { class: kind }, words);
  return h(
    "div",
    null,
    format.created({ ...card, replicates_created: 0 }),
    again ? note(`+ ${format.count(again)} ${format.plural(again, "replicates")}`) : null,
    running ? note(`${format.count(running)} ${card.driven ? "training" : "to resume"}`) : null,
    failed ? note(`${format.count(failed)} failed`, "muted bad") : null,
  );
}

/** Show the menu of a row above all others; inside of the table it would be cut off. Scrolling closes it. */
function placeMenu({ element, body, close }) {
  const { top, bottom, right } = element.getBoundingClientRect();
  const isLow = bottom + body.offsetHeight + 8 > innerHeight && top > body.offsetHeight + 8;
  const place = { position: "fixed", right: `${document.documentElement.clientWidth - right}px` };
  const up = isLow ? { top: "auto", bottom: `${innerHeight - top + 4}px` } : { top: `${bottom + 4}px`, bottom: "auto" };
  for (const [name, value] of Object.entries({ ...place, ...up })) body.style.setProperty(name, value);
  addEventListener("scroll", close, { once: true, passive: true });
}

/** Archive an experiment, or show it in the list again. */
export async function archive(card, changed) {
  const archived = !card.archived;
  const done = archived ? "is archived: it is hidden in the list, and nothing is deleted" : "is no longer archived";
  await attempt(async () => {
    await patch(`/experiments/${card.id}`, { archived });
    changed({ id: card.id, archived });
  }, `Experiment ${card.id} ${done}.`);
}

/** Change the labels of an experiment in a dialog. */
export function editLabels(card, changed) {
  const input = h("input", { type: "text", value: card.labels.join(", "), autofocus: true });
  ask({
    title: `Labels of experiment ${card.id}`,
    body: field("Labels, separated by commas", input),
    yes: "Save",
    act: async () => {
      const labels = [...new Set(input.value.split(",").map((label) => label.trim()).filter(Boolean))];
      await patch(`/experiments/${card.id}`, { labels });
      changed({ id: card.id, labels });
    },
  });
}

function missing(value) {
  return value === null || value === undefined ? 1 : 0;
}

function compare(a, b) {
  if (missing(a) || missing(b)) return 0;
  if (typeof a === "string") return a.localeCompare(b);
  return a - b;
}
