"""Data for the tests of models: small datasets in files, simulated sets whose truth is known, and the public sets."""

import csv
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from engine.tasks.families import Families
from engine.tasks.projects import graphs
from engine.tasks.projects.density import Density
from engine.tasks.projects.instance import Instance
from engine.tasks.projects.readings import Readings
from engine.tasks.projects.sources import Dataset
from tests import corpora

Array = np.ndarray
COMBINATION = ["SWE", "all", "all"]
# A fit of a second that is not expected to converge.
SMALL_HMC: dict[str, Any] = {"inference": "hmc", "epochs": 20, "max_gradients": 1200}
KEYS = {"country": "SWE", "region": "all", "grouping": "all"}


@dataclass
class Data:
    """One combination of a dataset: its files, and what was put into them."""

    files: dict[str, str]
    dates: list[str]
    truth: dict[str, float] = field(default_factory=dict)

    def check(self, graph: Any = None, train: slice = slice(None), held_out: slice = slice(0, 0)) -> dict[str, Any]:
        """The answer of `check_graph`."""
        asked = {"train_dates": self.dates[train], "eval_dates": self.dates[held_out], "graph": graph, "max_parameters": 400}
        return graphs.check_graph({"files": self.files, "combination": COMBINATION, **asked})

    def density(self, instance: Instance, train: slice = slice(None)) -> tuple[Density, Readings, Array]:
        dataset = Dataset(self.files, COMBINATION)
        is_train = dataset.mask(self.dates[train])
        readings, _ = Readings.of(instance, dataset)
        return Density(instance, readings.constants(instance), readings.scaled(instance), is_train), readings, is_train


def written(folder: Path, dates: list[str], sales: Array, *, media: Mapping[str, Array] | None = None, **others: Any) -> Data:
    """A dataset with Sales at price 1, media by name, `extra` series by name, and `events` as (name, first day, last day)."""
    folder.mkdir(parents=True, exist_ok=True)
    price = others.get("price", np.ones(len(dates)))
    tables = {"Sales": _rows(dates, {"UnitsSold": sales, "PricePerUnit": price}) | {"product": ["all"] * len(dates)}}
    for kind, series in (("Media", media or {}), ("Extra", others.get("extra", {}))):
        if series:
            tables[kind] = _long(dates, series, "Investment" if kind == "Media" else None)
    if events := others.get("events"):
        days = [pa.array([event[i] for event in events]).cast(pa.date32()) for i in (1, 2)]
        tables["Events"] = {name: [value] * len(events) for name, value in KEYS.items()}
        tables["Events"] |= {"start": days[0], "end": days[1], "event": [event[0] for event in events]}
    files = {}
    for name, table in tables.items():
        files[name] = str(folder / f"{name}.parquet")
        pq.write_table(pa.table(table), files[name])
    return Data(files, dates)


def _rows(dates: list[str], columns: Mapping[str, Array]) -> dict[str, Any]:
    keys: dict[str, Any] = {name: [value] * len(dates) for name, value in KEYS.items()}
    return keys | {"date": pa.array(dates).cast(pa.date32()), **columns}


def _long(dates: list[str], series: Mapping[str, Array], metric: str | None) -> dict[str, Any]:
    count = len(dates) * len(series)
    names = [name for name in series for _ in dates]
    values = np.concatenate([np.asarray(values, dtype=np.float64) for values in series.values()])
    return _rows(dates * len(series), {"value": values}) | {"product": ["all"] * count, "name": names, "metric": [metric] * count}


def weeks(count: int, first: str = "2018-01-07") -> list[str]:
    return [str(np.datetime64(first) + 7 * number) for number in range(count)]


def node(name: str, kind: str, dataset_name: str = "Media", **more: Any) -> dict[str, Any]:
    """A high-level node that reads the series of its name."""
    return {"id": name, "kind": kind, "source": {"dataset_name": dataset_name, "name": name}, **more}


SALES = {"id": "sales", "kind": "target"}
SEASONALITY = {"id": "seasonality", "kind": "seasonality"}
TREND = {"id": "trend", "kind": "trend"}


