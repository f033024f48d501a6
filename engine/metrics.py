"""Metrics: every number that /metrics shows, defined once, with its sentence.

The server process keeps them; replicas report theirs in frames. The label `model` is the `owner/name` of a model that exists, and
the series of a model go with it, so the number of series is bounded. The registry belongs to the process, as prometheus_client has
it. Knows nothing of blocks, streams or replicas beyond the words of its labels.
"""

import contextlib
import functools
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from engine.frames import Header
from engine.histograms import Histogram, Series

REGISTRY = CollectorRegistry()
HELP = b"# HELP "

Shown = TypeVar("Shown", Counter, Gauge, Series)

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60)
_RECORDS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)


def _counter(name: str, text: str, *labels: str) -> Counter:
    return Counter(name, text, labels, registry=REGISTRY)


def _histogram(name: str, text: str, *labels: str, buckets: tuple[float, ...] = _SECONDS) -> Histogram:
    return Histogram(name, text, labels, buckets=buckets, registry=REGISTRY)


class ModelMetric(Generic[Shown]):
    """A metric whose first label is the model: an object of its own for each model.

    So the series of one model can be forgotten, and the text of /metrics can be made model by model.

    labels  of the metric, the first of which is `model`
    """

    def __init__(self, make: Callable[..., Any], name: str, text: str, *labels: str) -> None:
        self.labels = ("model", *labels)
        self._new: Callable[[], Any] = lambda: make(name, text, self.labels, registry=None)
        self._metrics: dict[str, Any] = {}
        self._series: dict[tuple[str, ...], Shown] = {}  # kept because looking them up by their labels costs more than counting

    def series(self, title: str, *labels: str) -> Shown:
        """The series of a model, with its other labels."""
        values = (title, *labels)
        found = self._series.get(values)
        if found is None:
            metric = self._metrics.setdefault(title, self._new())
            found = self._series[values] = metric.labels(*values)
        return found

    def keep(self, titles: Container[str]) -> None:
        """Forget every model that is not one of these."""
        self._metrics = {title: metric for title, metric in self._metrics.items() if title in titles}
        self._series = {values: series for values, series in self._series.items() if values[0] in titles}

    def describe(self) -> Iterable[Metric]:
        """What the metric is, without its series."""
        return self._new().describe()

    def texts(self) -> Iterator[bytes]:
        """The text of the metric, model by model.

        The lines of one name must stand together, below their head. A counter has two names (the other one is `..._created`), so
        what comes second for each model is kept until the end.
        """
        at_end: list[bytes] = []
        for i, metric in enumerate(tuple(self._metrics.values()) or (self._new(),)):
            numbers, *created = _groups(metric.collect(), with_heads=i == 0)
            yield numbers
            at_end += created
        yield b"".join(at_end)


