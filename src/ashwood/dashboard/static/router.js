/** The pages by their addresses, and the state of a page in its query. */

import { announce, h, mark, put } from "./dom.js";
import { failure } from "./parts.js";

/**
 * @typedef {object} Place what a page gets
 * @property {Record<string, string>} params from the path
 * @property {URLSearchParams} query
 * @property {AbortSignal} signal aborted when the page is left
 * @property {(changes: Record<string, any>, how?: {push?: boolean}) => void} setQuery null removes a key
 * @property {(work: () => void) => void} leaving run when the page is left
 * @property {(title: string) => void} title
 *
 * @typedef {object} Page
 * @property {HTMLElement} element
 * @property {(query: URLSearchParams, before: URLSearchParams) => void} [queried] called when the user goes back or
 *   forward within the page
 */

let routes = [];
let current = null;

/** @param {[RegExp, (place: Place) => Promise<Page>][]} table */
export function start(table) {
  routes = table;
  history.scrollRestoration = "manual";
  addEventListener("popstate", () => visit({ scroll: history.state?.scroll ?? 0 }));
  addEventListener("scroll", rememberScroll, { passive: true });
  document.addEventListener("click", follow);
  visit({ scroll: history.state?.scroll ?? 0 });
}

/** Go to another address of this server. */
export function go(address) {
  if (address === location.pathname + location.search) return;
  history.pushState(null, "", address);
  visit({ scroll: 0 });
}

function reload() {
  current = null;
  visit({ scroll: scrollY });
}

let waiting = null;
function rememberScroll() {
  clearTimeout(waiting);
  waiting = setTimeout(() => history.replaceState({ ...history.state, scroll: scrollY }, ""), 150);
}

function follow(event) {
  const link = event.target.closest?.("a[href]");
  if (!link || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey) return;
  const href = link.getAttribute("href");
  if (!href.startsWith("/") || href.startsWith("/api/") || link.hasAttribute("download") || link.target) return;
  event.preventDefault();
  go(href);
}

async function visit({ scroll }) {
  const path = location.pathname.replace(/(.)\/$/, "$1");
  const query = new URLSearchParams(location.search);
  if (current?.path === path && current.page?.queried) {
    const before = current.query;
    current.query = query;
    current.page.queried(query, before);
    scrollTo(0, scroll);
    return;
  }
  current?.abort.abort();
  const abort = new AbortController();
  const here = { path, query, abort, page: null };
  const isFirst = current === null;
  current = here;
  clearTimeout(waiting);
  for (const link of document.querySelectorAll("[data-nav]")) {
    const { nav } = link.dataset;
    const at = path.startsWith(`/${nav}`) || (nav === "experiments" && path === "/");
    mark(link, "aria-current", at && "page");
  }
  const main = document.getElementById("main");
  main.setAttribute("aria-busy", "true");
  const slow = setTimeout(() => put(main, h("p", { class: "loading" }, "Loading…")), 250);
  let element;
  try {
    const [make, params] = match(path);
    here.page = await make(placeOf(here, params));
    element = here.page.element;
  } catch (error) {
    if (error.name === "AbortError" || abort.signal.aborted) return;
    element = failure(error, { heading: true, again: error.status === 404 ? null : reload });
    document.title = "Ashwood";
  } finally {
    clearTimeout(slow);
  }
  if (abort.signal.aborted) return;
  put(main, element);
  main.removeAttribute("aria-busy");
  scrollTo(0, scroll);
  if (!isFirst) {
    main.focus({ preventScroll: true });
    announce(document.title);
  }
}

function match(path) {
  for (const [pattern, make] of routes) {
    const found = path.match(pattern);
    if (found) return [make, found.groups ?? {}];
  }
  const error = new Error("There is no such page.");
  throw Object.assign(error, { what: error.message, hint: "Experiments are at /.", status: 404 });
}

function placeOf(here, params) {
  return {
    params,
    get query() {
      return here.query;
    },
    signal: here.abort.signal,
    leaving: (work) => here.abort.signal.addEventListener("abort", work),
    title: (title) => {
      if (!here.abort.signal.aborted) document.title = title ? `${title} · Ashwood` : "Ashwood";
    },
    setQuery: (changes, { push = false } = {}) => {
      if (here.abort.signal.aborted) return;
      const query = new URLSearchParams(here.query);
      for (const [key, value] of Object.entries(changes)) {
        if (value === null || value === undefined || value === "") query.delete(key);
        else query.set(key, value);
      }
      here.query = query;
      const words = query.toString().replaceAll("%2C", ",");
      const address = `${here.path}${words ? `?${words}` : ""}`;
      if (push) history.pushState({ scroll: scrollY }, "", address);
      else history.replaceState(history.state, "", address);
    },
  };
}
