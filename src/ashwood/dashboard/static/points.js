/**
 * Drawing of figures with many points on canvases of the page. Plotly can draw that many points only with WebGL, which
 * needs `eval`, and the page's security policy forbids that. Plotly draws everything else, including the axes; when the
 * user zooms, the points follow its axes.
 */

import { h, put } from "./dom.js";
import { unpacked } from "./packed.js";
import { stamp } from "./symbols.js";

const NEAR = 9;
// If the pointer moves farther than this many pixels while it is pressed, it is a drag and no click.
const STILL = 4;
const GLIDE = 600;
const MOST_GLIDING = 1_000;
const RING = 4;
const FAINT = 0.08;

/**
 * Separate the traces that Plotly draws from the groups of points that are drawn here. For each group, Plotly gets an
 * entry of the legend, and invisible points at its limits, so that the ranges of the axes include it.
 */
export function apart({ data }) {
  const [traces, groups] = [[], []];
  for (const trace of data) {
    if (trace.type !== "scattergl") traces.push(trace);
    else if (trace.mode !== "markers") traces.push({ ...trace, type: "scatter" });
    else {
      const group = groupOf(trace, traces.length);
      groups.push(group);
      const plain = { type: "scatter", mode: "markers", hoverinfo: "skip" };
      const marker = { symbol: group.symbol, color: group.colour, size: 8 };
      traces.push({ ...plain, name: trace.name, x: [null], y: [null], marker });
      const ends = { x: extent(group.x), y: extent(group.y) };
      traces.push({ ...plain, ...ends, marker: { opacity: 0 }, showlegend: false });
    }
  }
  return { traces, groups };
}

function groupOf({ x, y, customdata, marker, hovertemplate, meta }, entry) {
  const sizes = unpacked(marker.size);
  return {
    entry,
    x: unpacked(x),
    y: unpacked(y),
    facts: unpacked(customdata),
    size: typeof sizes === "number" ? () => sizes : (at) => sizes[at],
    symbol: marker.symbol ?? "circle",
    colour: marker.color,
    opacity: marker.opacity ?? 1,
    template: hovertemplate,
    moves: Boolean(meta?.moves),
  };
}

function extent(values) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return low <= high ? [low, high] : [];
}

