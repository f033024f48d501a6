"""The files of the command `score`: the records it reads, and the results and errors it writes.

Knows descriptors. Knows nothing of the server, nor of what a line says.
"""

import contextlib
import os
import select
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from server.commands.counting import Buffer
from server.commands.duplex import can_block
from server.commands.usage import UsageError

STDIN, STDOUT = 0, 1


class RecordSource:
    """Where records come from. `num_bytes` is None for a pipe or a terminal, which have no size."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.status = os.fstat(fd)
        is_file = stat.S_ISREG(self.status.st_mode)
        self.num_bytes = max(0, self.status.st_size - os.lseek(fd, 0, os.SEEK_CUR)) if is_file else None

    @classmethod
    @contextlib.contextmanager
    def opened(cls, path: str) -> Iterator["RecordSource"]:
        """The file at this path, or standard input for `-`."""
        if path == "-":
            yield cls(STDIN)
            return
        with open(path, "rb", buffering=0) as file:
            yield cls(file.fileno())

    def fault(self) -> str | None:
        """Why what was read is not all that there is; None when it is."""
        return None


class LineSink:
    """Where lines go."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.status = os.fstat(fd)
        self._can_block = can_block(fd)

    @classmethod
    @contextlib.contextmanager
    def opened(cls, path: str | None) -> Iterator["LineSink"]:
        """The file at this path, or standard output for None. The file keeps its old content until `begin`."""
        if path is None:
            yield cls(STDOUT)
            return
        fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o666)
        try:
            yield cls(fd)
        finally:
            os.close(fd)

    def begin(self) -> None:
        """Empty a file that we opened. A file that the shell opened as standard output is left as the shell wants it."""
        if self.fd != STDOUT and stat.S_ISREG(self.status.st_mode):
            os.ftruncate(self.fd, 0)

    def write(self, pieces: Iterable[Buffer], wait: Callable[[int, int], None]) -> None:
        """Write everything. `wait` is called until the descriptor is ready; a pipe then takes PIPE_BUF bytes without blocking."""
        for piece in pieces:
            rest = memoryview(piece)
            while rest:
                if self._can_block:
                    wait(self.fd, select.POLLOUT)
                rest = rest[os.write(self.fd, rest[: select.PIPE_BUF] if self._can_block else rest) :]

    def finish(self) -> None:
        """All lines were written, or no more come. OSError when they cannot be kept."""


@dataclass(frozen=True, slots=True)
class Files:
    """What one run reads and writes. `errors` is None when error lines stay among the results."""

    source: RecordSource
    results: LineSink
    errors: LineSink | None

    def check_distinct(self) -> None:
        """Refuse to write into the file that is read: the run would never come to its end. UsageError."""
        opened = (self.source, self.results, self.errors)
        statuses = [one.status for one in opened if one is not None and stat.S_ISREG(one.status.st_mode)]
        if len({(status.st_dev, status.st_ino) for status in statuses}) < len(statuses):
            raise UsageError("records, results and errors must be different files")
