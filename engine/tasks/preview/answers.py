"""Answers with rows: which rows are shown and how much of them, and the bytes of it all.

Sizes are bytes of UTF-8 of the whole answer. Knows no types of columns and no files: a cell comes as it is shown.
"""

import gzip
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from engine.tasks import codec
from engine.tasks.preview.cells import BASE

# Cells of which no more JSON is there are never cut, and the others to this much.
CUT_BYTES = 100
MIN_GZIP_BYTES = 500
GZIP_LEVEL = 6
ETAG_BYTES = 8
_BASE = BASE.encode()


@dataclass(slots=True)
class ShownCell:
    """The JSON of one cell.

    size      of the JSON in full
    text      the JSON; None once it has been cut, or when it never could be shown in full
    cut       the JSON of its cut form, None if it is not to be cut
    """

    size: int
    text: bytes | None
    cut: bytes | None


@dataclass(slots=True)
class ShownRow:
    """One row of an answer. named: columns whose cells are not shown in full, in order of columns."""

    index: int
    cells: list[ShownCell]
    named: set[int] = field(default_factory=set)


def shown_cell(value: Any, *, may_cut: bool, max_bytes: int) -> ShownCell:
    """
    max_bytes  of an answer: a cell that is larger is certainly cut, and its JSON in full is not kept
    """
    text = codec.dumps_large(value)
    # A base is written as it comes out in the end, but for the address of the server.
    size = len(text) - len(_BASE) * text.count(_BASE)
    cut = codec.dumps(cut_text(value, text)) if may_cut and size > CUT_BYTES else None
    return ShownCell(size, text if cut is None or size <= max_bytes else None, cut)


def cut_text(value: Any, text: bytes) -> str:
    """A string to its first bytes on the border of a character, another value to the first bytes of its JSON."""
    source = value.encode() if isinstance(value, str) else text
    return source[:CUT_BYTES].decode(errors="ignore")


class Rows:
    """The rows of one answer, as they come.

    head, tail  bytes of the answer before the first row and behind the last
    frame       a row's bytes before its cells and behind them, by its index and the names of its cut columns
    names       of the columns
    """

    def __init__(
        self,
        names: Sequence[str],
        frame: Callable[[int, list[str]], tuple[bytes, bytes]],
        fixed_bytes: int,
        max_bytes: int,
        min_rows: int,
    ) -> None:
        self._names = list(names)
        self._keys = [codec.dumps(name) + b":" for name in names]
        self._frame = frame
        self._max_bytes = max_bytes
        self._min_rows = min_rows
        self._size = fixed_bytes
        self.rows: list[ShownRow] = []
        self.is_full = False

    def add(self, row: ShownRow) -> None:
        """Take a row, unless there is no room for it any more."""
        if self.is_full:
            return
        size = self._row_size(row) + (1 if self.rows else 0)
        if len(self.rows) >= self._min_rows and self._size + size > self._max_bytes:
            self.is_full = True
            return
        self._size += size
        self.rows.append(row)
        if len(self.rows) == self._min_rows and self._size > self._max_bytes:
            self.is_full = True

    def finish(self) -> None:
        """Cut cells, from the last row back, until the answer fits."""
        for row in reversed(self.rows):
            before = self._row_size(row)
            for i, one in enumerate(row.cells):
                if self._size <= self._max_bytes:
                    return
                if one.cut is not None:
                    row.cells[i] = ShownCell(len(one.cut), one.cut, None)
                    row.named.add(i)
                    after = self._row_size(row)
                    self._size += after - before
                    before = after

    def _row_size(self, row: ShownRow) -> int:
        start, end = self._frame(row.index, self._named(row))
        cells = sum(len(key) + one.size for key, one in zip(self._keys, row.cells, strict=True))
        return len(start) + len(end) + cells + max(0, len(row.cells) - 1)

    def _named(self, row: ShownRow) -> list[str]:
        return [self._names[i] for i in sorted(row.named)]

    def items(self) -> list[tuple[bytes, int]]:
        """The bytes of each row, and the place in them where one more cell can come in."""
        found = []
        for row in self.rows:
            start, end = self._frame(row.index, self._named(row))
            cells = b",".join(key + (one.text or one.cut or b"null") for key, one in zip(self._keys, row.cells, strict=True))
            found.append((start + cells + end, len(start) + len(cells)))
        return found

    @property
    def has_cut(self) -> bool:
        return any(row.named for row in self.rows)


def old_frame(dataset: str, config: str, split: str) -> Callable[[int, list[str]], tuple[bytes, bytes]]:
    """Of a row of `/rows`."""
    start = _open({"dataset": dataset, "config": config, "split": split})

    def frame(index: int, named: list[str]) -> tuple[bytes, bytes]:
        end = b'},"truncated_cells":' + codec.dumps(named) + b"}" if named else b"}}"
        return b'%b,"row_idx":%d,"row":{' % (start, index), end

    return frame


def modern_frame(index: int, named: list[str]) -> tuple[bytes, bytes]:
    """Of a row of the other routes."""
    return b'{"row_idx":%d,"row":{' % index, b'},"truncated_cells":' + codec.dumps(named) + b"}"


def _open(value: dict[str, Any]) -> bytes:
    """The JSON of an object without its end."""
    return codec.dumps(value)[:-1]


# Bytes


def with_bases(head: bytes, rows: Rows, tail: bytes, features: tuple[int, int]) -> tuple[bytes, dict[str, Any]]:
    """A modern answer, and its BODY as in the docstring of the family.

    features  where they are in the head
    """
    pieces: list[bytes] = [head]
    at = len(head)
    spans: list[list[int]] = []
    bases: list[int] = []
    for i, (item, cell) in enumerate(rows.items()):
        if i:
            pieces.append(b",")
            at += 1
        before, *others = item.split(_BASE)
        for other in others:
            bases.append(at + len(before))
            before += other
        cell -= len(_BASE) * len(others)
        pieces.append(before)
        spans.append([at, at + len(before), at + cell])
        at += len(before)
    return b"".join([*pieces, tail]), {"bases": bases, "features": list(features), "rows": spans}


def packed(body: bytes) -> bytes:
    """The body as gzip, the same for the same body; empty for a small one."""
    return gzip.compress(body, GZIP_LEVEL, mtime=0) if len(body) >= MIN_GZIP_BYTES else b""


def etag(body: bytes) -> str:
    return hashlib.blake2b(body, digest_size=ETAG_BYTES).hexdigest()
