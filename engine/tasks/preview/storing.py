"""From what a reader gives to what a segment stores; cells.py shows what is stored. Preview and prepared rows so are the same.

Stored values by dtype of the column: bool, int, float, str; int for `class`; bytes; datetime; date; list; and for `json` a value
as JSON has it. The bytes of a picture or sound that cannot be had are b"".
"""

import datetime
from collections.abc import Callable
from typing import Any

from engine.tasks import codec
from engine.tasks.preview import pictures
from engine.tasks.preview.columns import (
    ADDRESS,
    CLASS,
    JSON,
    MATRIX_RANKS,
    NUMBER,
    PICTURE,
    SOUND,
    STRING,
    TRUTH,
    WHOLE,
    Column,
    is_matrix,
)
from engine.tasks.preview.features import dtype_of
from engine.tasks.preview.files import Folder
from engine.tasks.preview.values import INTEGER, MAX_INTEGER_CHARACTERS, TRUTHS, digits, integer, is_small, plain, text, text_of
from engine.tasks.preview.values import NUMBER as NUMBER_TEXT

MAX_MEDIA_BYTES = 10 * 1024 * 1024
LOST = b""
UNLABELLED = -1


class Misfit(Exception):
    """A value does not fit the type of its column."""


class Storing:
    """What the values of one split are stored as.

    folder   of the dataset: pictures and sounds may be files of it
    is_text  values are texts of csv
    has_json_texts  JSON columns come as the texts that segments have for them
    """

    def __init__(self, folder: Folder, *, is_text: bool = False, has_json_texts: bool = False) -> None:
        self._folder = folder
        self._is_text = is_text
        self._has_json_texts = has_json_texts
        self._by_type: dict[str, Callable[[Column, Any], Any]] = {
            TRUTH: self._truth,
            WHOLE: self._whole,
            NUMBER: self._number,
            STRING: self._string,
            ADDRESS: self._string,
            CLASS: self._label,
            PICTURE: self._media,
            SOUND: self._media,
            JSON: self._json,
        }

    def store(self, column: Column, raw: Any) -> Any:
        """Misfit."""
        return None if raw is None else self._by_type[column.type](column, raw)

    def store_or_text(self, column: Column, raw: Any) -> Any:
        """What is shown of a value: one that does not fit is shown as it is, for one odd cell must not lose a split."""
        try:
            return self.store(column, raw)
        except Misfit:
            return UNLABELLED if column.type == CLASS else plain(raw)

    def _truth(self, column: Column, raw: Any) -> bool:
        if type(raw) is bool:
            return raw
        if self._is_text and raw in TRUTHS:
            return TRUTHS[raw]
        raise Misfit

    def _whole(self, column: Column, raw: Any) -> int:
        if self._is_text:
            raw = integer(raw) if column.dtype != "json" else _long(raw)
        if type(raw) is float and raw.is_integer() and column.is_declared:
            raw = int(raw)
        if type(raw) is int and (is_small(raw) or column.dtype == "json"):
            return raw
        raise Misfit

    def _number(self, column: Column, raw: Any) -> float:
        try:
            if self._is_text and not NUMBER_TEXT.match(raw):
                raise Misfit
            if self._is_text or type(raw) is int or isinstance(raw, float):
                return float(raw)
        except OverflowError:
            pass
        raise Misfit

    def _string(self, column: Column, raw: Any) -> str:
        if type(raw) is str:
            return text(raw)
        if type(raw) is int:
            return digits(raw)
        if column.is_declared:
            return raw.decode(errors="replace") if isinstance(raw, bytes) else text_of(plain(raw))
        raise Misfit

    def _label(self, column: Column, raw: Any) -> int:
        """The index of a label by its index or its name; UNLABELLED for another, which a segment's `class` does not hold."""
        index = UNLABELLED
        if type(raw) is str:
            number = integer(raw) if raw not in column.labels else None
            index = (
                column.labels.index(raw) if number is None and raw in column.labels else UNLABELLED if number is None else number
            )
        elif type(raw) is int or (type(raw) is float and raw.is_integer()):
            index = int(raw)
        if not column.labels:
            return index if is_small(index) else UNLABELLED
        index = index if 0 <= index < len(column.labels) else UNLABELLED
        if index == UNLABELLED and column.dtype == "class":
            raise Misfit
        return index

    def _json(self, column: Column, raw: Any) -> Any:
        if column.dtype == "json":
            return plain(_parsed(raw) if self._has_json_texts and dtype_of(column.feature) == "json" else raw)
        if column.dtype.startswith("list<"):
            return _list(raw, column.dtype[5:-1])
        kinds = {"bytes": bytes, "timestamp": datetime.datetime, "date": datetime.date}
        if isinstance(raw, kinds[column.dtype]):
            return raw
        raise Misfit

    def _media(self, column: Column, raw: Any) -> bytes:
        if isinstance(raw, dict):
            raw = raw.get("bytes") or raw.get("path")
        if isinstance(raw, bytes):
            return raw if len(raw) <= MAX_MEDIA_BYTES else LOST
        if isinstance(raw, str):
            return self._read(raw)
        if column.type == PICTURE and any(is_matrix(raw, rank) for rank in MATRIX_RANKS.values()):
            return pictures.of_matrix(raw) or LOST
        return LOST

    def _read(self, path: str) -> bytes:
        """The file of a cell, if it is in the dataset. An address with a host has an empty part, which no path has."""
        try:
            with self._folder.open(path) as file:
                data = file.read(MAX_MEDIA_BYTES + 1)
        except (OSError, ValueError):
            return LOST
        return data if len(data) <= MAX_MEDIA_BYTES else LOST


def _parsed(raw: Any) -> Any:
    """The value that a text of JSON is; the text itself where it is none."""
    try:
        return codec.parse_exactly(raw.encode()) if isinstance(raw, str) else raw
    except (codec.NotJson, RecursionError):
        return raw


def _long(raw: str) -> int | None:
    return int(raw) if len(raw) <= MAX_INTEGER_CHARACTERS and INTEGER.match(raw) else None


_ITEMS: dict[str, tuple[type, ...]] = {"bool": (bool,), "int64": (int,), "float64": (int, float), "string": (str,)}


def _list(raw: Any, item: str) -> list[Any]:
    """A list of scalars of one type. Misfit."""
    if not isinstance(raw, list):
        raise Misfit
    kinds = set(map(type, raw)) - {type(None)}
    if not kinds <= set(_ITEMS[item]):
        raise Misfit
    if item == "int64" and not all(one is None or is_small(one) for one in raw):
        raise Misfit
    if item == "float64":
        try:
            return [None if one is None else float(one) for one in raw]
        except OverflowError:
            raise Misfit from None
    return [None if one is None else text(one) for one in raw] if item == "string" else raw
