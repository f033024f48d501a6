// The page /, after pages.js: what runs here, and a form for each model. The key that was typed decides which models there are.
"use strict";

const FILTER_FROM = 10; // models

// Values: a field of the form holds the text of a value of the example

const isPlain = (value) => typeof value === "string" || typeof value === "number";
const LONG = 60; // characters

// The fields of a record: those of the inputs in their order, then what else the example has. A row is one field, or one for each
// feature, as the example has it.
function fieldsOf({ example, inputs }) {
  const record = example || {};
  const namesOf = ({ field, features }) => (features && !(field in record) ? features : [field]);
  const names = [...(inputs || []).flatMap(namesOf), ...Object.keys(record)];
  return [...new Set(names)].filter(Boolean).map((name) => ({ name, example: record[name] }));
}

// An input for one field, with its `value()`: undefined where nothing was typed.
function control({ name, example }) {
  const text = example === undefined ? "" : typeof example === "string" ? example : JSON.stringify(example);
  const isLong = !isPlain(example) ? example !== undefined : text.length > LONG;
  const input = isLong
    ? el("textarea", { name, rows: "3", spellcheck: "false" })
    : el("input", { name, type: "text", autocomplete: "off", inputmode: typeof example === "number" ? "decimal" : null });
  input.value = text;
  return { label: el("label", {}, words(name), input), name, value: () => valueOf(input.value, example) };
}

// What was typed, in the form of the example: a text stays a text, all else is JSON where it can be read as such.
function valueOf(typed, example) {
  if (typeof example === "string") return typed;
  if (typed.trim() === "") return undefined;
  try {
    return JSON.parse(typed);
  } catch {
    return typed; // the server says what is wrong with it
  }
}

// An answer with an indentation, unless a number would change by that.
function pretty(text) {
  try {
    const value = JSON.parse(text);
    return JSON.stringify(value) === text.trim() ? indented(value) : text;
  } catch {
    return text;
  }
}

// Lists of plain values stay on one line: vectors are long.
const indented = (value) =>
  JSON.stringify(value, null, 2).replace(/\[\n\s*([^[\]{}]*?)\n\s*\]/g, (_, inner) => `[${inner.replace(/\s*\n\s*/g, " ")}]`);

// Models

// How a model is asked. path, body: of the request; fields: of the form
const bySingle = (model, entry) => ({
  path: `/${encodeURIComponent(model.owner)}/models/${encodeURIComponent(model.name)}`,
  body: (record) => record,
  fields: fieldsOf(entry),
});
// Without a key there are the shared embedding models, and another way to ask them.
const byEmbedding = (name) => ({
  path: "/embeddings",
  body: (record) => ({ model: name, input: record.text }),
  fields: [{ name: "text", example: "Hello" }],
});

class Form {
  // asked: how the model is asked
  constructor(asked) {
    this.asked = asked;
    this.controls = asked.fields.map(control);
    this.said = el("p", { role: "status", "aria-live": "polite" });
    this.answer = el("pre", { hidden: true, tabindex: "0", role: "region", "aria-label": "Answer", class: "answer" });
    this.command = el("div");
    const labels = this.controls.map((one) => one.label);
    const form = el("form", { class: "fields", onsubmit: (event) => this.submit(event), oninput: () => this.showCommand() }, ...labels);
    form.append(el("button", { text: "Ask the model" }));
    this.node = el("div", {}, form, this.said, this.answer, this.command);
    this.showCommand();
  }

  body() {
    const record = {};
    for (const { name, value } of this.controls) {
      const found = value();
      if (found !== undefined) record[name] = found;
    }
    return JSON.stringify(this.asked.body(record));
  }

  // The same for a terminal. The address is the one under which this browser reaches the server.
  showCommand() {
    const [proof, from] = key() ? ['echo "Authorization: Bearer $KEY" | ', "-H @- "] : ["", ""]; // arguments can be seen by others
    const type = this.asked.path === "/embeddings" ? "-H 'Content-Type: application/json' " : "";
    const body = this.body().replaceAll("'", "'\\''");
    this.command.replaceChildren(way("curl", `${proof}curl -sS ${from}${type}-d '${body}' ${location.origin}${this.asked.path}`));
  }

