"""Columns of results: what each record of a block has in one place of its line, not yet written, or already as text.

Numbers, labels and strings stay as the model gave them until all columns of a block are known. Then the native kernel writes the
lines from them (kernel.py), or `join_columns` joins their texts.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple, Protocol

import numpy as np

from engine.tasks import codec


class Pieces(Protocol):
    """One piece of a line for each record."""

    def __len__(self) -> int: ...

    def texts(self) -> list[bytes]:
        """The JSON text of each piece."""
        ...


class Texts(list[bytes]):
    """Pieces that are encoded already."""

    def texts(self) -> list[bytes]:
        return self


@dataclass(slots=True)
class Numbers:
    """Numbers or booleans: one for each record [N], or several [N, k, ...] without their outer brackets; no axis has length 0."""

    values: np.ndarray

    def __len__(self) -> int:
        return len(self.values)

    def texts(self) -> list[bytes]:
        return codec.encode_numbers(self.values) if self.values.ndim == 1 else codec.encode_rows(self.values)


@dataclass(slots=True)
class Labels:
    """One of the encoded labels for each record.

    indexes  int64 [N], each of them the place of a label
    """

    indexes: np.ndarray
    labels: list[bytes]

    def __len__(self) -> int:
        return len(self.indexes)

    def texts(self) -> list[bytes]:
        return list(map(self.labels.__getitem__, self.indexes.tolist()))


@dataclass(slots=True)
class Strings:
    """Strings that need no escapes; the quotes around them are not part of the pieces.

    encoded  all of them as a JSON list
    """

    encoded: bytes
    count: int

    def __len__(self) -> int:
        return self.count

    def texts(self) -> list[bytes]:
        return codec.cut_strings(self.encoded)


class TextColumn(NamedTuple):
    """The same part of every line: constant text before and after, and between them one piece for each record."""

    before: bytes
    pieces: Pieces
    after: bytes = b""


def joined_runs(columns: list[TextColumn], more: list[TextColumn]) -> list[TextColumn]:
    """Join the columns of two runs. If their constants differ (a graph of varying width), each record becomes a single piece."""
    if not columns or not more:
        return columns or more
    if [(column.before, column.after) for column in columns] != [(column.before, column.after) for column in more]:
        columns, more = [whole(columns)], [whole(more)]
    return [
        column._replace(pieces=Texts(chain(column.pieces.texts(), other.pieces.texts())))
        for column, other in zip(columns, more, strict=True)
    ]


def whole(columns: list[TextColumn]) -> TextColumn:
    """The same columns as one, whose pieces have all that a record has."""
    return TextColumn(b"", Texts(join_columns(columns, b"", codec.LINE_END).split(codec.LINE_END)[:-1]))


def join_columns(columns: Iterable[TextColumn], opening: bytes, closing: bytes) -> bytes:
    """One text with all records, each of them: opening, the piece of each column between its constants, closing.

    With each line as an object of its own this takes twice as long; here a record costs a few slots of one list and one join.
    """
    columns = list(columns)
    num_records, width = len(columns[0].pieces), 2 * len(columns)
    parts: list[bytes] = [b""] * (width * num_records + 1)
    between = closing + opening
    constant = columns[0].before
    for i, column in enumerate(columns):
        before = column.before if i else between + constant
        previous = columns[i - 1].after if i else columns[-1].after
        parts[2 * i : -1 : width] = [previous + before] * num_records
        parts[2 * i + 1 : -1 : width] = column.pieces.texts()
    parts[0] = opening + constant
    parts[-1] = columns[-1].after + closing
    return b"".join(parts)
