/** Symbols of points, in the shapes that Plotly uses. */

const ROOT = Math.sqrt(3) / 2;
const THIN = 0.38;

/** Corners of each symbol for a radius of 1; positive values are below the middle. */
const CORNERS = {
  square: [[-1, -1], [1, -1], [1, 1], [-1, 1]],
  diamond: [[0, -1.3], [1.3, 0], [0, 1.3], [-1.3, 0]],
  "triangle-up": [[0, -1], [1 / ROOT, 0.5], [-1 / ROOT, 0.5]],
  hexagon: around(6, () => 1),
  star: around(10, (at) => (at % 2 ? 0.53 : 1.4)),
  cross: plus(1.2, 0.4),
  x: plus(1.25, THIN).map(([x, y]) => [(x - y) * Math.SQRT1_2, (x + y) * Math.SQRT1_2]),
};

/** Return the corners of a regular polygon; the first is at the top. */
function around(count, radius) {
  return Array.from({ length: count }, (_, at) => {
    const angle = (2 * Math.PI * at) / count - Math.PI / 2;
    return [radius(at) * Math.cos(angle), radius(at) * Math.sin(angle)];
  });
}

function plus(long, thin) {
  const arm = [[thin, -long], [thin, -thin], [long, -thin]];
  return [0, 1, 2, 3].flatMap((turn) =>
    arm.map(([x, y]) => [[x, y], [-y, x], [-x, -y], [y, -x]][turn]),
  );
}

const stamps = new Map();
const MOST = 400;

/**
 * Return a picture of a symbol, which can be drawn many times.
 * @param {string} symbol its name in Plotly; with `-open`, only the outline is drawn
 * @param {string} colour
 * @param {number} size its diameter in pixels
 * @param {number} scale of the screen
 * @returns {HTMLCanvasElement} with the symbol in its middle
 */
export function stamp(symbol, colour, size, scale) {
  const key = `${symbol} ${colour} ${size} ${scale}`;
  const known = stamps.get(key);
  if (known) return known;
  // Each theme and each size of the window adds pictures.
  if (stamps.size >= MOST) stamps.clear();
  const made = document.createElement("canvas");
  made.width = Math.ceil((1.5 * size + 3) * scale);
  made.height = made.width;
  const context = made.getContext("2d");
  context.translate(made.width / 2, made.height / 2);
  context.scale(scale, scale);
  const name = symbol.replace(/-open$/, "");
  outline(context, name, size / 2);
  if (name === symbol) {
    context.fillStyle = colour;
    context.fill();
  } else {
    context.strokeStyle = colour;
    context.lineWidth = Math.min(1.2, size / 4);
    context.stroke();
  }
  stamps.set(key, made);
  return made;
}

function outline(context, name, radius) {
  context.beginPath();
  const corners = CORNERS[name];
  if (corners) for (const [x, y] of corners) context.lineTo(x * radius, y * radius);
  else context.arc(0, 0, radius, 0, 2 * Math.PI);
  context.closePath();
}
