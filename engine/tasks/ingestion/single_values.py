"""Reading one value as the type of its column, or saying why it does not fit. Values are what a JSON reader makes of a field."""

import binascii
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime, timedelta, timezone
from typing import Any

import numpy as np

from engine.tasks import codec
from engine.tasks.ingestion.inference import unpacked
from engine.tasks.ingestion.schema import type_name
from engine.tasks.query.segments import ColumnInfo, Vectors

# What encodes JSON gives up at 254 levels.
MAX_DEPTH = 200
_INT64 = range(-(2**63), 2**63)
_TIMESTAMP = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]{1,9}))?(?:[Zz]|([+-])([0-9]{2}):([0-9]{2}))"
)
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


class Misfit(Exception):
    """A value does not fit its column; says why."""


def _misfit(info: ColumnInfo, value: Any) -> Misfit:
    return Misfit(f"is {_described(value)}, the column has {type_name(info)}")


def _described(value: Any) -> str:
    names = {bool: "true or false", int: "an integer", float: "a float", str: "a string", list: "an array", dict: "an object"}
    return names.get(type(value), "null")


def _read_bool(info: ColumnInfo, value: Any) -> bool:
    if type(value) is not bool:
        raise _misfit(info, value)
    return value


def _read_int(info: ColumnInfo, value: Any) -> int:
    if type(value) is not int:
        raise _misfit(info, value)
    if value not in _INT64:
        raise Misfit("is an integer of more than 64 bits: send it as a string, or ask for the type float64 or json")
    return value


def _read_float(info: ColumnInfo, value: Any) -> float:
    if type(value) not in (int, float):
        raise _misfit(info, value)
    try:
        return float(value)
    except OverflowError:
        raise Misfit("is a number beyond float64") from None


def _read_string(info: ColumnInfo, value: Any) -> str:
    if type(value) is not str:
        raise _misfit(info, value)
    return value


def _read_bytes(info: ColumnInfo, value: Any) -> bytes:
    try:
        return binascii.a2b_base64(_read_string(info, value).encode(), strict_mode=True)
    except ValueError:
        raise Misfit("is not base64") from None


def _read_timestamp(info: ColumnInfo, value: Any) -> datetime:
    """An instant in UTC, digits after the microseconds cut off."""
    match = _TIMESTAMP.fullmatch(_read_string(info, value))
    if match is None:
        raise Misfit('is not a time as RFC 3339 writes it, such as "2026-11-23T05:00:00Z"')
    day, time, fraction, sign, hours, minutes = match.groups()
    try:
        instant = datetime.fromisoformat(f"{day}T{time}").replace(tzinfo=timezone.utc)  # noqa: UP017
        if sign:
            if int(hours) > 23 or int(minutes) > 59:
                raise ValueError
            offset = timedelta(hours=int(hours), minutes=int(minutes))
            instant = instant - offset if sign == "+" else instant + offset
    except (ValueError, OverflowError):
        raise Misfit("is a time that does not exist") from None
    return instant.replace(microsecond=int((fraction or "")[:6].ljust(6, "0")))


def _read_date(info: ColumnInfo, value: Any) -> date:
    text = _read_string(info, value)
    try:
        if _DATE.fullmatch(text):
            return date.fromisoformat(text)
    except ValueError:
        pass
    raise Misfit('is not a date such as "2026-11-23"')


def _read_json(info: ColumnInfo, value: Any) -> str:
    """The JSON text of a value, without blanks."""
    try:
        text = codec.dumps(value).decode()
    except (ValueError, OverflowError, RecursionError):
        raise Misfit("is nested too deeply") from None
    if text.count("[") + text.count("{") > MAX_DEPTH and _depth(value) > MAX_DEPTH:
        raise Misfit("is nested too deeply")
    return text


def _depth(value: Any) -> int:
    """How many levels of arrays and objects a value has."""
    depth, level = 0, [value]
    while level := [one for one in level if type(one) in (list, dict)]:
        depth += 1
        level = [item for one in level for item in (one.values() if type(one) is dict else one)]
    return depth


def _read_list(info: ColumnInfo, value: Any) -> list[Any]:
    if type(value) is not list:
        raise _misfit(info, value)
    item = replace(info, dtype=info.dtype[5:-1])
    try:
        return [None if one is None else READERS[item.dtype](item, one) for one in value]
    except Misfit as misfit:
        raise Misfit(f"has an item that {misfit}") from None


def _read_vector(info: ColumnInfo, value: Any) -> Vectors:
    vector = unpacked(value) if type(value) is dict else _numbers(value)
    if vector is None:
        raise Misfit(f"is not a vector: the column has arrays of {info.dim} numbers")
    if len(vector) != info.dim:
        raise Misfit(f"has {len(vector)} numbers, the column has vectors of {info.dim}")
    if not np.isfinite(vector).all():
        raise Misfit("has a number that is not finite in float32")
    return vector


def _numbers(value: Any) -> Vectors | None:
    if type(value) is not list or not set(map(type, value)) <= {int, float}:
        return None
    try:
        with np.errstate(over="ignore"):
            return np.array(value, dtype=np.float64).astype(np.float32)
    except OverflowError:
        return np.full(len(value), np.inf, np.float32)


READERS: dict[str, Callable[[ColumnInfo, Any], Any]] = {
    "bool": _read_bool,
    "int64": _read_int,
    "float64": _read_float,
    "string": _read_string,
    "class": _read_string,
    "bytes": _read_bytes,
    "timestamp": _read_timestamp,
    "date": _read_date,
    "json": _read_json,
    "list": _read_list,
    "vector": _read_vector,
}
