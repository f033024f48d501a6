"""Cells: stored values as answers show them. Pictures and sounds become files in the folder of the run, their cells addresses.

Two answers show a cell in two forms: `/rows` as the old text has it, all others in the modern form. They differ in media alone.
"""

import base64
import binascii
import hashlib
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from engine.tasks import codec
from engine.tasks.preview import pictures, sounds
from engine.tasks.preview.columns import CLASS, NUMBER, Column
from engine.tasks.preview.features import dtype_of, has_media, kind_of
from engine.tasks.preview.values import plain

MAX_ASSET_BYTES = 64 * 1024 * 1024
# Stands in modern cells where the public address of the server comes in. No data can have it: it is made anew in each replica.
BASE = secrets.token_hex(16)


class Cell(NamedTuple):
    """A value in both forms. is_lost: there is a picture or sound which cannot be shown. is_cut: whether it may be cut."""

    old: Any
    modern: Any
    is_lost: bool = False
    may_cut: bool = True


@dataclass(slots=True)
class Place:
    """Where the rows of a split are shown, and where their files go.

    assets  folder of the run, absolute
    run     of the address in modern cells
    """

    dataset: str
    config: str
    split: str
    assets: str
    run: str
    num_files: int = 0
    num_bytes: int = 0
    hashes: dict[str, str] = field(default_factory=dict)

    def keep(self, row: int, column: str, filename: str, data: bytes) -> str | None:
        """Write a file, and return its address without a base; None when the split has no room for more."""
        if self.num_bytes + len(data) > MAX_ASSET_BYTES:
            return None
        folder = Path(self.assets) / str(row) / self.hashes.setdefault(column, column_hash(column))
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / f".{filename}.{secrets.token_hex(4)}"
        partial.write_bytes(data)
        os.replace(partial, folder / filename)
        self.num_files += 1
        self.num_bytes += len(data)
        parts = (self.config, self.split, str(row), column, filename)
        return f"assets/{quote(self.dataset)}/--/{'/'.join(quote(part, safe='') for part in parts)}"


def column_hash(name: str) -> str:
    """The folder of a column: its name may have slashes, or be longer than a folder's can."""
    return hashlib.blake2b(name.encode(errors="replace"), digest_size=8).hexdigest()


def cell(column: Column, value: Any, row: int, place: Place) -> Cell:
    """A stored value (storing.py) as it is shown."""
    if column.is_media:
        return Cell(None, None) if value is None else _media_cell(column.feature, value, row, column.name, (), place)
    if column.type == NUMBER or (value is not None and column.dtype in ("bytes", "timestamp", "date")):
        value = plain(_naive(column, value))
    elif column.dtype.startswith("list<"):
        value = plain(value)
    if value is not None and has_media(column.feature):
        return _nested(column, value, row, place)
    return Cell(value, value)


def _naive(column: Column, value: Any) -> Any:
    """An instant without a zone where the file has none; segments have all in UTC."""
    if column.dtype == "timestamp" and "tz=" not in dtype_of(column.feature) and hasattr(value, "tzinfo"):
        return value.replace(tzinfo=None)
    return value


# Media


def _media_cell(feature: Any, data: Any, row: int, column: str, path: tuple[Any, ...], place: Place) -> Cell:
    if not isinstance(data, bytes):
        return Cell(None, None, is_lost=True)
    show = _picture if kind_of(feature) == "Image" else _sound
    return show(data, row, column, path, place) or Cell(None, None, is_lost=True)


def _picture(data: bytes, row: int, column: str, path: tuple[Any, ...], place: Place) -> Cell | None:
    picture = pictures.written_anew(data)
    if picture is None:
        return None
    address = place.keep(row, column, f"{_stem('image', path)}.{picture.suffix}", picture.data)
    if address is None:
        return None
    source = {"src": f"{BASE}{address}?v={place.run}", "height": picture.height, "width": picture.width}
    return Cell(address, source, may_cut=False)


def _sound(data: bytes, row: int, column: str, path: tuple[Any, ...], place: Place) -> Cell | None:
    old, modern = [], []
    for sound in sounds.forms_of(data):
        address = place.keep(row, column, f"{_stem('audio', path)}.{sound.suffix}", sound.data)
        if address is not None:
            old.append({"src": address, "type": sound.media_type})
            modern.append({"src": f"{BASE}{address}?v={place.run}", "type": sound.media_type})
    return Cell(old, modern, may_cut=False) if old else None


def _stem(word: str, path: tuple[Any, ...]) -> str:
    if not path:
        return word
    return f"{word}-{hashlib.blake2b(codec.dumps(list(path)), digest_size=4).hexdigest()}"


def _nested(column: Column, value: Any, row: int, place: Place) -> Cell:
    """A value with pictures or sounds somewhere in it."""
    lost: list[tuple[Any, ...]] = []

    def walk(feature: Any, inner: Any, path: tuple[Any, ...]) -> tuple[Any, Any]:
        kind = kind_of(feature)
        if inner is None:
            return None, None
        if kind in ("Image", "Audio"):
            shown = _media_cell(feature, _bytes_of(inner), row, column.name, path, place)
            if shown.is_lost:
                lost.append(path)
            return shown.old, shown.modern
        if kind == "List" and isinstance(inner, list):
            pairs = [walk(feature["feature"], one, (*path, i)) for i, one in enumerate(inner)]
            return [old for old, _ in pairs], [modern for _, modern in pairs]
        if kind == "object" and isinstance(inner, dict):
            found = {name: walk(feature.get(name), one, (*path, name)) for name, one in inner.items()}
            return {name: old for name, (old, _) in found.items()}, {name: modern for name, (_, modern) in found.items()}
        return inner, inner

    old, modern = walk(column.feature, value, ())
    return Cell(old, modern, is_lost=bool(lost), may_cut=False)


def _bytes_of(inner: Any) -> bytes | None:
    """The file of a nested picture or sound, whose bytes are base64 by now."""
    if isinstance(inner, dict):
        inner = inner.get("bytes")
    if not isinstance(inner, str):
        return None
    try:
        return base64.b64decode(inner, validate=True)
    except binascii.Error:
        return None


# Records for a model


def record_value(column: Column, value: Any) -> Any:
    """An uncut cell as a model gets it: labels by name."""
    if column.type == CLASS and type(value) is int:
        return column.labels[value] if 0 <= value < len(column.labels) else None
    return value
