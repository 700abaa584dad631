/** Draws the figures of a report, on light or dark paper, and on paper that is printed. */
(() => {
  "use strict";
  const root = document.documentElement;
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const prefersDark = matchMedia("(prefers-color-scheme: dark)");
  const CONFIG = {
    responsive: true,
    displaylogo: false,
    // Without this option, Plotly adds a button that uploads the figure.
    showSendToCloud: false,
    plotlyServerURL: "",
    modeBarButtonsToRemove: ["lasso2d", "select2d", "autoScale2d"],
  };
  const STILL = { staticPlot: true };
  // The size fits A4 paper: as wide as the page inside its margins, and often two figures on a page.
  const WIDTH = 700, HEIGHT = 880, FLAT = 0.9;
  // Height of the title, which the page shows itself.
  const TITLE = 44;
  const CLEAR = "rgba(0,0,0,0)";

  // A program that makes a PDF or a picture of this page opens it with #paper or #picture.
  const on = ["paper", "picture"].find((each) => location.hash === `#${each}`) ?? "screen";
  root.dataset.on = on;
  let chosen = on === "screen" ? null : "light";

  const theme = () => chosen ?? (prefersDark.matches ? "dark" : "light");

  function figure(name) {
    const { light, dark } = figures[name];
    const drawn = structuredClone(light);
    if (root.dataset.drawn !== "dark") return drawn;
    for (const [path, value] of dark) {
      const last = path[path.length - 1];
      path.slice(0, -1).reduce((node, key) => node[key], drawn)[last] = structuredClone(value);
    }
    return drawn;
  }

  function draw(place, paper) {
    const { data, layout } = figure(place.dataset.figure);
    const { margin = {}, height = 420 } = layout;
    const top = Math.max(8, (margin.t ?? 66) - TITLE);
    Object.assign(layout, { paper_bgcolor: CLEAR, plot_bgcolor: CLEAR, margin: { ...margin, t: top } });
    layout.height = height - ((margin.t ?? 66) - top);
    delete layout.title;
    if (paper) Object.assign(layout, { width: WIDTH, autosize: false, height: Math.min(FLAT * layout.height, HEIGHT) });
    else Object.assign(layout, { autosize: true });
    return Plotly.react(place, data, layout, on === "screen" ? CONFIG : STILL);
  }

  const places = [...document.querySelectorAll("[data-figure]")];
  const pause = () => new Promise((resolve) => setTimeout(resolve));

  // Plotly is compressed in the page. An indirect eval runs it as a script of the page.
  async function unpack() {
    const packed = Uint8Array.from(atob(document.getElementById("plotly").textContent), (char) => char.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    (0, eval)(await new Response(stream).text());
  }
  const unpacked = unpack();

  async function drawAll() {
    try {
      await unpacked;
    } catch (error) {
      for (const place of places) place.textContent = `Figures need a newer browser: ${error.message}`;
      return;
    }
    root.dataset.drawn = theme();
    for (const place of places) {
      try {
        await draw(place, on === "paper");
      } catch (error) {
        place.textContent = `This figure could not be drawn: ${error.message}`;
      }
      await pause();
    }
  }

  function recolour() {
    if (chosen) root.dataset.theme = chosen;
    if (root.dataset.drawn !== theme()) drawAll();
  }

  // Paper is light, and a printer does not wait for figures that are not drawn yet.
  addEventListener("beforeprint", () => {
    if (on !== "screen") return;
    root.dataset.drawn = "light";
    for (const place of places) draw(place, true);
  });
  addEventListener("afterprint", () => {
    if (on === "screen") drawAll();
  });
  prefersDark.addEventListener("change", recolour);
  document.getElementById("theme").addEventListener("click", () => {
    chosen = theme() === "dark" ? "light" : "dark";
    recolour();
  });
  for (const button of document.querySelectorAll("[data-copy]")) {
    button.addEventListener("click", async () => {
      const text = document.getElementById(button.dataset.copy);
      try {
        await navigator.clipboard.writeText(text.textContent);
        button.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(text);
      }
    });
  }
  if (chosen) root.dataset.theme = chosen;
  drawAll().then(() => {
    root.dataset.height = Math.ceil(document.body.getBoundingClientRect().height);
    root.dataset.ready = "";
  });
})();
