"""Lines become records, and records become fields: what a block holds before anything is known of types."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from engine.frames import LINE_END
from engine.tasks import codec

BOM = b"\xef\xbb\xbf"
# For every byte whether it is a digit: a run of 20, or of 19 behind a minus, may be an integer of more than 64 bits.
_DIGITS = bytes(0x30 if 0x30 <= byte <= 0x39 else byte if byte == 0x2D else 0x20 for byte in range(256))
_LONG_RUNS = (b"0" * 20, b"-" + b"0" * 19)
_BLANKS = b" \t\r"


@dataclass(slots=True)
class Records:
    """The rows of a block.

    records  one for each line that holds an object
    lines    the number of each record's line in the body, from 1
    faults   number of a line -> why it holds no record
    """

    records: list[codec.Record]
    lines: Sequence[int]
    faults: dict[int, str] = field(default_factory=dict)


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
    lines: list[int] = []
    read = Records([], lines)
    for number, line in enumerate(raw.split(LINE_END)[:-1], first_line):
        line = line.strip(_BLANKS)
        if not line:
            continue
        value = codec.strict_object(line, has_long_integers=has_long_integers and _has_long_digits(line))
        if isinstance(value, codec.Fault):
            read.faults[number] = f"The line {value.reason}."
        else:
            read.records.append(value)
            lines.append(number)
    return read


def fields(records: list[codec.Record]) -> dict[str, Sequence[Any]]:
    """The values of each field, None where a record lacks it; fields in order of their first appearance."""
    shapes = dict.fromkeys(map(tuple, records))
    if len(shapes) == 1:  # reading values in their order takes a third of the time of looking each one up
        return dict(zip(next(iter(shapes)), zip(*map(dict.values, records), strict=True), strict=True))
    names = dict.fromkeys(chain.from_iterable(shapes))
    return {name: [record.get(name) for record in records] for name in names}
