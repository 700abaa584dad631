/** Figures of many points for browsers that don't let Plotly use the graphics card, as strict policies don't. */

import { unpacked } from "./packed.js";

// Fewer points than this are elements of their own, with their symbols.
const FEW = 800;

/**
 * Traces of Plotly's `scattergl` as `scatter`. Many points become one path of short strokes, which takes a
 * hundredth of the time that as many elements take; hovering and clicking find them as ever.
 */
export function withoutWebGL({ data, layout }, width) {
  return data.flatMap((trace) => {
    if (trace.type !== "scattergl") return [trace];
    const plain = { ...trace, type: "scatter" };
    const x = unpacked(trace.x);
    if (trace.mode !== "markers" || x.length <= FEW || layout.xaxis?.type === "log") return [plain];
    return strokes(plain, x, layout.xaxis?.range, width);
  });
}

function strokes(trace, x, range, width) {
  const y = unpacked(trace.y);
  const facts = unpacked(trace.customdata);
  const sizes = unpacked(trace.marker.size);
  const span = range ? Math.abs(range[1] - range[0]) : extent(x);
  const groups = new Map();
  for (let at = 0; at < x.length; at += 1) {
    const size = typeof sizes === "number" ? sizes : (sizes[at] ?? 4);
    const group = groups.get(size) ?? { x: [], y: [], customdata: [] };
    groups.set(size, group);
    const half = ((size / width) * span) / 2;
    group.x.push(x[at] - half, x[at] + half, null);
    group.y.push(y[at], y[at], null);
    group.customdata.push(facts[at], facts[at], facts[at]);
  }
  const { marker, ...others } = trace;
  const entry = {
    ...others,
    x: [null],
    y: [null],
    customdata: [],
    marker: { ...marker, size: 8 },
    legendgroup: trace.name,
  };
  const drawn = [...groups].map(([size, group]) => ({
    ...others,
    ...group,
    mode: "lines",
    line: { color: marker.color, width: size, simplify: false },
    opacity: marker.opacity ?? 1,
    legendgroup: trace.name,
    showlegend: false,
  }));
  return [entry, ...drawn];
}

function extent(values) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return high > low ? high - low : 1;
}