export class Points {
  /**
   * @param {any} plot an element in which Plotly has drawn
   * @param {{onTrial?: (trial: number) => void, onHover?: (trial: number | null) => void, signal: AbortSignal}} options
   */
  constructor(plot, { onTrial, onHover, signal }) {
    Object.assign(this, { plot, onTrial, onHover });
    this.groups = [];
    this.still = h("canvas", { class: "dots", "aria-hidden": "true" });
    this.above = h("canvas", { class: "dots", "aria-hidden": "true" });
    this.tip = h("div", { class: "plot-tip", hidden: true, "aria-hidden": "true" });
    this.frame = null;
    this.gliding = null;
    this.pointed = null;
    this.lit = null;
    this.kept = null;
    // Whether the pointer is on a point that Plotly has drawn, which shows a tip of its own.
    this.quiet = false;
    const soon = () => {
      this.frame ??= requestAnimationFrame(() => this.#draw());
    };
    plot.on("plotly_afterplot", soon);
    plot.on("plotly_relayouting", soon);
    plot.addEventListener("pointermove", (event) => this.#point(event.buttons ? null : this.#near(event)), { signal });
    plot.addEventListener("pointerleave", () => this.#point(null), { signal });
    plot.addEventListener("pointerdown", (event) => this.#press(event), { signal, capture: true });
    signal.addEventListener("abort", () => cancelAnimationFrame(this.frame));
  }

  /** @param {ReturnType<typeof apart>["groups"]} groups of the figure that Plotly has just drawn */
  show(groups) {
    const before = this.width === this.plot.clientWidth ? this.#moving() : new Map();
    this.groups = groups;
    this.#place();
    this.#point(null);
    this.gliding = this.#glides(before);
    this.#draw();
  }

  /** Show only some trials clearly, or all if it is null. @param {Set<number> | null} trials */
  keep(trials) {
    if (trials === this.kept) return;
    this.kept = trials;
    if (!this.gliding) this.#draw();
  }

  /** Mark the points of a trial, or none if it is null. */
  light(trial) {
    this.lit = trial;
    if (!this.gliding) this.#ring();
  }

  /** Return the positions of all trials whose points may move. */
  #moving() {
    const found = new Map();
    for (const { moves, facts, px, py } of this.groups) {
      if (moves && px) for (let at = 0; at < px.length; at += 1) found.set(facts[at][0], [px[at], py[at]]);
    }
    return found;
  }

  #glides(before) {
    if (before.size === 0 || matchMedia("(prefers-reduced-motion: reduce)").matches) return null;
    const moved = [];
    for (const group of this.groups) {
      if (!group.moves) continue;
      for (let at = 0; at < group.px.length; at += 1) {
        const from = before.get(group.facts[at][0]);
        const far = from ? Math.hypot(group.px[at] - from[0], group.py[at] - from[1]) : 0;
        if (far >= 1) moved.push({ group, at, from, far });
      }
    }
    if (moved.length === 0) return null;
    moved.sort((a, b) => b.far - a.far);
    moved.length = Math.min(moved.length, MOST_GLIDING);
    const skipped = new Map(this.groups.map((group) => [group, new Set()]));
    for (const { group, at } of moved) skipped.get(group).add(at);
    return { moved, skipped, began: performance.now() };
  }

  /** Calculate the positions of all points in pixels of the plot, from its current axes. */
  #place() {
    const { xaxis, yaxis } = this.plot._fullLayout;
    const [across, up] = [placing(xaxis), placing(yaxis, -1)];
    this.width = this.plot.clientWidth;
    for (const group of this.groups) {
      group.px = Float32Array.from(group.x, across);
      group.py = Float32Array.from(group.y, up);
    }
  }

  #draw() {
    cancelAnimationFrame(this.frame);
    this.frame = null;
    if (!this.plot._fullLayout || !this.plot.clientWidth) return;
    this.#place();
    const room = this.plot.querySelector(".gl-container");
    if (this.still.parentElement !== room) room.append(this.still, this.above);
    if (this.tip.parentElement !== this.plot) this.plot.append(this.tip);
    const context = this.#clear(this.still);
    for (const group of this.#visible()) {
      const skipped = this.gliding?.skipped.get(group);
      for (let at = 0; at < group.px.length; at += 1) {
        context.globalAlpha = this.kept && !this.kept.has(group.facts[at][0]) ? FAINT : group.opacity;
        if (!skipped?.has(at)) this.#stamp(context, group, at, group.px[at], group.py[at]);
      }
    }
    if (this.gliding) this.#glide();
    else this.#ring();
  }

