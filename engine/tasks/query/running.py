"""Running a query: from its tree and its sources to rows, or to the plan of how they would be got.

Rows that were chosen without SQL are taken from the mapped files; DuckDB does the rest. Knows no format of answers.
"""

import time
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from engine.tasks.query.advice import warnings_of
from engine.tasks.query.binding import bind
from engine.tasks.query.bound import Apply, Bound, BoundQuery, Field, Limit, Taken, Value, VectorScore, WordScore
from engine.tasks.query.constants import vector_of_value
from engine.tasks.query.context import Embedded
from engine.tasks.query.database import Database
from engine.tasks.query.datatypes import DataType, arrow_type, kind_of
from engine.tasks.query.output import OutputColumn, Result
from engine.tasks.query.planning import Planning
from engine.tasks.query.refusals import Refused
from engine.tasks.query.relational import Emitter
from engine.tasks.query.request import Request
from engine.tasks.query.segments import PAYLOAD_ROWS, Source
from engine.tasks.query.stopping import Control
from engine.tasks.query.taking import score_array, taken_column, vector_array
from engine.tasks.query.tql import ParsedText

# The last row that a page of a JSON answer can reach.
MAX_JSON_PAGE = 100_000


def run(
    parsed: ParsedText,
    request: Request,
    sources: Mapping[str | None, Source],
    embedded: Embedded,
    control: Control,
    database: Database,
) -> Result:
    """Refused where the query does not fit the sources. The batches raise it too, as their rows are computed.

    sources   by the name in the text; None is the `dataset` of the request
    embedded  vectors of the texts of embed(...), by text and model
    database  of the replica
    """
    rows, planning, warnings = _settled(parsed, request, sources, embedded, Planning(database, control))
    columns = tuple(output_column(name, expression.type) for name, expression in rows.columns)
    return Result(columns, _batches(rows, planning), planning.steps.listed, warnings, planning.steps.timings)


def plan(
    parsed: ParsedText, request: Request, sources: Mapping[str | None, Source], control: Control, database: Database
) -> tuple[list[dict[str, Any]], list[str]]:
    """The steps and the warnings for `explain`. Filters run, because the way of a score depends on the rows that are left."""
    planning = Planning(database, control, is_dry=True)
    rows, planning, warnings = _settled(parsed, request, sources, None, planning)
    if _direct(rows) is None:
        planning.steps.describe_sql(rows.node)
    return [{name: value for name, value in step.items() if name != "ms"} for step in planning.steps.listed], warnings


def output_column(name: str, data_type: DataType) -> OutputColumn:
    innermost = data_type
    while innermost.name == "list":
        innermost = innermost.element
    return OutputColumn(name, kind_of(data_type), arrow_type(data_type), innermost.names)


def _settled(
    parsed: ParsedText, request: Request, sources: Mapping[str | None, Source], embedded: Embedded | None, planning: Planning
) -> tuple[BoundQuery, Planning, list[str]]:
    rows, fields = bind(
        parsed.query,
        vectors=parsed.vectors,
        numbers=parsed.numbers,
        params=request.params,
        embedded=embedded,
        sources=sources,
    )
    if request.format in (None, "json"):
        _check_page(rows)
    warnings = warnings_of(rows)
    planning.settle(rows, fields)
    return rows, planning, warnings


def _check_page(rows: BoundQuery) -> None:
    node = rows.node
    if isinstance(node, Limit) and node.offset + (node.number or 0) > MAX_JSON_PAGE:
        hint = "Ask for application/x-ndjson."
        raise Refused("too_complex", f"OFFSET and LIMIT reach at most row {MAX_JSON_PAGE} in JSON.", hint=hint)


# Rows without SQL

Direct = list[Callable[[slice], pa.Array]]


def _direct(rows: BoundQuery) -> Direct | None:
    """One function for each column, which gives a part of it; None if the rows need SQL."""
    node = rows.node
    if not isinstance(node, Taken):
        return None
    found: Direct = []
    for _, expression in rows.columns:
        column = _direct_column(node, expression)
        if column is None:
            return None
        found.append(column)
    return found


