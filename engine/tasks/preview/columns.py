"""Columns: which type each has, from what is declared and what the first rows hold, and how its rows are stored when prepared.

The types are those of the answer of `/rows`; COLUMN in the docstring of the family is how they travel.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from engine.frames import Header
from engine.tasks.preview import signatures
from engine.tasks.preview.features import AUDIO, IMAGE, dtype_of, has_media, kind_of
from engine.tasks.preview.kinds import BOOL, BYTES, FLOAT, INT, LIST, LONG, OBJECT, TEXT, Kinds, feature_of, value_feature

SOUND, CLASS, PICTURE, ADDRESS = "AUDIO_RELATIVE_SOURCES", "CLASS_LABEL", "RELATIVE_IMAGE_URL", "IMAGE_URL"
TRUTH, WHOLE, NUMBER, STRING, JSON = "BOOL", "INT", "FLOAT", "STRING", "JSON"
ADDRESS_NAME = "image_url"
# A matrix of bytes with this name is a picture: its rank.
MATRIX_RANKS = {"image": 2, "img": 3}
_SCALARS = {"bool": TRUTH, "string": STRING, "float16": NUMBER, "float32": NUMBER, "float64": NUMBER}
_SCALARS |= {f"{sign}int{bits}": WHOLE for sign in ("", "u") for bits in (8, 16, 32, 64)}
_DTYPES = {TRUTH: "bool", WHOLE: "int64", NUMBER: "float64", STRING: "string", ADDRESS: "string", CLASS: "class"}
_DTYPES |= {PICTURE: "bytes", SOUND: "bytes"}
_ITEM_DTYPES = {"bool": "bool", "int64": "int64", "int32": "int64", "int16": "int64", "int8": "int64", "uint8": "int64"}
_ITEM_DTYPES |= {"uint16": "int64", "uint32": "int64", "float32": "float64", "float64": "float64", "string": "string"}


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a split.

    labels       of a class
    feature      features.py
    dtype        in the segment, a key of segments.ARROW_TYPES or `list<T>`
    is_declared  its type does not come from the rows
    """

    name: str
    type: str
    feature: Any
    dtype: str
    labels: tuple[str, ...] = ()
    is_declared: bool = False

    @property
    def is_media(self) -> bool:
        return self.type in (PICTURE, SOUND)

    def header(self) -> Header:
        labels = list(self.labels) if self.type == CLASS else None
        told = {"name": self.name, "type": self.type, "labels": labels, "feature": self.feature, "dtype": self.dtype}
        return {**told, "declared": self.is_declared}

    @classmethod
    def from_header(cls, header: Header) -> "Column":
        labels = tuple(header.get("labels") or ())
        fields = {name: header[name] for name in ("name", "type", "feature", "dtype")}
        return cls(**fields, labels=labels, is_declared=bool(header.get("declared")))


# From features


def of_feature(name: str, feature: Any, *, is_typed: bool) -> Column:
    """The column of a feature.

    is_typed  its values come with Arrow types, so that dates are dates and bytes are bytes
    """
    word = _type_of(name, feature)
    labels = tuple(feature["names"]) if word == CLASS else ()
    feature = IMAGE if word == PICTURE else feature
    dtype = _DTYPES.get(word) or _stored_json(feature, is_typed)
    if dtype_of(feature) == "uint64":
        dtype = "json"  # int64 does not hold all of it
    if word == CLASS and not labels:
        dtype = "int64"
    return Column(name, word, feature, dtype, labels, is_declared=True)


def _type_of(name: str, feature: Any) -> str:
    kind = kind_of(feature)
    if kind == "Value":
        word = _SCALARS.get(dtype_of(feature), JSON)
        return ADDRESS if word == STRING and name == ADDRESS_NAME else word
    if kind == "List" and _byte_rank(feature) == MATRIX_RANKS.get(name, -1):
        return PICTURE
    return {"ClassLabel": CLASS, "Image": PICTURE, "Audio": SOUND}.get(kind, JSON)


def _byte_rank(feature: Any) -> int:
    """How deep lists of uint8 are nested; 0 for anything else."""
    rank = 0
    while kind_of(feature) == "List":
        feature, rank = feature["feature"], rank + 1
    return rank if dtype_of(feature) == "uint8" else 0


def _stored_json(feature: Any, is_typed: bool) -> str:
    """How values that are shown as JSON are stored: as what they are where segments have such a type, else as their JSON."""
    word = dtype_of(feature)
    if is_typed and word == "date32[day]":
        return "date"
    if is_typed and word in ("timestamp[us, tz=UTC]", "timestamp[us]", "timestamp[ms]", "timestamp[s]"):
        return "timestamp"
    if is_typed and word in ("binary", "fixed_size_binary"):
        return "bytes"
    if kind_of(feature) == "List" and (item := _ITEM_DTYPES.get(dtype_of(feature["feature"]))):
        return f"list<{item}>"
    return "json"


