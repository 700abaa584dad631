/** The API reference page, made from the OpenAPI schema. */

import { get } from "../api.js";
import { h } from "../dom.js";

/** @param {import("../router.js").Place} place */
export default async function reference(place) {
  place.title("API");
  const schema = await get("/openapi.json", { signal: place.signal });
  const routes = Object.entries(schema.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, told]) => ({ path, method, told }))
  );
  const element = h(
    "div",
    { class: "reference" },
    h("h1", null, "API"),
    h(
      "p",
      { class: "hint" },
      `What these pages show and do, for programs: ${routes.length} routes of version ${schema.info.version}. `,
      h("a", { href: "/api/v1/openapi.json", target: "_blank" }, "Their OpenAPI schema"),
      " has the shapes of all answers. Try: ",
      h("code", null, `curl ${location.origin}/api/v1/experiments`),
    ),
    routes.map((route) => section(route, schema)),
  );
  return { element };
}

function section({ path, method, told }, schema) {
  const id = told.operationId;
  const good = told.responses["200"]?.content ?? {};
  const parameters = (told.parameters ?? []).filter((each) => each.in !== "header");
  const body = told.requestBody?.content?.["application/json"]?.schema;
  return h(
    "section",
    { class: "card", "aria-labelledby": id },
    h("header", null, h("h2", { id }, h("code", null, `${method.toUpperCase()} ${path}`))),
    h("p", null, withCode(told.description ?? "")),
    table("Parameter", parameters.map((each) => [each.name, kind(each.schema), each.description])),
    table("In the JSON body", body ? fields(body, schema) : []),
    h(
      "p",
      { class: "hint" },
      "Answers with ",
      Object.entries(good).map(([media, { schema: shape }]) => h("code", null, shape ? kind(shape) : media)),
      failures(told.responses),
    ),
  );
}

/** Words, those in ``double quotes`` as code. */
function withCode(text) {
  return text.split("``").map((part, at) => (at % 2 ? h("code", null, part) : part));
}

function failures(responses) {
  const codes = Object.keys(responses).filter((code) => code >= "400");
  return codes.length ? `; refuses with ${codes.join(", ")}` : "";
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

/** What a value is, in a few words. */
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
  const head = h("tr", null, [title, "is", ""].map((words) => h("th", { scope: "col" }, words)));
  const body = rows.map(([name, what, words]) =>
    h("tr", null, h("th", { scope: "row" }, h("code", null, name)), h("td", null, what), h("td", null, words ?? ""))
  );
  const whole = h("table", null, h("thead", null, head), h("tbody", null, body));
  return h("div", { class: "scroll-x", tabindex: 0, role: "group", "aria-label": title }, whole);
}
