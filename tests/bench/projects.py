"""Speed and memory of projects: fits, attributions, uploads, and windows through an exported model.

`python -m tests.bench.projects [--quick] [--save] [NAME ...]`; report.py says how figures are measured and judged. Fits and
attributions are timed from the request until the answer says that they have ended. What is compared with plain numpy, pyarrow or
onnxruntime runs on one thread, as replicas do.
"""

import atexit
import contextlib
import functools
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# As in the replicas, and before numpy is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from tests.bench import clients, projects_data
from tests.bench.clients import percentile
from tests.bench.projects_data import Forward
from tests.bench.report import Bar, Bench, Figure, Lines, lines_of, main
from tests.engine.tasks.projects import sets
from tests.engine.tasks.projects.sets import Data
from tests.projects import files
from tests.projects.asking import Client, made
from tests.serving import Server, serving

SCRIPT: dict[str, Any] = {"epochs": 500, "learning_rate": 0.001, "samples": 3, "inference": "hmc"}
NUM_ASKED = 200
UPLOAD_BYTES = 20 * 1000 * 1000


@functools.cache
def _data() -> Data:
    return projects_data.market(_folder() / "market")


@functools.cache
def _folder() -> Path:
    return Path(_open.enter_context(tempfile.TemporaryDirectory(prefix="sluice-bench-")))


@functools.cache
def _server() -> Server:
    """A server with one replica for records, so that a stream has one core, as what it is compared with. It runs until the end."""
    return _open.enter_context(serving(_folder() / "data", SLUICE_SCORE_REPLICAS="1"))


@functools.cache
def _project() -> tuple[Client, int, dict[str, Any]]:
    """A project with the market, its dataset and a model of it."""
    client = Client(_server())
    made(client.ask("POST", "/projects/admin", json={"id": "demo", "name": "Demo"}))
    dataset = client.dataset(files.of(_data()))
    return client, dataset, client.built(dataset, projects_data.graph(), inference="hmc", epochs=500)


_open = contextlib.ExitStack()
atexit.register(_open.close)


# Fits


@contextmanager
def _peaks(running: Server) -> Iterator[list[float]]:
    """Gives a list that at the end has the peak memory of the replica that used most, in MiB, since the beginning."""
    for pid in running.replica_pids():
        Path(f"/proc/{pid}/clear_refs").write_text("5")
    found: list[float] = []
    yield found
    statuses = [Path(f"/proc/{pid}/status").read_text() for pid in running.replica_pids()]
    found.append(max(int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024 for status in statuses))  # type: ignore[index]


def measure_refit(bench: Bench) -> list[Figure]:
    """The refit of the script, and whether it does much beside its gradients."""
    client, dataset, model = _project()
    seconds = []
    with _peaks(client.server) as peaks:
        for _ in range(bench.rounds):
            started = time.perf_counter()
            client.done("models", client.refit(model["IId"], dataset, **SCRIPT))
            seconds.append(time.perf_counter() - started)
    what = "refit of 156 weeks, 4 channels, hmc"
    return [
        Figure("refit", what, "s", min(seconds), None, min(seconds), "s", Bar(15, is_least=False), {"ours": seconds}),
        Figure("refit", "peak of the replica", "MiB", peaks[0], None, peaks[0], "MiB", Bar(400, is_least=False)),
    ]


def measure_spent(bench: Bench) -> list[Figure]:
    """A whole fit against the gradients that it takes: how much it does beside them."""
    data = _data()
    density, random = projects_data.density(data), Forward(data, 32).free
    ours, theirs = [], []
    for number in range(bench.rounds):
        header = sets.fit_header(data, data.check(projects_data.graph())["Instance"], _folder() / f"fit{number}", **SCRIPT)
        seconds, counts = projects_data.counted_fit(header)
        each = {size: projects_data.seconds_of(lambda size=size: density.gradient(random[:size]), 0.3) for size in counts}
        ours.append(seconds)
        theirs.append(sum(count * each[size] for size, count in counts.items()))
    ratio, bar = min(ours) / min(theirs), Bar(1.5, is_least=False)
    what = "a fit / its gradients spent x the time of one"
    return [Figure("spent", what, "s", min(ours), min(theirs), ratio, "x", bar, {"ours": ours, "baseline": theirs})]


def measure_gradient(bench: Bench) -> list[Figure]:
    few, many = Forward(_data(), 8), Forward(_data(), 24)
    rounds: dict[str, list[float]] = {"forward": [], "few": [], "many": []}
    for _ in range(bench.rounds):
        for name, work in (("forward", few.run), ("few", few.gradient), ("many", many.gradient)):
            rounds[name].append(projects_data.seconds_of(work, bench.seconds(2)) * 1e6)
    forward, of_few, of_many = (min(rounds[name]) for name in ("forward", "few", "many"))
    what = "gradient of 8 draws / bare numpy forward"
    return [
        Figure("gradient", what, "us", of_few, forward, of_few / forward, "x", Bar(6, is_least=False), rounds),
        Figure("gradient", "of 24 draws / of 8", "us", of_many, of_few, of_many / of_few, "x", Bar(3.3, is_least=False), rounds),
    ]


