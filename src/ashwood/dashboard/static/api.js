/** Requests to the server's API. */

const ROOT = "/api/v1";

/** An error of the server: what went wrong, a hint that says what to do, and messages by names of wrong fields. */
export class ApiError extends Error {
  constructor(status, what, hint, fields = {}) {
    super(what);
    this.status = status;
    this.what = what;
    this.hint = hint;
    this.fields = fields;
  }
}

/** @param {Record<string, any>} [query] null and empty values are left out; lists become several parameters */
export function url(path, query) {
  const search = new URLSearchParams();
  for (const [key, value] of Object.entries(query ?? {})) {
    for (const each of Array.isArray(value) ? value : [value]) {
      if (each !== null && each !== undefined && each !== "") search.append(key, each);
    }
  }
  const words = search.toString();
  return `${ROOT}${path}${words ? `?${words}` : ""}`;
}

async function ask(address, options) {
  let response;
  try {
    response = await fetch(address, { credentials: "same-origin", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "The server doesn't answer.", "Is ashwood ui still running?");
  }
  if (response.ok || response.status === 304) return response;
  // A proxy between browser and server may answer with something else than JSON.
  const { error } = await response.json().catch(() => ({}));
  const what = error?.what ?? `The server answered ${response.status}.`;
  throw new ApiError(response.status, what, error?.hint ?? "", error?.fields);
}

/** @returns {Promise<any>} */
export async function get(path, { query, signal } = {}) {
  return (await ask(url(path, query), { signal, cache: "no-store" })).json();
}

/**
 * Get data if it has changed since a known ETag.
 * @returns {Promise<{etag: string | null, data: any, again: number | null}>} data: null if it is unchanged; again:
 *   seconds until it should be requested again, or null
 */
export async function getChanged(path, { query, signal, etag } = {}) {
  const headers = etag ? { "If-None-Match": etag } : {};
  const response = await ask(url(path, query), { signal, headers, cache: "no-store" });
  const again = Number(response.headers.get("Retry-After")) || null;
  const data = response.status === 304 ? null : await response.json();
  return { etag: response.headers.get("ETag"), data, again };
}

export async function post(path, body = {}, { signal } = {}) {
  return send("POST", path, body, signal);
}

export async function patch(path, body) {
  return send("PATCH", path, body);
}

export async function replace(path, body) {
  return send("PUT", path, body);
}

export async function remove(path) {
  return (await ask(url(path), { method: "DELETE" })).json();
}

async function send(method, path, body, signal) {
  const headers = { "Content-Type": "application/json" };
  return (await ask(url(path), { method, headers, body: JSON.stringify(body), signal })).json();
}
