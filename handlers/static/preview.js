// The pages /datasets and /datasets/NAME, after pages.js. Whatever comes from a dataset is written as text, never as markup.
"use strict";

const LENGTH = 100; // rows a page
const MOST_COLUMNS = 50; // without a press of a button
const MOST_VALUES = 5; // of the most frequent ones
const LONG_TEXT = 120; // characters that fit into three lines
const WAIT_S = 20;
const AGAIN_MS = 5000;
const SELDOM_MS = 30000;
const BEFORE_NAME = "/datasets/";
const SOURCE_PART = /^[A-Za-z0-9_][A-Za-z0-9._-]{0,95}$/; // as PART_NAME of engine/datasets/names.py

// Asking

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
    const response = await send(pathsOfMedia.get(node), { headers: {} });
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
// The list

const HOW =
  "Put a folder with csv, JSON, Parquet or text files, pictures or sound below the folder of datasets; it appears here within a minute:";
const EMPTY = `mkdir -p data/datasets/people
printf 'name,age\\nann,31\\nbob,\\n' > data/datasets/people/train.csv`;

class ListPage {
  constructor() {
    this.counters = el("p", { id: "counters", class: "soft" });
    this.list = el("ul", { class: "list" });
    this.filter = el("input", { type: "search", id: "filter", autocomplete: "off", oninput: () => this.narrow() });
    this.empty = el("section", { hidden: true }, el("p", { text: HOW }), el("pre", { text: EMPTY }));
    this.asking = new AbortController();
    this.items = []; // what is searched of each dataset, and its item
    this.before = ""; // what the list was drawn from
    title.textContent = "Datasets";
    main.append(el("label", {}, words("Filter"), this.filter), this.counters, this.empty, this.list);
  }

  // Draw the list again and again.
  async show() {
    this.asking.abort();
    this.asking = new AbortController();
    const { signal } = this.asking;
    this.before = "";
    for (;;) {
      let isSettled = false;
      try {
        isSettled = await this.draw(signal);
      } catch (error) {
        failed(error);
        this.before = "";
        if (signal.aborted || error.status === 401) return;
      }
      await pause(isSettled ? SELDOM_MS : AGAIN_MS, signal).catch(() => {});
      if (signal.aborted) return;
    }
  }

  // Whether nothing is expected to change soon.
  async draw(signal) {
    const paths = ["/hf_datasets", "/cache-reports", "/cache", "/queue"];
    const [found, reports, cached, queue] = await Promise.all(paths.map((path) => ask(path, {}, signal)));
    this.counters.textContent = countersText(cached.datasets, queue);
    const states = statesOf(reports);
    const now = JSON.stringify([found.datasets, [...states]]);
    if (now !== this.before) {
      this.items = found.datasets.map((one) => listItem(one, states.get(one.id)));
      this.list.replaceChildren(...this.items.map(([, item]) => item));
      this.empty.hidden = this.items.length > 0;
      this.before = now;
      this.narrow();
    }
    return this.items.length > 0 && !queue.datasets.waiting && !queue.datasets.started;
  }

  narrow() {
    const wanted = this.filter.value.trim().toLowerCase();
    for (const [text, item] of this.items) item.hidden = !text.includes(wanted);
    const shown = this.items.filter(([, item]) => !item.hidden).length;
    tell(this.items.length ? `${count(shown)} of ${count(this.items.length)} datasets` : "There is no dataset yet.");
  }
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

// Places: which rows of which split are shown. The address of the page holds them.

function placeInAddress() {
  const asked = new URLSearchParams(location.search);
  const offset = Number(asked.get("offset"));
  return {
    config: asked.get("config"),
    split: asked.get("split"),
    offset: Number.isSafeInteger(offset) && offset > 0 ? offset : 0,
    predict: asked.get("predict"),
  };
}

const addressOf = (place, hash = "") => address(location.pathname, { ...place, offset: place.offset || null }) + hash;

// A place with a config and a split: those that are listed first, where the address names none.
function completed(place, splits) {
  const config = place.config ?? splits[0]?.config;
  const split = place.split ?? splits.find((one) => one.config === config)?.split ?? splits[0]?.split;
  return { ...place, config, split };
}

// One dataset

class DatasetPage {
  constructor(dataset) {
    this.dataset = dataset;
    this.about = el("p", { id: "about" });
    this.size = el("p", { id: "size", class: "soft" });
    this.figures = el("p", { class: "soft" });
    this.choosers = el("nav", { "aria-label": "What is shown" });
    this.pager = el("nav", { "aria-label": "Rows", hidden: true });
    this.more = el("button", { type: "button", hidden: true });
    const named = { class: "scroll", role: "region", "aria-label": "Rows of the dataset", tabindex: "0" };
    this.table = el("div", { ...named, hidden: true });
    this.use = el("section", { "aria-label": "Use it" });
    this.asking = new AbortController();
    this.models = []; // that the key may use
    this.stats = null;
    this.statsOf = ""; // the split that they are of
    this.shownSearch = null; // of the address that is shown
    this.focusAgain = null; // the name of the link that was pressed
    title.textContent = dataset;
    document.title = `${dataset}: dataset`;
    main.append(this.about, this.size, this.figures, this.choosers, this.pager, this.more, this.table, this.use);
    // Also when only the row after the `#` is another one.
    addEventListener("popstate", () => (this.shownSearch === location.search ? markRow(this.table) : this.show()));
  }

