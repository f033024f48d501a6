"""What previews are measured on: csv files of seeded rows, and how a dataset of them is read. Kept in build/bench/ (git-ignored).

Knows no figure.
"""

import contextlib
import os
import random
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import requests

from tests.bench import clients
from tests.bench.report import MIB
from tests.bench.texts import CACHE
from tests.serving import Server

WORDS = ("river", "field", "water", "stone", "light", "winter", "morning", "forest", "letter", "silver", "garden")
TIMEOUT_S = 300
POLL_S = 0.01
JOBS_NICENESS = 10


def csv_file(megabytes: int) -> Path:
    """Numbers, words and a text: about 130 bytes a row."""
    path = CACHE / f"preview-{megabytes}.csv"
    if not path.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        beside = path.with_suffix(".new")
        with beside.open("w") as file:
            file.writelines(_lines(megabytes * MIB))
        beside.rename(path)
    return path


def _lines(num_bytes: int) -> Iterator[str]:
    rng = random.Random(1)
    texts = [" ".join(rng.choices(WORDS, k=13)) for _ in range(5000)]
    yield "n,price,word,is_new,text\n"
    written = number = 0
    while written < num_bytes:
        word, is_new = WORDS[number % len(WORDS)], "true" if number % 3 else "false"
        line = f"{number},{rng.random() * 1000:.3f},{word},{is_new},{texts[rng.randrange(5000)]}\n"
        written += len(line)
        number += 1
        yield line


def lay(running: Server, name: str, path: Path, filename: str) -> None:
    """A dataset of one file."""
    folder = running.data_dir / "datasets" / name
    folder.mkdir(parents=True)
    shutil.copyfile(path, folder / filename)


# Asking


def hook(running: Server, word: str, name: str) -> None:
    answer = requests.post(f"{running.url}/webhook", json={word: f"datasets/{name}"}, timeout=30)
    if answer.status_code != 200:
        raise clients.Failed(f"a hook was refused: {answer.text}")


def seconds_to_rows(running: Server, name: str) -> float:
    """From the hook until `/rows` has data, of a dataset that is not cached."""
    forget(running, name)
    started = time.perf_counter()
    hook(running, "add", name)
    rows(running, name)
    return time.perf_counter() - started


def seconds_to_parquet(running: Server, name: str) -> float:
    """From the hook until all Parquet files are there."""
    forget(running, name)
    started = time.perf_counter()
    hook(running, "add", name)
    rows(running, name)
    _until(lambda: (body := _json(running, "parquet", name))["parquet_files"] and not body["partial"])
    return time.perf_counter() - started


def forget(running: Server, name: str) -> None:
    """Take a dataset out of the cache, once nobody works on it."""
    wait_until_quiet(running)
    hook(running, "remove", name)


def rows(running: Server, name: str) -> requests.Response:
    """`/rows`, once it is there."""
    where = {"dataset": name, "config": "default", "split": "train", "wait": "30"}
    for _ in range(TIMEOUT_S // 30):
        answer = requests.get(f"{running.url}/rows", params=where, timeout=60)
        if answer.status_code == 200:
            return answer
        if answer.status_code != 404:
            break
    raise clients.Failed(f"{name} has no rows: {answer.text[:300]}")


def wait_until_quiet(running: Server) -> None:
    """Wait until no job of preview waits or is started."""
    _until(lambda: not re.search(r"^sluice_jobs\{.*\} [1-9]", _metrics(running), re.MULTILINE))


def _metrics(running: Server) -> str:
    return requests.get(f"{running.url}/metrics", auth=running.auth, timeout=30).text


def _json(running: Server, path: str, name: str) -> dict[str, object]:
    found: dict[str, object] = requests.get(f"{running.url}/{path}", params={"dataset": name}, timeout=30).json()
    return found


def _until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not holds():
        if time.monotonic() > deadline:
            raise clients.Failed("the jobs of preview did not end")
        time.sleep(POLL_S)


# Beside it


@contextlib.contextmanager
def watching_jobs(running: Server) -> Iterator[dict[int, float]]:
    """Peak memory of each replica of jobs in MiB, by process id; it grows until the block ends."""
    peaks: dict[int, float] = {}
    is_over = threading.Event()

    def look() -> None:
        while not is_over.wait(0.02):
            for pid in running.replica_pids():
                with contextlib.suppress(OSError, AttributeError):  # it has ended
                    if os.getpriority(os.PRIO_PROCESS, pid) == JOBS_NICENESS:
                        status = Path(f"/proc/{pid}/status").read_text()
                        peak = int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024  # type: ignore[index]
                        peaks[pid] = max(peak, peaks.get(pid, 0.0))

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield peaks
    finally:
        is_over.set()
        watcher.join()


@contextlib.contextmanager
def reading_again(running: Server, name: str) -> Iterator[None]:
    """A dataset is read, prepared and counted again and again until the block ends."""
    is_over = threading.Event()
    faults: list[Exception] = []

    def work() -> None:
        try:
            while not is_over.is_set():
                forget(running, name)
                hook(running, "add", name)
                rows(running, name)
        except Exception as error:  # the main thread tells of it
            faults.append(error)

    worker = threading.Thread(target=work)
    worker.start()
    try:
        yield
    finally:
        is_over.set()
        worker.join()
    if faults:
        raise clients.Failed(f"the jobs beside it have ended: {faults[0]}")
