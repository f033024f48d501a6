// The pages /datasets and /datasets/NAME. Whatever comes from a dataset is written as text, never as markup.
"use strict";

const LENGTH = 100; // rows a page
const MOST_COLUMNS = 50; // without a press of a button
const MOST_VALUES = 5; // of the most frequent ones
const LONG_TEXT = 120; // characters that fit into three lines
const WAIT_S = 20;
const AGAIN_MS = 5000;
const SELDOM_MS = 30000;
const KEY = "sluice-key";
const SVG = "http://www.w3.org/2000/svg";
const BEFORE_NAME = "/datasets/";
const SOURCE_PART = /^[A-Za-z0-9_][A-Za-z0-9._-]{0,95}$/; // as PART_NAME of engine/datasets/names.py

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

function send(url, signal) {
  const headers = key() ? { Authorization: `Bearer ${key()}` } : {};
  return fetch(url, { headers, signal, cache: "no-cache", credentials: "omit" });
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
  const response = await send(address(path, parameters), signal);
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

const isNotReady = (error) => error instanceof Refused && error.code.endsWith("NotReady");

// The answer once it is there. `tell` gets the state in words meanwhile: the queue is asked for it, as the answer itself waits.
async function askUntilReady(path, parameters, signal, tell) {
  const watching = new AbortController();
  watchQueue(parameters, AbortSignal.any([signal, watching.signal]), tell);
  try {
    for (;;) {
      const sent = performance.now();
      try {
        return await ask(path, { ...parameters, wait: WAIT_S }, signal);
      } catch (error) {
        if (!isNotReady(error)) throw error;
        tell(inProgress(error.before));
        if (performance.now() - sent < 1000) await pause(1000, signal); // too many wait, so it answered at once
      }
    }
  } finally {
    watching.abort();
  }
}

async function watchQueue({ dataset, config, split }, signal, tell) {
  try {
    for (let wait = 300; ; wait = 2000) {
      await pause(wait, signal);
      const queue = await ask("/queue-dump-waiting-started", {}, signal);
      const isOurs = (job) => job.dataset_name === dataset && (!split || (job.config_name === config && job.split_name === split));
      const before = queue[split ? "splits" : "datasets"].waiting.findIndex(isOurs);
      tell(inProgress(Math.max(0, before)));
    }
  } catch {
    // The answer came, or says itself what is wrong.
  }
}

const pause = (milliseconds, signal) =>
  new Promise((resolve, reject) => {
    setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => reject(new DOMException("left", "AbortError")), { once: true });
  });

const inProgress = (before) =>
  `being processed, ${before === 0 ? "no job" : before === 1 ? "1 job" : `${before} jobs`} before it`;

// Pictures and sound come with the key where there is one, so they are fetched, when they come into sight.

const inSight = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (!entry.isIntersecting) continue;
    inSight.unobserve(entry.target);
    fetchMedia(entry.target);
  }
});
const pathsOfMedia = new WeakMap();
let blobs = [];

async function fetchMedia(node) {
  try {
    const response = await send(pathsOfMedia.get(node));
    if (!response.ok) throw new Error(response.status);
    const url = URL.createObjectURL(await response.blob());
    blobs.push(url);
    node.src = url;
  } catch {
    node.replaceWith(words("could not be fetched", "bad"));
  }
}

function forgetMedia() {
  inSight.disconnect();
  blobs.forEach((url) => URL.revokeObjectURL(url));
  blobs = [];
}

// Only the path of an address is used: no other host is asked, whatever the address says.
function withSource(node, source) {
  const url = new URL(source, location.origin);
  const start = url.pathname.indexOf("/assets/");
  if (start < 0) return words(source);
  const path = url.pathname.slice(start) + url.search;
  if (!key()) node.src = path;
  else {
    pathsOfMedia.set(node, path);
    inSight.observe(node);
  }
  return node;
}

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

function failed(error) {
  if (error.name === "AbortError") return;
  if (error instanceof Refused && error.status === 401) {
    tell(key() ? "The key is wrong." : "This needs a key: type it above.", true);
  } else if (error instanceof Refused && /NotFound$/.test(error.code)) tell(`not found: ${error.message} A private one needs a key.`, true);
  else tell(error instanceof Refused ? `broken (${error.code || error.status}): ${error.message}` : `no answer: ${error.message}`, true);
}

const reason = (error) => (error ? `${error.message} ${error.cause_message === error.message ? "" : error.cause_message}`.trim() : "");

