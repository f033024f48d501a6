"""Metrics: every number /metrics shows, once, with its sentence. Kept in the server process; replicas report theirs in frames.

The label `model` is `owner/name` of a model that exists, so the number of series is bounded.
"""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from engine.blocks import Batch
from engine.frames import Header

REGISTRY = CollectorRegistry()

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60)
_RECORDS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)


def _counter(name: str, text: str, *labels: str) -> Counter:
    return Counter(name, text, labels, registry=REGISTRY)


def _gauge(name: str, text: str, *labels: str) -> Gauge:
    return Gauge(name, text, labels, registry=REGISTRY)


def _histogram(name: str, text: str, *labels: str, buckets: tuple[float, ...] = _SECONDS) -> Histogram:
    return Histogram(name, text, labels, buckets=buckets, registry=REGISTRY)


REQUESTS = _counter("sluice_requests", "Requests answered.", "surface", "status")
REQUEST_SECONDS = _histogram("sluice_request_seconds", "Seconds from a request's head to the end of its answer.", "surface")
RECORDS = _counter("sluice_records", "Records answered, with a result or with an error line.", "model", "outcome")
STREAMS_ENDED = _counter(
    "sluice_streams", "Streams over: ended (clean), failed (cut by the server), left (by the client).", "outcome"
)
REJECTED = _counter("sluice_rejected", "Requests refused before their first byte, by error code.", "reason")
WEBSOCKETS = Gauge("sluice_websockets", "WebSocket connections open now.", registry=REGISTRY)
QUEUE_SECONDS = _histogram("sluice_queue_seconds", "Seconds a block waited for a replica.", "lane")
BLOCK_RECORDS = _histogram("sluice_block_records", "Records in a block that a replica answered.", buckets=_RECORDS)
BLOCK_SECONDS = _histogram(
    "sluice_block_seconds", "Seconds of a block, by stage: parse, tokenise, infer, encode.", "model", "stage"
)
PADDING_RATIO = _gauge("sluice_padding_ratio", "Padded cells of all cells in the last block of a tokenised model.", "model")
BYTES = _counter("sluice_bytes", "Bytes of bulk bodies: in (decoded), out.", "direction")
REPLICA_RESTARTS = _counter("sluice_replica_restarts", "Replicas that died and were started again.", "pool")
BLOCKS_REQUEUED = _counter("sluice_blocks_requeued", "Blocks (or halves) given to another replica after a death or a failure.")
MODEL_LOADS = _counter("sluice_model_loads", "Models opened by replicas.", "model", "outcome")

for _outcome in ("ended", "failed", "left"):
    STREAMS_ENDED.labels(_outcome)


@dataclass(frozen=True, slots=True)
class Levels:
    """What is read from the engine when /metrics is asked, rather than counted as it happens.

    streams          state -> streams now
    queue_blocks     lane -> waiting
    replicas         (pool, state) -> replicas
    """

    streams: dict[str, int]
    queue_blocks: dict[str, int]
    replicas: dict[tuple[str, str], int]
    spill_bytes: int
    blocks_dropped: int


class LevelsCollector:
    """Shows the engine's levels. Without `describe`: `sluice_streams` (now) and `sluice_streams_total` (over) are two families."""

    def __init__(self, read: Callable[[], Levels]) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        levels = self._read()
        streams = GaugeMetricFamily(
            "sluice_streams", "Streams now, by state: running, spilling, full, finishing.", labels=["state"]
        )
        for state, count in levels.streams.items():
            streams.add_metric([state], count)
        queue = GaugeMetricFamily(
            "sluice_queue_blocks", "Waiting now: single blocks, or streams with lines to cut blocks from.", labels=["lane"]
        )
        for lane, count in levels.queue_blocks.items():
            queue.add_metric([lane], count)
        replicas = GaugeMetricFamily("sluice_replicas", "Replicas now, by state: ready, starting.", labels=["pool", "state"])
        for key, count in levels.replicas.items():
            replicas.add_metric(key, count)
        yield from (streams, queue, replicas)
        yield GaugeMetricFamily("sluice_spill_bytes", "Bytes now in spill files.", value=levels.spill_bytes)
        yield CounterMetricFamily(
            "sluice_blocks_dropped", "Waiting blocks dropped because their caller had left.", value=levels.blocks_dropped
        )


@functools.cache
def _request_series(surface: str, status: int) -> tuple[Counter, Histogram]:
    """Looking a series up by its labels costs more than counting, and there are few: the functions here remember them."""
    return REQUESTS.labels(surface, str(status)), REQUEST_SECONDS.labels(surface)


def request_answered(surface: str, status: int, seconds: float) -> None:
    requests, durations = _request_series(surface, status)
    requests.inc()
    durations.observe(seconds)


@functools.cache
def queue_seconds(lane: str) -> Histogram:
    return QUEUE_SECONDS.labels(lane)


@functools.cache
def _stage_seconds(title: str, stage: str) -> Histogram:
    return BLOCK_SECONDS.labels(title, stage)


@functools.cache
def _records(title: str, outcome: str) -> Counter:
    return RECORDS.labels(title, outcome)


def observe_batch(batch: Batch, header: Header) -> None:
    """Take what a replica reported about one frame: records, stages, padding."""
    if batch.model is None:
        return
    title = batch.model.title
    BLOCK_RECORDS.observe(batch.num_records)
    _observe_stages(title, header)
    if header["results"]:
        _records(title, "result").inc(header["results"])
    if header["errors"]:
        _records(title, "error").inc(header["errors"])


def observe_texts(title: str, part: Header) -> None:
    """The same for the texts of a request's body, which the replica that read it embedded at once."""
    BLOCK_RECORDS.observe(len(part["sizes"]))
    _observe_stages(title, part)
    _records(title, "result").inc(len(part["sizes"]))


def _observe_stages(title: str, report: Header) -> None:
    for stage, seconds in report["stages"].items():
        _stage_seconds(title, stage).observe(seconds)
    if "padding" in report:
        PADDING_RATIO.labels(title).set(report["padding"])
