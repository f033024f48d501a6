"""Records to tensors: one class for each kind of input in config.json.

Each class has three ways. The native kernel reads the fields that `wanted` names, and `from_plain` makes tensors of them. The fast
way (`bulk`) takes a block in which every record is plain, and raises Irregular for any other. The careful one (`check`, then
`stack`) looks at one record at a time and says what is wrong with it. Nothing is converted silently:
numpy would turn None into NaN, "5.1" into 5.1, True into 1.0 and 1e300 into infinity, and onnxruntime None into the text "None".
"""

import math
import re
from collections.abc import Sequence
from itertools import chain
from operator import itemgetter
from typing import Any

import numpy as np

from engine.tasks import codec
from engine.tasks.codec import Fault, Record, TooLarge
from engine.tasks.scoring.kernel import Wanted

MISSING = object()
DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
WEEK_DAYS = 7
NUMPY_TYPES = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(int16)": np.int16,
    "tensor(int8)": np.int8,
    "tensor(uint8)": np.uint8,
    "tensor(uint16)": np.uint16,
    "tensor(uint32)": np.uint32,
    "tensor(uint64)": np.uint64,
    "tensor(bool)": np.bool_,
    "tensor(string)": np.object_,
}

# numpy's kind of a dtype -> the Python types whose values it takes as they are.
PLAIN_TYPES: dict[str, set[type]] = {"f": {float, int}, "i": {int}, "u": {int}, "b": {bool}, "O": {str}}


class Irregular(Exception):
    """The fast way cannot take this block; the careful way must look at each record."""


class Refused(Exception):
    """One record cannot become a tensor."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.fault = Fault(code, reason)


class Scalars:
    """Values of one dtype: recognises many plain ones at once, and checks a single one.

    dtype  numpy type of the tensor; object for strings
    """

    def __init__(self, dtype: Any, *, coerce: bool) -> None:
        self.dtype = np.dtype(dtype)
        self._coerce = coerce
        self._plain_types = PLAIN_TYPES[self.dtype.kind]

    def bulk(self, values: list[Any]) -> np.ndarray:
        """All values as one array [N]. Irregular unless each of them is plain and in range."""
        if not set(map(type, values)) <= self._plain_types:
            raise Irregular
        try:
            with np.errstate(over="ignore"):
                array = np.array(values, dtype=self.dtype)
        except (OverflowError, ValueError):
            raise Irregular from None
        if self.dtype.kind == "f" and not np.isfinite(array).all():
            raise Irregular
        return array

    def check(self, value: Any, name: str) -> Any:
        """One value as the model takes it. Refused says what is wrong with it."""
        if value is None:
            raise Refused("missing_field", f"field '{name}' is null, and the model needs {self._expected()}")
        if value is MISSING:
            raise Refused("missing_field", f"field '{name}' is missing")
        if self._coerce:
            value = self._coerced(value)
        if type(value) is TooLarge and self.dtype.kind in "fiu":
            raise Refused("out_of_range", f"field '{name}' does not fit {self.dtype.name}")
        if type(value) is float and self.dtype.kind in "iu":
            value = self._integral(value, name)
        if type(value) not in self._plain_types:
            raise Refused("wrong_type", f"field '{name}' must be {self._expected()}, not {json_type(value)}")
        if self.dtype.kind == "f":
            return self._check_float(value, name)
        if self.dtype.kind in "iu":
            return self._check_integer(value, name)
        return value

    def _integral(self, value: float, name: str) -> Any:
        """7.0 becomes the integer 7; 1.7 stays a float. Refused beyond 64 bits, where a float may not be the number as written."""
        if not value.is_integer():
            return value
        if not -(2.0**63) < value < 2.0**64:
            raise Refused("out_of_range", f"field '{name}' does not fit {self.dtype.name}")
        return int(value)

    def array(self, values: list[Any]) -> np.ndarray:
        """Values that `check` returned, as one array [N]."""
        return np.array(values, dtype=self.dtype)

    def _coerced(self, value: Any) -> Any:
        if self.dtype.kind == "O" and type(value) in (int, float, bool):
            return codec.dumps(value).decode()
        if type(value) is str and self.dtype.kind in "fiu":
            try:
                number = codec.number(value)
            except (ValueError, RecursionError):
                return value
            return number if type(number) in (int, float, TooLarge) else value
        return value

    def _check_float(self, value: float, name: str) -> float:
        try:
            given = float(value)
        except OverflowError:
            given = math.inf
            value = 0
        with np.errstate(over="ignore"):
            overflows = math.isinf(self.dtype.type(given)) and not (type(value) is float and math.isinf(value))
        if overflows:
            raise Refused("out_of_range", f"field '{name}' does not fit {self.dtype.name}")
        return given

    def _check_integer(self, value: int, name: str) -> int:
        limits = np.iinfo(self.dtype)
        if not limits.min <= value <= limits.max:
            raise Refused("out_of_range", f"field '{name}' does not fit {self.dtype.name}")
        return value

    def _expected(self) -> str:
        return {"f": "a number", "i": "an integer", "u": "an integer", "b": "true or false", "O": "a string"}[self.dtype.kind]


def json_type(value: Any) -> str:
    """The JSON name of a value's type."""
    names = {bool: "a boolean", str: "a string", int: "an integer", float: "a number", list: "an array", dict: "an object"}
    return names.get(type(value), "null")


