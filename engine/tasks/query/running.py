"""Running a query: from its tree and its sources to rows, or to the plan of how they would be got.

Rows that were chosen without SQL are taken from the mapped files; DuckDB does the rest. Knows no format of answers.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from engine.tasks.query import tree
from engine.tasks.query.binding import bind
from engine.tasks.query.bound import Apply, Bound, Field, Limit, LimitBy, Node, Rows, Scan, Score, Sort, Taken, Value
from engine.tasks.query.context import Embedded
from engine.tasks.query.database import Control, Database
from engine.tasks.query.datatypes import DataType, arrow_type
from engine.tasks.query.output import OutputColumn, Result
from engine.tasks.query.planning import Planning, inputs_of
from engine.tasks.query.refusals import Refused
from engine.tasks.query.relational import Emitter
from engine.tasks.query.score_calls import is_similarity
from engine.tasks.query.segments import PAYLOAD_ROWS, Source, Vectors
from engine.tasks.query.taking import score_array, taken_column, vector_array
from engine.tasks.query.constants import items_of, vector_of_value

# The last row that a page of a JSON answer can reach.
MAX_JSON_PAGE = 100_000

_database = Database()


class Parsed(Protocol):
    """A text that was read: its tree, and the vectors that were lifted out of it."""

    @property
    def query(self) -> tree.Query: ...

    @property
    def vectors(self) -> "tuple[Vectors, ...]": ...


class Request(Protocol):
    """What of a request the run needs."""

    @property
    def params(self) -> Any: ...

    @property
    def format(self) -> str | None: ...


def run(
    parsed: Parsed, request: Request, sources: Mapping[str | None, Source], embedded: Embedded, control: Control
) -> Result:
    """Refused where the query does not fit the sources; the batches raise it too, as their rows are computed.

    sources   by the name in the text; None is the `dataset` of the request
    embedded  vectors of the texts of embed(...), by text and model
    """
    rows, planning, warnings = _planned(parsed, request, sources, embedded, control, is_dry=False)
    columns = tuple(_output_column(name, expression.type) for name, expression in rows.columns)
    return Result(columns, _batches(rows, planning, columns), planning.steps, warnings, planning.timings)
