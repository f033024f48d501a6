"""The task `rows`: the first rows of a split, in all answers that show them, ready to be sent."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from engine.frames import Buffer, Header
from engine.tasks import codec
from engine.tasks.preview.answers import Rows, ShownRow, etag, modern_frame, old_frame, packed, shown_cell, with_bases
from engine.tasks.preview.cells import Cell, Place, cell
from engine.tasks.preview.columns import Column
from engine.tasks.preview.failures import failing_as
from engine.tasks.preview.limits import Limits
from engine.tasks.preview.reading import SplitReader, opened_split, segment_ids, widened_columns

MODERN_MIN_ROWS = 10


def rows(header: Header) -> tuple[Header, list[Buffer]]:
    """The docstring of the family has header and answer. Failed."""
    with opened_split(header) as reader, failing_as("RowsError"):
        columns = reader.columns(widened_columns(header))
        place = place_of(header)
        first = FirstRows(columns, place, reader.limits)
        has_more = first.fill(stored_rows(reader, columns))
        told = {
            "columns": [column.header() for column in columns],
            "numbers": {
                "num_bytes": reader.num_bytes,
                "num_examples": reader.num_examples(),
                "num_columns": len(columns),
            },
            "assets": place.num_files,
            "format": reader.config.format,
            "segments": segment_ids(reader.split),
        }
        answers, bodies = first.answers(has_more or reader.is_cut)
        return told | answers, bodies


def place_of(header: Header) -> Place:
    return Place(header["name"], header["config"], header["split"], header["assets"], header["run"])


def stored_rows(reader: SplitReader, columns: Sequence[Column]) -> Iterator[list[Any]]:
    """The values of each row as they would be stored, in the order of the columns."""
    storing = reader.storing()
    for _, _, record in reader.records():
        yield [storing.store_or_text(column, record.get(column.name)) for column in columns]


@dataclass(frozen=True, slots=True)
class Shown:
    """A row in both forms. lost: the columns whose pictures or sounds are not shown."""

    index: int
    cells: list[Cell]

    def of(self, is_old: bool, max_bytes: int) -> ShownRow:
        made = [shown_cell(one.old if is_old else one.modern, may_cut=one.may_cut, max_bytes=max_bytes) for one in self.cells]
        return ShownRow(self.index, made, {i for i, one in enumerate(self.cells) if one.is_lost})


def modern_rows(columns: Sequence[Column], fixed: int, limits: Limits) -> Rows:
    """The rows of a modern answer that has `fixed` bytes besides them."""
    names = [column.name for column in columns]
    return Rows(names, modern_frame, fixed, limits.rows_max_bytes, min(MODERN_MIN_ROWS, limits.rows_max_number))


def features_of(columns: Sequence[Column]) -> bytes:
    return codec.dumps([{"feature_idx": i, "name": one.name, "type": one.feature} for i, one in enumerate(columns)])


class FirstRows:
    """The answers of `/rows` and `/first-rows`, filled row by row."""

    def __init__(self, columns: Sequence[Column], place: Place, limits: Limits) -> None:
        self._columns = columns
        self._place = place
        self._limits = limits
        self._head = self._old_head()
        frame = old_frame(place.dataset, place.config, place.split)
        names = [column.name for column in columns]
        fixed = len(self._head) + len(_TAIL)
        self._old = Rows(names, frame, fixed, limits.rows_max_bytes, limits.rows_min_number)
        where = {"dataset": place.dataset, "config": place.config, "split": place.split}
        features = features_of(columns)
        start = codec.dumps(where)[:-1] + b',"features":'
        self._modern_head = start + features + b',"rows":['
        self._features = (len(start), len(start) + len(features))
        self._modern = modern_rows(columns, len(self._modern_head) + len(b'],"truncated":false}'), limits)
        self._num_rows = 0

    def _old_head(self) -> bytes:
        place = self._place
        where = {"dataset": place.dataset, "config": place.config, "split": place.split}
        columns = [{**where, "column_idx": i, "column": _old_column(one)} for i, one in enumerate(self._columns)]
        return b'{"columns":' + codec.dumps(columns) + b',"rows":['

    def fill(self, values: Iterator[list[Any]]) -> bool:
        """Take rows until the answers are full or there are enough; returns whether there are more."""
        for values_of_row in values:
            if self._num_rows == self._limits.rows_max_number or (self._old.is_full and self._modern.is_full):
                return True
            cells = [
                cell(column, value, self._num_rows, self._place) for column, value in zip(self._columns, values_of_row, strict=True)
            ]
            shown = Shown(self._num_rows, cells)
            self._old.add(shown.of(True, self._limits.rows_max_bytes))
            self._modern.add(shown.of(False, self._limits.rows_max_bytes))
            self._num_rows += 1
        return False

    def answers(self, has_more: bool) -> tuple[Header, list[Buffer]]:
        """The header's fields about the bodies, and the four bodies."""
        self._old.finish()
        self._modern.finish()
        old = self._head + b",".join(item for item, _ in self._old.items()) + _TAIL
        is_truncated = has_more or len(self._modern.rows) < self._num_rows
        tail = b'],"truncated":true}' if is_truncated else b'],"truncated":false}'
        modern, body = with_bases(self._modern_head, self._modern, tail, self._features)
        bodies: list[Buffer] = [old, packed(old), modern, b"" if body["bases"] else packed(modern)]
        kinds = [("cells", self._old.has_cut), ("rows", len(self._old.rows) < self._num_rows or self._is_short(has_more))]
        told: Header = {
            "sizes": [len(one) for one in bodies],
            "etags": [etag(old), etag(modern)],
            "truncated": [kind for kind, is_true in kinds if is_true],
            "first_rows": body,
            "first_rows_truncated": is_truncated,
        }
        return told, bodies

    def _is_short(self, has_more: bool) -> bool:
        """Whether rows that were wanted are left out."""
        return has_more and self._num_rows < self._limits.rows_max_number


_TAIL = b"]}"


def _old_column(column: Column) -> Header:
    told: Header = {"name": column.name, "type": column.type}
    return told | ({"labels": list(column.labels)} if column.labels else {})