function nameInAddress() {
  const name = location.pathname.slice(BEFORE_NAME.length);
  try {
    return decodeURIComponent(name);
  } catch {
    return name; // no UTF-8, so no dataset
  }
}

function bytes(number) {
  const units = ["bytes", "kB", "MB", "GB", "TB"];
  let unit = 0;
  for (; number >= 1000 && unit < units.length - 1; unit++) number /= 1000;
  return `${unit ? number.toFixed(1) : number} ${units[unit]}`;
}
const count = (number) => Number(number).toLocaleString("en");

// The list

const HOW =
  "Put a folder with csv, JSON, Parquet or text files, pictures or sound below the folder of datasets; it appears here within a minute:";
const EMPTY = `mkdir -p data/datasets/people
printf 'name,age\\nann,31\\nbob,\\n' > data/datasets/people/train.csv`;

function listPage() {
  const counters = el("p", { id: "counters", class: "soft" });
  const list = el("ul", { class: "list" });
  const filter = el("input", { type: "search", id: "filter", autocomplete: "off" });
  const empty = el("section", { hidden: true }, el("p", { text: HOW }), el("pre", { text: EMPTY }));
  title.textContent = "Datasets";
  main.append(el("label", {}, words("Filter"), filter), counters, empty, list);
  let asking = new AbortController();
  let items = [];
  let before = ""; // what the list was drawn from
  const narrow = () => {
    const wanted = filter.value.trim().toLowerCase();
    for (const [text, item] of items) item.hidden = !text.includes(wanted);
    const shown = items.filter(([, item]) => !item.hidden).length;
    tell(items.length ? `${count(shown)} of ${count(items.length)} datasets` : "There is no dataset yet.");
  };
  filter.addEventListener("input", narrow);

  async function show() {
    asking.abort();
    asking = new AbortController();
    const { signal } = asking;
    before = "";
    for (;;) {
      let isSettled = false;
      try {
        isSettled = await draw(signal);
      } catch (error) {
        failed(error);
        before = "";
        if (signal.aborted || error.status === 401) return;
      }
      await pause(isSettled ? SELDOM_MS : AGAIN_MS, signal).catch(() => {});
      if (signal.aborted) return;
    }
  }

  // Whether nothing is expected to change soon.
  async function draw(signal) {
    const paths = ["/hf_datasets", "/cache-reports", "/cache", "/queue"];
    const [found, reports, cached, queue] = await Promise.all(paths.map((path) => ask(path, {}, signal)));
    counters.textContent = countersText(cached.datasets, queue);
    const states = statesOf(reports);
    const now = JSON.stringify([found.datasets, [...states]]);
    if (now !== before) {
      items = found.datasets.map((one) => listItem(one, states.get(one.id)));
      list.replaceChildren(...items.map(([, item]) => item));
      empty.hidden = items.length > 0;
      before = now;
      narrow();
    }
    return items.length > 0 && !queue.datasets.waiting && !queue.datasets.started;
  }
  return show;
}

function countersText({ valid, error, stalled, empty }, { datasets, splits }) {
  const jobs = (status) => count(datasets[status] + splits[status]);
  return (
    `In the cache: ${count(valid)} valid, ${count(error)} broken, ${count(stalled)} stalled, ${count(empty)} empty. ` +
    `Jobs: ${jobs("waiting")} waiting, ${jobs("started")} started.`
  );
}

// Name of a dataset -> its state in words, and whether that is bad.
function statesOf(reports) {
  const states = new Map();
  const said = { valid: "ready", empty: "being processed", stalled: "old rows: being refreshed", error: "broken" };
  for (const [status, ones] of Object.entries(reports.datasets)) {
    for (const { dataset, error } of ones) {
      states.set(dataset, { text: said[status] + (error ? `: ${reason(error)}` : ""), isBad: status === "error" });
    }
  }
  for (const status of ["empty", "stalled", "error"]) {
    for (const one of reports.splits[status]) {
      const known = states.get(one.dataset);
      if (!known || known.isBad) continue;
      const text = `${one.config}${one.split ? `, ${one.split}` : ""} ${said[status]}${one.error ? `: ${reason(one.error)}` : ""}`;
      states.set(one.dataset, { text: `${known.text}; ${text}`.replace(/^ready; /, status === "error" ? "" : "ready; "), isBad: status === "error" });
    }
  }
  return states;
}

