"""Failures: why a dataset or a split has no preview, in the words that its owner and the admin read.

An error that a reader raises is the cause; the step that failed gives it a code.
"""

import contextlib
import errno
import re
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MAX_MESSAGE_CHARACTERS = 1000
MAX_FRAMES = 20
PROJECT = Path(__file__).resolve().parents[3]
# What pyarrow and duckdb put behind the message of an error that Python code has raised within them.
_PYTHON_DETAIL = re.compile(r"[.\s]*Detail: Python exception:.*\Z|\s*Traceback \(most recent call last\):.*\Z", re.DOTALL)
_LIBRARIES = re.compile(r"^.*/(?:site-packages|dist-packages|lib/python3\.\d+)/")


class ParserError(ValueError):
    """A file or a front matter does not have the form that its name promises; says where."""


class JSONDecodeError(ValueError):
    """A line or an item is not JSON, or not an object; says which."""


class RecordTooLarge(ValueError):
    """A line, a record or an item is longer than a reader holds."""


class TooManyBytes(ValueError):
    """A packed file has more content than a reader unpacks."""


class UnsupportedError(ValueError):
    """The dataset has nothing that this server reads."""


class EmptyDatasetError(ValueError):
    """The dataset has no file, or a pattern of its README.md has none."""


class TooManyFilesError(ValueError):
    """The dataset has more files, or deeper folders, than are listed."""


class DiskFull(Exception):
    """The disk has less than 1 GiB left: no fault of the dataset."""


class Failed(Exception):
    """A step of a task came to nothing. Its __cause__ is the error that says why.

    code     as in the docstring of the family
    message  text of a code that has no text of its own, else None
    """

    def __init__(self, code: str, message: str | None = None) -> None:
        super().__init__(message or code)
        self.code = code
        self.message = message


def too_big(number: int, what: str, limit: int) -> str:
    return f"The dataset has {number:,} {what}, the limit is {limit:,}. Declare fewer or split it."


@contextlib.contextmanager
def failing_as(code: str) -> Iterator[None]:
    """Failed with this code, instead of any error of a reader or of a library."""
    try:
        yield
    except (Failed, MemoryError, DiskFull):
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise  # ours, not the dataset's
        raise Failed(code) from error
    # Hostile files make libraries raise anything. The dataset gets the error, and the replica lives on.
    except Exception as error:
        raise Failed(code) from error


def report(failed: Failed, dataset: str = "") -> dict[str, Any]:
    """For the header of an answer: `failure` in the docstring of the family. Without a cause its class is empty.

    dataset  absolute path of the dataset's folder, which is cut off paths in the message
    """
    cause = failed.__cause__ or failed
    message = _message(cause, dataset)
    return {
        "code": failed.code,
        "message": failed.message,
        "cause_class": type(cause).__name__ if failed.__cause__ else "",
        "cause_message": message,
        "cause_traceback": _traceback(cause, message),
    }


def _message(cause: BaseException, dataset: str) -> str:
    text = _PYTHON_DETAIL.sub("", str(cause)) or type(cause).__name__
    if dataset:
        text = text.replace(dataset.rstrip("/") + "/", "").replace(dataset, "")
    text = text.encode(errors="replace").decode()
    return text[:MAX_MESSAGE_CHARACTERS]


def _traceback(cause: BaseException, message: str) -> list[str]:
    """The innermost frames, and what was raised."""
    frames = traceback.extract_tb(cause.__traceback__)[-MAX_FRAMES:]
    lines = [f'  File "{_relative(one.filename)}", line {one.lineno}, in {one.name}\n    {one.line}\n' for one in frames]
    return ["Traceback (most recent call last):\n", *lines, f"{type(cause).__name__}: {message}\n"]


def _relative(filename: str) -> str:
    """The path of a source file, without the folders of this machine."""
    path = Path(filename)
    if path.is_relative_to(PROJECT) and not path.is_relative_to(sys.prefix):
        return str(path.relative_to(PROJECT))
    cut = _LIBRARIES.sub("", filename)
    return path.name if cut.startswith("/") else cut