def absent(record: Record, name: str, wanted: str) -> Refused:
    """The refusal of a field that has no value: it is not there, or it is null."""
    text = f"field '{name}' is null, and the model needs {wanted}" if name in record else f"field '{name}' is missing"
    return Refused("missing_field", text)


def default_of(entry: dict[str, Any], scalars: Scalars) -> Any:
    """The value that stands for an absent field; MISSING if the field is required. "nan" means NaN for float inputs only."""
    missing = entry.get("missing")
    if missing is None:
        return MISSING
    return math.nan if missing == "nan" and scalars.dtype.kind == "f" else missing


class Column:
    """One field -> [N] or [N,1]; or [], one value for all records of a run.

    is_mixed  the records of a run must agree on the value (`likeness`)
    """

    def __init__(self, entry: dict[str, Any], dtype: Any, rank: int) -> None:
        self.name: str = entry["input"]
        self._field: str = entry["field"]
        self._scalars = Scalars(dtype, coerce=entry.get("coerce", False))
        self._default = default_of(entry, self._scalars)
        self._rank = rank
        self.is_mixed = rank == 0

    def likeness(self, record: Record) -> Any:
        """What records of one run must have in common."""
        value = record.get(self._field)
        return value if isinstance(value, int | float | str) else None

    def wanted(self) -> Wanted | None:
        return None if self.is_mixed else Wanted((self._field,), self._scalars.dtype)

    def from_plain(self, array: np.ndarray) -> dict[str, np.ndarray]:
        return self._shaped(array[:, 0])

    def bulk(self, records: Sequence[Record]) -> dict[str, np.ndarray]:
        try:
            return self._shaped(self._scalars.bulk(list(map(itemgetter(self._field), records))))
        except KeyError:
            raise Irregular from None

    def check(self, record: Record) -> Any:
        value = record.get(self._field, MISSING)
        if (value is None or value is MISSING) and self._default is not MISSING:
            return self._default
        return self._scalars.check(value, self._field)

    def stack(self, values: list[Any]) -> dict[str, np.ndarray]:
        return self._shaped(self._scalars.array(values))

    def _shaped(self, array: np.ndarray) -> dict[str, np.ndarray]:
        if self._rank == 0:
            return {self.name: array[:1].reshape(())}
        return {self.name: array.reshape(-1, 1) if self._rank == 2 else array}


