"""Lines become records, and records become fields: what a block holds before anything is known of types."""

from bisect import bisect_left
from collections.abc import Collection, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, NamedTuple

from engine.frames import LINE_END
from engine.tasks import codec

BOM = b"\xef\xbb\xbf"
# Digits become 0, and all but digits, minus and point a blank. A run of 20 digits, or of 19 behind a minus, may be an integer of
# more than 64 bits; behind a point it is the end of a float.
_DIGITS = bytes(0x30 if 0x30 <= byte <= 0x39 else byte if byte in b"-." else 0x20 for byte in range(256))
_LONG_RUNS = (b" " + b"0" * 20, b"-" + b"0" * 19)
_BLANKS = b" \t\r"


# Where more than three of four records lack a field, the others are noted by their rows.
_SPARSE = 4

Shape = tuple[str, ...]


class Field(NamedTuple):
    """The values of one field.

    values  None for null
    rows    the row of each value, ascending, where most rows have none; None if there is one value for each row
    """

    values: Sequence[Any]
    rows: list[int] | None = None

    def first(self, num_rows: int) -> Sequence[Any]:
        """The values of the first rows."""
        return self.values[: num_rows if self.rows is None else bisect_left(self.rows, num_rows)]


@dataclass(slots=True)
class Records:
    """The rows of a block.

    records  one for each line that holds an object
    lines    the number of each record's line in the body, from 1
    faults   number of a line -> why it holds no record
    shapes   the names of the fields of each record, in their order; equal ones once
    """

    records: list[codec.Record]
    lines: Sequence[int]
    faults: dict[int, str] = field(default_factory=dict)
    shapes: dict[Shape, None] = field(init=False)

    def __post_init__(self) -> None:
        self.shapes = dict.fromkeys(map(tuple, self.records))

    def names(self) -> dict[str, None]:
        """The names of all fields in order of their first appearance; there may be as many as values."""
        return dict.fromkeys(chain.from_iterable(self.shapes))

    def fields(self, accepted: Collection[str]) -> dict[str, Field]:
        """The values of those of these fields that some record has."""
        names = [name for name in self.names() if name in accepted]
        if len(self.shapes) == 1 and len(names) == len(next(iter(self.shapes))):
            # Reading values in their order takes a third of the time of looking each one up.
            return {
                name: Field(values) for name, values in zip(names, zip(*map(dict.values, self.records), strict=True), strict=True)
            }
        if len(names) * len(self.records) > _SPARSE * sum(map(len, self.records)):
            return self._sparse_fields(names)
        return {name: Field([record.get(name) for record in self.records]) for name in names}

    def _sparse_fields(self, names: list[str]) -> dict[str, Field]:
        values: dict[str, list[Any]] = {name: [] for name in names}
        rows: dict[str, list[int]] = {name: [] for name in names}
        for row, record in enumerate(self.records):
            for name, value in record.items():
                if value is not None and name in rows:
                    values[name].append(value)
                    rows[name].append(row)
        return {name: Field(values[name], rows[name]) for name in names}

    def strangers(self, accepted: AbstractSet[str]) -> Iterator[tuple[int, str]]:
        """Every row and field with a value whose name is none of these."""
        strange = {shape: names for shape in self.shapes if (names := [name for name in shape if name not in accepted])}
        if strange:
            for row, record in enumerate(self.records):
                yield from ((row, name) for name in strange.get(tuple(record), ()) if record[name] is not None)


def read_records(raw: bytes, first_line: int) -> Records:
    """The records of whole lines; the last one may lack its newline. Blank lines hold nothing."""
    if first_line == 1:
        raw = raw.removeprefix(BOM)
    if raw and not raw.endswith(LINE_END):
        raw += LINE_END
    num_lines = raw.count(LINE_END)
    has_long_integers = _has_long_digits(raw)
    if not has_long_integers and num_lines and (records := codec.plain_records(raw, num_lines)) is not None:
        return Records(records, range(first_line, first_line + num_lines))
    return _read_lines(raw, first_line, has_long_integers)


def _has_long_digits(raw: bytes) -> bool:
    digits = raw.translate(_DIGITS)
    return any(run in digits for run in _LONG_RUNS)


def _read_lines(raw: bytes, first_line: int, has_long_integers: bool) -> Records:
    """The careful way, one line at a time."""
    records: list[codec.Record] = []
    lines: list[int] = []
    faults: dict[int, str] = {}
    for number, line in enumerate(raw.split(LINE_END)[:-1], first_line):
        line = line.strip(_BLANKS)
        if not line:
            continue
        value = codec.strict_object(line, has_long_integers=has_long_integers and _has_long_digits(line))
        if isinstance(value, codec.Fault):
            faults[number] = f"The line {value.reason}."
        else:
            records.append(value)
            lines.append(number)
    return Records(records, lines, faults)