def star(*nodes: dict[str, Any]) -> dict[str, Any]:
    """A graph in which every node leads to sales."""
    return {"nodes": [SALES, *nodes], "edges": [{"source": n["id"], "target": "sales"} for n in nodes]}


def finished(stages: Iterator[Any]) -> Any:
    """What stages return."""
    while True:
        try:
            next(stages)
        except StopIteration as end:
            return end.value


def task(name: str, header: dict[str, Any]) -> tuple[dict[str, Any], bytes, list[dict[str, Any]]]:
    """What a task of the family answers: its part, its payload, and the frames of progress before it."""
    return asked(name, header)


def asked(name: str, header: dict[str, Any], payload: bytes = b"") -> tuple[dict[str, Any], bytes, list[dict[str, Any]]]:
    """The same, of a task that gets a payload as well."""
    answer = FAMILIES.task("projects", name)(header, memoryview(payload))
    frames = []
    if isinstance(answer, tuple):
        last = answer
    else:
        while True:
            try:
                frames.append(next(answer)[0])
            except StopIteration as end:
                last = end.value
                break
    return last[0]["parts"][0], b"".join(bytes(piece) for piece in last[1]), frames


def values(part: dict[str, Any], body: bytes) -> dict[str, Any]:
    """The values of a payload that has several, by name."""
    found, at = {}, 0
    for name, size in part["values"].items():
        found[name] = json.loads(body[at : at + size])
        at += size
    assert at == len(body)
    return found


FAMILIES = Families()


def fit_header(data: Data, instance: dict[str, Any], folder: Path, **changes: Any) -> dict[str, Any]:
    """What `fit` is asked with; a small MAP fit unless changed."""
    folder.mkdir(parents=True, exist_ok=True)
    asked: dict[str, Any] = {"inference": "map", "epochs": 0, "learning_rate": 0.005, "samples": 8, "seed": 0}
    asked |= {"files": data.files, "combination": COMBINATION, "instance": instance, "train_dates": data.dates, "eval_dates": []}
    asked |= {"folder": str(folder), "parent": None, "owner": "acme", "name": "demo-model-1", "dataset": "acme/demo-dataset-1"}
    return asked | {"max_gradients": 14000, "export_draws": 40} | changes


# Simulated sets


def plain(folder: Path, seed: int = 0, count: int = 60) -> Data:
    """Weekly sales of two channels, a price-like series and an event."""
    random = np.random.default_rng(seed)
    tv = np.where(random.uniform(size=count) < 0.6, random.gamma(3, 1000, count), 0.0)
    radio = random.gamma(2, 400, count)
    income = 100 + np.cumsum(random.normal(0, 1, count))
    dates = weeks(count)
    sales = 700 + 100 * (tv / (tv + 2000)) / 0.4 + 60 * radio / 800 + 2 * (income - 100) + random.normal(0, 25, count)
    events = [("Fair", dates[10], dates[11]), ("Fair", dates[35], dates[35]), ("Strike", dates[25], dates[26])]
    data = written(folder, dates, sales, media={"tv": tv, "radio": radio}, extra={"income": income}, events=events)
    data.truth = {"tv": float((100 * (tv / (tv + 2000)) / 0.4).sum())}
    return data


def twins(folder: Path, count: int = 104) -> Data:
    """Two channels with nearly the same spend and the same effect, and one of its own."""
    random = np.random.default_rng(0)
    tv = np.where(random.uniform(size=count) < 0.5, random.gamma(3, 1000, count), 0.0)
    media = {"tv": tv, "twin": tv * np.exp(0.02 * random.normal(size=count)), "radio": random.gamma(3, 10, count)}
    effects = []
    for name in ("tv", "twin"):
        u = adstocked(media[name], 0.5)
        effects.append(200 * u**1.2 / (u**1.2 + u.mean() ** 1.2))
    return written(folder, weeks(count), 700 + sum(effects) + random.normal(0, 20, count), media=media)


def adstocked(x: Array, share: float, lags: int = 12) -> Array:
    weights = share ** np.arange(lags + 1)
    return np.convolve(x, weights / weights.sum())[: len(x)]


