/** The start of every page: first what all pages share, then the page itself. */

import { get } from "./api.js";
import { kept, mark, write } from "./dom.js";
import * as keys from "./keys.js";
import { openedOn } from "./live.js";
import comparePage from "./pages/compare.js";
import experimentPage from "./pages/experiment.js";
import experimentsPage from "./pages/experiments.js";
import previewPage from "./pages/preview.js";
import referencePage from "./pages/reference.js";
import trialPage from "./pages/trial.js";
import { start } from "./router.js";

const THEMES = [
  [null, "◐", "Colours: as in the system"],
  ["light", "☀", "Colours: light"],
  ["dark", "☾", "Colours: dark"],
];

function showTheme() {
  const theme = document.documentElement.dataset.theme ?? null;
  const [, sign, words] = THEMES.find(([each]) => each === theme);
  const button = document.getElementById("theme");
  write(button, sign);
  mark(button, "aria-label", words);
  mark(button, "title", `${words} (t)`);
}

function nextTheme() {
  const at = THEMES.findIndex(([each]) => each === (document.documentElement.dataset.theme ?? null));
  const [theme] = THEMES[(at + 1) % THEMES.length];
  if (theme === null) delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  kept.set("theme", theme);
  showTheme();
  document.dispatchEvent(new Event("ashwood:theme"));
}

/** Show the name of the home, and hide all buttons that change something if the dashboard is read-only. */
async function showHome() {
  try {
    const home = await get("/home");
    openedOn(home);
    const place = document.getElementById("home");
    // Homes differ in the end of their names.
    write(place, home.name.length > 40 ? `…${home.name.slice(-39)}` : home.name);
    mark(place, "title", `home ${home.name}, Ashwood ${home.version}`);
    document.getElementById("read-only").hidden = !home.read_only;
    document.documentElement.toggleAttribute("data-read-only", home.read_only);
  } catch {
    // The page shows the error.
  }
}

showTheme();
document.getElementById("theme").addEventListener("click", nextTheme);
document.getElementById("help").addEventListener("click", keys.help);
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  document.getElementById("main").focus();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener(
  "change",
  () => document.dispatchEvent(new Event("ashwood:theme")),
);
keys.start();
keys.bind("t", "light, dark or the system's colours", nextTheme);
// Pages must know whether the dashboard is read-only before they show buttons.
await showHome();
start([
  [/^\/$/, experimentsPage],
  [/^\/experiments$/, experimentsPage],
  [/^\/experiments\/(?<id>\d+)$/, experimentPage],
  [/^\/experiments\/(?<id>\d+)\/trials\/(?<trial>\d+)$/, trialPage],
  [/^\/compare$/, comparePage],
  [/^\/preview$/, previewPage],
  [/^\/reference$/, referencePage],
]);