function listItem(one, known) {
  const shown = known || { text: "not read yet", isBad: false };
  const item = el(
    "li",
    {},
    el("a", { href: BEFORE_NAME + one.id.split("/").map(encodeURIComponent).join("/"), text: one.id }),
    one.description && el("p", { text: one.description }),
    el("p", {}, ...one.tags.map((tag) => words(tag, "tag"))),
    el("p", { text: shown.text, class: shown.isBad ? "bad" : "soft" }),
  );
  return [[one.id, one.description || "", ...one.tags].join(" ").toLowerCase(), item];
}

// One dataset

function datasetPage(dataset) {
  const about = el("p", { id: "about" });
  const size = el("p", { id: "size", class: "soft" });
  const figures = el("p", { class: "soft" });
  const choosers = el("nav", { "aria-label": "What is shown" });
  const above = el("nav", { "aria-label": "Rows", hidden: true });
  const table = el("div", { class: "scroll", role: "region", "aria-label": "Rows of the dataset", tabindex: "0", hidden: true });
  const more = el("button", { type: "button", hidden: true });
  const use = el("section", { "aria-label": "Use it" });
  let asking = new AbortController();
  let models = [];
  let stats = null;
  let statsOf = ""; // the split that they are of
  let shownSearch = null;
  title.textContent = dataset;
  document.title = `${dataset}: dataset`;
  main.append(about, size, figures, choosers, above, more, table, use);

  function place() {
    const asked = new URLSearchParams(location.search);
    const offset = Number(asked.get("offset"));
    return {
      config: asked.get("config"),
      split: asked.get("split"),
      offset: Number.isSafeInteger(offset) && offset > 0 ? offset : 0,
      predict: asked.get("predict"),
    };
  }
  const link = (where, hash = "") =>
    address(location.pathname, { ...where, offset: where.offset || null }) + hash;
  function go(where, hash = "") {
    history.pushState(null, "", link(where, hash));
    show();
  }
  function goLink(text, where, isThere) {
    if (!isThere) return el("span", { class: "soft", text });
    const press = (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      const named = text;
      go(where);
      focusAgain = () => ([...above.querySelectorAll("a")].find((one) => one.textContent === named) || table).focus();
    };
    return el("a", { href: link(where), text, onclick: press });
  }
  let focusAgain = null;

  async function show() {
    asking.abort();
    asking = new AbortController();
    const { signal } = asking;
    try {
      shownSearch = location.search;
      tell("asking");
      const listed = await askUntilReady("/splits", { dataset }, signal, tell);
      const where = chosen(listed.splits, place());
      choose(listed.splits, where);
      if (!listed.splits.length) return tell("The dataset has no splits.");
      const named = { dataset, config: where.config, split: where.split };
      showUse(use, named, where, null);
      if (statsOf !== JSON.stringify(named)) stats = null;
      const rows = await askRows(named, where, signal);
      showRows(where, rows);
      const isRefreshed = await tellState(named, rows, signal);
      askBeside(named, where, signal);
      await fill(named, where, rows, signal);
      if (isRefreshed) await followRefresh(named, where, signal);
    } catch (error) {
      if (error.name === "AbortError") return;
      for (const part of [above, table, more]) part.hidden = true;
      failed(error);
      askBeside(null, place(), signal);
    }
  }

  const askRows = (named, where, signal) =>
    askUntilReady("/v2/rows", { ...named, offset: where.offset, length: LENGTH, predict: where.predict }, signal, tell);

  function chosen(splits, where) {
    const config = where.config ?? splits[0]?.config;
    const split = where.split ?? splits.find((one) => one.config === config)?.split ?? splits[0]?.split;
    return { ...where, config, split };
  }

  // Whether the rows are old, and new ones are expected. The reports say whether the refresh has failed, and why.
  async function tellState(named, rows, signal) {
    if (!rows.isStalled) {
      tell(rows.partial ? "ready: the first rows; the rest is being prepared" : "ready");
      return false;
    }
    const reports = await ask("/cache-reports", {}, signal);
    const isHere = (one) => one.dataset === dataset && (!one.split || (one.config === named.config && one.split === named.split));
    const report = [...reports.splits.error, ...reports.datasets.error].find(isHere);
    tell(report ? `old rows: the refresh failed: ${reason(report.error)}` : "old rows: being refreshed", Boolean(report));
    return !report;
  }

  // Old rows stay until the new ones are there, or the refresh has failed.
  async function followRefresh(named, where, signal) {
    for (;;) {
      await pause(AGAIN_MS, signal);
      const rows = await askRows(named, where, signal);
      if (await tellState(named, rows, signal)) continue;
      if (!rows.isStalled) {
        stats = null;
        show();
      }
      return;
    }
  }

  function choose(splits, where) {
    const again = choosers.contains(document.activeElement) ? [...choosers.querySelectorAll("select")].indexOf(document.activeElement) : -1;
    const configs = [...new Set(splits.map((one) => one.config))].map((value) => ({ value, text: value }));
    const ofConfig = splits.filter((one) => one.config === where.config).map((one) => ({ value: one.split, text: one.split }));
    const parts = [
      select("Config", configs, where.config, (config) => go({ config, predict: where.predict })),
      select("Split", ofConfig, where.split, (split) => go({ config: where.config, split, predict: where.predict })),
    ];
    if (models.length || where.predict) {
      const names = [...new Set([...models, where.predict].filter(Boolean))];
      const values = [{ value: "", text: "none" }, ...names.map((value) => ({ value, text: value }))];
      parts.push(select("Predict with", values, where.predict || "", (predict) => go({ ...where, predict })));
    }
    choosers.replaceChildren(...parts);
    if (again >= 0) choosers.querySelectorAll("select")[again]?.focus();
  }

  function showRows(where, rows) {
    forgetMedia();
    const total = rows.num_rows_total;
    const last = total ? Math.floor((total - 1) / LENGTH) * LENGTH : 0;
    const at = (offset) => ({ ...where, offset });
    const isMore = total === null || where.offset + LENGTH < total;
    const number = el("input", { type: "number", min: "0", max: total ? total - 1 : null, required: true });
    const goTo = (event) => {
      event.preventDefault();
      const row = Number(number.value);
      go(at(Math.floor(row / LENGTH) * LENGTH), `#row-${row}`);
    };
    above.replaceChildren(
      goLink("First", at(0), where.offset > 0),
      goLink("Previous", at(Math.max(0, where.offset - LENGTH)), where.offset > 0),
      goLink("Next", at(where.offset + LENGTH), isMore),
      goLink("Last", at(last), Boolean(total) && where.offset !== last),
      el("form", { onsubmit: goTo }, el("label", {}, words("Row"), number), el("button", { text: "Go to row" })),
    );
    drawTable(where, rows, MOST_COLUMNS);
    const hidden = rows.features.length - MOST_COLUMNS;
    more.hidden = hidden <= 0;
    more.textContent = `Show ${hidden} more columns`;
    more.onclick = () => {
      drawTable(where, rows, Infinity);
      more.hidden = true;
      table.focus();
    };
    above.hidden = table.hidden = false;
    focusAgain?.();
    focusAgain = null;
  }

  function drawTable(where, rows, most) {
    const predicted = rows.features.filter((one) => one.type._type === "Prediction");
    const others = rows.features.filter((one) => one.type._type !== "Prediction");
    const features = [...others.slice(0, most), ...predicted];
    const heads = features.map((one) => {
      const figure = el("div");
      return el("th", { scope: "col", "data-column": one.name }, words(one.name, "name"), words(typeWords(one.type), "type"), figure);
    });
    const lines = rows.rows.map((one) => {
      const cut = new Set(one.truncated_cells);
      const id = `row-${one.row_idx}`;
      return el(
        "tr",
        { id },
        el("th", { scope: "row" }, el("a", { href: `#${id}`, text: one.row_idx })),
        ...features.map((feature) => cell(feature, one.row[feature.name], cut.has(feature.name), one.row_idx)),
      );
    });
    const end = where.offset + rows.rows.length - 1;
    const of = rows.num_rows_total === null ? "" : ` of ${count(rows.num_rows_total)}`;
    const shown = rows.rows.length ? `rows ${where.offset} to ${end}${of}` : `no rows here${of}`;
    table.replaceChildren(
      el(
        "table",
        {},
        el("caption", { text: `${dataset}, ${where.config}, ${where.split}: ${shown}` }),
        el("thead", {}, el("tr", {}, el("th", { scope: "col", text: "row" }), ...heads)),
        el("tbody", {}, ...lines),
      ),
    );
    if (stats) drawFigures();
    markRow();
  }

  function markRow() {
    for (const row of table.querySelectorAll("tr.marked")) {
      row.classList.remove("marked");
      row.removeAttribute("aria-current");
    }
    const row = /^#row-\d+$/.test(location.hash) && document.getElementById(location.hash.slice(1));
    if (!row) return;
    row.classList.add("marked");
    row.setAttribute("aria-current", "true");
    row.scrollIntoView({ block: "center" });
  }

  // What comes after the rows: figures, sizes, and the rows that were not prepared yet.
  async function fill(named, where, rows, signal) {
    try {
      const silent = () => {};
      figures.textContent = "";
      stats = await askUntilReady("/statistics", named, signal, silent);
      statsOf = JSON.stringify(named);
    } catch (error) {
      if (error.name === "AbortError") throw error;
      return void (figures.textContent = `No statistics: ${error.message}`);
    }
    if (rows.partial) {
      const whole = await askRows(named, where, signal);
      showRows(where, whole);
      await tellState(named, whole, signal);
      askBeside(named, where, signal);
    } else drawFigures();
  }

  function drawFigures() {
    const byName = new Map(stats.statistics.map((one) => [one.column_name, one]));
    for (const head of table.querySelectorAll("th[data-column]")) {
      const one = byName.get(head.dataset.column);
      if (one) head.lastChild.replaceChildren(...figure(one));
    }
  }

  async function askBeside(named, where, signal) {
    const beside = named ? [showSize(named, signal), showParquet(named, where, signal), findModels(where, signal)] : [];
    for (const one of await Promise.allSettled([showCard(signal), ...beside])) {
      if (one.status === "rejected" && one.reason.name !== "AbortError" && !isNotReady(one.reason)) figures.textContent = one.reason.message;
    }
  }

  async function showCard(signal) {
    const card = (await ask("/hf_datasets", {}, signal)).datasets.find((one) => one.id === dataset);
    if (!card) return;
    const licences = card.tags.filter((tag) => tag.startsWith("licenses:")).map((tag) => tag.slice("licenses:".length));
    const licence = licences.length ? ` Licence: ${licences.join(", ")}.` : " No licence is named.";
    about.replaceChildren(words(card.description || ""), words(licence, "soft"));
  }

  async function showSize(named, signal) {
    const found = await ask("/size", { dataset }, signal);
    const whole = found.size.dataset;
    const prepared = `${bytes(whole.num_bytes_parquet_files)} as Parquet${found.partial ? " so far" : ""}`;
    size.textContent = `${count(whole.num_rows)} rows, ${bytes(whole.num_bytes_original_files)} of files, ${prepared}.`;
    const here = found.failed.find((one) => one.config === named.config && one.split === named.split);
    if (here?.error) size.textContent += ` Not prepared: ${reason(here.error)}`;
  }

  async function showParquet(named, where, signal) {
    const { parquet_files: files } = await ask("/parquet", named, signal);
    showUse(use, named, where, files.map((one) => one.url));
  }

  async function findModels(where, signal) {
    if (!key()) return void (models = []);
    if (models.length) return;
    const found = await ask("/api/models", {}, signal);
    models = found.models.filter((one) => one.task === "predict").map((one) => `${one.owner}/${one.name}`);
    const { splits } = await ask("/splits", { dataset }, signal);
    choose(splits, where);
  }

  // Also when only the row after the `#` is another one.
  addEventListener("popstate", () => (shownSearch === location.search ? markRow() : show()));
  return async () => {
    models = [];
    await show();
  };
}