class Matrix:
    """Several fields, in order -> [N,k]. A record that lacks some of them may have its whole row as a list in one field."""

    def __init__(self, entry: dict[str, Any], dtype: Any, rank: int) -> None:
        self.name: str = entry["input"]
        self._features: list[str] = entry["features"]
        self._row = itemgetter(*self._features)
        self._scalars = Scalars(dtype, coerce=entry.get("coerce", False))
        self._default = default_of(entry, self._scalars)
        # A model that was published without a config also takes its row as one list, in the field named like the input.
        self._list_field: str | None = entry.get("field")

    def wanted(self) -> Wanted:
        return Wanted(tuple(self._features), self._scalars.dtype)

    def from_plain(self, array: np.ndarray) -> dict[str, np.ndarray]:
        return {self.name: array}

    def bulk(self, records: Sequence[Record]) -> dict[str, np.ndarray]:
        try:
            rows = map(self._row, records)
            values = list(chain.from_iterable(rows)) if len(self._features) > 1 else list(rows)
        except KeyError:
            values = self._bulk_lists(records)
        return {self.name: self._scalars.bulk(values).reshape(-1, len(self._features))}

    def _bulk_lists(self, records: Sequence[Record]) -> list[Any]:
        """The values of all records, which must all have their row as one list. Irregular."""
        if self._list_field is None or any(self._features[0] in record for record in records):
            raise Irregular
        rows: list[Any] = [record.get(self._list_field) for record in records]
        if set(map(type, rows)) != {list} or set(map(len, rows)) != {len(self._features)}:
            raise Irregular
        return list(chain.from_iterable(rows))

    def check(self, record: Record) -> list[Any]:
        if self._list_field is not None and self._has_list(record, self._list_field):
            return _check_list(self._scalars, record[self._list_field], self._list_field, len(self._features))
        return [self._check_feature(record, name) for name in self._features]

    def _has_list(self, record: Record, name: str) -> bool:
        """Whether to read a record's row from its list. If it has every field as well, its fields are read, here and in bulk."""
        return type(record.get(name)) is list and not all(feature in record for feature in self._features)

    def _check_feature(self, record: Record, name: str) -> Any:
        value = record.get(name, MISSING)
        if (value is None or value is MISSING) and self._default is not MISSING:
            return self._default
        return self._scalars.check(value, name)

    def stack(self, values: list[list[Any]]) -> dict[str, np.ndarray]:
        return {self.name: self._scalars.array(list(chain.from_iterable(values))).reshape(-1, len(self._features))}


class Vector:
    """One field with a list of k values -> [N,k]. A default stands for the whole list, never for a single value in it."""

    def __init__(self, entry: dict[str, Any], dtype: Any, width: int) -> None:
        self.name: str = entry["input"]
        self._field: str = entry["field"]
        self._width = width
        self._scalars = Scalars(dtype, coerce=entry.get("coerce", False))
        default = default_of(entry, self._scalars)
        self._default: Any = default if default is MISSING or type(default) is list else [default] * width

    def wanted(self) -> Wanted:
        return Wanted((self._field,), self._scalars.dtype, self._width)

    def from_plain(self, array: np.ndarray) -> dict[str, np.ndarray]:
        return {self.name: array}

    def bulk(self, records: Sequence[Record]) -> dict[str, np.ndarray]:
        if self._default is not MISSING:
            return self._bulk_with_default([record.get(self._field) for record in records])
        try:
            return self._bulk_lists(list(map(itemgetter(self._field), records)))
        except KeyError:
            raise Irregular from None

    def _bulk_lists(self, rows: list[Any]) -> dict[str, np.ndarray]:
        if set(map(type, rows)) != {list} or set(map(len, rows)) != {self._width}:
            raise Irregular
        return {self.name: self._scalars.bulk(list(chain.from_iterable(rows))).reshape(-1, self._width)}

    def _bulk_with_default(self, rows: list[Any]) -> dict[str, np.ndarray]:
        """Rows of which some may be absent. The default may be NaN, which no record may have, so it is put in afterwards."""
        absent = [i for i, row in enumerate(rows) if row is None]
        if not absent:
            return self._bulk_lists(rows)
        if len(absent) == len(rows):
            return self.stack([self._default] * len(rows))
        given = next(row for row in rows if row is not None)
        stacked = self._bulk_lists([given if row is None else row for row in rows])
        stacked[self.name][absent] = self._scalars.array(self._default)
        return stacked

    def check(self, record: Record) -> list[Any]:
        row = record.get(self._field)
        if row is None and self._default is not MISSING:
            return self._default
        if row is None:
            raise absent(record, self._field, f"a list of {self._width} values")
        if type(row) is not list:
            raise Refused("wrong_type", f"field '{self._field}' must be a list, not {json_type(row)}")
        return _check_list(self._scalars, row, self._field, self._width)

    def stack(self, values: list[list[Any]]) -> dict[str, np.ndarray]:
        return {self.name: self._scalars.array(list(chain.from_iterable(values))).reshape(-1, self._width)}


