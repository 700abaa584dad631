/** Text for values, the same as in the command line. */

export const NONE = "–";

/** @param {any} value a value of a table */
export function value(value) {
  return formatted(value);
}

function formatted(value) {
  if (value === null || value === undefined) return NONE;
  if (typeof value === "number") return number(value);
  if (typeof value === "object") return JSON.stringify(value);
  return String(value);
}

/** Return the value of a hyperparameter: null is a value, and undefined means that the trial does not have it. */
export function setting(value) {
  return value === null ? "null" : formatted(value);
}

/** Six significant digits, like Python's `.6g`. */
export function number(value) {
  if (!Number.isFinite(value)) return NONE;
  if (Number.isInteger(value) && Math.abs(value) < 1e15) return String(value);
  const size = Math.abs(value);
  if (size >= 1e-4 && size < 1e6) return String(Number(value.toPrecision(6)));
  const [digits, exponent] = value.toExponential(5).split("e");
  return `${Number(digits)}e${exponent}`;
}

/** Texts of numbers that are not finite, as the server sends them. */
export const NOT_FINITE = new Set(["nan", "inf", "-inf"]);

/**
 * Return how all numbers of a column are shown: with the same number of decimals, or, if they differ too much in size,
 * with the same number of significant digits. Return null if all are whole.
 * @param {any[]} values
 */
export function precision(values) {
  const numbers = values.filter((value) => typeof value === "number" && Number.isFinite(value));
  if (numbers.every(Number.isInteger)) return null;
  const sizes = numbers.map(Math.abs).filter((size) => size > 0);
  const [least, most] = [Math.min(...sizes), Math.max(...sizes)];
  if (least < 1e-4 || most >= 1e6 || most / least >= 1e4) return { digits: 4 };
  return { decimals: Math.min(6, Math.max(0, 5 - Math.floor(Math.log10(most)))) };
}

/** Return a number as `precision` says. */
export function precise(value, precision) {
  if (precision === null || typeof value !== "number") return formatted(value);
  if (precision.decimals !== undefined) return value.toFixed(precision.decimals);
  return number(Number(value.toPrecision(precision.digits)));
}

/** Return how many trials an experiment has created, such as "60 of 60 + 2 replicates". */
export function created({ trials_created: trials, trials_planned: planned, replicates_created: replicates }) {
  const of = planned ? `${count(trials)} of ${count(planned)}` : count(trials);
  return replicates ? `${of} + ${count(replicates)} ${plural(replicates, "replicates")}` : of;
}

const COUNT = new Intl.NumberFormat("en");

/** Return a count, such as 10,000. */
export function count(value) {
  return value === null || value === undefined ? NONE : COUNT.format(value);
}

/** Return a fraction as a percentage, such as 62 %. */
export function percent(fraction) {
  if (fraction === null || fraction === undefined) return NONE;
  // An incomplete share is never rounded up to 100 %.
  return `${fraction >= 1 ? 100 : Math.min(99, Math.round(fraction * 100))} %`;
}

/** Return a duration, such as 4.2 s, 3 min 05 s, 2 h 10 min or 3 d 4 h. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return NONE;
  if (seconds < 10) return `${Math.max(0, seconds).toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${two(whole % 60)} s`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${two(Math.floor((whole % 3600) / 60))} min`;
  return `${Math.floor(whole / 86400)} d ${Math.floor((whole % 86400) / 3600)} h`;
}

/** Return a rounded duration: 40 s, 12 min, 2.5 h, 3 d. */
export function roughly(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return NONE;
  if (seconds < 100) return `${Math.max(1, Math.round(seconds))} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${Number((seconds / 3600).toPrecision(2))} h`;
  return `${Number((seconds / 86400).toPrecision(2))} d`;
}

function two(number) {
  return String(number).padStart(2, "0");
}

/** Return a training length, such as 1 epoch or 4 epochs. */
export function length(value, unit) {
  if (value === null || value === undefined) return NONE;
  return `${count(value)} ${plural(value, unit ?? "")}`.trim();
}

/** Return how long trials train, such as "up to 16 epochs"; if there is no length, their code decides. */
export function upTo(most, unit) {
  return most === null ? "of any length" : `up to ${length(most, unit)}`;
}

/** @param {string} unit in the plural */
export function plural(number, unit) {
  return number === 1 ? unit.replace(/(?<=tch)es$|s$/, "") : unit;
}

/** Return a size in bytes as text, such as 3.2 MB. */
export function bytes(size) {
  if (size === null || size === undefined) return NONE;
  const units = ["B", "kB", "MB", "GB", "TB"];
  let at = 0;
  let left = size;
  while (left >= 1000 && at < units.length - 1) {
    left /= 1000;
    at += 1;
  }
  return at === 0 || left >= 100 ? `${Math.round(left)} ${units[at]}` : `${left.toFixed(1)} ${units[at]}`;
}

const CLOCK = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const DAY = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });
const YEAR = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric" });

/** Return a time: 14:02:11 if it is today, 3 Nov, 14:02 if it is in this year, else 3 Nov 2025. */
export function time(at) {
  if (at === null || at === undefined) return NONE;
  const date = new Date(at * 1000);
  const now = new Date();
  if (date.toDateString() === now.toDateString()) return CLOCK.format(date);
  return date.getFullYear() === now.getFullYear() ? DAY.format(date) : YEAR.format(date);
}

/** Return a time with its date and time zone. */
export function timestamp(at) {
  return at === null || at === undefined ? "" : new Date(at * 1000).toLocaleString("en-GB", { timeZoneName: "short" });
}

/** Return whether values are shown on a logarithmic scale by default: all are positive, and they span over 10:1. */
export function isWide(values) {
  const known = values.filter((value) => Number.isFinite(value));
  return known.length > 0 && Math.min(...known) > 0 && Math.max(...known) > 10 * Math.min(...known);
}
