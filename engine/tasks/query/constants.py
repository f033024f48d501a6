"""Constants of a query: numbers, texts and vectors of the text and of `params`, and the times that texts stand for."""

import datetime
from typing import Any

import numpy as np

from engine.tasks.query.bound import Value
from engine.tasks.query.datatypes import (
    BOOL,
    DATE,
    FLOAT32,
    FLOAT64,
    INT,
    INTERVAL,
    NULL,
    STRING,
    TIMESTAMP,
    DataType,
    common_type,
    list_of,
    vector_of,
)
from engine.tasks.query.refusals import Refused, quoted
from engine.tasks.query.segments import Vectors

MIN_INT, MAX_INT = -(2**63), 2**63 - 1


def value_of(value: Any, at: int | None = None) -> Value:
    """A constant of the text, or a parameter: a list of numbers is a list until a vector is wanted."""
    if isinstance(value, np.ndarray):
        return vector_value(value, at)
    if isinstance(value, list | tuple):
        return _list_value(list(value), at)
    if isinstance(value, int) and not isinstance(value, bool) and not MIN_INT <= value <= MAX_INT:
        raise Refused("arithmetic_error", "Integers have 64 bits.", at=at)
    for python_type, data_type in ((bool, BOOL), (int, INT), (float, FLOAT64), (str, STRING), (type(None), NULL)):
        if isinstance(value, python_type):
            return Value(value, data_type)
    raise Refused("bad_param", "A parameter is a number, a text, true, false, null or a list of these.", at=at)


def vector_value(array: Any, at: int | None = None) -> Value:
    """float32 [dim], or [rows, dim]."""
    with np.errstate(over="ignore"):  # the check below answers
        array = np.ascontiguousarray(array, dtype=np.float32)
    if not array.size or not np.isfinite(array).all():
        raise Refused("bad_vector", "A vector has at least one number, and all its numbers are finite in float32.", at=at)
    if array.ndim == 1:
        return Value(array.tobytes(), vector_of(len(array)))
    return Value(array.tobytes(), DataType("matrix", dim=array.shape[1]))


def vector_of_value(value: Value) -> Vectors:
    """float32 [dim], or [rows, dim] of a matrix."""
    array: Vectors = np.frombuffer(value.value, dtype=np.float32) if value.value else np.empty(0, dtype=np.float32)
    return array.reshape(-1, value.type.dim) if value.type.name == "matrix" else array


def as_vector(value: Value, at: int | None = None) -> Value:
    """A list of numbers as a vector; any other value as it is."""
    if value.type.name == "list" and value.value is not None and (value.type.element.is_number or not value.value):
        if any(item is None for item in value.value):
            raise Refused("bad_vector", "A vector has no nulls.", at=at)
        return vector_value(value.value, at)
    return value


def items_of(value: Value) -> tuple[Value, ...]:
    """The elements of a constant list, vector or matrix."""
    if value.type.name == "matrix":
        return tuple(vector_value(row) for row in vector_of_value(value))
    if value.type.name == "vector":
        return tuple(Value(float(number), FLOAT32) for number in vector_of_value(value))
    return tuple(Value(item, NULL if item is None else value.type.element) for item in value.value)


def time_value(value: Value, data_type: DataType, at: int | None = None) -> Value:
    """A constant text as the date or the timestamp (UTC) it stands for."""
    try:
        if data_type == DATE:
            return Value(datetime.date.fromisoformat(value.value), DATE)
        moment = datetime.datetime.fromisoformat(value.value)
        if moment.tzinfo is not None:
            moment = moment.astimezone(datetime.UTC).replace(tzinfo=None)
        return Value(moment, TIMESTAMP)
    except (ValueError, OverflowError):
        raise Refused(
            "type_mismatch",
            f'"{quoted(value.value)}" is no {data_type}.',
            at=at,
            hint="Write a date as 2026-11-23, and a timestamp as 2026-11-23T05:00:00Z.",
        ) from None


def interval_value(number: int, unit: str, at: int | None = None) -> Value:
    """So many units: ("day", 3)."""
    if not -(2**31) <= number < 2**31:
        raise Refused("arithmetic_error", "The number of an interval has 32 bits.", at=at)
    return Value((unit, number), INTERVAL)


def _list_value(items: list[Any], at: int | None) -> Value:
    if items and all(isinstance(item, list | np.ndarray) for item in items):
        return _matrix_value(items, at)
    if items and set(map(type, items)) == {float}:
        return Value(tuple(items), list_of(FLOAT64))  # the usual list is a vector of hundreds of numbers
    item_type = NULL
    for item in items:
        found = value_of(item, at)
        common = common_type(item_type, found.type)
        if common is None or found.type.name in ("list", "vector", "matrix"):
            raise Refused("bad_param", "A list has values of one type.", at=at)
        item_type = common
    return Value(tuple(items), list_of(item_type))


def _matrix_value(rows: list[Any], at: int | None) -> Value:
    try:
        return vector_value(np.asarray(rows, dtype=np.float64), at)
    except (ValueError, TypeError):
        raise Refused("bad_vector", "The rows of a matrix are lists of numbers, all of one length.", at=at) from None