  async submit(event) {
    event.preventDefault();
    this.say("asking");
    const sent = performance.now();
    try {
      const headers = { Accept: "application/json", "Content-Type": "application/json" };
      const response = await send(this.asked.path, { method: "POST", headers, body: this.body() });
      const text = await response.text();
      this.answer.textContent = pretty(text).trim();
      this.answer.hidden = false;
      this.say(`status ${response.status}, ${(performance.now() - sent).toFixed(1)} ms`, !response.ok);
    } catch (error) {
      this.answer.hidden = true;
      this.say(`no answer: ${error.message}`, true);
    }
  }

  say(text, isBad = false) {
    this.said.textContent = text;
    this.said.className = isBad ? "bad" : "soft";
  }
}

// A model that opens: its form is made when a person first looks. found: gives how the model is asked, or throws
function modelItem(name, about, found) {
  const inside = el("div");
  let isMade = false;
  const open = async () => {
    if (!item.open || isMade) return;
    isMade = true;
    inside.replaceChildren(words("asking", "soft"));
    try {
      inside.replaceChildren(new Form(await found()).node);
    } catch (error) {
      isMade = false;
      inside.replaceChildren(words(`no form: ${error.message}`, "bad"));
    }
  };
  const item = el("details", { ontoggle: open }, el("summary", {}, el("strong", { text: name }), " ", words(about, "soft")), inside);
  return { text: `${name} ${about}`.toLowerCase(), node: el("li", {}, item) };
}

function aboutModel({ description, task, status, active_version: version }) {
  const state = status === "online" ? "" : `; ${status}`;
  return `${description ? `${description}; ` : ""}${task === "embed" ? "vectors of texts" : "predictions"}, version ${version}${state}`;
}

async function modelsOfKey(signal) {
  const { models } = await ask("/api/models", {}, signal);
  return models.map((model) => {
    const path = `/api/models/${encodeURIComponent(model.owner)}/${encodeURIComponent(model.name)}`;
    return modelItem(`${model.owner}/${model.name}`, aboutModel(model), async () => bySingle(model, await ask(path, {}, null)));
  });
}

async function modelsOfAll(signal) {
  const { data } = await ask("/models", {}, signal);
  return Object.entries(data.models).map(([name, { dim }]) =>
    modelItem(name, `vectors of texts, ${dim} numbers`, async () => byEmbedding(name)),
  );
}

// The page

class FrontPage {
  constructor() {
    this.about = el("p", { id: "about" });
    this.note = el("p", { id: "note", class: "soft" });
    this.list = el("ul", { class: "list" });
    this.filter = el("input", { type: "search", autocomplete: "off", oninput: () => this.narrow() });
    this.filtering = el("label", { hidden: true }, words("Filter"), this.filter);
    this.asking = new AbortController();
    this.items = [];
    title.textContent = "Sluice";
    main.prepend(title);
    main.append(this.about, el("h2", { text: "Models" }), this.note, this.filtering, this.list);
  }

  async show() {
    this.asking.abort();
    this.asking = new AbortController();
    const { signal } = this.asking;
    tell("asking");
    try {
      await this.showAbout(signal);
      await this.showModels(signal);
      tell(`${count(this.items.length)} ${this.items.length === 1 ? "model" : "models"}`);
    } catch (error) {
      if (error.name !== "AbortError") this.list.replaceChildren();
      failed(error);
    }
  }

  async showAbout(signal) {
    const { name, version, status } = await ask("/", {}, signal);
    this.about.textContent = `${name} ${version}, ${status === "ok" ? "ready to answer" : status}, at ${location.origin}.`;
  }

  async showModels(signal) {
    this.items = await (key() ? modelsOfKey(signal) : modelsOfAll(signal).catch((error) => (error.status === 401 ? [] : Promise.reject(error))));
    this.note.textContent = key() ? "" : "Type a key above to see all models that you may use. The key of the admin is in the file admin.key of the server's data directory.";
    this.filtering.hidden = this.items.length < FILTER_FROM;
    this.list.replaceChildren(...this.items.map((one) => one.node));
    this.narrow();
  }

  narrow() {
    const wanted = this.filter.value.trim().toLowerCase();
    for (const { text, node } of this.items) node.hidden = !text.includes(wanted);
  }
}

const front = new FrontPage();
drawPage(() => front.show());
front.show();