  // The rows first, and the rest as it comes.
  async show() {
    this.asking.abort();
    this.asking = new AbortController();
    const { signal } = this.asking;
    try {
      this.shownSearch = location.search;
      tell("asking");
      const { splits } = await askUntilReady("/splits", { dataset: this.dataset }, signal, tell);
      const place = completed(placeInAddress(), splits);
      this.choose(splits, place);
      if (splits.length) await this.showSplit(place, signal);
      else tell("The dataset has no splits.");
    } catch (error) {
      if (error.name === "AbortError") return;
      for (const part of [this.pager, this.table, this.more]) part.hidden = true;
      failed(error);
      this.askBeside(null, signal);
    }
  }

  async showSplit(place, signal) {
    showUse(this.use, this.named(place), place, null);
    if (this.statsOf !== JSON.stringify(this.named(place))) this.stats = null;
    const rows = await this.askRows(place, signal);
    this.showRows(place, rows);
    const isRefreshed = await this.tellState(place, rows, signal);
    this.askBeside(place, signal);
    await this.fill(place, rows, signal);
    if (isRefreshed) await this.followRefresh(place, signal);
  }

  // Another key was typed.
  async keyChanged() {
    this.models = [];
    await this.show();
  }

  go(place, hash = "") {
    history.pushState(null, "", addressOf(place, hash));
    this.show();
  }

  named({ config, split }) {
    return { dataset: this.dataset, config, split };
  }

  askRows(place, signal) {
    const parameters = { ...this.named(place), offset: place.offset, length: LENGTH, predict: place.predict };
    return askUntilReady("/v2/rows", parameters, signal, tell);
  }

  // Whether the rows are old, and new ones are expected. The reports say whether the refresh has failed, and why.
  async tellState(place, rows, signal) {
    if (!rows.isStalled) {
      tell(rows.partial ? "ready: the first rows; the rest is being prepared" : "ready");
      return false;
    }
    const reports = await ask("/cache-reports", {}, signal);
    const isHere = (one) =>
      one.dataset === this.dataset && (!one.split || (one.config === place.config && one.split === place.split));
    const report = [...reports.splits.error, ...reports.datasets.error].find(isHere);
    tell(report ? `old rows: the refresh failed: ${reason(report.error)}` : "old rows: being refreshed", Boolean(report));
    return !report;
  }

  // Old rows stay until the new ones are there, or the refresh has failed.
  async followRefresh(place, signal) {
    for (;;) {
      await pause(AGAIN_MS, signal);
      const rows = await this.askRows(place, signal);
      if (await this.tellState(place, rows, signal)) continue;
      if (!rows.isStalled) {
        this.stats = null;
        this.show();
      }
      return;
    }
  }

  // Choosers of config, split and model; the one that was used last keeps the focus.
  choose(splits, place) {
    const again = [...this.choosers.querySelectorAll("select")].indexOf(document.activeElement);
    const { config, split, predict } = place;
    const configs = [...new Set(splits.map((one) => one.config))].map((value) => ({ value, text: value }));
    const ofConfig = splits.filter((one) => one.config === config).map((one) => ({ value: one.split, text: one.split }));
    const parts = [
      select("Config", configs, config, (chosen) => this.go({ config: chosen, predict })),
      select("Split", ofConfig, split, (chosen) => this.go({ config, split: chosen, predict })),
    ];
    if (this.models.length || predict) {
      const names = [...new Set([...this.models, predict].filter(Boolean))];
      const values = [{ value: "", text: "none" }, ...names.map((value) => ({ value, text: value }))];
      parts.push(select("Predict with", values, predict || "", (chosen) => this.go({ ...place, predict: chosen })));
    }
    this.choosers.replaceChildren(...parts);
    if (again >= 0) this.choosers.querySelectorAll("select")[again]?.focus();
  }

