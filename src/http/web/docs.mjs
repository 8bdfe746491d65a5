// Shows openapi.json: what each op takes and answers, and what each code means. Nothing is loaded from elsewhere, and what
// is written here is always text, never markup.

const $ = (id) => document.getElementById(id);

const make = (tag, attributes, ...children) => {
  const element = Object.assign(document.createElement(tag), attributes);
  element.append(...children);
  return element;
};

/** The texts between backticks as code. */
const prose = (text) => text.split("`").map((part, n) => (n % 2 ? make("code", { textContent: part }) : part));

const table = (heads, rows) =>
  make("table", {}, make("tr", {}, ...heads.map((head) => make("th", { scope: "col" }, head))), ...rows);

const row = (attributes, ...cells) => make("tr", attributes, ...cells.map((cell) => make("td", {}, ...[cell].flat())));

const last = (ref) => ref.split("/").at(-1);

/** A schema in a few words. */
const kind = (schema) => {
  if (schema.$ref) return make("a", { href: `#${last(schema.$ref)}` }, last(schema.$ref));
  if (schema.oneOf || schema.anyOf) return (schema.oneOf ?? schema.anyOf).flatMap((one, n) => [n ? " or " : "", kind(one)].flat());
  if (schema.allOf) return schema.allOf.flatMap((one, n) => [n ? " and " : "", kind(one)].flat());
  if (schema.items) return ["list of ", kind(schema.items)].flat();
  if (schema.enum) return schema.enum.join(", ");
  const types = [schema.type ?? "anything"].flat().filter((type) => type !== "null");
  return types.join(" or ");
};

const bounds = (schema) => {
  const { minimum, maximum, minItems, maxItems, maxLength } = schema;
  if (maximum !== undefined) return `${minimum ?? 0} to ${maximum}`;
  if (maxItems !== undefined) return `${minItems ?? 0} to ${maxItems} of them`;
  return maxLength === undefined ? "" : `at most ${maxLength} characters`;
};

const isRequired = (schema, name) => schema.required?.includes(name) ?? false;

/** What is required first. */
const inOrder = (schema) =>
  Object.entries(schema.properties ?? {}).sort(([one], [other]) => isRequired(schema, other) - isRequired(schema, one));

const fields = (schema) =>
  table(
    ["field", "", "what", ""],
    inOrder(schema).map(([name, field]) =>
      row({}, make("code", {}, name), isRequired(schema, name) ? "required" : "", [kind(field)].flat(), [
        ...prose(field.description ?? ""),
        " ",
        make("span", { className: "soft" }, bounds(field)),
      ]),
    ),
  );

/** Sends what stands in the box, as a service would. */
const ask = async (path, text, shown) => {
  shown.hidden = false;
  shown.textContent = "…";
  try {
    const headers = { authorization: `Bearer ${$("token").value.trim()}`, "content-type": "application/json" };
    const answer = await fetch(path, { method: "POST", headers, body: text });
    const said = await answer.text();
    const [id, wait] = ["x-request-id", "retry-after"].map((name) => answer.headers.get(name));
    const head = [`${answer.status}`, id && `X-Request-Id: ${id}`, wait && `Retry-After: ${wait}`].filter(Boolean);
    shown.textContent = `${head.join("   ")}\n${JSON.stringify(JSON.parse(said), null, 2)}`;
  } catch (error) {
    shown.textContent = `no answer: ${error.message}`;
  }
};

const op = (path, { operationId, summary, description, requestBody, responses }) => {
  const { schema, example } = requestBody.content["application/json"];
  const text = make("textarea", { rows: 3, value: JSON.stringify(example), ariaLabel: `Fields of ${operationId}`, spellcheck: false });
  const shown = make("pre", { hidden: true });
  const button = make("button", { type: "button", onclick: () => ask(path, text.value, shown) }, "Send");
  const answer = responses["200"].content["application/json"].schema;
  return make(
    "section",
    { id: operationId },
    make("h2", {}, make("code", {}, `POST ${path}`)),
    make("p", {}, ...prose([summary, description].filter(Boolean).join(" "))),
    fields(schema),
    make("p", {}, "Answer: ", ...[kind(answer)].flat()),
    text,
    button,
    shown,
  );
};

const type = (name, schema) => {
  const parts = schema.allOf ? schema.allOf : [schema];
  const about = schema.description ? make("p", {}, ...prose(schema.description)) : "";
  const own = parts.map((part) => (part.properties ? fields(part) : make("p", {}, ...[kind(part)].flat(), " ", bounds(part))));
  return make("section", { id: name }, make("h2", {}, make("code", {}, name)), about, ...own);
};

/** Each code once, with its statuses: a problem's `type` leads here. */
const problems = (responses) => {
  const found = new Map();
  for (const [status, { description }] of Object.entries(responses)) {
    for (const [, code, about] of description.matchAll(/^`(\w+)`: (.*)$/gm)) {
      found.set(code, { about, statuses: [...(found.get(code)?.statuses ?? []), status] });
    }
  }
  const rows = [...found].map(([code, { about, statuses }]) => row({ id: code }, make("code", {}, code), statuses.join(", "), prose(about)));
  return make("section", { id: "problems" }, make("h2", {}, "Problems"), table(["code", "status", ""], rows));
};

try {
  const answer = await fetch("openapi.json");
  const { info, paths, components } = await answer.json();
  $("about").append(...prose(`${info.description} Version ${info.version}.`));
  const ops = Object.entries(paths).map(([path, { post }]) => [path, post]);
  const link = (id, text = id) => make("a", { href: `#${id}` }, text);
  $("ops").append(...ops.map(([, { operationId }]) => link(operationId)), link("problems", "Problems"));
  $("main").append(
    ...ops.map(([path, post]) => op(path, post)),
    problems(ops[0][1].responses),
    ...Object.entries(components.schemas).map(([name, schema]) => type(name, schema)),
  );
  if (location.hash) document.getElementById(location.hash.slice(1))?.scrollIntoView();
} catch (error) {
  $("notice").textContent = `The description could not be loaded: ${error.message}`;
}
