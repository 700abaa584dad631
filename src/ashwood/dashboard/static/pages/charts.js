/** Tabs that consist of figures. */

import { button, checkbox, h, redraw, write } from "../dom.js";
import * as format from "../format.js";
import { card, Fact, factList } from "../parts.js";
import { Table } from "../table.js";

/** Which worker trained which trial when. @param {import("./experiment.js").Tab} tab */
export async function timeline({ figure, openTrial }) {
  return h("div", null, figure("timeline", { title: "Workers over time", height: 480, onTrial: openTrial }).element);
}

/** How each hyperparameter influences the results. @param {import("./experiment.js").Tab} tab */
export async function hyperparameters({ model, place, signal, figure, openTrial: onTrial }) {
  const words = h("p", { class: "takeaway", hidden: true });
  const onHover = (trial) => {
    for (const each of [parallel, scatter, table]) each.highlight(trial);
  };
  const table = new Table({
    label: "Selected trials",
    key: (row) => row.trial,
    href: (row) => `/experiments/${model.id}/trials/${row.trial}`,
    onHover,
  });
  const count = h("span", { class: "muted", role: "status" });
  const link = h("a", { class: "button small" });
  const selected = card("Selected trials", h("div", { class: "scroll-x" }, table.element));
  selected.querySelector("header").append(count, h("span", { class: "controls" }, link));
  selected.hidden = true;
  const axes = new AxisChooser((names) => {
    parallel.choose(names);
    place.setQuery({ [AXES]: names?.join(",") ?? null });
  }, signal);
  const given = place.query.get(AXES);
  const parallel = figure("parallel_coordinates", {
    title: "Parallel coordinates",
    height: 420,
    onTrial,
    onHover,
    onDraw: ({ data }) => axes.offer(data[0]?.dimensions ?? []),
    onKeep: (kept, rows, shown) => {
      scatter.keep(kept);
      selected.hidden = kept === null;
      axes.show(shown.map(({ name }) => name));
      if (kept === null) return;
      const more = kept.size > rows.length ? `; the best ${rows.length} are listed` : "";
      write(count, `${format.length(kept.size, "trials")} in the selected ranges${more}`);
      showLink(kept);
      const column = ({ label }, at) => ({ key: `axis${at}`, label, kind: "number" });
      table.setColumns([{ key: "trial", label: "Trial", kind: "number", width: "4rem" }, ...shown.map(column)]);
      table.setRows(rows, h("p", { class: "muted" }, "No trial is in all of these ranges."));
    },
  });
  const showLink = (kept) => {
    const conditions = parallel.conditions;
    // Trials that have not been compared at a rung are missing in the figure.
    const more = conditions && model.count > parallel.count && !conditions.some((each) => /^result[._]/.test(each));
    const listed = kept.size && kept.size <= MOST_LISTED ? [`trial=${[...kept].sort((a, b) => a - b)}`] : null;
    const words = conditions ? [...conditions, ...(more ? ["result!="] : [])] : listed;
    link.hidden = words === null || kept.size === 0;
    write(link, `Show ${format.length(kept.size, "trials")} in the Trials tab`);
    const query = new URLSearchParams({ tab: "trials", q: (words ?? []).join(" ") });
    link.href = `/experiments/${model.id}?${query}`;
  };
  parallel.choose(given ? given.split(",") : null);
  parallel.element.querySelector("header").append(axes.element);
  const importance = figure("importance", {
    title: "Importance",
    height: 380,
    onDraw: ({ layout }) => {
      const { body } = new DOMParser().parseFromString(layout.meta?.takeaway ?? "", "text/html");
      write(words, body.textContent);
      words.hidden = words.textContent === "";
    },
  });
  const scatter = figure("scatter", { title: "Metric by hyperparameter", height: 380, onTrial, onHover });
  const heat = figure("heatmap", { title: "Metric by two hyperparameters", height: 420 });
  return h(
    "div",
    null,
    words,
    h("div", { class: "halves" }, importance.element, scatter.element),
    parallel.element,
    selected,
    heat.element,
  );
}