def _direct_column(taken: Taken, expression: Bound) -> Callable[[slice], pa.Array] | None:
    if expression in taken.scores:
        return lambda part: score_array(taken.scores[expression][part])
    if isinstance(expression, Field) and expression.scan is taken.scan:
        return lambda part: taken_column(taken, expression, part)
    if isinstance(expression, Value):
        return lambda part: _repeated(expression, len(range(*part.indices(taken.num_rows))))
    if isinstance(expression, Apply) and expression.function == "cosine_distance" and expression.arguments[0] in taken.scores:
        score = expression.arguments[0]
        return lambda part: score_array((1.0 - taken.scores[score][part].astype(np.float64)).astype(np.float32))
    return None


def _repeated(value: Value, times: int) -> pa.Array:
    constant = value.value
    if value.value is not None and value.type.name in ("vector", "matrix"):
        constant = vector_of_value(value).tolist()
    return pa.array([constant] * times, arrow_type(value.type))


# Batches


def _batches(rows: BoundQuery, planning: Planning) -> Generator[pa.RecordBatch, None, None]:
    """The rows in batches of at most 8,192, in the types of the output."""
    node = rows.node
    if isinstance(node, Taken):
        for _, expression in rows.columns:
            if isinstance(expression, VectorScore | WordScore) and expression.field.scan is node.scan:
                planning.scores(node, expression)
        columns = _direct(rows)
        if columns is not None:
            yield from _taken_batches(node, columns, planning)
            return
    yield from _computed_batches(rows, planning)


def _taken_batches(taken: Taken, columns: Direct, planning: Planning) -> Iterator[pa.RecordBatch]:
    step = planning.steps.begin("take", dataset=taken.scan.source.title, rows=taken.num_rows)
    for start in range(0, taken.num_rows, PAYLOAD_ROWS):
        planning.control.check()
        part = slice(start, min(start + PAYLOAD_ROWS, taken.num_rows))
        arrays = [column(part) for column in columns]
        yield pa.record_batch(arrays, names=[str(i) for i in range(len(arrays))])
    planning.steps.end(step, taken.num_rows)


def _computed_batches(rows: BoundQuery, planning: Planning) -> Iterator[pa.RecordBatch]:
    """Rows that DuckDB computes. A stored vector travels through it as its row number."""
    expressions = [expression for _, expression in rows.columns]
    emitter = Emitter()
    statement = emitter.statement(rows.node, [_row_of_vector(one) or one for one in expressions])
    tables = planning.tables(emitter)
    step = planning.steps.describe_sql(rows.node)
    num_rows, began = 0, time.perf_counter()
    for batch in planning.database.batches(statement, tables, planning.control):
        arrays = [_output_array(array, one) for array, one in zip(batch.columns, expressions, strict=True)]
        num_rows += batch.num_rows
        planning.steps.timings["sql"] += 1000 * (time.perf_counter() - began)
        yield pa.record_batch(arrays, names=[str(i) for i in range(len(arrays))])
        began = time.perf_counter()
    planning.steps.timings["sql"] += 1000 * (time.perf_counter() - began)
    planning.steps.end(step, num_rows)


def _row_of_vector(expression: Bound) -> Field | None:
    if isinstance(expression, Field) and expression.type.name == "vector" and expression.scan is not None:
        return expression.scan.row
    return None


def _output_array(array: pa.Array, expression: Bound) -> pa.Array:
    wanted = arrow_type(expression.type)
    if isinstance(expression, Field) and _row_of_vector(expression) is not None and expression.scan and expression.column:
        rows = array.fill_null(-1).to_numpy(zero_copy_only=False)
        return vector_array(expression.scan.source, expression.column, rows)
    if pa.types.is_null(wanted):
        return pa.nulls(len(array))
    return array if array.type == wanted else array.cast(wanted)
