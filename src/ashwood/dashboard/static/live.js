/** Live updates from the server, while the page is visible. */

import { get } from "./api.js";
import { announce, button, h, put } from "./dom.js";
import { time } from "./format.js";

// Browsers open only a few connections to one server, so a hidden tab closes its own after this many milliseconds.
const HIDDEN_FOR = 10_000;
const SLOWEST = 8_000;

const open = new Set();
let home = null;
let lostAt = null;

/**
 * Follow a stream of events until `signal` aborts.
 * @param {string} path below /api/v1
 * @param {object} how
 * @param {Record<string, (data: any) => void>} how.events by name
 * @param {() => void} [how.missed] called when the connection is back; events may have been missed
 * @param {() => string} [how.address] address at which to resume, instead of `path`
 * @param {AbortSignal} how.signal
 * @param {boolean} [how.shown] whether the page shows the state of this connection
 */
export function follow(path, { events, missed, address, signal, shown = true }) {
  const stream = { state: "connecting", failed: null };
  let source = null;
  let timer = null;
  let wait = 500;
  let before = false;
  let over = false;

  const close = () => {
    source?.close();
    source = null;
    clearTimeout(timer);
  };
  const become = (state) => {
    stream.state = state;
    if (shown) show();
  };
  const connect = () => {
    close();
    if (signal.aborted || over) return;
    source = new EventSource(`/api/v1${address?.() ?? path}`);
    source.onopen = () => {
      wait = 500;
      stream.failed = null;
      become("open");
      if (before) missed?.();
      before = true;
    };
    source.onerror = () => {
      become("lost");
      close();
      timer = setTimeout(connect, wait);
      wait = Math.min(SLOWEST, wait * 1.6);
    };
    source.addEventListener("failed", (event) => (stream.failed = JSON.parse(event.data).error));
    for (const [name, heard] of Object.entries(events)) {
      source.addEventListener(name, (event) => {
        let data = null;
        try {
          data = event.data ? JSON.parse(event.data) : null;
        } catch {
          return;
        }
        heard(data);
      });
    }
  };
  let hiding = null;
  const looked = () => {
    clearTimeout(hiding);
    if (document.hidden) {
      hiding = setTimeout(() => {
        close();
        become("asleep");
      }, HIDDEN_FOR);
    } else if (!source && !over) connect();
  };
  stream.retry = () => {
    wait = 500;
    connect();
  };
  stream.stop = () => {
    over = true;
    close();
    if (shown) {
      open.delete(stream);
      show();
    }
  };
  document.addEventListener("visibilitychange", looked, { signal });
  signal.addEventListener("abort", () => {
    clearTimeout(hiding);
    stream.stop();
  });
  if (shown) open.add(stream);
  connect();
  show();
  return stream;
}

/** Note the home and the version of the server, to notice if another server answers later. */
export function openedOn(answer) {
  home = answer;
}

function show() {
  const states = [...open].map((stream) => stream.state);
  const state = states.includes("lost") ? "lost" : states.includes("connecting") ? "connecting" : (states[0] ?? "idle");
  const place = document.getElementById("live");
  const words = { open: "live", lost: "offline", connecting: "connecting", asleep: "asleep", idle: "not live" };
  place.dataset.state = state;
  place.hidden = state === "idle";
  put(place, h("i", { "aria-hidden": "true" }), h("span", null, words[state]));
  const banner = document.getElementById("banner");
  if (state === "lost") {
    if (lostAt !== null) return;
    lostAt = Date.now() / 1000;
    const failed = [...open].find((stream) => stream.failed)?.failed;
    const what = failed?.what ?? "The connection to the server is lost.";
    const hint = failed ? failed.hint : "Is ashwood ui still running? Start it again.";
    announce(`${what} Trying again.`);
    put(
      banner,
      h("strong", null, what),
      h("span", null, ` The page shows the state at ${time(lostAt)}. Trying again… ${hint}`),
      button("Try now", () => open.forEach((stream) => stream.retry())),
    );
    banner.hidden = false;
  } else if (state === "open" && lostAt !== null) {
    lostAt = null;
    banner.hidden = true;
    announce("Connected again.");
    compare();
  } else if (state === "idle") {
    lostAt = null;
    banner.hidden = true;
  }
}

async function compare() {
  try {
    const now = await get("/home");
    if (home && (now.name !== home.name || now.version !== home.version)) {
      const what = now.name === home.name ? `version ${now.version}` : `another home, ${now.name}`;
      put(
        document.getElementById("banner"),
        h("strong", null, `The server now shows ${what}.`),
        button("Reload", () => location.assign("/")),
      );
      document.getElementById("banner").hidden = false;
    }
  } catch {
    // The page already shows that the connection is lost.
  }
}