// A cell and a head

function typeWords(type) {
  if (Array.isArray(type)) return "list";
  if (type._type === "Value") return type.dtype;
  if (type._type === "ClassLabel") return `class of ${type.names.length}`;
  if (type._type === "Prediction") return `prediction, version ${type.version}`;
  if (type._type === "List") return `list of ${typeWords(type.feature)}`;
  return typeof type._type === "string" ? type._type.toLowerCase() : "struct";
}

function cell(feature, value, isCut, row) {
  const { content, isNumber } = shownValue(feature, value, row);
  return el("td", { class: isNumber ? "number" : null }, content, isCut && words(" cut: not shown in full", "soft"));
}

function shownValue({ name, type }, value, row) {
  const kind = type._type;
  if (value === null || value === undefined) return { content: words("null", "none") };
  if (value === "") return { content: words("empty text", "none") };
  if (kind === "ClassLabel") return { content: Object.hasOwn(type.names, value) ? words(type.names[value]) : words(value === -1 ? "no label" : value, "none") };
  if (kind === "Image" && value.src) {
    const alt = `picture: ${name}, row ${row}`;
    return { content: withSource(el("img", { alt, loading: "lazy", width: value.width, height: value.height }), value.src) };
  }
  if (kind === "Audio" && Array.isArray(value)) {
    const player = () => el("audio", { controls: true, preload: "none", "aria-label": `sound: ${name}, row ${row}` });
    const sounds = value.map((one) => withSource(player(), one.src));
    return { content: el("div", {}, ...sounds) };
  }
  if (kind === "Prediction" && typeof value.error === "string") return { content: words(value.error, "bad") };
  const isLargeNumber = kind === "Value" && /int/.test(type.dtype) && typeof value === "string";
  if (typeof value === "number" || isLargeNumber) return { content: words(value), isNumber: true };
  if (name === "image_url" && /^https?:\/\//i.test(value)) return { content: el("a", { href: value, rel: "noreferrer", text: value }) };
  return { content: longText(typeof value === "string" ? value : JSON.stringify(value)) };
}

function longText(text) {
  if (text.length <= LONG_TEXT && text.split("\n", 4).length <= 3) return words(text, "text");
  const shown = el("div", { class: "text clip", text });
  const toggle = (event) => {
    const isOpen = !shown.classList.toggle("clip");
    event.target.setAttribute("aria-expanded", isOpen);
    event.target.textContent = isOpen ? "close" : "open";
  };
  return el("div", {}, shown, el("button", { type: "button", text: "open", "aria-expanded": "false", onclick: toggle }));
}

const percent = (share) => `${(100 * share).toFixed(share && share < 0.1 ? 1 : 0)}% null`;

function figure({ column_name: name, column_type: kind, column_statistics: values }) {
  const parts = [words(percent(values.nan_proportion || 0), "type")];
  if (values.histogram) {
    const { hist, bin_edges: edges } = values.histogram;
    const bars = hist.map((number, at) => [`${edges[at]} to ${edges[at + 1]}`, number]);
    const measured = { list: "lengths", string_text: "lengths", image: "widths in pixels", audio: "seconds" }[kind] || "values";
    parts.push(...bars.length ? chart(`histogram of the ${measured} of ${name}`, bars) : []);
  } else if (values.frequencies) {
    const bars = Object.entries(values.frequencies).sort((one, other) => other[1] - one[1]).slice(0, MOST_VALUES);
    parts.push(...bars.length ? chart(`most frequent values of ${name}`, bars) : []);
  }
  return parts;
}

function chart(label, bars) {
  const most = Math.max(...bars.map(([, number]) => number), 1);
  const width = 100 / bars.length;
  const rects = bars.map(([text, number], at) =>
    svg(
      "rect",
      { x: at * width, y: 40 - (40 * number) / most, width: width * 0.92, height: (40 * number) / most, "data-count": number },
      svg("title", { text: `${text}: ${number}` }),
    ),
  );
  const numbers = bars.map(([text, number]) => el("li", { text: `${text}: ${number}` }));
  return [
    svg("svg", { viewBox: "0 0 100 40", preserveAspectRatio: "none", role: "img", "aria-label": label }, ...rects),
    el("details", {}, el("summary", { text: "numbers", "aria-label": `numbers: ${label}` }), el("ul", {}, ...numbers)),
  ];
}

// Use it

function showUse(section, named, where, files) {
  const parameters = { ...named, offset: where.offset, length: LENGTH, predict: where.predict };
  const url = (location.origin + address("/v2/rows", parameters)).replaceAll("'", "%27");
  const bearer = key() ? ' -H "Authorization: Bearer $KEY"' : "";
  const headers = key() ? ', headers={"Authorization": "Bearer " + key}' : "";
  const asked = `answer = requests.get(${JSON.stringify(url)}${headers})`;
  const python = ["import requests", "", asked, 'rows = [one["row"] for one in answer.json()["rows"]]'];
  const source = `hub://${named.dataset}/${named.config}/${named.split}`;
  const ways = [
    ["curl", `curl -sS${bearer} '${url}'`],
    ["Python", python.join("\n")],
  ];
  // Other names of configs and splits cannot stand in a source of the query language.
  if ([named.config, named.split].every((name) => SOURCE_PART.test(name))) ways.push(["SQL", `SELECT * FROM "${source}" LIMIT ${LENGTH}${where.offset ? ` OFFSET ${where.offset}` : ""}`]);
  if (files) ways.push(["Parquet", files.join("\n") || "not prepared"]);
  section.replaceChildren(el("h2", { text: "Use it" }), ...ways.map(([name, text]) => way(name, text)));
}

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

// Start

function start() {
  const isDataset = location.pathname.startsWith(BEFORE_NAME);
  const show = isDataset ? datasetPage(nameInAddress()) : listPage();
  const home = el("a", { href: "/datasets", text: "Datasets" });
  document.body.append(el("header", {}, home, keyForm(show)), main);
  show();
}
start();
