"""The program a replica runs: `python -m engine.tasks SOCKET_FD OPTIONS`; OPTIONS is JSON (ReplicaOptions.for_process).

Reads frames from the socket, runs the task that each one names and answers in the same order. It ends when the server closes the
socket; if the server dies while a task runs, the kernel kills the replica with it. Knows no task by name: families.py finds
them. SCORE_OPTIONS in engine/engine.py says which families a replica that scores imports at its start.
"""

import contextlib
import ctypes
import gc
import json
import os
import resource
import signal
import socket
import sys
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from engine import frames
from engine.errors import short_traceback
from engine.frames import Header
from engine.tasks.families import ENDS, Families, LoadFailed, LongReply, Reply, is_harmful, is_out_of_memory
from engine.tasks.reports import prepare_stderr, report
from engine.tasks.stopping import Stopped, block_signal
from engine.tasks.yielding import yielding

# <sys/prctl.h>
PR_SET_PDEATHSIG = 1

# <malloc.h>
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
# A replica keeps this much freed memory from one run to the next: two texts of 256 tokens took 160 ms when each run fetched its
# pages anew, and 131 ms with this. What a larger run took beyond it goes back to the system.
KEPT_BYTES = 32 * 1024 * 1024

# The largest block makes fewer objects than this.
YOUNG_OBJECTS = 100_000

MAX_REASON_CHARACTERS = 2_000

REFUSED_EVENTS = frozenset({"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"})


class Worker:
    """Answers frames, one after the other."""

    def __init__(self) -> None:
        self._families = Families()

    def prepare(self, families: Iterable[str]) -> None:
        """Import some families now, so that the first frame of each does not have to wait for that."""
        for family in families:
            self._families.ensure(family)

    def run(self, header: Header, payload: memoryview) -> Iterator[Reply]:
        """The answer to one frame: one reply, or several, all but the last of which have `more` in their headers.

        A frame without a task asks for a sign of life; a failure is a last reply with `error`.

        header  family, task, perhaps `yields` (others wait for the cores, so the work yields them), and what the task is asked with
        """
        if "task" not in header:
            yield {}, []
            return
        try:
            task = self._families.task(header["family"], header["task"])
            with limited(header.get("memory_bytes", 0)):
                answer = yielding(partial(task, header, payload)) if "yields" in header else task(header, payload)
                last = answer if isinstance(answer, tuple) else (yield from _with_more(answer))
        except LoadFailed as failure:
            last = _error("load_failed", str(failure)), []
        except Stopped:
            last = _error("stopped", "the server asked for it"), []
        except ENDS:
            raise
        except BaseException as error:  # the replica must live on; the server decides whether to try again
            report(error)
            last = _error("task_failed", f"{type(error).__name__}: {error}"[:MAX_REASON_CHARACTERS], **_details(error)), []
        yield last


def _with_more(answer: LongReply) -> LongReply:
    """The same replies, each but the last marked with `more`."""
    while True:
        try:
            header, buffers = next(answer)
        except StopIteration as end:
            last: Reply = end.value
            return last
        yield {**header, "more": True}, buffers


def _details(error: BaseException) -> dict[str, Any]:
    """What the server is told about what a task has raised: whether it harms, and where it was raised."""
    told: dict[str, Any] = {"traceback": short_traceback(error)}
    if is_harmful(error):
        told["is_harmful"] = True
    if is_out_of_memory(error):
        told["is_memory"] = True
    return told


def _error(code: str, reason: str, **told: Any) -> Header:
    return {"error": {"code": code, "reason": reason, **told}}


def prepare_process(niceness: int, memory_bytes: int, *, is_confined: bool) -> None:
    """Make this process a replica: it ends when the server wants it to, uses one core, and yields core and memory to the server."""
    block_signal()
    # Ctrl-C in a terminal reaches the server alone, which then drains. In a session of its own a replica could not yield to the
    # server: a kernel with autogroups compares priorities within a session only.
    with contextlib.suppress(PermissionError):  # it leads a session, and so a group, already
        os.setpgrp()
    limit_memory(memory_bytes)
    if is_confined:
        confine()
    # The server gets the first two as well, and drains before it closes our socket. The third would stop a process that is not in
    # the foreground of its terminal, for writing to it.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGTTOU):
        signal.signal(number, signal.SIG_IGN)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # replicas are the parallelism
    libc = ctypes.CDLL(None, use_errno=True)
    with contextlib.suppress(OSError, AttributeError):  # Linux only; elsewhere a replica that hangs in a model outlives the server
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    with contextlib.suppress(AttributeError):  # glibc only; other libraries have no such call
        libc.mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
        libc.mallopt(M_MMAP_THRESHOLD, KEPT_BYTES)
    if niceness:
        os.nice(niceness)
    with contextlib.suppress(OSError):  # not Linux, or not allowed: then the kernel chooses what to kill by size alone
        Path("/proc/self/oom_score_adj").write_text("500")


def limit_memory(limit_bytes: int) -> None:
    """Let allocations fail that would take the data of this process beyond a limit; 0 means no limit.

    onnxruntime and numpy then raise, which costs the record; tokenizers aborts, which costs this replica. RLIMIT_DATA counts
    private memory that can be written; RLIMIT_AS would count mapped files and libraries as well, 110 MB before any model is open.
    """
    if limit_bytes:
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        wanted = limit_bytes if hard == resource.RLIM_INFINITY else min(limit_bytes, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (wanted, hard))


@contextlib.contextmanager
def limited(more_bytes: int) -> Iterator[None]:
    """While the context is open, the data of this process may grow by this much, not beyond its own limit. 0 changes nothing."""
    if not more_bytes:
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = data_bytes() + more_bytes
    soft = wanted if before[0] == resource.RLIM_INFINITY else min(wanted, before[0])
    resource.setrlimit(resource.RLIMIT_DATA, (soft, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def data_bytes() -> int:
    """What RLIMIT_DATA counts of this process now."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmData:")]
    return int(line.split()[1]) * 1024


def confine() -> None:
    """Let this process open no connection, whatever a library tries, and write no core file, which would hold what it has read.

    The hook stays for ever: Python has no way to take one out. It does not see what native code does by itself.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.addaudithook(_refuse_connections)


def _refuse_connections(event: str, arguments: tuple[Any, ...]) -> None:
    if event in REFUSED_EVENTS:
        raise PermissionError("this process may open no connection")


def main() -> None:
    connection = socket.socket(fileno=int(sys.argv[1]))
    options = json.loads(sys.argv[2])
    prepare_process(options["niceness"], options["memory_bytes"], is_confined=options["is_confined"])
    prepare_stderr()
    worker = Worker()
    prepare = partial(worker.prepare, options["families"])
    if options["yields"]:
        yielding(prepare)
    else:
        prepare()
    # A block makes thousands of objects and no cycles: when the collector ran among them it took 2 to 16 per cent of the time.
    gc.set_threshold(YOUNG_OBJECTS)
    try:
        for header, payload in frames.receive(connection):
            for reply in worker.run(header, payload):
                frames.send(connection, *reply)
    except (BrokenPipeError, ConnectionResetError):
        pass  # the server is gone, and the replica ends too


if __name__ == "__main__":
    main()
