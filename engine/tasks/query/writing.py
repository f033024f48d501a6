"""Writing: a bound expression as SQL. A constant is `CAST(? AS type)`; a function is a template of our own words.

DuckDB counts elements from 1, knows vectors as lists here, and NaN where we have null. Knows no relations but by `write_rows`.
"""

from collections.abc import Callable
from typing import Any

from engine.tasks.query.bound import Apply, Bound, Element, Field, InRows, Rows, Score, Value
from engine.tasks.query.constants import MAX_INT, vector_of_value
from engine.tasks.query.datatypes import FLOAT32, INT, JSON, STRING, sql_type
from engine.tasks.query.patterns import ESCAPE
from engine.tasks.query.sql import Sql, fill, join

INTERVALS = {
    "microsecond": "to_microseconds(CAST(? AS BIGINT))",
    "millisecond": "to_milliseconds(CAST(? AS DOUBLE))",
    "second": "to_seconds(CAST(? AS DOUBLE))",
    "minute": "to_minutes(CAST(? AS BIGINT))",
    "hour": "to_hours(CAST(? AS BIGINT))",
    "day": "to_days(CAST(? AS INTEGER))",
    "week": "to_weeks(CAST(? AS INTEGER))",
    "month": "to_months(CAST(? AS INTEGER))",
    "year": "to_years(CAST(? AS INTEGER))",
}

# For DuckDB NaN is equal to NaN.
NAN, INFINITY = float("nan"), float("inf")
# Function -> its template and the constants of the template.
TEMPLATES: dict[str, tuple[str, tuple[Any, ...]]] = {
    "=": ("({} = {})", ()),
    "!=": ("({} <> {})", ()),
    "<": ("({} < {})", ()),
    "<=": ("({} <= {})", ()),
    ">": ("({} > {})", ()),
    ">=": ("({} >= {})", ()),
    "+": ("({} + {})", ()),
    "-": ("({} - {})", ()),
    "*": ("({} * {})", ()),
    "/": ("({} / NULLIF({}, CAST(? AS DOUBLE)))", (0.0,)),
    "^": ("pow({}, {})", ()),
    "||": ("({} || {})", ()),
    "concat_lists": ("list_concat({}, {})", ()),
    "not": ("(NOT {})", ()),
    "is_null": ("({} IS NULL)", ()),
    "like": ("like_escape({}, {}, CAST(? AS VARCHAR))", (ESCAPE,)),
    "ilike": ("ilike_escape({}, {}, CAST(? AS VARCHAR))", (ESCAPE,)),
    "each": ("list_transform({}, lambda x: {})", ()),
    "cosine_distance": ("CAST((CAST(? AS DOUBLE) - CAST({} AS DOUBLE)) AS FLOAT)", (1.0,)),
    "contains": ("contains({}, {})", ()),
    "lower": ("lower({})", ()),
    "upper": ("upper({})", ()),
    "starts_with": ("starts_with({}, {})", ()),
    "ends_with": ("ends_with({}, {})", ()),
    "length": ("length({})", ()),
    "list_length": ("len({})", ()),
    "bytes_length": ("octet_length({})", ()),
    "any": ("list_contains({}, TRUE)", ()),
    "all": ("(NOT list_contains({}, FALSE))", ()),
    "nonzero": (
        "list_filter(list_transform({}, lambda x, i: CASE WHEN x THEN i - CAST(? AS BIGINT) END), lambda x: x IS NOT NULL)",
        (1,),
    ),
    "shape": ("CASE WHEN {0} IS NOT NULL THEN list_value(len({0})) END", ()),
    "amin": ("list_min({})", ()),
    "amax": ("list_max({})", ()),
    "list_avg": ("list_avg({})", ()),
    "keys": ("CAST(json_keys({}) AS VARCHAR[])", ()),
    "sqrt": ("NULLIF(sqrt({}), CAST(? AS DOUBLE))", (NAN,)),
    "ln": ("NULLIF(NULLIF(ln({}), CAST(? AS DOUBLE)), CAST(? AS DOUBLE))", (NAN, -INFINITY)),
    "exp": ("exp({})", ()),
    "abs": ("abs({})", ()),
    "floor": ("floor({})", ()),
    "ceil": ("ceil({})", ()),
    "round": ("round({}, CAST({} AS INTEGER))", ()),
}