def mediated(folder: Path, seed: int, count: int = 156) -> Data:
    """TV acts on sales directly (a share of 0.05) and through search (0.10); `truth` has the totals in units."""
    random = np.random.default_rng(seed)
    tv = np.where(random.uniform(size=count) < 0.45, random.gamma(3, 1, count), 0.0)
    u = adstocked(tv, 0.6)
    h = u**1.2 / (u**1.2 + u.mean() ** 1.2)
    h /= h.mean()
    angle = 2 * np.pi * np.arange(count) * 7 / 365.25
    amplitude = random.uniform(0.06, 0.08, 2)
    search = 0.6 + 0.4 * h + amplitude[0] * np.sin(angle) + random.normal(0, 0.08, count)
    sales = 0.70 + amplitude[1] * np.cos(angle) + 0.05 * h + 0.25 * search + random.normal(0, 0.03, count)
    data = written(folder, weeks(count), 1000 * sales, media={"tv": tv * 1000, "search": search * 100})
    data.truth = {"tv": 1000 * 0.15 * count, "direct": 1000 * 0.05 * count}
    return data


def mediated_graph() -> dict[str, Any]:
    """TV leads to search and to sales, and search to sales."""
    nodes = [SALES, node("tv", "media"), node("search", "mediator"), SEASONALITY]
    pairs = [("tv", "search"), ("tv", "sales"), ("search", "sales"), ("seasonality", "search"), ("seasonality", "sales")]
    return {"nodes": nodes, "edges": [{"source": source, "target": target} for source, target in pairs]}


# Public sets


def _csv(text: str) -> dict[str, list[str]]:
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    return {name: [row[name] for row in rows] for name in rows[0]}


def _floats(table: dict[str, list[str]], name: str) -> Array:
    return np.array([float(value or 0) for value in table[name]])


def roas(folder: Path) -> Data:
    """131 weeks of two channels; their true returns on spend are known."""
    table = _csv(corpora.marketing("mmm_roas_data.csv"))
    media = {name: _floats(table, name) for name in ("x1", "x2")}
    data = written(folder, [date[:10] for date in table["date"]], _floats(table, "y"), media=media)
    data.truth = {"x1": 93.388, "x2": 171.409}
    return data


def example(folder: Path) -> Data:
    """179 weeks, two channels and two events."""
    table = _csv(corpora.marketing("mmm_example.csv"))
    dates = [date[:10] for date in table[next(name for name in table if "date" in name)]]
    media = {name: _floats(table, name) for name in ("x1", "x2")}
    events = [
        (name, date, str(np.datetime64(date) + 6))
        for name in ("event_1", "event_2")
        for date, value in zip(dates, table[name], strict=True)
        if float(value) > 0
    ]
    return written(folder, dates, _floats(table, "y"), media=media, events=events)


ROBYN_MEDIA = ("tv_S", "ooh_S", "print_S", "facebook_I", "search_clicks_P")


def robyn(folder: Path) -> Data:
    """208 weeks of five media, with what competitors sell, a newsletter and two events that happen once each."""
    table = _csv(corpora.weekly_sales())
    dates = table["DATE"]
    events = [
        (name, date, str(np.datetime64(date) + 6))
        for date, name in zip(dates, table["events"], strict=True)
        if name not in ("", "na")
    ]
    media = {name: _floats(table, name) for name in ROBYN_MEDIA}
    extra = {name: _floats(table, name) for name in ("competitor_sales_B", "newsletter")}
    return written(folder, dates, _floats(table, "revenue"), media=media, extra=extra, events=events)


def robyn_graph(data: Data) -> dict[str, Any]:
    """Both events as one node, so that they share a coefficient."""
    names = sorted(set(pq.read_table(data.files["Events"])["event"].to_pylist()))
    event = {"id": "events", "kind": "event", "source": {"dataset_name": "Events", "event": names}}
    controls = [node(name, "control", "Extra") for name in ("competitor_sales_B", "newsletter")]
    return star(*(node(name, "media") for name in ROBYN_MEDIA), *controls, event, SEASONALITY, TREND)
