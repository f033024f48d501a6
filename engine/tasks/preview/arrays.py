"""Arrays: the values of one column, from whatever a reader gives, in the type that the segment has for them.

Each format has a quick way for values that are plain, and the careful way of storing.py, value by value, for all others.
"""

from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from engine.tasks import codec
from engine.tasks.preview import parquet_files
from engine.tasks.preview.columns import ADDRESS, JSON, NUMBER, STRING, TRUTH, WHOLE, Column
from engine.tasks.preview.features import dtype_of
from engine.tasks.preview.kinds import BOOL, FLOAT, INT, LONG, TEXT, Kinds
from engine.tasks.preview.storing import Misfit, Storing
from engine.tasks.preview.values import INTEGER_PATTERN, NUMBER_PATTERN, TRUTHS
from engine.tasks.query.segments import ColumnInfo

NOTHING = type(None)
_TRUTHS = pa.array([*TRUTHS])


class RowMisfit(Misfit):
    """The value of a row does not fit its column. row: index among the values given."""

    def __init__(self, row: int, column: str) -> None:
        super().__init__()
        self.row = row
        self.column = column


def segment_type(column: Column) -> pa.DataType:
    return ColumnInfo(0, column.name, column.dtype).arrow_type


def of_values(column: Column, values: Sequence[Any], storing: Storing) -> pa.Array:
    """Values as a reader of records gives them. RowMisfit."""
    kinds = set(map(type, values)) - {NOTHING}
    if not kinds:
        return pa.nulls(len(values), segment_type(column))
    if kinds <= _PLAIN.get(column.type, set()) and column.dtype != "json":
        try:
            return pa.array(values, segment_type(column))
        except (pa.ArrowException, OverflowError, UnicodeEncodeError):
            pass  # an integer that is too large, or half a surrogate pair
    return _carefully(column, values, storing)


_PLAIN: dict[str, set[type]] = {TRUTH: {bool}, WHOLE: {int}, NUMBER: {float}, STRING: {str}, ADDRESS: {str}}


def _carefully(column: Column, values: Sequence[Any], storing: Storing) -> pa.Array:
    is_null = column.type == JSON and dtype_of(column.feature) == "null"
    found = []
    for row, raw in enumerate(values):
        if raw is not None and is_null:
            raise RowMisfit(row, column.name)
        try:
            found.append(storing.store(column, raw))
        except Misfit:
            raise RowMisfit(row, column.name) from None
    if column.dtype == "json":
        found = [None if one is None else codec.dumps_large(one).decode() for one in found]
    return pa.array(found, segment_type(column))


# Texts of csv


def of_texts(column: Column, texts: pa.Array, storing: Storing) -> pa.Array:
    """Cells of csv, as strings and nulls. RowMisfit."""
    if column.type in (STRING, ADDRESS):
        return texts
    quick = _QUICK_TEXTS.get(column.type)
    array = quick(texts) if quick is not None and column.dtype != "json" else None
    return of_values(column, texts.to_pylist(), storing) if array is None else array


def _wholes(texts: pa.Array) -> pa.Array | None:
    """Integers, if each is written as it would be written again: `007` is none."""
    try:
        numbers = texts.cast(pa.int64())
    except pa.ArrowInvalid:
        return None
    return numbers if pc.all(pc.equal(numbers.cast(pa.string()), texts)).as_py() is not False else None


def _numbers(texts: pa.Array) -> pa.Array | None:
    if pc.all(pc.match_substring_regex(texts, NUMBER_PATTERN)).as_py() is False:
        return None
    try:
        return texts.cast(pa.float64())
    except pa.ArrowInvalid:  # beyond float64
        return None


def _truths(texts: pa.Array) -> pa.Array | None:
    if texts.null_count + pc.sum(pc.is_in(texts, value_set=_TRUTHS)).as_py() < len(texts):
        return None
    return pc.equal(pc.ascii_lower(texts), "true")


_QUICK_TEXTS: dict[str, Callable[[pa.Array], pa.Array | None]] = {WHOLE: _wholes, NUMBER: _numbers, TRUTH: _truths}


def see_texts(kinds: Kinds, texts: pa.Array) -> None:
    """Count cells of csv in, as Kinds.see_text does."""
    texts = texts.drop_null()
    if not len(texts) or TEXT in kinds.found:
        return
    is_integer = pc.match_substring_regex(texts, INTEGER_PATTERN)
    is_number = pc.match_substring_regex(texts, NUMBER_PATTERN)
    is_truth = pc.is_in(texts, value_set=_TRUTHS)
    integers = texts.filter(is_integer)
    if len(integers):
        kinds.found.add(INT if _wholes_of(integers) else LONG)
    if pc.any(pc.and_(is_number, pc.invert(is_integer))).as_py():
        kinds.found.add(FLOAT)
    if pc.any(is_truth).as_py():
        kinds.found.add(BOOL)
    if not pc.all(pc.or_(is_number, is_truth)).as_py():
        kinds.found.add(TEXT)


def _wholes_of(integers: pa.Array) -> bool:
    """Whether 64 bits hold all of them."""
    try:
        integers.cast(pa.int64())
    except pa.ArrowInvalid:
        return False
    return True


# Arrow


def of_arrow(column: Column, array: pa.Array, storing: Storing) -> pa.Array:
    """A column of a Parquet file. RowMisfit."""
    kind = segment_type(column)
    if not column.is_media and column.dtype != "class" and column.dtype != "json" and _casts(array.type, kind):
        try:
            return array.cast(kind)
        except pa.ArrowException:  # a time beyond what microseconds hold, or text that is not UTF-8
            pass
    return of_values(column, parquet_files.values(array), storing)


def _casts(given: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether a cast gives the very same values as the careful way."""
    if given == wanted:
        return True
    if pa.types.is_list(wanted):
        is_list = pa.types.is_list(given) or pa.types.is_large_list(given) or pa.types.is_fixed_size_list(given)
        return is_list and _casts(given.value_type, wanted.value_type)
    if pa.types.is_int64(wanted):
        return bool(pa.types.is_integer(given))
    if pa.types.is_float64(wanted):
        return pa.types.is_floating(given) and not pa.types.is_float16(given)
    if pa.types.is_string(wanted):
        return pa.types.is_large_string(given) or (pa.types.is_dictionary(given) and pa.types.is_string(given.value_type))
    if pa.types.is_timestamp(wanted):
        return pa.types.is_timestamp(given) and given.unit in ("s", "ms", "us") and given.tz in (None, "UTC")
    return pa.types.is_binary(wanted) and (pa.types.is_large_binary(given) or pa.types.is_fixed_size_binary(given))