# Scores of vectors that no scan can compute, such as those of a join; both are DOUBLE[].
VECTOR_SCORES: dict[str, tuple[str, tuple[Any, ...]]] = {
    "cosine_similarity": (
        "CASE WHEN {0} IS NULL OR {1} IS NULL THEN NULL"
        " WHEN list_dot_product({0}, {0}) * list_dot_product({1}, {1}) = CAST(? AS DOUBLE) THEN CAST(? AS DOUBLE)"
        " ELSE greatest(least(list_cosine_similarity({0}, {1}), CAST(? AS DOUBLE)), CAST(? AS DOUBLE)) END",
        (0.0, 0.0, 1.0, -1.0),
    ),
    "dot": ("list_dot_product({}, {})", ()),
    "l2_norm": ("list_distance({}, {})", ()),
    "l1_norm": ("list_sum({})", ()),
    "linf_norm": ("list_max({})", ()),
}
DIFFERENCES = "list_transform({0}, lambda x, i: abs(x - list_extract({1}, i)))"


class Writer:
    """Writes expressions. `scores` gives each score of a scan its name, `s0`, `s1`, ..."""

    def __init__(self, write_rows: Callable[[Rows], Sql]) -> None:
        self._write_rows = write_rows
        self.scores: dict[Score, str] = {}

    def name(self, leaf: Field | Score) -> str:
        """Of a field or a score, as a column."""
        if isinstance(leaf, Field):
            return leaf.name
        return self.scores.setdefault(leaf, f"s{len(self.scores)}")

    def write(self, expression: Bound) -> Sql:
        if isinstance(expression, Value):
            return write_value(expression)
        if isinstance(expression, Element):
            return Sql("x")
        if isinstance(expression, InRows):
            return fill("({} IN ({}))", self.write(expression.operand), self._write_rows(expression.query))
        if not isinstance(expression, Apply):
            return Sql(self.name(expression))
        special = _SPECIAL.get(expression.function)
        if special is not None:
            return special(self, expression)
        template, own = TEMPLATES[expression.function]
        return fill(template, *map(self.write, expression.arguments), own=own)


def write_value(value: Value) -> Sql:
    written_type = sql_type(value.type)
    if value.value is None:
        return Sql(f"CAST(NULL AS {written_type})")
    if value.type.name == "interval":
        unit, number = value.value
        return Sql(INTERVALS[unit], (number,))
    if value.type.name in ("vector", "matrix"):
        return Sql(f"CAST(? AS {written_type})", (vector_of_value(value).tolist(),))
    constant = list(value.value) if value.type.name == "list" else value.value
    return Sql(f"CAST(? AS {written_type})", (constant,))


def _junction(writer: Writer, expression: Apply) -> Sql:
    return fill("({})", join(f" {expression.function.upper()} ", map(writer.write, expression.arguments)))


def _remainder(writer: Writer, expression: Apply) -> Sql:
    left, right = map(writer.write, expression.arguments)
    return fill(f"({{}} % NULLIF({{}}, CAST(? AS {sql_type(expression.type)})))", left, right, own=(0,))


def _negative(writer: Writer, expression: Apply) -> Sql:
    """As a difference: it overflows where DuckDB's own sign takes a larger type, and it never is -0.0."""
    return fill(f"(CAST(? AS {sql_type(expression.type)}) - {{}})", writer.write(expression.arguments[0]), own=(0,))


def _case(writer: Writer, expression: Apply) -> Sql:
    *pairs, otherwise = map(writer.write, expression.arguments)
    branches = [fill("WHEN {} THEN {}", *pairs[i : i + 2]) for i in range(0, len(pairs), 2)]
    return fill("CASE {} ELSE {} END", join(" ", branches), otherwise)


def _coalesce(writer: Writer, expression: Apply) -> Sql:
    return fill("coalesce({})", join(", ", map(writer.write, expression.arguments)))


def _list(writer: Writer, expression: Apply) -> Sql:
    items = fill("list_value({})", join(", ", map(writer.write, expression.arguments)))
    return fill(f"CAST({{}} AS {sql_type(expression.type)})", items)


def _list_sum(writer: Writer, expression: Apply) -> Sql:
    """DuckDB adds integers with 128 bits; ours have 64."""
    return fill(f"CAST(list_sum({{}}) AS {sql_type(expression.type)})", writer.write(expression.arguments[0]))


def _list_prod(writer: Writer, expression: Apply) -> Sql:
    """DuckDB multiplies as doubles."""
    values = writer.write(expression.arguments[0])
    if expression.type != INT:
        return fill("list_product({})", values)
    known = fill("list_filter({}, lambda x: x IS NOT NULL)", values)
    product = fill("list_reduce({}, lambda x, i: x * i, CAST(? AS BIGINT))", known, own=(1,))
    return fill("CASE WHEN list_product({}) IS NOT NULL THEN {} END", values, product)


def _in(writer: Writer, expression: Apply) -> Sql:
    """One list for all constants: thousands of single ones take DuckDB 15 times as long."""
    operand, values = map(writer.write, expression.arguments)
    return fill("({} IN (SELECT unnest({})))", operand, values)


