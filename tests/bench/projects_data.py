"""What the benchmark of projects works on: one market of three years, its graph, and the plain numpy and onnxruntime beside ours.

Knows no server. The arrays of `Forward` are those that a fit of the market reads.
"""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pyarrow.csv
import pyarrow.parquet as pq

from engine.tasks.projects.density import Density
from engine.tasks.projects.instance import Instance
from engine.tasks.projects.ops import lagged
from tests.bench import texts
from tests.engine.tasks.projects import sets
from tests.engine.tasks.projects.sets import Data

Array = np.ndarray

WEEKS = 156
CHANNELS = ("tv", "radio", "print", "online")
NUM_LAGS = 12
BATCH = 512


def market(folder: Path) -> Data:
    """156 weeks of four channels, a price and two events; sales follow all of them."""
    random = np.random.default_rng(0)
    dates = sets.weeks(WEEKS)
    media = {name: np.where(random.uniform(size=WEEKS) < 0.6, random.gamma(3, 1000, WEEKS), 0.0) for name in CHANNELS}
    price = 10 + random.normal(0, 0.5, WEEKS)
    sales = np.full(WEEKS, 900.0) - 30 * (price - 10) + random.normal(0, 25, WEEKS)
    for share, series in zip((0.3, 0.5, 0.6, 0.4), media.values(), strict=True):
        u = sets.adstocked(series, share)
        sales += 80 * u / (u + u.mean())
    events = [
        (name, dates[week], dates[week]) for name, weeks in (("fair", (10, 62, 114)), ("strike", (30, 100))) for week in weeks
    ]
    return sets.written(folder, dates, sales, media=media, price=price, events=events)


def graph() -> dict[str, Any]:
    """All that the market has, on sales: no two causes act on each other."""
    price = {"id": "price", "kind": "price", "source": {"dataset_name": "Sales", "metric": "PricePerUnit"}}
    events = [{"id": name, "kind": "event", "source": {"dataset_name": "Events", "event": name}} for name in ("fair", "strike")]
    return sets.star(*(sets.node(name, "media") for name in CHANNELS), price, *events, sets.SEASONALITY, sets.TREND)


def crowd(folder: Path) -> Data:
    """156 weeks of nine channels that all act through search."""
    random = np.random.default_rng(1)
    media = {f"c{i}": random.gamma(2, 500, WEEKS) for i in range(9)}
    search = 300 + sum(0.02 * series for series in media.values()) + random.normal(0, 10, WEEKS)
    return sets.written(folder, sets.weeks(WEEKS), 500 + search + random.normal(0, 20, WEEKS), media=media | {"search": search})


def crowded_graph() -> dict[str, Any]:
    """Ten groups above one saturation: 2^10 sets of them are looked at."""
    channels = [sets.node(f"c{i}", "media") for i in range(9)]
    edges: list[dict[str, Any]] = [{"source": node["id"], "target": "search"} for node in channels]
    edges.append({"source": "search", "target": "sales", "shape": "media"})
    return {"nodes": [sets.SALES, sets.node("search", "mediator"), *channels], "edges": edges}


# Gradients


class Forward:
    """The mean of the market's model as a person would write it in numpy, on the same arrays that the density has."""

    def __init__(self, data: Data, num_draws: int) -> None:
        random = np.random.default_rng(2)
        self.density = density(data)
        self.free = 0.3 * random.normal(size=(num_draws, len(self.density.instance.parameters)))
        series = [np.array(_media(data, name)) for name in CHANNELS]
        self._lagged = np.stack([lagged(one / one.max(), NUM_LAGS) for one in series])
        self._means = np.array([one.mean() / one.max() for one in series])[:, None]
        self._columns = random.normal(size=(8, WEEKS))  # price, two events, four of the season, one of the trend
        self._share, self._half, self._slope, self._size = np.exp(0.1 * random.normal(size=(4, len(CHANNELS), num_draws))) / 2
        self._weights = random.normal(size=(num_draws, 8))

    def run(self) -> Array:
        weights = self._share[..., None] ** np.arange(NUM_LAGS + 1)
        adstocked = (weights / weights.sum(axis=-1, keepdims=True)) @ self._lagged
        logs = np.log(np.maximum(adstocked, 1e-9)) - np.log(self._half * self._means)[..., None]
        saturated = 1 / (1 + np.exp(-self._slope[..., None] * logs))
        terms = self._size[..., None] * saturated / saturated.mean(axis=-1, keepdims=True)
        found: Array = terms.sum(axis=0) + self._weights @ self._columns + 0.7
        return found

    def gradient(self) -> Array:
        return self.density.gradient(self.free)[0]