  showRows(place, rows) {
    forgetMedia();
    this.showPager(place, rows.num_rows_total);
    this.drawTable(place, rows, MOST_COLUMNS);
    const hidden = rows.features.length - MOST_COLUMNS;
    this.more.hidden = hidden <= 0;
    this.more.textContent = `Show ${hidden} more columns`;
    this.more.onclick = () => {
      this.drawTable(place, rows, Infinity);
      this.more.hidden = true;
      this.table.focus();
    };
    this.pager.hidden = this.table.hidden = false;
    if (this.focusAgain === null) return;
    ([...this.pager.querySelectorAll("a")].find((one) => one.textContent === this.focusAgain) || this.table).focus();
    this.focusAgain = null;
  }

  // Links to other pages of rows, and a box for the number of a row. total: rows of the split, null where nobody knows.
  showPager(place, total) {
    const last = total ? Math.floor((total - 1) / LENGTH) * LENGTH : 0;
    const at = (offset) => ({ ...place, offset });
    const isMore = total === null || place.offset + LENGTH < total;
    const number = el("input", { type: "number", min: "0", max: total ? total - 1 : null, required: true });
    const goTo = (event) => {
      event.preventDefault();
      const row = Number(number.value);
      this.go(at(Math.floor(row / LENGTH) * LENGTH), `#row-${row}`);
    };
    this.pager.replaceChildren(
      this.pageLink("First", at(0), place.offset > 0),
      this.pageLink("Previous", at(Math.max(0, place.offset - LENGTH)), place.offset > 0),
      this.pageLink("Next", at(place.offset + LENGTH), isMore),
      this.pageLink("Last", at(last), Boolean(total) && place.offset !== last),
      el("form", { onsubmit: goTo }, el("label", {}, words("Row"), number), el("button", { text: "Go to row" })),
    );
  }

  // A link that shows another page of rows in this tab, unless it is opened in another one.
  pageLink(text, place, isThere) {
    if (!isThere) return el("span", { class: "soft", text });
    const press = (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      this.focusAgain = text;
      this.go(place);
    };
    return el("a", { href: addressOf(place), text, onclick: press });
  }

  drawTable(place, rows, most) {
    this.table.replaceChildren(tableOf(`${this.dataset}, ${place.config}, ${place.split}`, place.offset, rows, most));
    if (this.stats) drawFigures(this.table, this.stats);
    markRow(this.table);
  }

  // What comes after the rows: figures, and the rows that were not prepared yet.
  async fill(place, rows, signal) {
    try {
      this.figures.textContent = "";
      this.stats = await askUntilReady("/statistics", this.named(place), signal, () => {});
      this.statsOf = JSON.stringify(this.named(place));
    } catch (error) {
      if (error.name === "AbortError") throw error;
      this.figures.textContent = `No statistics: ${error.message}`;
      return;
    }
    if (!rows.partial) return drawFigures(this.table, this.stats);
    const whole = await this.askRows(place, signal);
    this.showRows(place, whole);
    await this.tellState(place, whole, signal);
    this.askBeside(place, signal);
  }

  // What stands beside the rows; without a place only what is known of every dataset.
  async askBeside(place, signal) {
    const beside = place ? [this.showSize(place, signal), this.showParquet(place, signal), this.findModels(place, signal)] : [];
    for (const one of await Promise.allSettled([this.showCard(signal), ...beside])) {
      if (one.status === "fulfilled" || one.reason.name === "AbortError" || isNotReady(one.reason)) continue;
      this.figures.textContent = one.reason.message;
    }
  }

  async showCard(signal) {
    const card = (await ask("/hf_datasets", {}, signal)).datasets.find((one) => one.id === this.dataset);
    if (!card) return;
    const licences = card.tags.filter((tag) => tag.startsWith("licenses:")).map((tag) => tag.slice("licenses:".length));
    const licence = licences.length ? ` Licence: ${licences.join(", ")}.` : " No licence is named.";
    this.about.replaceChildren(words(card.description || ""), words(licence, "soft"));
  }