def _element(writer: Writer, expression: Apply) -> Sql:
    values, index = expression.arguments
    if isinstance(index, Value):
        place = index.value if index.value is None or index.value < 0 else min(index.value, MAX_INT - 1) + 1
        return fill("list_extract({}, {})", writer.write(values), write_value(Value(place, INT)))
    template = "list_extract({0}, CASE WHEN {1} < CAST(? AS BIGINT) THEN {1} ELSE {1} + CAST(? AS BIGINT) END)"
    return fill(template, writer.write(values), writer.write(index), own=(0, 1))


def _slice(writer: Writer, expression: Apply) -> Sql:
    """`start:stop` from 0 and half open becomes first to last from 1, both in."""
    values = writer.write(expression.arguments[0])
    start, stop = (_from_start(writer, values, end) for end in expression.arguments[1:])
    first = fill("({} + CAST(? AS BIGINT))", start or Sql("CAST(? AS BIGINT)", (0,)), own=(1,))
    return fill("list_slice({}, {}, {})", values, first, stop or fill("len({})", values))


def _from_start(writer: Writer, values: Sql, end: Bound) -> Sql | None:
    """An end of a slice, counted from the start of the list; None where the slice is open."""
    if isinstance(end, Value) and end.value is None:
        return None
    if isinstance(end, Value) and end.value >= 0:
        return write_value(Value(min(end.value, 2**31), INT))
    template = "CASE WHEN {1} < CAST(? AS BIGINT) THEN greatest(len({0}) + {1}, CAST(? AS BIGINT)) ELSE {1} END"
    return fill(template, values, writer.write(end), own=(0, 0))


def _vector_score(writer: Writer, expression: Apply) -> Sql:
    metric, *vectors = expression.arguments
    left, right = (fill("CAST({} AS DOUBLE[])", writer.write(vector)) for vector in vectors)
    template, own = VECTOR_SCORES[metric.value] if isinstance(metric, Value) else VECTOR_SCORES["dot"]
    if isinstance(metric, Value) and metric.value in ("l1_norm", "linf_norm"):
        return fill(f"TRY_CAST({template} AS FLOAT)", fill(DIFFERENCES, left, right))
    return fill(f"TRY_CAST({template} AS FLOAT)", left, right, own=own)


# JSON, which is text here, and conversions


def _json_get(writer: Writer, expression: Apply) -> Sql:
    """As text; the JSON value null is null."""
    return fill("NULLIF(CAST({} AS VARCHAR), CAST(? AS VARCHAR))", _json_value(writer, expression), own=("null",))


def _json_value(writer: Writer, value: Bound) -> Sql:
    if isinstance(value, Apply) and value.function == "json_get":
        return fill("json_extract({}, {})", _json_value(writer, value.arguments[0]), writer.write(value.arguments[1]))
    return writer.write(value)


def _json_text(writer: Writer, value: Bound) -> Sql:
    """A JSON string as its text, anything else as JSON writes it, null as null."""
    if isinstance(value, Apply) and value.function == "json_get":
        held, path = value.arguments
        return fill("json_extract_string({}, {})", _json_value(writer, held), writer.write(path))
    return fill("json_extract_string({}, CAST(? AS VARCHAR))", writer.write(value), own=("$",))


def _json_as(writer: Writer, expression: Apply) -> Sql:
    """A JSON value as a number, a truth or a time; null if it is none."""
    return fill(f"TRY_CAST({{}} AS {sql_type(expression.type)})", _json_text(writer, expression.arguments[0]))


def _convert(writer: Writer, expression: Apply) -> Sql:
    [value] = expression.arguments
    wanted = expression.type
    if value.type == JSON:
        text = _json_text(writer, value)
        return text if wanted == STRING else fill(f"CAST({{}} AS {sql_type(wanted)})", text)
    operand = writer.write(value)
    if value.type.name == "class" and wanted == STRING:
        template = "list_extract(CAST(? AS VARCHAR[]), ({} + CAST(? AS BIGINT)))"
        return fill(template, operand, own=(list(value.type.names), 1))
    if sql_type(value.type) == sql_type(wanted) and value.type != FLOAT32:
        return operand
    return fill(f"CAST({{}} AS {sql_type(wanted)})", operand)


_SPECIAL: dict[str, Callable[[Writer, Apply], Sql]] = {
    "and": _junction,
    "or": _junction,
    "%": _remainder,
    "negative": _negative,
    "case": _case,
    "coalesce": _coalesce,
    "list": _list,
    "list_sum": _list_sum,
    "list_prod": _list_prod,
    "in": _in,
    "element": _element,
    "slice": _slice,
    "vector_score": _vector_score,
    "json_get": _json_get,
    "json_as": _json_as,
    "convert": _convert,
}