class PeriodDays:
    """One field with the date of the last of several periods -> [N,window]: days from the origin to each, the oldest first."""

    def __init__(self, entry: dict[str, Any], dtype: Any) -> None:
        self.name: str = entry["input"]
        self._field: str = entry["field"]
        self._frequency: str = entry["frequency"]
        self._steps = np.arange(1 - entry["window"], 1)
        self._origin = np.datetime64(entry["origin"], "D")
        self._dtype = np.dtype(dtype)

    def wanted(self) -> Wanted:
        return Wanted((self._field,), np.dtype(np.object_))

    def from_plain(self, array: np.ndarray) -> dict[str, np.ndarray]:
        return self._of_texts(array[:, 0].tolist())

    def bulk(self, records: Sequence[Record]) -> dict[str, np.ndarray]:
        return self._of_texts([record.get(self._field) for record in records])

    def _of_texts(self, texts: list[Any]) -> dict[str, np.ndarray]:
        """Each date is looked at once: the records of a stream have few different ones. Irregular if one is not a date."""
        try:
            dates = {text: self._date(text) for text in set(texts)}
        except (Refused, TypeError):  # a list cannot be in a set
            raise Irregular from None
        places = {text: place for place, text in enumerate(dates)}
        rows = self.stack(list(dates.values()))[self.name]
        return {self.name: rows[[places[text] for text in texts]]}

    def check(self, record: Record) -> np.datetime64:
        """The date of one record. Refused unless it is the first day of a period."""
        if record.get(self._field) is None:
            raise absent(record, self._field, "a date")
        return self._date(record[self._field])

    def _date(self, text: Any) -> np.datetime64:
        if type(text) is not str or not DATE.fullmatch(text):
            raise Refused("wrong_type", f"field '{self._field}' must be a date such as 2018-01-07")
        try:
            date = np.datetime64(text, "D")
        except ValueError:
            raise Refused("wrong_type", f"field '{self._field}' must be a date such as 2018-01-07") from None
        if self._frequency == "weekly" and int((date - self._origin).astype(np.int64)) % WEEK_DAYS:
            raise Refused("out_of_range", f"field '{self._field}' must be whole weeks from {self._origin}")
        if self._frequency == "monthly" and not text.endswith("-01"):
            raise Refused("out_of_range", f"field '{self._field}' must be the first day of a month")
        return date

    def stack(self, values: list[np.datetime64]) -> dict[str, np.ndarray]:
        dates = np.array(values, dtype="datetime64[D]")[:, None]
        if self._frequency == "monthly":
            starts = (dates.astype("datetime64[M]") + self._steps).astype("datetime64[D]")
        else:
            starts = dates + self._steps * (WEEK_DAYS if self._frequency == "weekly" else 1)
        return {self.name: (starts - self._origin).astype(np.int64).astype(self._dtype)}


def _check_list(scalars: Scalars, row: list[Any], name: str, width: int) -> list[Any]:
    if any(type(value) is list for value in row):
        raise Refused("wrong_type", f"field '{name}' has lists in a list, and the model takes one flat list of {width} values")
    if len(row) != width:
        raise Refused("wrong_length", f"field '{name}' has {len(row)} values, the model takes {width}")
    return [scalars.check(value, f"{name}[{i}]") for i, value in enumerate(row)]


Input = Column | Matrix | Vector | PeriodDays


def build_input(entry: dict[str, Any], graph_type: str, shape: list[Any]) -> Input:
    """The class for an entry of config.json whose graph input has this type and shape."""
    dtype = NUMPY_TYPES[graph_type]
    if entry["kind"] == "column":
        return Column(entry, dtype, len(shape))
    if entry["kind"] == "matrix":
        return Matrix(entry, dtype, len(shape))
    if entry["kind"] == "period_days":
        return PeriodDays(entry, dtype)
    return Vector(entry, dtype, shape[-1])