def density(data: Data) -> Density:
    found, _, _ = data.density(Instance.of(data.check(graph())["Instance"]))
    return found


def _media(data: Data, name: str) -> list[float]:
    table = pq.read_table(data.files["Media"]).to_pydict()
    return [value for one, value in zip(table["name"], table["value"], strict=True) if one == name]


def seconds_of(work: Callable[[], object], at_least_s: float) -> float:
    """The mean of as many calls as take this long, after one that is not counted."""
    work()
    count, started = 0, time.perf_counter()
    while (passed := time.perf_counter() - started) < at_least_s:
        work()
        count += 1
    return passed / count


def counted_fit(header: dict[str, Any]) -> tuple[float, dict[int, int]]:
    """Run the task `fit` in this process: its seconds, and how many gradients it took by their number of draws."""
    counts: dict[int, int] = {}
    original = Density.gradient

    def counting(self: Density, free: Array) -> tuple[Array, Array]:
        counts[len(free)] = counts.get(len(free), 0) + 1
        return original(self, free)

    Density.gradient = counting  # type: ignore[method-assign]
    try:
        started = time.perf_counter()
        part, _, _ = sets.task("fit", header)
        seconds = time.perf_counter() - started
    finally:
        Density.gradient = original  # type: ignore[method-assign]
    if "refused" in part:
        raise RuntimeError(part["refused"]["message"])
    return seconds, counts


# Files and windows


def media_file(num_bytes: int) -> Path:
    """A Media CSV of about this size: daily rows of many campaigns."""
    path = texts.CACHE / f"media-{num_bytes}.csv"
    if path.exists():
        return path
    texts.CACHE.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(3)
    with path.open("w") as file:
        file.write("Country,Region,Grouping,Date,Product,Media,Campaign,Metric,Value\n")
        for line in _media_lines(random):
            file.write(line)
            if file.tell() >= num_bytes:
                break
    return path


def _media_lines(random: np.random.Generator) -> Iterator[str]:
    campaign = 0
    while True:
        values = random.gamma(2, 500, 1000).round(2).tolist()
        for day, value in enumerate(values):
            date = np.datetime64("2018-01-01") + day
            yield f"SWE,all,all,{date},all,online,campaign {campaign},Investment,{value}\n"
        campaign += 1


def bare_read(path: Path) -> float:
    """The seconds that pyarrow takes to read the file on one thread."""
    started = time.perf_counter()
    pyarrow.csv.read_csv(path, pyarrow.csv.ReadOptions(use_threads=False))
    return time.perf_counter() - started


def windows_file(data: Data, config: dict[str, Any], count: int) -> Path:
    """A file of records of the market's exported model: windows from random places."""
    texts.CACHE.mkdir(parents=True, exist_ok=True)
    path = texts.CACHE / f"windows-{count}.ndjson"
    random = np.random.default_rng(4)
    width = next(entry["window"] for entry in config["inputs"] if entry["kind"] == "period_days")
    fields = [entry["field"] for entry in config["inputs"] if entry["kind"] == "vector"]
    with path.open("w") as file:
        for number in range(count):
            values = {name: random.gamma(2, 1000, width).round(1).tolist() for name in fields}
            file.write(json.dumps({"yhat_id": number, "date": data.dates[number % WEEKS], **values}) + "\n")
    return path


def bare_windows(model: Path, count: int) -> float:
    """The seconds that onnxruntime takes on one thread for as many windows, which are arrays already."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(model), options)
    random = np.random.default_rng(5)
    feeds = {one.name: random.gamma(2, 1000, (BATCH, one.shape[1])).astype(np.float32) for one in session.get_inputs()}
    started = time.perf_counter()
    for first in range(0, count, BATCH):
        size = min(BATCH, count - first)
        session.run(None, {name: values[:size] for name, values in feeds.items()})
    return time.perf_counter() - started
