/** The API reference page, made from the OpenAPI schema. */

import { get } from "../api.js";
import { h } from "../dom.js";
import { plainTable } from "../parts.js";

/** @param {import("../router.js").Place} place */
export default async function reference(place) {
  place.title("HTTP API reference");
  const schema = await get("/openapi.json", { signal: place.signal });
  const routes = Object.entries(schema.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, route]) => ({ path, method, route }))
  );
  const element = h(
    "div",
    { class: "reference" },
    h("h1", null, "HTTP API reference"),
    h(
      "p",
      { class: "hint" },
      `${routes.length} routes of version ${schema.info.version}. The `,
      h("a", { href: "/api/v1/openapi.json", target: "_blank" }, "OpenAPI schema"),
      " describes all answers. Try: ",
      h("code", null, `curl ${location.origin}/api/v1/experiments`),
    ),
    routes.map((route) => section(route, schema)),
  );
  return { element };
}

function section({ path, method, route }, schema) {
  const id = route.operationId;
  const good = route.responses["200"]?.content ?? {};
  const parameters = (route.parameters ?? []).filter((each) => each.in !== "header");
  const body = route.requestBody?.content?.["application/json"]?.schema;
  return h(
    "section",
    { class: "card", "aria-labelledby": id },
    h("header", null, h("h2", { id }, h("code", null, `${method.toUpperCase()} ${path}`))),
    h("p", null, withCode(route.description ?? "")),
    table("Parameter", parameters.map((each) => [each.name, kind(each.schema), each.description])),
    table("Field of the JSON body", body ? fields(body, schema) : []),
    h(
      "p",
      { class: "hint" },
      "Returns ",
      Object.entries(good).map(([media, { schema: shape }]) => h("code", null, shape ? kind(shape) : media)),
      failures(route.responses),
    ),
  );
}

/** Return a text whose parts in ``double backticks`` are code. */
function withCode(text) {
  return text.split("``").map((part, at) => (at % 2 ? h("code", null, part) : part));
}

function failures(responses) {
  const codes = Object.keys(responses).filter((code) => code >= "400");
  return codes.length ? `; errors: ${codes.join(", ")}` : "";
}

function fields(shape, schema) {
  const found = resolved(shape, schema);
  const required = new Set(found.required ?? []);
  return Object.entries(found.properties ?? {}).map(([name, each]) => [
    required.has(name) ? name : `${name}?`,
    kind(each),
    each.description,
  ]);
}

function resolved(shape, schema) {
  return shape.$ref ? schema.components.schemas[nameOf(shape.$ref)] : shape;
}

function nameOf(reference) {
  return reference.split("/").at(-1);
}

/** Return the type of a value in a few words. */
function kind(shape) {
  if (!shape) return "";
  if (shape.$ref) return nameOf(shape.$ref);
  if (shape.enum) return shape.enum.join(" | ");
  if (shape.anyOf) return shape.anyOf.map(kind).join(" | ");
  if (shape.type === "array") return `list of ${kind(shape.items)}`;
  return shape.type ?? "anything";
}

function table(title, rows) {
  if (!rows.length) return null;
  const cells = rows.map(([name, what, words]) => [h("code", null, name), what, words ?? ""]);
  const whole = plainTable(title, [title, "Type", "Description"], cells);
  return h("div", { class: "scroll-x", tabindex: 0, role: "group", "aria-label": title }, whole);
}
