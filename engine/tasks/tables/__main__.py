"""The program that engine/tasks/tables/__init__.py describes."""

import functools
import gc
import os
import signal
import sys
from collections.abc import Callable, Sequence

from engine.tasks.ingestion.files import FileLines
from engine.tasks.tables.arrow import Unreadable, read_batches, write_batches
from engine.tasks.tables.results import write_table


def main(arguments: Sequence[str]) -> int:
    """Run the command that the arguments name; returns its exit code."""
    gc.disable()  # rows are lists and objects without cycles, and looking for these takes as long as parsing
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the command that started us, which ends us as it needs
    word, *rest = arguments
    try:
        return WORDS[word](*rest)
    except BrokenPipeError:  # the command has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        return _fail(error.strerror or str(error))


def _read(path: str) -> int:
    files = FileLines()
    number, is_last = 0, False
    while not is_last:
        told, pieces = files.answer({"source": path, "part": number})
        if "refused" in told:
            return _fail(told["refused"])
        for piece in pieces:
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
        number, is_last = number + 1, told["is_last"]
    return 0


def _write(form: str, folder: str, *options: str) -> int:
    write_table(sys.stdin.buffer, sys.stdout.buffer, form, folder, functools.partial(_begin, options))
    return 0


def _read_arrow(path: str) -> int:
    try:
        read_batches(path, sys.stdout.buffer)
    except Unreadable as error:
        return _fail(str(error))
    return 0


def _write_arrow(form: str, folder: str, *options: str) -> int:
    write_batches(sys.stdin.buffer, sys.stdout.buffer, form, folder, functools.partial(_begin, options))
    return 0


def _begin(options: Sequence[str]) -> None:
    if "--empty" in options:
        os.ftruncate(sys.stdout.fileno(), 0)


WORDS: dict[str, Callable[..., int]] = {
    "read": _read,
    "write": _write,
    "read-arrow": _read_arrow,
    "write-arrow": _write_arrow,
}


def _fail(reason: str) -> int:
    print(reason, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
