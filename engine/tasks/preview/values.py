"""Values of cells as JSON has them, and texts of csv as values. Knows no columns."""

import base64
import datetime
import decimal
import math
import re
from typing import Any

from engine.tasks import codec
from engine.tasks.preview.limits import MAX_NESTING

MIN_INTEGER, MAX_INTEGER = -(2**63), 2**63 - 1
# What JSON takes as a number, also without the zero beside its point.
INTEGER_PATTERN = r"^-?(?:0|[1-9][0-9]*)$"
NUMBER_PATTERN = r"^-?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?$"
INTEGER = re.compile(INTEGER_PATTERN.replace("$", r"\Z"))
NUMBER = re.compile(NUMBER_PATTERN.replace("$", r"\Z"))
TRUTHS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
# More digits are certainly beyond 64 bits; Python takes long over thousands of them.
MAX_INTEGER_CHARACTERS = 20
NULLS = frozenset({"", "NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "None", "<NA>", "#N/A"})


class _TooDeep(Exception):
    pass


def is_small(value: int) -> bool:
    """Whether 64 bits hold an integer."""
    return MIN_INTEGER <= value <= MAX_INTEGER


def integer(text: str) -> int | None:
    """The integer that a text of csv is; None for another text, and for one that 64 bits do not hold."""
    if len(text) > MAX_INTEGER_CHARACTERS or not INTEGER.match(text):
        return None
    value = int(text)
    return value if is_small(value) else None


def plain(value: Any) -> Any:
    """A value as JSON has it: bytes as base64, dates as ISO 8601, what JSON does not have as its text, NaN as null.

    A value that is nested too deeply becomes its text.
    """
    try:
        return _plain(value, MAX_NESTING)
    except _TooDeep:
        return text_of(value)


def text_of(value: Any) -> str:
    """The JSON of a value, whatever its depth."""
    try:
        return codec.dumps_large(value).decode(errors="replace")
    except (ValueError, TypeError, RecursionError, OverflowError):
        return "[...]" if isinstance(value, list) else "{...}"


def _plain(value: Any, depth: int) -> Any:
    if value is None or value is True or value is False:
        return value
    kind = type(value)
    if kind is str:
        return text(value)
    if kind is int:
        return value if -(2**63) <= value < 2**64 else digits(value)
    if kind is float:
        return value if math.isfinite(value) else None
    if depth == 0 and isinstance(value, list | tuple | dict):
        raise _TooDeep
    if isinstance(value, list | tuple):
        return [_plain(one, depth - 1) for one in value]
    if isinstance(value, dict):
        return {text(str(key)): _plain(one, depth - 1) for key, one in value.items()}
    return _unusual(value)


def _unusual(value: Any) -> Any:
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(value).decode()
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return duration(value)
    if isinstance(value, decimal.Decimal):
        return format(value, "f") if abs(value.adjusted()) < 100 else str(value)
    if isinstance(value, float):  # numpy's, and codec.TooLarge
        return float(value) if math.isfinite(value) else None
    return text(str(value))


def duration(value: datetime.timedelta) -> str:
    """A length of time in ISO 8601: `P1DT2H3M4.5S`."""
    micros = value // datetime.timedelta(microseconds=1)
    seconds, micros = divmod(abs(micros), 1_000_000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    fraction = f".{micros:06}".rstrip("0") if micros else ""
    sign = "-" if value < datetime.timedelta(0) else ""
    return f"{sign}P{days}DT{hours}H{minutes}M{seconds}{fraction}S"


def text(value: str) -> str:
    """The text as UTF-8 can have it: a lone half of a surrogate pair becomes U+FFFD."""
    return value if value.isascii() or not _has_surrogates(value) else codec.without_surrogates(value)


def _has_surrogates(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return True
    return False


def digits(value: int) -> str:
    """The decimal digits of any integer; of one beyond Python's limit, its hexadecimal digits."""
    try:
        return str(value)
    except ValueError:
        return hex(value)
