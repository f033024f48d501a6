"""What a replica writes to stderr: tracebacks of Python without their messages, and nothing else.

The lines go into the log of the server. Where that log is JSON (SLUICE_LOG_FORMAT), every line is one JSON object here, too.
"""

import datetime
import io
import json
import os
import sys
import traceback
from types import TracebackType
from typing import TextIO

STDERR = 2
FORMAT_VARIABLE = "SLUICE_LOG_FORMAT"
LOGGER = "sluice.replica"


class JsonLines(io.TextIOBase):
    """A text file that makes each line written to it one event of a JSON log."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._begun = ""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        *lines, self._begun = (self._begun + text).split("\n")
        for line in filter(str.strip, lines):
            self.event(line)
        return len(text)

    def event(self, message: str, **more: str) -> None:
        """Write one event at once, so that the lines of two processes never mix."""
        time = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        self._file.write(json.dumps({"time": time, "level": "ERROR", "logger": LOGGER, "message": message, **more}) + "\n")
        self._file.flush()


def prepare_stderr() -> None:
    """Keep stderr for Python alone, and for tracebacks without messages. What native libraries write, they write to nowhere.

    Their last words (of a C++ exception that nobody caught, or of a panic in Rust) may quote a record, like the messages of others.
    """
    plain = os.fdopen(os.dup(STDERR), "w", buffering=1, encoding="utf-8", errors="backslashreplace")
    sys.stderr = JsonLines(plain) if os.environ.get(FORMAT_VARIABLE, "").strip().lower() == "json" else plain
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), STDERR, inheritable=False)
    sys.excepthook = lambda kind, error, where: report(error)


def report(error: BaseException) -> None:
    """Log where something was raised, and its class, but not its message, which may quote a record and its newlines."""
    where = _frames(error.__traceback__)
    if isinstance(sys.stderr, JsonLines):
        sys.stderr.event(f"task failed error={type(error).__name__}", traceback=where)
    else:
        print(f"Traceback (most recent call last):\n{where}{type(error).__name__}", file=sys.stderr, flush=True)


def _frames(where: TracebackType | None) -> str:
    return "".join(traceback.format_tb(where))