# Attributions


def _attribution(client: Client, model: dict[str, Any], samples: int) -> float:
    started = time.perf_counter()
    dates = model["TrainDates"]
    client.attributed(model["IId"], model["DataSet"]["IId"], dates[0], dates[-1], samples)
    return time.perf_counter() - started


def measure_attribution(bench: Bench) -> list[Figure]:
    client, _, model = _project()
    seconds = [_attribution(client, model, 20) for _ in range(bench.rounds + 1)][1:]
    what, bar = "attribution, additive, 20 draws", Bar(1, is_least=False)
    return [Figure("attribution", what, "s", min(seconds), None, min(seconds), "s", bar, {"ours": seconds})]


def measure_coalitions(bench: Bench) -> list[Figure]:
    client, _, _ = _project()
    dataset = client.dataset(files.of(projects_data.crowd(_folder() / "crowd")))
    model = client.built(dataset, projects_data.crowded_graph())
    with _peaks(client.server) as peaks:
        seconds = [_attribution(client, model, bench.count(100)) for _ in range(bench.rounds)]
    what = f"attribution, 2^10 coalitions, {bench.count(100)} draws"
    return [
        Figure("coalitions", what, "s", min(seconds), None, min(seconds), "s", Bar(20, is_least=False), {"ours": seconds}),
        Figure("coalitions", "peak of the replica", "MiB", peaks[0], None, peaks[0], "MiB", Bar(400, is_least=False)),
    ]


# Files


def measure_read(bench: Bench) -> list[Figure]:
    _read(projects_data.media_file(UPLOAD_BYTES // 100), "warm")
    path, ours, theirs = projects_data.media_file(bench.count(UPLOAD_BYTES)), [], []
    for number in range(bench.rounds):
        ours.append(_read(path, str(number)))
        theirs.append(projects_data.bare_read(path))
    ratio, bar = min(ours) / min(theirs), Bar(4, is_least=False)
    what = f"Media CSV of {path.stat().st_size / 1e6:.0f} MB / pyarrow.csv"
    return [Figure("read", what, "s", min(ours), min(theirs), ratio, "x", bar, {"ours": ours, "baseline": theirs})]


def _read(path: Path, name: str) -> float:
    """The seconds of the task `read_upload` in this process."""
    folder = _folder() / f"read-{name}"
    folder.mkdir()
    asked = {"file": str(path), "name": "m.csv", "dataset_name": "Media", "folder": str(folder), "max_rows": 2_000_000}
    started = time.perf_counter()
    part, _, _ = sets.task("read_upload", asked)
    if "refused" in part:
        raise clients.Failed(part["refused"]["message"])
    return time.perf_counter() - started


# The server meanwhile


def measure_watched(bench: Bench) -> list[Figure]:
    """GET of a model while a fit runs, against the same on an idle server."""
    client, dataset, model = _project()
    asked = [clients.gotten(client.server, f"/v1/projects/admin/demo/models/{model['IId']}")] * NUM_ASKED
    busy, idle = [], []
    for _ in range(bench.rounds):
        idle.append(percentile(clients.each_of(client.server, asked), 50) * 1000)
        fit = made(client.build(dataset, projects_data.graph(), inference="hmc", epochs=20_000))["IId"]
        while made(client.get(f"/models/{fit}"), 200)["Progress"] is None:
            time.sleep(0.01)
        busy.append(percentile(clients.each_of(client.server, asked), 50) * 1000)
        made(client.post(f"/models/{fit}/cancel"), 200)
        client.waited(f"/models/{fit}")
    ratio, bar, rounds = min(busy) / min(idle), Bar(2, is_least=False), {"ours": busy, "baseline": idle}
    what = "GET of a model beside a fit / alone"
    return [Figure("watched", what, "ms", min(busy), min(idle), ratio, "x", bar, rounds)]


def measure_windows(bench: Bench) -> list[Figure]:
    client, _, model = _project()
    count, title = bench.count(100_000), model["Served"]["Name"]
    folder = client.server.data_dir / "models" / title / str(model["Served"]["Version"])
    config = made(client.but(base="").ask("GET", f"/api/models/{title}"), 200)
    path, ours, theirs = projects_data.windows_file(_data(), config, count), [], []
    clients.stream(client.server, title, projects_data.windows_file(_data(), config, 1000), 1000)
    for _ in range(bench.rounds):
        ours.append(count / clients.stream(client.server, title, path, count))
        theirs.append(count / projects_data.bare_windows(folder / "model.onnx", count))
    ratio, rounds = max(ours) / max(theirs), {"ours": ours, "baseline": theirs}
    what = f"{count} windows streamed / bare onnxruntime"
    return [Figure("windows", what, "windows/s", max(ours), max(theirs), ratio, "x", Bar(0.5), rounds)]


LINES: Lines = lines_of(
    measure_refit,
    measure_spent,
    measure_gradient,
    measure_attribution,
    measure_coalitions,
    measure_read,
    measure_watched,
    measure_windows,
)


if __name__ == "__main__":
    sys.exit(main("projects", LINES))
