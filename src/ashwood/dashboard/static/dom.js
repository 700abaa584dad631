/** Elements, and text that stays text. */

const SVG = "http://www.w3.org/2000/svg";
const PROPERTIES = new Set(["value", "checked", "disabled", "hidden", "indeterminate", "selected", "readOnly"]);

/**
 * Make an element. Strings among the children become text nodes, whatever they hold.
 * @param {string} tag
 * @param {Record<string, any> | null} [props] attributes; `onclick` and its like are listeners
 * @param {...any} children nodes, texts, arrays of them; null and false are left out
 * @returns {any}
 */
export function h(tag, props, ...children) {
  return fill(document.createElement(tag), props, children);
}

/** The same for SVG. */
export function s(tag, props, ...children) {
  return fill(document.createElementNS(SVG, tag), props, children);
}

function fill(element, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else if (name === "data") Object.assign(element.dataset, value);
    else if (name === "style") for (const [key, each] of Object.entries(value)) element.style.setProperty(key, each);
    else if (PROPERTIES.has(name)) element[name] = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...nodes(children));
  return element;
}

function nodes(children) {
  return children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false);
}

/** Put children in the place of those that are there. */
export function put(element, ...children) {
  element.replaceChildren(...nodes(children));
  return element;
}

/** Change a text only when it is another, so that selections and readers aren't disturbed. */
export function write(element, text) {
  const words = text ?? "";
  if (element.textContent !== String(words)) element.textContent = words;
  return element;
}

/** Set or remove an attribute, only when that changes something. */
export function mark(element, name, value) {
  if (value === null || value === undefined || value === false) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value === true ? "" : value);
}

/** Announce a text to users of screen readers. */
export function announce(text) {
  const place = document.getElementById("announcer");
  if (place) write(place, text);
}

/** @param {() => void} work run at most every `milliseconds`, the last call never lost */
export function throttle(work, milliseconds) {
  let timer = null;
  let last = -Infinity;
  const run = () => {
    timer = null;
    last = performance.now();
    work();
  };
  const throttled = () => {
    timer ??= setTimeout(run, Math.max(0, last + milliseconds - performance.now()));
  };
  throttled.stop = () => {
    clearTimeout(timer);
    timer = null;
  };
  return throttled;
}

/** Return a function that runs another one once it has not been called for a time. */
export function debounce(work, milliseconds) {
  let timer = null;
  const debounced = (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => work(...values), milliseconds);
  };
  debounced.stop = () => clearTimeout(timer);
  return debounced;
}

/** What a person chose, kept in this browser. */
export const kept = {
  get(key) {
    try {
      return JSON.parse(localStorage.getItem(`ashwood.${key}`));
    } catch {
      return null;
    }
  },
  set(key, value) {
    try {
      if (value === null) localStorage.removeItem(`ashwood.${key}`);
      else localStorage.setItem(`ashwood.${key}`, JSON.stringify(value));
    } catch {
      // Full or forbidden: it is forgotten with the page.
    }
  },
};