// Longer lists of trials do not fit in an address.
const MOST_LISTED = 300;
const AXES = "parallel_coordinates.axes";

/** A menu of the axes of parallel coordinates: which are shown, and in which order. */
class AxisChooser {
  /** @param {(names: string[] | null) => void} change */
  constructor(change, signal) {
    this.change = change;
    this.all = [];
    this.shown = [];
    this.list = h("ul", { class: "order" });
    const reset = button("Reset", () => change(null), "small");
    const body = h("div", { class: "menu-body", role: "group", "aria-label": "Axes" }, this.list, reset);
    this.element = h("details", { class: "menu" }, h("summary", { class: "button" }, "Axes"), body);
    this.element.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      this.element.open = false;
      this.element.querySelector("summary").focus();
    });
    document.addEventListener("pointerdown", (event) => {
      if (!this.element.contains(event.target)) this.element.open = false;
    }, { signal });
  }

  /** @param {any[]} dimensions of the figure */
  offer(dimensions) {
    const text = (words) => new DOMParser().parseFromString(words, "text/html").body.textContent;
    this.all = dimensions.map(({ name, label }) => text(name ?? label));
  }

  /** @param {string[]} names of the axes that are shown, in their order */
  show(names) {
    this.shown = names;
    const others = this.all.filter((name) => !names.includes(name));
    redraw(this.list, [names, others], () => [...names, ...others].map((name) => this.#item(name)));
  }

  #item(name) {
    const at = this.shown.indexOf(name);
    const box = checkbox(name, at >= 0, (on) => {
      this.#set(on ? [...this.shown, name] : this.shown.filter((each) => each !== name), name, "input");
    });
    box.querySelector("input").disabled = at >= 0 && this.shown.length <= 2;
    const move = (by, sign, words) => {
      const label = { "aria-label": `Move ${name} ${words}`, disabled: at < 0 || !this.shown[at + by] };
      return button(sign, () => {
        const order = this.shown.filter((each) => each !== name);
        order.splice(at + by, 0, name);
        this.#set(order, name, `[aria-label$="${words}"]`);
      }, "small ghost", label);
    };
    return h("li", { data: { axis: name } }, box, move(-1, "↑", "to the left"), move(1, "↓", "to the right"));
  }

  /** Change the order, and keep the focus on the control that was used. */
  #set(names, name, control) {
    this.change(names);
    this.show(names);
    const item = [...this.list.children].find((each) => each.dataset.axis === name);
    const wanted = item?.querySelector(control);
    (wanted?.disabled ? item.querySelector("button:not(:disabled), input") : wanted)?.focus();
  }
}

/** How the budget was used. @param {import("./experiment.js").Tab} tab */
export async function budget({ model, figure, signal }) {
  const trained = new Fact("Trained");
  const expected = new Fact("Expected", { title: "Median of the preview's simulated searches" });
  const repeated = new Fact("Repeated training", { title: "Training after failures and lost workers" });
  const idle = new Fact("Workers idle");
  const failed = new Fact("Failed attempts");
  const show = () => {
    const { data } = model;
    trained.set(format.length(data.length_trained, data.unit));
    const share = data.length_trained ? data.length_repeated / data.length_trained : 0;
    repeated.set(format.length(data.length_repeated, data.unit), share ? format.percent(share) : "");
    idle.set(format.percent(1 - data.utilisation));
    failed.set(format.count(data.failed_attempts));
  };
  show();
  model.on(show, signal);
  expected.set(format.NONE);
  const spending = figure("spending", {
    title: "Where the budget went",
    height: 460,
    onDraw: ({ layout }) => expected.set(format.length(layout.meta?.expected, model.data.unit)),
  });
  return h("div", null, factList(trained, expected, repeated, idle, failed), spending.element);
}
