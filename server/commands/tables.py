"""Tables on either side of the command `score`: a child process turns csv, tsv and Parquet into lines, and lines into csv or
Parquet.

Knows processes and descriptors. engine/tasks/tables/ knows what is in the files.
"""

import contextlib
import os
import re
import select
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from server.commands.counting import Buffer
from server.commands.files import STDOUT, LineSink, RecordSource
from server.commands.usage import UsageError

ROOT = Path(__file__).resolve().parents[2]
# What a child reads. Lines of JSON that are not compressed go to the server as they are.
READABLE = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet", ".jsonl.gz", ".ndjson.gz")
# What goes to the server as record batches if that is of use; Arrow files always do.
ARROW_FILES = (".arrow", ".arrows", ".feather", ".ipc")
BATCHED = (*ARROW_FILES, ".parquet")
TABLES = ("csv", "parquet", "arrow")
# The tables that are made of record batches.
BATCHED_TABLES = ("parquet", "arrow")
FORMATS = ("ndjson", "results", *TABLES)
END_TIMEOUT_S = 1.0
# A line of an answer with a result, which stands between the two times. No string in the line can hold what stands around it.
RESULT = re.compile(rb'^\{"bulk_id":"[^"]*","end_time":"[^"]*","result":(.*),"start_time":"[^"]*","version":.*$', re.MULTILINE)


def is_readable(path: str) -> bool:
    """Whether a child must read the file for us."""
    return path.lower().endswith((*READABLE, *ARROW_FILES))


@dataclass(frozen=True, slots=True)
class Transport:
    """How records and results travel.

    is_arrow_in   records as record batches, from a child that reads the file
    is_arrow_out  results as record batches, to a child that writes the file
    """

    is_arrow_in: bool
    is_arrow_out: bool

    @classmethod
    def of(cls, path: str, form: str, *, needs_lines: bool) -> "Transport":
        """How a file goes through a model into a table or lines of this form. UsageError.

        needs_lines  errors are written elsewhere or counted as they come
        """
        is_batched = path.lower().endswith(BATCHED)
        is_arrow_out = is_batched and form in BATCHED_TABLES and not needs_lines
        if form == "arrow" and not is_arrow_out:
            raise UsageError(f"an Arrow table is made of {', '.join(BATCHED)}, without --errors and --max-errors")
        return cls(is_arrow_out or path.lower().endswith(ARROW_FILES), is_arrow_out)


def format_of(output: str | None) -> str:
    """The format of the results that the name of a file asks for."""
    suffix = Path(output or "").suffix.lower().removeprefix(".")
    return suffix if suffix in TABLES else "ndjson"


def results_only(pieces: Iterable[Buffer]) -> list[Buffer]:
    """Whole lines of an answer, of which results are left alone; error lines stay as they are."""
    return [RESULT.sub(rb"\1", bytes(piece)) for piece in pieces]


class TableSource(RecordSource):
    """The rows of a table as lines, from a child that reads the file."""

    def __init__(self, path: str, process: "subprocess.Popen[bytes]") -> None:
        super().__init__(_pipe(process.stdout).fileno())
        self.status = os.stat(path)
        self._process = process

    @classmethod
    @contextlib.contextmanager
    def opened(cls, path: str, *, is_arrow: bool = False) -> Iterator["TableSource"]:
        """The file at this path. UsageError when it cannot be read from its beginning; OSError when there is none."""
        with (
            open(path, "rb"),
            _child("read-arrow" if is_arrow else "read", path, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process,
        ):
            source = cls(path, process)
            poll = select.poll()
            poll.register(source.fd, select.POLLIN)
            [(_, events)] = poll.poll()  # until the first rows have come, or the child has ended
            if not events & select.POLLIN and (fault := source.fault()):
                raise UsageError(f"{path}: {fault}")
            yield source

    def fault(self) -> str | None:
        return _fault(self._process)


class TableSink(LineSink):
    """Lines that a child makes a table of, once the last one has come."""

    def __init__(self, process: "subprocess.Popen[bytes]", target: int) -> None:
        super().__init__(_pipe(process.stdin).fileno())
        self.status = os.fstat(target)
        self._process = process

    @classmethod
    @contextlib.contextmanager
    def table(cls, path: str | None, form: str, *, is_arrow: bool = False) -> Iterator["TableSink"]:
        """The file at this path, or standard output for None; a file keeps its old content until the table is written. OSError."""
        folder = tempfile.gettempdir() if path is None else str(Path(path).resolve().parent)
        with LineSink.opened(path) as target:
            options = ["--empty"] if target.fd != STDOUT and stat.S_ISREG(target.status.st_mode) else []
            with _child(
                "write-arrow" if is_arrow else "write", form, folder, *options, stdin=subprocess.PIPE, stdout=target.fd
            ) as process:
                yield cls(process, target.fd)

    def begin(self) -> None:
        """The child empties the file."""

    def write(self, pieces: Iterable[Buffer], wait: Callable[[int, int], None]) -> None:
        """Write everything. OSError says why the child has ended."""
        try:
            super().write(pieces, wait)
        except BrokenPipeError:
            raise OSError(_fault(self._process) or "the process that writes the table has ended") from None

    def finish(self) -> None:
        """Let the child write the table, and wait for its end. OSError says why there is none."""
        with contextlib.suppress(BrokenPipeError):
            _pipe(self._process.stdin).close()
        self._process.wait()
        if fault := _fault(self._process):
            raise OSError(fault)


@contextlib.contextmanager
def _child(*arguments: str, stdin: int, stdout: int) -> Iterator["subprocess.Popen[bytes]"]:
    """A process that is killed if it has not ended by the end of the context."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    command = [sys.executable, "-P", "-m", "engine.tasks.tables", *arguments]
    process = subprocess.Popen(command, stdin=stdin, stdout=stdout, stderr=subprocess.PIPE, env=os.environ | {"PYTHONPATH": path})
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for pipe in filter(None, (process.stdin, process.stdout, process.stderr)):
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


def _fault(process: "subprocess.Popen[bytes]") -> str | None:
    """Why a child has failed, in one line; None for one that has not, or has not ended."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(END_TIMEOUT_S)
    if not process.returncode:
        return None
    said = _pipe(process.stderr).read().decode("utf-8", "replace").strip().splitlines()
    return said[-1] if said else f"exit code {process.returncode}"


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise ValueError("the child was started without this pipe")
    return pipe
