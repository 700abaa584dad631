/** The event log: events and decisions, the newest first. */

import { get } from "../api.js";
import { button, debounce, h, mark, put, throttle } from "../dom.js";
import { empty, failure, moment } from "../parts.js";

const LIMIT = 100;
const AGAIN = 1_500;
// A request about one kind of entries searches a part of the log only, so an empty answer may need further requests.
const MOST_REQUESTS = 20;
const KINDS = [
  ["", "All"],
  ["decisions", "Decisions"],
  ["failures", "Failures"],
  ["bests", "New bests"],
  ["steering", "Steering"],
];

/** @param {import("./experiment.js").Tab} tab */
export default async function events({ model, signal, place }) {
  const { path, id } = model;
  const list = h("ol", { class: "events" });
  const end = h("div", { class: "pager" });
  const trial = h("input", {
    type: "number",
    min: 0,
    step: 1,
    value: place.query.get("trial") ?? "",
    placeholder: "all",
    data: { filter: "" },
  });
  const wanted = place.query.get("kind") ?? "";
  let kind = KINDS.some(([each]) => each === wanted) ? wanted : "";
  let oldest = Infinity;
  let newest = -Infinity;
  const chips = KINDS.map(([each, words]) => button(words, () => chooseKind(each), "chip"));
  const showKind = () => chips.forEach((chip, at) => mark(chip, "aria-pressed", String(KINDS[at][0] === kind)));
  const asked = () => `${trial.value} ${kind}`;

  const fetchEvents = async (query) => {
    let answer = null;
    for (let request = 0; request < MOST_REQUESTS; request++) {
      const before = answer?.first ?? query.before;
      answer = await get(`${path}/events`, { query: { limit: LIMIT, trial: trial.value, kind, before }, signal });
      if (answer.events.length || answer.first <= 1 || query.newer) break;
    }
    return answer;
  };
  const line = ({ seq, at, text, decided }) => {
    const decisions = decided.length ? h("ul", null, decided.map((each) => h("li", null, linked(each, id)))) : null;
    const entry = h("div", null, h("span", null, linked(text, id)), decisions);
    return h("li", { data: { seq } }, h("span", { class: "seq" }, seq), moment(at), entry);
  };
  const take = (answer) => {
    const sorted = [...answer.events].sort((a, b) => b.seq - a.seq);
    if (sorted.length) newest = Math.max(newest, sorted[0].seq);
    return sorted;
  };
  const showEnd = (answer) => {
    // An answer about one trial may have no entries although there are earlier ones.
    oldest = Math.min(oldest, answer.first);
    put(end, oldest <= 1 ? h("span", { class: "muted" }, "Start of the event log") : button("Older", older));
  };
  const older = async () => {
    try {
      const answer = await fetchEvents({ before: oldest });
      list.append(...take(answer).map(line));
      showEnd(answer);
    } catch (error) {
      if (error.name !== "AbortError") put(end, failure(error, { again: older }));
    }
  };
  const begin = async () => {
    oldest = Infinity;
    newest = -Infinity;
    const of = asked();
    const answer = await fetchEvents({});
    if (of !== asked()) return;
    put(list, take(answer).map(line));
    const isFiltered = trial.value !== "" || kind !== "";
    const none = isFiltered ? empty("No events match.", "", button("Show all", all)) : empty("No events yet", "");
    if (answer.events.length === 0) put(list, h("li", { class: "nothing" }, none));
    showEnd(answer);
  };
  const fresh = throttle(async () => {
    const of = asked();
    try {
      const answer = await fetchEvents({ newer: true });
      if (of !== asked()) return undefined;
      const known = newest;
      const news = answer.events.filter((event) => event.seq > known);
      // If there is more than a page of new entries, the list starts again, so that it has no gap.
      if (news.length === LIMIT) return await begin();
      if (news.length && known === -Infinity) put(list);
      list.prepend(...take({ events: news }).map(line));
    } catch {
      // The page shows elsewhere that the connection is lost.
    }
    return undefined;
  }, AGAIN);
  const chooseKind = (chosen) => {
    kind = chosen;
    changed();
  };
  const all = () => {
    trial.value = "";
    chooseKind("");
  };
  const changed = () => {
    showKind();
    place.setQuery({ trial: trial.value, kind });
    begin().catch((error) => error.name === "AbortError" || put(list, h("li", null, failure(error))));
  };
  const typed = debounce(changed, 250);
  trial.addEventListener("input", typed);
  signal.addEventListener("abort", () => (fresh.stop(), typed.stop()));
  model.on((delta) => {
    if (delta.events?.length) fresh();
  }, signal);
  showKind();
  await begin();
  const kinds = h("div", { class: "chips", role: "group", "aria-label": "Kinds of events" }, chips);
  return h(
    "div",
    null,
    h("div", { class: "filters" }, kinds, h("label", { class: "choice" }, h("span", null, "Trial"), trial)),
    h("div", { class: "card" }, list, end),
  );
}

/** Return a text with links for words like "trial 7", but not for "trial 7 of bracket 0", which is another number. */
export function linked(text, id) {
  return String(text)
    .split(/(\btrial \d+\b(?! of bracket))/)
    .map((part) => {
      const trial = /^trial (\d+)$/.exec(part)?.[1];
      return trial ? h("a", { href: `/experiments/${id}/trials/${trial}` }, part) : part;
    });
}
