"""The program a replica runs: `python -m engine.tasks SOCKET_FD NICENESS`.

Reads frames from the socket, runs the task each one names, answers in order. Ends when the socket ends, and is killed with the
server process when it is at work, so it never outlives that.
"""

import contextlib
import ctypes
import gc
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from engine import frames
from engine.frames import Buffer, Header
from engine.tasks.embedding.embed import embed
from engine.tasks.embedding.embedder import Embedder
from engine.tasks.scoring.model import LoadedModel, Scorer
from engine.tasks.scoring.score import score

# <sys/prctl.h>
PR_SET_PDEATHSIG = 1

# <malloc.h>
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
# Memory that a replica keeps from one run to the next: two texts of 256 tokens took 160 ms when each run fetched its pages anew,
# and 131 ms with this. Beyond it, the memory of a large run goes back.
KEPT_BYTES = 32 * 1024 * 1024

# More than the largest block makes.
YOUNG_OBJECTS = 100_000

Reply = tuple[Header, list[Buffer]]


class LoadFailed(Exception):
    """The files of a model do not make a model; says why in one line."""


class Worker:
    """The models of one replica, and the tasks it knows by name."""

    def __init__(self) -> None:
        self._models: dict[str, Scorer] = {}
        self._costs: dict[str, float] = {}
        self._faults: dict[str, str] = {}
        self._tasks: dict[str, Callable[[Header, memoryview], Reply]] = {
            "hello": lambda header, payload: ({}, []),
            "ping": lambda header, payload: ({}, []),
            "load": self._load,
            "unload": self._unload,
            "score": lambda header, payload: score(self._model(header), header, payload),
            "embed": self._embed,
            "check": _check,
            "import": _import,
        }

    def run(self, header: Header, payload: memoryview) -> Reply:
        """The answer to one frame; a failure becomes an answer with `error`, never the end of the replica."""
        try:
            return self._tasks[header["task"]](header, payload)
        except LoadFailed as failure:
            return {"error": {"code": "load_failed", "reason": str(failure)}}, []
        except Exception as error:  # the replica must live on; the pool divides the block and tries again
            traceback.print_exc()
            return {"error": {"code": "task_failed", "reason": f"{type(error).__name__}: {error}"[:500]}}, []

    def _load(self, header: Header, payload: memoryview) -> Reply:
        """Open a model and warm it up, unless it is open; the answer tells seconds per record."""
        key = header["model"]
        if key in self._models:
            return {"seconds_per_record": self._costs[key]}, []
        self._faults.pop(key, None)
        try:
            kind = Embedder if header["config"]["task"] == "embed" else LoadedModel
            model = kind(key, Path(header["folder"]), header["config"])
            seconds_per_record = model.warm_up(header["config"]["example"])
        except Exception as error:  # a foreign file may fail in any way; what it is goes to the server's log
            self._faults[key] = f"{type(error).__name__}: {error}"[:500]
            raise LoadFailed(self._faults[key]) from None
        self._models[key], self._costs[key] = model, seconds_per_record
        return {"seconds_per_record": seconds_per_record}, []

    def _unload(self, header: Header, payload: memoryview) -> Reply:
        self._models.pop(header["model"], None)
        return {}, []

    def _embed(self, header: Header, payload: memoryview) -> Reply:
        """Bodies find the models that are open; lines name one, which must be."""
        if "model" in header:
            self._model(header)
        return embed(self._models, header, payload)

    def _model(self, header: Header) -> Scorer:
        key = header["model"]
        if key not in self._models:
            raise LoadFailed(self._faults.get(key, "not loaded"))
        return self._models[key]


def _check(header: Header, payload: memoryview) -> Reply:
    """The library for graphs is imported when a replica checks its first one: those that score never need it."""
    from engine.tasks.publishing.check import check

    return check(header), []


def _import(header: Header, payload: memoryview) -> Reply:
    """A folder of sentence-transformers becomes a model: the answer has its `config`, or `refused` with the reason."""
    from engine.tasks.publishing.convert import convert
    from engine.tasks.publishing.onnx_file import Unfit

    source, target = Path(header["source"]), Path(header["target"])
    try:
        return {"config": convert(source, target, owner=header["owner"], name=header["name"], shared=header["shared"])}, []
    except Unfit as unfit:
        return {"refused": str(unfit)}, []


def prepare_process(niceness: int) -> None:
    """Leave signals to the server (it drains first), die with it, yield the core and the memory to it; one core, pages kept."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # replicas are the parallelism
    libc = ctypes.CDLL(None, use_errno=True)
    with contextlib.suppress(OSError, AttributeError):  # Linux only; elsewhere a replica that hangs in a model outlives us
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    with contextlib.suppress(AttributeError):  # glibc only; others have ways of their own
        libc.mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
        libc.mallopt(M_MMAP_THRESHOLD, KEPT_BYTES)
    if niceness:
        os.nice(niceness)
    with contextlib.suppress(OSError):  # no such thing on this system, or not allowed: the kernel then chooses by size alone
        Path("/proc/self/oom_score_adj").write_text("500")


def main() -> None:
    connection = socket.socket(fileno=int(sys.argv[1]))
    prepare_process(int(sys.argv[2]))
    worker = Worker()
    # A block makes thousands of objects and no cycles: collecting among them cost a replica 2 to 16 per cent.
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS)
    try:
        for header, payload in frames.receive(connection):
            frames.send(connection, *worker.run(header, payload))
    except (BrokenPipeError, ConnectionResetError):
        pass  # the server is gone; so are we


if __name__ == "__main__":
    main()