  #stamp(context, group, at, x, y) {
    const picture = stamp(group.symbol, group.colour, group.size(at), this.scale);
    const half = picture.width / 2;
    context.drawImage(picture, Math.round(x * this.scale - half), Math.round(y * this.scale - half));
  }

  #visible() {
    const entries = this.plot._fullData;
    return this.groups.filter(({ entry }) => entries[entry]?.visible === true);
  }

  /** Empty a canvas, and clip it to the area of the axes. It has the resolution of the screen. */
  #clear(canvas) {
    const { xaxis, yaxis, height } = this.plot._fullLayout;
    this.scale = devicePixelRatio || 1;
    const [wide, high] = [this.plot.clientWidth, height].map((each) => Math.round(each * this.scale));
    // A change of its size empties the canvas and resets its context.
    Object.assign(canvas, { width: wide, height: high });
    canvas.style.setProperty("width", `${wide / this.scale}px`);
    canvas.style.setProperty("height", `${high / this.scale}px`);
    const context = canvas.getContext("2d");
    context.beginPath();
    const edges = [xaxis._offset, yaxis._offset, xaxis._length, yaxis._length];
    context.rect(...edges.map((each) => each * this.scale));
    context.clip();
    return context;
  }

  #glide() {
    const { moved, began } = this.gliding;
    const gone = Math.min(1, (performance.now() - began) / GLIDE);
    if (gone === 1) {
      this.gliding = null;
      this.#draw();
      return;
    }
    const share = gone * gone * (3 - 2 * gone);
    const context = this.#clear(this.above);
    const visible = new Set(this.#visible());
    for (const { group, at, from } of moved) {
      if (!visible.has(group)) continue;
      context.globalAlpha = group.opacity;
      const x = from[0] + share * (group.px[at] - from[0]);
      const y = from[1] + share * (group.py[at] - from[1]);
      this.#stamp(context, group, at, x, y);
    }
    this.frame = requestAnimationFrame(() => {
      this.frame = null;
      this.#glide();
    });
  }

  /** Draw rings around all points of the trial that is marked or pointed at. */
  #ring() {
    const trial = this.pointed ? trialAt(this.pointed) : this.lit;
    if (trial === null && !this.ringed) return;
    this.ringed = trial !== null;
    const context = this.#clear(this.above);
    if (trial === null) return;
    context.scale(this.scale, this.scale);
    context.strokeStyle = getComputedStyle(this.plot).color;
    context.lineWidth = 1.6;
    for (const { facts, px, py, size } of this.#visible()) {
      for (let at = 0; at < px.length; at += 1) {
        if (facts[at][0] !== trial) continue;
        context.beginPath();
        context.arc(px[at], py[at], size(at) / 2 + RING, 0, 2 * Math.PI);
        context.stroke();
      }
    }
  }

  /** Return the point that is nearest to the pointer; among equals, the one that was drawn last. */
  #near({ clientX, clientY }) {
    if (this.quiet || this.gliding || !this.plot._fullData) return null;
    const box = this.plot.getBoundingClientRect();
    const [x, y] = [clientX - box.left, clientY - box.top];
    const { xaxis, yaxis } = this.plot._fullLayout;
    if (!isWithin(x, xaxis) || !isWithin(y, yaxis)) return null;
    let [found, least] = [null, NEAR];
    for (const group of this.#visible()) {
      for (let at = 0; at < group.px.length; at += 1) {
        const far = Math.hypot(group.px[at] - x, group.py[at] - y);
        if (far <= least) [found, least] = [{ group, at }, far];
      }
    }
    return found;
  }

  #point(found) {
    if (found?.group === this.pointed?.group && found?.at === this.pointed?.at) return;
    this.pointed = found;
    if (!this.quiet) this.plot.classList.toggle("clickable", found !== null && Boolean(this.onTrial));
    this.onHover?.(found && trialAt(found));
    if (!this.gliding) this.#ring();
    this.tip.hidden = found === null;
    if (found === null) return;
    const { group, at } = found;
    put(this.tip, tipOf(group, at));
    const [x, y] = [group.px[at], group.py[at]];
    const side = x > this.plot.clientWidth / 2 ? -this.tip.offsetWidth - 12 : 12;
    this.tip.style.setProperty("left", `${x + side}px`);
    this.tip.style.setProperty("top", `${Math.max(0, y - this.tip.offsetHeight / 2)}px`);
  }

  // Plotly covers the page with an element while a button is pressed, so a click event never arrives here.
  #press(pressed) {
    const found = this.#near(pressed);
    if (!found || pressed.button !== 0) return;
    const lift = ({ clientX, clientY }) => {
      if (Math.hypot(clientX - pressed.clientX, clientY - pressed.clientY) <= STILL) this.onTrial?.(trialAt(found));
    };
    addEventListener("pointerup", lift, { once: true, capture: true });
  }
}

function trialAt({ group, at }) {
  return group.facts[at][0];
}

/** Return a function from a number on an axis to a pixel. */
function placing({ range, type, _offset, _length }, direction = 1) {
  const [from, to] = range;
  const linear = type === "log" ? Math.log10 : Number;
  const start = direction > 0 ? _offset : _offset + _length;
  return (value) => start + (direction * _length * (linear(value) - from)) / (to - from);
}

function isWithin(at, { _offset, _length }) {
  return at >= _offset && at <= _offset + _length;
}

/** Return the hover text of a point from its template in Plotly: lines, of which parts may be bold. */
function tipOf({ template = "", facts, x, y }, at) {
  const filled = template
    .replace(/<extra>.*<\/extra>/s, "")
    .replaceAll(/%\{(x|y|customdata\[(\d+)\])(?::([^}]*))?\}/g, (_, what, place, format) => {
      const value = place === undefined ? { x, y }[what][at] : facts[at][place];
      // Figures use only one format: five digits, without zeros at the end.
      return format ? String(Number(Number(value).toPrecision(5))) : String(value);
    });
  // It is parsed as a separate document, and only its texts are used.
  return Array.from(new DOMParser().parseFromString(filled, "text/html").body.childNodes, (node) => {
    if (node.nodeName === "BR") return h("br");
    return node.nodeName === "B" ? h("b", null, node.textContent) : node.textContent;
  });
}
