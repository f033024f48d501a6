"""Answers that are put together when they are sent: addresses of pictures, pages cut out of first rows, predictions beside rows.

A replica says at which offsets of its bytes something may be inserted or cut; nothing is parsed here.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ujson

Insert = tuple[int, bytes]


@dataclass(frozen=True, slots=True)
class RowsBody:
    """Bytes of an answer with rows, and its places.

    bases     offsets where the public base address of the server goes
    features  start and end of the JSON array of features, with its brackets
    rows      start and end of each row item, and where one more cell goes into its `row`
    """

    data: bytes
    bases: Sequence[int]
    features: tuple[int, int]
    rows: Sequence[tuple[int, int, int]]

    @classmethod
    def of_task(cls, data: bytes, about: Mapping[str, Any]) -> "RowsBody":
        rows = [(start, end, cell) for start, end, cell in about["rows"]]
        return cls(data, about["bases"], (about["features"][0], about["features"][1]), rows)

    @property
    def is_fixed(self) -> bool:
        """Nothing has to be inserted."""
        return not self.bases

    def with_base(self, base: bytes) -> bytes:
        """The whole answer, with the base address in its places."""
        return _part(self.data, 0, len(self.data), [(at, base) for at in self.bases]) if self.bases else self.data

    def page(self, base: bytes, offset: int, length: int, num_rows_total: int | None, *, is_partial: bool) -> bytes:
        """An answer of `/v2/rows` with some of these rows."""
        inserts = [(at, base) for at in self.bases]
        rows = [_part(self.data, start, end, inserts) for start, end, _ in self.rows[offset : offset + length]]
        about = {"num_rows_total": num_rows_total, "num_rows_per_page": 100, "partial": is_partial}
        features = self.data[slice(*self.features)]
        return b'{"features":' + features + b',"rows":[' + b",".join(rows) + b"]," + ujson.dumps(about).encode()[1:]

    def with_predictions(self, base: bytes, feature: Mapping[str, Any], cells: Sequence[bytes]) -> bytes:
        """The answer with one more feature, whose name is the key of one more cell, encoded, in each row."""
        start, end = self.features
        before = b"" if self.data[start:end] == b"[]" else b","
        name = ujson.dumps(feature["name"], escape_forward_slashes=False, ensure_ascii=False).encode()
        encoded = ujson.dumps(feature, escape_forward_slashes=False, ensure_ascii=False).encode()
        inserts = [(at, base) for at in self.bases]
        inserts.append((end - 1, before + encoded))
        inserts += [(row[2], before + name + b":" + cell) for row, cell in zip(self.rows, cells, strict=True)]
        return _part(self.data, 0, len(self.data), inserts)


def _part(data: bytes, start: int, end: int, inserts: Iterable[Insert]) -> bytes:
    """The bytes from start to end, with what is to be inserted between them."""
    view = memoryview(data)
    pieces: list[bytes | memoryview] = []
    for at, what in sorted(inserts):
        if start <= at <= end and (at < end or end == len(data)):
            pieces += (view[start:at], what)
            start = at
    pieces.append(view[start:end])
    return b"".join(pieces)