  async showSize(place, signal) {
    const found = await ask("/size", { dataset: this.dataset }, signal);
    const whole = found.size.dataset;
    const prepared = `${bytes(whole.num_bytes_parquet_files)} as Parquet${found.partial ? " so far" : ""}`;
    const here = found.failed.find((one) => one.config === place.config && one.split === place.split);
    const failure = here?.error ? ` Not prepared: ${reason(here.error)}` : "";
    this.size.textContent = `${count(whole.num_rows)} rows, ${bytes(whole.num_bytes_original_files)} of files, ${prepared}.${failure}`;
  }

  async showParquet(place, signal) {
    const { parquet_files: files } = await ask("/parquet", this.named(place), signal);
    showUse(this.use, this.named(place), place, files.map((one) => one.url));
  }

  async findModels(place, signal) {
    if (!key()) this.models = [];
    if (!key() || this.models.length) return;
    const found = await ask("/api/models", {}, signal);
    this.models = found.models.filter((one) => one.task === "predict").map((one) => `${one.owner}/${one.name}`);
    const { splits } = await ask("/splits", { dataset: this.dataset }, signal);
    this.choose(splits, place);
  }
}

// A table

// named: what the rows are of; most: columns that are shown. Predictions stand last, and always.
function tableOf(named, offset, rows, most) {
  const isPrediction = (one) => one.type._type === "Prediction";
  const features = [...rows.features.filter((one) => !isPrediction(one)).slice(0, most), ...rows.features.filter(isPrediction)];
  const of = rows.num_rows_total === null ? "" : ` of ${count(rows.num_rows_total)}`;
  const shown = rows.rows.length ? `rows ${offset} to ${offset + rows.rows.length - 1}${of}` : `no rows here${of}`;
  return el(
    "table",
    {},
    el("caption", { text: `${named}: ${shown}` }),
    el("thead", {}, el("tr", {}, el("th", { scope: "col", text: "row" }), ...features.map(head))),
    el("tbody", {}, ...rows.rows.map((one) => line(one, features))),
  );
}

// The empty element at its end gets the figure of the column.
function head({ name, type }) {
  return el("th", { scope: "col", "data-column": name }, words(name, "name"), words(typeWords(type), "type"), el("div"));
}

function line(row, features) {
  const cut = new Set(row.truncated_cells);
  const id = `row-${row.row_idx}`;
  const cells = features.map((feature) => cell(feature, row.row[feature.name], cut.has(feature.name), row.row_idx));
  return el("tr", { id }, el("th", { scope: "row" }, el("a", { href: `#${id}`, text: row.row_idx })), ...cells);
}

// Mark the row that the address names, and no other.
function markRow(table) {
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

function drawFigures(table, stats) {
  const byName = new Map(stats.statistics.map((one) => [one.column_name, one]));
  for (const one of table.querySelectorAll("th[data-column]")) {
    const known = byName.get(one.dataset.column);
    if (known) one.lastChild.replaceChildren(...figure(known));
  }
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
  const [proof, from] = key() ? ['echo "Authorization: Bearer $KEY" | ', " -H @-"] : ["", ""]; // arguments can be seen by others
  const headers = key() ? ', headers={"Authorization": "Bearer " + os.environ["KEY"]}' : "";
  const asked = `answer = requests.get(${JSON.stringify(url)}${headers})`;
  const python = [...(key() ? ["import os", ""] : []), "import requests", "", asked, 'rows = [one["row"] for one in answer.json()["rows"]]'];
  const source = `hub://${named.dataset}/${named.config}/${named.split}`;
  const ways = [
    ["curl", `${proof}curl -sS${from} '${url}'`],
    ["Python", python.join("\n")],
  ];
  // Other names of configs and splits cannot stand in a source of the query language.
  if ([named.config, named.split].every((name) => SOURCE_PART.test(name))) ways.push(["SQL", `SELECT * FROM "${source}" LIMIT ${LENGTH}${where.offset ? ` OFFSET ${where.offset}` : ""}`]);
  if (files) ways.push(["Parquet", files.join("\n") || "not prepared"]);
  section.replaceChildren(el("h2", { text: "Use it" }), ...ways.map(([name, text]) => way(name, text)));
}

// Start

function start() {
  const isDataset = location.pathname.startsWith(BEFORE_NAME);
  const page = isDataset ? new DatasetPage(nameInAddress()) : new ListPage();
  drawPage(() => (isDataset ? page.keyChanged() : page.show()));
  page.show();
}
start();
