"""`dataset export`: the rows of one version of a dataset, split by split, become a file of JSON lines.

The file has its name only when every row is in it: what fails leaves no part of a file, and one that was there stays as it was.
"""

import contextlib
import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from server.commands.asking import Refused, answered, asked
from server.commands.dataset import PLAIN_LINE_S
from server.commands.progress import Progress
from server.commands.remote import Remote

# Rows of one query: a server gives 1,000,000 in one answer by default.
QUERY_ROWS = 250_000
# One SELECT has at most this many columns. The rows of a dataset with more come in groups of columns, and those of one step are
# held in memory.
SELECT_COLUMNS = 256
GROUPED_ROWS = 1000


def run(remote: Remote, path: tuple[str, ...], version: str | None, output: str) -> None:
    """Export a version, the current one for None, to a file; `-` is standard output. Refused, OSError."""
    described = asked(remote, "GET", path, {"version": version})
    progress = Progress(None, is_shown=output != "-", plain_line_s=PLAIN_LINE_S, noun="rows")
    with _output(output) as file:
        num_rows = 0
        for rows in _steps(remote, described):
            for row in rows:
                file.write(row)
                num_rows += 1
            progress.show(records=num_rows, sent_bytes=0)
        if num_rows != described["rows"]:
            raise Refused(f"the server gave {num_rows:,} rows of {described['rows']:,}")
    progress.end(f"{described['dataset']} version {described['version']}: {num_rows:,} rows, {progress.seconds:.1f} s")


# The file


@contextlib.contextmanager
def _output(name: str) -> Iterator[BinaryIO]:
    """What to write to. A file gets its name at the end; a pipe or a device is written to as it is. OSError."""
    path = Path(name).resolve()
    if name == "-":
        yield sys.stdout.buffer
    elif path.exists() and not path.is_file():
        with open(path, "wb") as file:
            yield file
    else:
        with _replacing(path) as file:
            yield file


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    beside = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        beside.touch()
    except OSError as error:
        error.filename = str(path)  # the name that the user knows
        raise
    try:
        with open(beside, "wb") as file:
            if path.exists():
                shutil.copymode(path, beside)
            yield file
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


# The rows


def _steps(remote: Remote, described: dict[str, Any]) -> Iterator[Iterator[bytes]]:
    """The rows in order, as lines of JSON, in steps. Refused."""
    names = [column["name"] for column in described["columns"]]
    groups = list(_groups(names)) if len(names) > SELECT_COLUMNS else ["*"]
    num_rows = QUERY_ROWS if len(groups) == 1 else GROUPED_ROWS
    for split, num_left in described["splits"].items():
        source = f"{described['dataset']}/{split}@{described['version']}"
        for offset in range(0, num_left, num_rows):
            queries = [f'select {group} from "{source}" limit {num_rows} offset {offset}' for group in groups]
            yield _rows(remote, queries[0]) if len(groups) == 1 else _joined([list(_rows(remote, query)) for query in queries])


def _groups(names: Sequence[str]) -> Iterator[str]:
    """The names, quoted, in lists that one SELECT may have."""
    quoted = ['"' + name.replace('"', '""') + '"' for name in names]
    for start in range(0, len(quoted), SELECT_COLUMNS):
        yield ", ".join(quoted[start : start + SELECT_COLUMNS])


def _joined(groups: Sequence[Sequence[bytes]]) -> Iterator[bytes]:
    """Whole rows. Each group has other columns of the same rows. Refused when one has fewer rows."""
    if len({len(group) for group in groups}) > 1:
        raise Refused("the server gave fewer rows for some columns than for others")
    for parts in zip(*groups, strict=True):
        yield b"{" + b",".join(part.rstrip()[1:-1] for part in parts) + b"}\n"


def _rows(remote: Remote, query: str) -> Iterator[bytes]:
    """The lines of an answer but for the last one, which says how it ended. Refused."""
    headers = {"Accept": "application/x-ndjson", "Content-Type": "application/json"}
    body = json.dumps({"query": query, "timeout_ms": 60_000}).encode()
    with answered(remote, "POST", remote.path("api", "query", "v1"), headers, body) as answer:
        last = b""
        num_rows = 0
        for line in answer:
            if last:
                yield last
                num_rows += 1
            last = line
    end = json.loads(last or b"{}")
    if end.get("status") != "ok" or end.get("rows") != num_rows:
        raise Refused(end.get("message", "the answer ended too early"))