# From rows


@dataclass(slots=True)
class Seen:
    """What the values of one field are: their kinds, and which of the forms of media all of them have."""

    kinds: Kinds = field(default_factory=Kinds)
    forms: frozenset[str] | None = None

    def see(self, name: str, value: Any) -> None:
        if value is not None:
            self.kinds.see(value)
            if self.forms is None or self.forms:
                found = _forms(name, value)
                self.forms = found if self.forms is None else self.forms & found


def _forms(name: str, value: Any) -> frozenset[str]:
    """`picture` or `sound`, if a value may be one."""
    if isinstance(value, bytes):
        return frozenset({"picture"} if signatures.image_suffix(value) else ())
    if isinstance(value, dict) and "bytes" in value and value.keys() <= {"bytes", "path", "sampling_rate"}:
        return _forms_of_struct(value)
    if isinstance(value, list) and is_matrix(value, MATRIX_RANKS.get(name, 0)):
        return frozenset({"picture"})
    return frozenset()


def _forms_of_struct(value: dict[str, Any]) -> frozenset[str]:
    data, path = value["bytes"], value.get("path")
    if data is None and path is None:
        return frozenset({"picture", "sound"})
    if isinstance(path, str) and signatures.is_sound_name(path):
        return frozenset({"sound"})
    return frozenset({"picture"} if isinstance(data, bytes) and signatures.image_suffix(data) else ())


def is_matrix(value: Any, rank: int) -> bool:
    """Whether a value is a list of equal lists, `rank` deep, of integers from 0 to 255."""
    if rank == 0 or not isinstance(value, list) or not value:
        return False
    if rank == 1:
        return set(map(type, value)) == {int} and min(value) >= 0 and max(value) <= 255
    return len({len(one) if isinstance(one, list) else -1 for one in value}) == 1 and all(is_matrix(one, rank - 1) for one in value)


def of_values(name: str, seen: Seen, *, is_text: bool) -> Column:
    """The column of what the rows hold.

    is_text  the values are texts of csv, so that a mixture is text
    """
    if seen.kinds.found and seen.forms:
        is_sound = "sound" in seen.forms and "picture" not in seen.forms
        return Column(name, SOUND if is_sound else PICTURE, AUDIO if is_sound else IMAGE, "bytes")
    found = frozenset(seen.kinds.found)
    if is_text:
        return _scalar(name, _TYPES_OF_TEXT.get(found, STRING) if found else JSON)
    word = _TYPES.get(found, JSON)
    if word != JSON:
        return _scalar(name, word)
    feature = feature_of(seen.kinds)
    return Column(name, JSON, feature, _stored_json(feature, is_typed=BYTES in found))


def _scalar(name: str, word: str) -> Column:
    words = {TRUTH: "bool", WHOLE: "int64", NUMBER: "float64", JSON: "null"}
    feature = value_feature(words.get(word, "string"))
    word = ADDRESS if word == STRING and name == ADDRESS_NAME else word
    return Column(name, word, feature, _DTYPES.get(word, "json"))


_TYPES = {
    frozenset({BOOL}): TRUTH,
    frozenset({INT}): WHOLE,
    frozenset({FLOAT}): NUMBER,
    frozenset({INT, FLOAT}): NUMBER,
    frozenset({TEXT}): STRING,
    frozenset({LONG}): STRING,
    frozenset({INT, LONG}): STRING,
}
_TYPES_OF_TEXT = {kinds: word for kinds, word in _TYPES.items() if LONG not in kinds}


def columns(
    names: Iterable[str],
    seen: Mapping[str, Seen],
    declared: Mapping[str, Any],
    widened: Mapping[str, Column],
    *,
    is_text: bool,
    is_typed: bool,
) -> list[Column]:
    """The columns of a split in order: declared ones first decide, then what `prepare` found, then the rows.

    names  of the columns of the files; those that are declared or widened and not there follow
    """
    found = []
    for name in dict.fromkeys((*names, *declared, *widened)):
        if name in widened:
            found.append(widened[name])
        elif name in declared:
            found.append(_looked_into(of_feature(name, declared[name], is_typed=is_typed), seen.get(name)))
        else:
            found.append(of_values(name, seen.get(name) or Seen(), is_text=is_text))
    return found


def _looked_into(column: Column, seen: Seen | None) -> Column:
    """A declared column of bytes, objects or lists whose values are all pictures or sounds."""
    if column.type != JSON or seen is None or not seen.forms or has_media(column.feature):
        return column
    kinds = seen.kinds.found
    return of_values(column.name, seen, is_text=False) if kinds <= {BYTES, OBJECT, LIST} else column
