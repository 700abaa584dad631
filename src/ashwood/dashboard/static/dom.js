/** Elements of the page. Text never becomes markup. */

const SVG = "http://www.w3.org/2000/svg";
const PROPERTIES = new Set(["value", "checked", "disabled", "hidden", "indeterminate", "selected", "readOnly"]);

/**
 * Make an element. Strings among the children become text nodes, whatever they contain.
 * @param {string} tag
 * @param {Record<string, any> | null} [props] attributes; `onclick` and its like are listeners
 * @param {...any} children nodes, texts, arrays of them; null and false are left out
 * @returns {any}
 */
export function h(tag, props, ...children) {
  return fill(document.createElement(tag), props, children);
}

/** Make an element of SVG, as `h` does of HTML. */
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

/** Replace the children of an element. */
export function put(element, ...children) {
  element.replaceChildren(...nodes(children));
  return element;
}

/** Change the text of an element only if it differs, so that selections and screen readers are not disturbed. */
export function write(element, text) {
  const words = text ?? "";
  if (element.textContent !== String(words)) element.textContent = words;
  return element;
}

/** Set or remove an attribute, only if that changes it. */
export function mark(element, name, value) {
  if (value === null || value === undefined || value === false) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value === true ? "" : value);
}

/** Replace the children of an element if `key` differs from the last call. A focused child keeps the focus. */
export function redraw(element, key, make) {
  const shown = JSON.stringify(key);
  if (element.dataset.shown === shown) return;
  element.dataset.shown = shown;
  const name = (child) => child.dataset.state ?? child.textContent;
  const focused = element.contains(document.activeElement) ? name(document.activeElement) : null;
  put(element, make());
  if (focused !== null) [...element.children].find((child) => name(child) === focused)?.focus();
}

/** Make a button. @param {string | null} [kind] its class @param {object} [more] other attributes */
export function button(words, act, kind = null, more = {}) {
  return h("button", { type: "button", class: kind, onclick: act, ...more }, words);
}

/** Make a labelled checkbox; its `control` is the input. @param {(checked: boolean) => void} change */
export function checkbox(label, checked, change) {
  const box = h("input", { type: "checkbox", checked, onchange: () => change(box.checked) });
  return h("label", { class: "choice" }, box, h("span", null, label));
}

/** Announce a text to users of screen readers. */
export function announce(text) {
  const place = document.getElementById("announcer");
  if (place) write(place, text);
}

/** Return a function that runs another function at most every `milliseconds`; the last call is never lost. */
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

/** Return a function that runs another function after it has not been called for some time. */
export function debounce(work, milliseconds) {
  let timer = null;
  const debounced = (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => work(...values), milliseconds);
  };
  debounced.stop = () => clearTimeout(timer);
  return debounced;
}

/** Return a colour of the theme, such as "muted", as an rgb() value, which canvases and Plotly can use. */
export function colour(name) {
  const probe = h("i", { style: { color: `var(--${name})` } });
  document.body.append(probe);
  const { color } = getComputedStyle(probe);
  probe.remove();
  return color;
}

function storage(area) {
  return {
    get(key) {
      try {
        return JSON.parse(area().getItem(`ashwood.${key}`));
      } catch {
        return null;
      }
    },
    set(key, value) {
      try {
        if (value === null) area().removeItem(`ashwood.${key}`);
        else area().setItem(`ashwood.${key}`, JSON.stringify(value));
      } catch {
        // The storage is full or forbidden, so the choice is lost with the page.
      }
    },
  };
}

/** The user's choices, stored in this browser. */
export const kept = storage(() => localStorage);
/** What this tab of the browser stores until it is closed. */
export const keptInTab = storage(() => sessionStorage);
