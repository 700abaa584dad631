/** What happened and what was decided, the newest first. */

import { get } from "../api.js";
import { debounce, h, put, throttle } from "../dom.js";
import { empty, failure, moment } from "../parts.js";

const LIMIT = 100;
const AGAIN = 1_500;

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
  let oldest = Infinity;
  let newest = -Infinity;

  const fetchEvents = (query) => get(`${path}/events`, {
    query: { limit: LIMIT, trial: trial.value, ...query },
    signal,
  });
  const line = ({ seq, at, text, decided }) => {
    const decisions = Array.isArray(decided) ? decided : decided ? [decided] : [];
    return h(
      "li",
      { data: { seq } },
      h("span", { class: "seq" }, seq),
      moment(at),
      h(
        "div",
        null,
        h("span", null, linked(text, id)),
        decisions.length ? h("ul", null, decisions.map((each) => h("li", null, linked(each, id)))) : null,
      ),
    );
  };
  const take = (answer) => {
    const sorted = [...answer.events].sort((a, b) => b.seq - a.seq);
    if (sorted.length) newest = Math.max(newest, sorted[0].seq);
    return sorted;
  };
  const showEnd = (answer) => {
    // Of one trial, there may be none for long.
    oldest = Math.min(oldest, answer.first);
    const isAll = oldest <= 1;
    put(
      end,
      isAll
        ? h("span", { class: "muted" }, list.children.length ? "That is where it began." : "")
        : h("button", { type: "button", onclick: older }, "Older"),
    );
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
    const of = trial.value;
    const answer = await fetchEvents({});
    if (of !== trial.value) return;
    put(list, take(answer).map(line));
    if (answer.events.length === 0) put(list, h("li", { class: "nothing" }, empty("Nothing has happened yet.", "")));
    showEnd(answer);
  };
  const fresh = throttle(async () => {
    const of = trial.value;
    try {
      const answer = await fetchEvents({});
      if (of !== trial.value) return undefined;
      const known = newest;
      const news = answer.events.filter((event) => event.seq > known);
      // More than a page came at once: begin anew rather than leave a gap.
      if (news.length === LIMIT) return await begin();
      if (news.length && known === -Infinity) put(list);
      list.prepend(...take({ events: news }).map(line));
    } catch {
      // The state of the connection is shown elsewhere.
    }
    return undefined;
  }, AGAIN);
  const typed = debounce(() => {
    place.setQuery({ trial: trial.value });
    begin().catch((error) => error.name === "AbortError" || put(list, h("li", null, failure(error))));
  }, 250);
  trial.addEventListener("input", typed);
  signal.addEventListener("abort", () => (fresh.stop(), typed.stop()));
  model.on((delta) => {
    if (delta.events?.length) fresh();
  }, signal);
  await begin();
  return h(
    "div",
    null,
    h("div", { class: "filters" }, h("label", { class: "choice" }, h("span", null, "Trial"), trial)),
    h("div", { class: "card" }, list, end),
  );
}

/** A text in which "trial 7" leads there, but not "trial 7 of bracket 0", which is another number. */
export function linked(text, id) {
  return String(text)
    .split(/(\btrial \d+\b(?! of bracket))/)
    .map(
      (part) => (
        /^trial \d+$/.test(part) ? h("a", { href: `/experiments/${id}/trials/${part.slice(6)}` }, part) : part
      ),
    );
}
