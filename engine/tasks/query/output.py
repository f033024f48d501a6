"""The output of a query: its columns and its rows, before they become an answer. Knows no format of answers."""

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa


@dataclass(frozen=True, slots=True)
class OutputColumn:
    """One column of the output.

    kind   what the values mean: bool, int, float32, float64, string, bytes, timestamp, date, json, class, vector, null, or
           list<KIND> of one of these, also nested. JSON travels as its text, a class label as its index
    type   what the record batches hold: as in segments.ARROW_TYPES; float32 for a score; a list of float32 for a vector, with a
           fixed size where all rows have the same
    names  of the classes, by their index; for kind class, and for lists of it
    """

    name: str
    kind: str
    type: pa.DataType
    names: tuple[str, ...] = ()


@dataclass(slots=True)
class Result:
    """What a query gives. The rows come as they are computed, in record batches of at most 8,192 rows.

    batches  with the columns in order; their own names and nullability do not matter. Whoever does not take all closes them
    plan     the steps, for `explain`
    timings  milliseconds by the name of a part of the run
    """

    columns: tuple[OutputColumn, ...]
    batches: Generator[pa.RecordBatch, None, None]
    plan: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    timings: dict[str, float] = field(default_factory=dict)
