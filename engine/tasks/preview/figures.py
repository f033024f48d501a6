"""Figures: what `/statistics` says of one column, asked of duckdb over batches of its values. Knows no files.

Every function gets a `Column of values`: a callable that gives the batches anew, for some figures need two passes. Each batch has
one column `v`, of the type that the figure is about.
"""

import datetime
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import duckdb
import pyarrow as pa

MEMORY = "96MB"
NUM_BINS = 10
PLACES = 5
MAX_LABELS = 1000
ALWAYS_LABELS = 10
# A longer text is none: the answer would have each of them in full.
MAX_LABEL_BYTES = 1000
LABEL_SHARE = 0.2
_SECOND = 1_000_000

Values = Callable[[], Iterator[pa.RecordBatch]]


class Asked:
    """The values of one column, in a database of their own."""

    def __init__(self, kind: pa.DataType, values: Values) -> None:
        self._schema = pa.schema([("v", kind)])
        self._values = values
        self._database = duckdb.connect(":memory:", config={"threads": "1", "memory_limit": MEMORY, "temp_directory": ""})
        self._database.execute("SET enable_external_access = false")

    def close(self) -> None:
        self._database.close()

    def rows(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The rows of a statement that reads `given` once."""
        faults: list[Exception] = []
        self._database.register("given", pa.RecordBatchReader.from_batches(self._schema, _noting(self._values(), faults)))
        try:
            return self._database.execute(statement, list(parameters)).fetchall()
        except duckdb.Error as error:  # its message has the traceback of what a batch has raised, with paths of this machine
            if faults:
                raise faults[0] from None
            raise error
        finally:
            self._database.unregister("given")


def _noting(values: Iterator[pa.RecordBatch], faults: list[Exception]) -> Iterator[pa.RecordBatch]:
    try:
        yield from values
    except Exception as error:  # duckdb would tell of it in a text of its own
        faults.append(error)
        raise


def rounded(value: float | int | None) -> float | int | None:
    if value is None or isinstance(value, int):
        return value
    return round(value, PLACES) if math.isfinite(value) else None


def share(count: int, total: int) -> float:
    return round(count / total, PLACES) if total else 0.0


def numbers(kind: pa.DataType, values: Values, num_rows: int) -> dict[str, Any]:
    """min, max, mean, median, std of a sample, histogram; NaN counts as null, and infinities are left out of the rest."""
    asked = Asked(kind, values)
    try:
        is_float = pa.types.is_floating(kind)
        good = "isfinite(v)" if is_float else "v IS NOT NULL"
        statement = f"""SELECT count(v) FILTER (WHERE {"NOT isnan(v)" if is_float else "true"}), min(v) FILTER (WHERE {good}),
            max(v) FILTER (WHERE {good}), avg(v) FILTER (WHERE {good}), median(v) FILTER (WHERE {good}),
            stddev_samp(v) FILTER (WHERE {good}) FROM given"""
        [(count, low, high, mean, median, std)] = asked.rows(statement)
        nulls = num_rows - count
        told = {"nan_count": nulls, "nan_proportion": share(nulls, num_rows)}
        figures = {"min": low, "max": high, "mean": mean, "median": median, "std": std}
        told |= {name: rounded(value) for name, value in figures.items()}
        histogram = None if low is None else _histogram(asked, low, high, good)
        return told | {"histogram": histogram}
    finally:
        asked.close()


def _histogram(asked: Asked, low: Any, high: Any, good: str) -> dict[str, Any]:
    """Ten equal bins of floats, the last closed; bins of one whole size of integers, and the last as long as it is.

    A value is held against the edges: computing the number of its bin would put one that is an edge into the bin before.
    """
    if isinstance(low, int):
        size = -(-(high - low + 1) // NUM_BINS)
        edges: list[Any] = [*range(low, high + 1, size), high]
    elif low == high:
        edges = [low, high]
    else:
        width = (high - low) / NUM_BINS
        edges = [*(low + i * width if math.isfinite(width) else _between(low, high, i) for i in range(NUM_BINS)), high]
    above = ", ".join(f"count(*) FILTER (WHERE v >= {edge!r})" for edge in edges[:-1])
    [counts] = asked.rows(f"SELECT {above} FROM given WHERE {good}")
    hist = [count - after for count, after in zip(counts, [*counts[1:], 0], strict=True)]
    return {"hist": hist, "bin_edges": [rounded(edge) for edge in edges]}


def _between(low: float, high: float, i: int) -> float:
    """An edge of a range that is wider than a float."""
    return low * (1 - i / NUM_BINS) + high * (i / NUM_BINS)


def labels(values: Values, num_rows: int, names: Sequence[str] | None) -> dict[str, Any]:
    """Frequencies of class labels by their names, the unlabelled ones apart."""
    asked = Asked(pa.int64(), values)
    try:
        counts = dict(asked.rows("SELECT v, count(*) FROM given GROUP BY v"))
    finally:
        asked.close()
    nulls = counts.pop(None, 0)
    unlabelled = counts.pop(-1, 0)
    found = {_name(names, index): count for index, count in sorted(counts.items())}
    frequencies = {name: found.get(name, 0) for name in names or found}
    return {
        "nan_count": nulls,
        "nan_proportion": share(nulls, num_rows),
        "no_label_count": unlabelled,
        "no_label_proportion": share(unlabelled, num_rows),
        "n_unique": len(found),
        "frequencies": frequencies,
    }


def _name(names: Sequence[str] | None, index: int) -> str:
    return names[index] if names and 0 <= index < len(names) else str(index)


def truths(values: Values, num_rows: int) -> dict[str, Any]:
    """Frequencies of True and False."""
    asked = Asked(pa.bool_(), values)
    try:
        counts = dict(asked.rows("SELECT v, count(*) FROM given GROUP BY v"))
    finally:
        asked.close()
    nulls = counts.pop(None, 0)
    frequencies = {str(value): counts[value] for value in (True, False) if value in counts}
    return {"nan_count": nulls, "nan_proportion": share(nulls, num_rows), "frequencies": frequencies}


def texts(values: Values, num_rows: int) -> tuple[str, dict[str, Any]]:
    """`string_label` with frequencies for a few different texts, none of them long, else `string_text` with their lengths."""
    asked = Asked(pa.string(), values)
    try:
        [(present, longest)] = asked.rows("SELECT count(v), max(strlen(v)) FROM given")
        if not present:
            return "string_text", empty(num_rows)
        if longest <= MAX_LABEL_BYTES and _are_few(asked, present):
            statement = "SELECT v, count(*) AS n FROM given WHERE v IS NOT NULL GROUP BY v ORDER BY n DESC, v"
            return "string_label", _label_texts(dict(asked.rows(statement)), num_rows - present, num_rows)
    finally:
        asked.close()
    return "string_text", numbers(pa.int64(), lambda: _lengths(values), num_rows)


def _are_few(asked: Asked, present: int) -> bool:
    """Whether texts are labels. Counting all different texts of a large column takes more memory than there is."""
    few = len(asked.rows(f"SELECT DISTINCT v FROM given WHERE v IS NOT NULL LIMIT {MAX_LABELS + 1}"))
    return few <= ALWAYS_LABELS or (few <= MAX_LABELS and few / present <= LABEL_SHARE)


def _label_texts(frequencies: dict[str, int], nulls: int, num_rows: int) -> dict[str, Any]:
    return {
        "nan_count": nulls,
        "nan_proportion": share(nulls, num_rows),
        "no_label_count": 0,
        "no_label_proportion": 0.0,
        "n_unique": len(frequencies),
        "frequencies": frequencies,
    }


def _lengths(values: Values) -> Iterator[pa.RecordBatch]:
    for batch in values():
        yield pa.record_batch([pa.compute.utf8_length(batch.column(0)).cast(pa.int64())], names=["v"])


def instants(values: Values, num_rows: int) -> dict[str, Any]:
    """Of times in microseconds since 1970: the figures as texts in ISO 8601, the deviation as a duration."""
    told = numbers(pa.int64(), values, num_rows)
    for name in ("min", "max", "mean", "median"):
        told[name] = _instant(told[name])
    if told["std"] is not None:
        told["std"] = str(datetime.timedelta(microseconds=round(told["std"])))
    if told["histogram"] is not None:
        told["histogram"]["bin_edges"] = [_instant(edge) for edge in told["histogram"]["bin_edges"]]
    return told


def _instant(micros: float | int | None) -> str | None:
    if micros is None:
        return None
    seconds, rest = divmod(round(micros), _SECOND)
    try:
        since = datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=seconds, microseconds=rest)
    except OverflowError:
        return str(micros)
    return since.isoformat()


def empty(num_rows: int) -> dict[str, Any]:
    """The figures of a column that is null throughout."""
    figures = dict.fromkeys(("min", "max", "mean", "median", "std", "histogram"))
    return {"nan_count": num_rows, "nan_proportion": share(num_rows, num_rows), **figures}
