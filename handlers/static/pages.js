// What all pages share: elements, questions to the server with the key that was typed, the head of a page. Whatever comes from the
// server is written as text, never as markup.
"use strict";

const KEY = "sluice-key";
const SVG = "http://www.w3.org/2000/svg";

// Elements

function put(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "text") node.textContent = value;
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value);
  }
  for (const child of children) if (child) node.append(child);
  return node;
}
const el = (tag, attributes = {}, ...children) => put(document.createElement(tag), attributes, children);
const svg = (tag, attributes = {}, ...children) => put(document.createElementNS(SVG, tag), attributes, children);
const words = (text, name = "") => el("span", { text, class: name || null });

function select(label, values, chosen, change) {
  const options = values.map((one) => el("option", { value: one.value, text: one.text, selected: one.value === chosen }));
  return el("label", {}, words(label), el("select", { onchange: (event) => change(event.target.value) }, ...options));
}

// Asking

const key = () => sessionStorage.getItem(KEY);
const wholeNumber = /^-?\d+$/;

// Whole numbers that a double cannot hold stay as they were sent.
function read(text) {
  return JSON.parse(text, (_, value, context) =>
    typeof value === "number" && !Number.isSafeInteger(value) && context && wholeNumber.test(context.source) ? context.source : value,
  );
}

function address(path, parameters) {
  const known = Object.entries(parameters).filter(([, value]) => value !== null && value !== undefined && value !== "");
  return known.length ? `${path}?${new URLSearchParams(known)}` : path;
}

// options: as those of fetch; without headers JSON is asked for.
function send(url, { headers = { Accept: "application/json" }, ...options } = {}) {
  const proof = key() ? { Authorization: `Bearer ${key()}` } : {};
  return fetch(url, { headers: { ...headers, ...proof }, cache: "no-cache", credentials: "omit", ...options });
}

class Refused extends Error {
  constructor(response, body) {
    const cause = body.cause_message && body.cause_message !== body.message ? ` ${body.cause_exception}: ${body.cause_message}` : "";
    super((body.message || body.error || `status ${response.status}`) + cause);
    this.code = response.headers.get("X-Error-Code") || "";
    this.status = response.status;
    this.before = Number(response.headers.get("X-Queue-Position") || 0);
  }
}

async function ask(path, parameters, signal) {
  const response = await send(address(path, parameters), { signal });
  let body;
  try {
    body = read(await response.text());
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error(`${path} did not answer with JSON`);
  }
  if (!response.ok) throw new Refused(response, body);
  body.isStalled = response.headers.get("X-Preview-Status") === "stalled";
  return body;
}

const pause = (milliseconds, signal) =>
  new Promise((resolve, reject) => {
    setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => reject(new DOMException("left", "AbortError")), { once: true });
  });

// What every page has

const title = el("h1");
const state = el("p", { id: "state", role: "status", "aria-live": "polite" });
const main = el("main", {}, title, state);

function tell(text, isBad = false) {
  if (state.textContent !== text) state.textContent = text;
  state.className = isBad ? "bad" : "";
}

function keyForm(changed) {
  const input = el("input", { class: "secret", type: "text", autocomplete: "off", spellcheck: "false", size: "12" });
  input.value = key() || "";
  const use = (event) => {
    event.preventDefault();
    if (input.value.trim()) sessionStorage.setItem(KEY, input.value.trim());
    else sessionStorage.removeItem(KEY);
    changed();
  };
  return el("form", { id: "key", onsubmit: use }, el("label", {}, words("Key"), input), el("button", { text: "Use key" }));
}

// The head of the page, and its main part. changed: called when another key was typed.
function drawPage(changed) {
  const links = [
    ["/", "Sluice"],
    ["/datasets", "Datasets"],
    ["/docs", "Routes"],
  ].map(([href, text]) => el("a", { href, text, "aria-current": href === location.pathname && "page" }));
  document.body.append(el("header", {}, el("nav", { "aria-label": "Pages" }, ...links), keyForm(changed)), main);
}

function failed(error) {
  if (error.name === "AbortError") return;
  if (error instanceof Refused && error.status === 401) {
    tell(key() ? "The key is wrong." : "This needs a key: type it above.", true);
  } else if (error instanceof Refused && /NotFound$/.test(error.code)) tell(`not found: ${error.message} A private one needs a key.`, true);
  else tell(error instanceof Refused ? `broken (${error.code || error.status}): ${error.message}` : `no answer: ${error.message}`, true);
}

const count = (number) => Number(number).toLocaleString("en");

function way(name, text) {
  const shown = el("pre", { text });
  const said = el("span", { role: "status", class: "soft" });
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      said.textContent = "copied";
    } catch {
      getSelection().selectAllChildren(shown); // a page without TLS has no clipboard
      said.textContent = "selected";
    }
  };
  const button = el("button", { type: "button", text: `Copy ${name}`, onclick: copy });
  return el("div", {}, el("div", { class: "row" }, el("strong", { text: name }), button, said), shown);
}