class _Only:
    """What `generate_latest` takes for a registry: these metrics and no others."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def _text(metrics: Iterable[Metric]) -> bytes:
    return generate_latest(_Only(metrics))


def _groups(metrics: Iterable[Metric], *, with_heads: bool) -> list[bytes]:
    """The lines of each name; its head is two lines, `# HELP ...` and `# TYPE ...`."""
    groups = _text(metrics).split(HELP)[1:]
    return [HELP + group if with_heads else group.split(b"\n", 2)[2] for group in groups]


REQUESTS = _counter("sluice_requests", "Requests answered.", "surface", "status")
REQUEST_SECONDS = _histogram("sluice_request_seconds", "Seconds from a request's head to the end of its answer.", "surface")
RECORDS: ModelMetric[Counter] = ModelMetric(
    Counter, "sluice_records", "Records answered, with a result or with an error line.", "outcome"
)
STREAMS_ENDED = _counter(
    "sluice_streams", "Streams over: ended (clean), failed (cut by the server), left (by the client).", "outcome"
)
REJECTED = _counter("sluice_rejected", "Requests refused before their first byte, by error code.", "reason")
WEBSOCKETS = Gauge("sluice_websockets", "WebSocket connections open now.", registry=REGISTRY)
QUEUE_SECONDS = _histogram("sluice_queue_seconds", "Seconds a block waited for a replica.", "lane")
BLOCK_RECORDS = _histogram("sluice_block_records", "Records in a block that a replica answered.", buckets=_RECORDS)
BLOCK_SECONDS: ModelMetric[Series] = ModelMetric(
    functools.partial(Histogram, buckets=_SECONDS),
    "sluice_block_seconds",
    "Seconds of a block, by stage: parse, tokenise, infer, encode.",
    "stage",
)
PADDING_RATIO: ModelMetric[Gauge] = ModelMetric(
    Gauge, "sluice_padding_ratio", "Padded cells of all cells in the last block of a tokenised model."
)
BYTES = _counter("sluice_bytes", "Bytes of bulk bodies: in (decoded), out.", "direction")
REPLICA_RESTARTS = _counter("sluice_replica_restarts", "Replicas that died and were started again.", "pool")
BLOCKS_REQUEUED = _counter("sluice_blocks_requeued", "Blocks (or halves) given to another replica after a death or a failure.")
MODEL_LOADS: ModelMetric[Counter] = ModelMetric(Counter, "sluice_model_loads", "Models opened by replicas.", "outcome")
MODEL_METRICS: tuple[ModelMetric[Any], ...] = (RECORDS, BLOCK_SECONDS, PADDING_RATIO, MODEL_LOADS)

QUERIES_ENDED = _counter(
    "sluice_queries_ended",
    "Queries over: answered, refused (the sender can change that), timeout, left (by the client), failed.",
    "outcome",
)
QUERY_SECONDS = _histogram(
    "sluice_query_seconds", "Seconds of an answered query, by stage: queue, parse, scan, sql, encode.", "stage"
)

CONNECTIONS_ENDED = _counter(
    "sluice_connections_ended",
    "Connections that the server dropped: slow_head (no request came in time), stalled (the client read nothing), idle (to make "
    "room), refused (no room).",
    "reason",
)

JOBS_ENDED = _counter(
    "sluice_jobs",
    "Jobs over: success, error, returned (to wait again, after a death or at a stop), overtaken (cancelled, or done by another "
    "process).",
    "kind",
    "outcome",
)
JOB_SECONDS = _histogram(
    "sluice_job_seconds", "Seconds from the start of a job to its end.", "kind", buckets=(0.05, 0.25, 1, 5, 30, 120, 600, 3600)
)

for _outcome in ("ended", "failed", "left"):
    STREAMS_ENDED.labels(_outcome)
for _outcome in ("answered", "refused", "timeout", "left", "failed"):
    QUERIES_ENDED.labels(_outcome)
for _reason in ("slow_head", "stalled", "idle", "refused"):
    CONNECTIONS_ENDED.labels(_reason)


# What is true at this moment is read when /metrics is asked, rather than counted as it happens.


@dataclass(frozen=True, slots=True)
class Level:
    """A number of this moment.

    name    without `_total`, which Prometheus adds to a counter
    labels  names of its labels, in the order of the values
    """

    name: str
    text: str
    labels: tuple[str, ...] = ()
    is_counter: bool = False

    def shown(self, values: Mapping[tuple[str, ...], float]) -> Metric:
        """The level as /metrics shows it."""
        kind = CounterMetricFamily if self.is_counter else GaugeMetricFamily
        family = kind(self.name, self.text, labels=self.labels)
        for labels, value in values.items():
            family.add_metric(labels, value)
        return family


CONNECTIONS = Level("sluice_connections", "Connections open now.")
STREAMS = Level("sluice_streams", "Streams now, by state: running, spilling, full, finishing.", ("state",))
QUERIES = Level("sluice_queries", "Queries open now, by state: running, waiting.", ("state",))
QUEUE_BLOCKS = Level(
    "sluice_queue_blocks", "What waits for a replica now: single blocks, or streams with lines to cut blocks from.", ("lane",)
)
REPLICAS = Level("sluice_replicas", "Replicas now, by state: ready, starting.", ("pool", "state"))
JOBS = Level("sluice_jobs", "Jobs now, by status: waiting, started.", ("kind", "status"))
PREVIEW_ENTRIES = Level(
    "sluice_preview_entries", "Datasets and splits in the cache of preview now, by status.", ("cache", "status")
)
SPILL_BYTES = Level("sluice_spill_bytes", "Bytes now in spill files.")
BLOCKS_DROPPED = Level(
    "sluice_blocks_dropped", "Waiting blocks that were dropped because nobody waited for them any more.", is_counter=True
)

# What a part of the engine knows of its own levels: level -> values of its labels -> number.
Levels = dict[Level, dict[tuple[str, ...], float]]


class LevelsCollector:
    """Shows levels. It has no `describe`, because `sluice_streams` (now) and `sluice_streams_total` (over) are two families.

    reads  the parts of the engine that have levels, each of which tells its own
    """

    def __init__(self, reads: Iterable[Callable[[], Levels]]) -> None:
        self._reads = tuple(reads)

    def collect(self) -> Iterator[Metric]:
        for read in self._reads:
            yield from (level.shown(values) for level, values in read().items())


@contextlib.contextmanager
def showing(*reads: Callable[[], Levels]) -> Iterator[None]:
    """While the context is open, /metrics shows these levels."""
    collector = LevelsCollector(reads)
    REGISTRY.register(collector)
    try:
        yield
    finally:
        REGISTRY.unregister(collector)


# What happens is counted here.


@functools.cache
def _request_series(surface: str, status: int) -> tuple[Counter, Series]:
    """The two series of a request, kept because looking a series up by its labels costs more than counting."""
    return REQUESTS.labels(surface, str(status)), REQUEST_SECONDS.labels(surface)


def request_answered(surface: str, status: int, seconds: float) -> None:
    requests, durations = _request_series(surface, status)
    requests.inc()
    durations.observe(seconds)


@functools.cache
def queue_seconds(lane: str) -> Series:
    return QUEUE_SECONDS.labels(lane)


def job_ended(kind: str, outcome: str, seconds: float) -> None:
    JOBS_ENDED.labels(kind, outcome).inc()
    JOB_SECONDS.labels(kind).observe(seconds)


def observe_frame(title: str, num_records: int, report: Header) -> None:
    """Take what a replica reported about one frame of a model: seconds by stage, padding, and records by outcome."""
    BLOCK_RECORDS.observe(num_records)
    _observe_stages(title, report)
    for key, outcome in (("results", "result"), ("errors", "error")):
        if count := report.get(key):
            RECORDS.series(title, outcome).inc(count)


def observe_texts(title: str, part: Header) -> None:
    """The same for the texts of a request's body, which the replica that read the body embedded at once."""
    observe_frame(title, len(part["sizes"]), {**part, "results": len(part["sizes"])})


def _observe_stages(title: str, report: Header) -> None:
    for stage, seconds in report["stages"].items():
        BLOCK_SECONDS.series(title, stage).observe(seconds)
    if "padding" in report:
        PADDING_RATIO.series(title).set(report["padding"])


# What /metrics shows.


def keep_models(titles: Container[str]) -> None:
    """Forget the series of every model that is not one of these (`owner/name`)."""
    for metric in MODEL_METRICS:
        metric.keep(titles)


def texts() -> Iterator[bytes]:
    """The text of /metrics in parts, each of which takes a millisecond or less to make; all of it takes 0.3 s with 300 models."""
    for family in REGISTRY.collect():
        yield _text([family])
    for metric in MODEL_METRICS:
        yield from metric.texts()
