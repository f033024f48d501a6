"""The columns of an upload: those of the dataset, those that the options name, and those that the first rows bring.

Knows no JSON and no Arrow: inference.py finds the type of values, and columns.py makes arrays of them.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from engine.frames import Header
from engine.tasks.ingestion.refusals import RefusedUpload, in_quotes
from engine.tasks.query.segments import ARROW_TYPES, ColumnInfo

MAX_COLUMNS = 1000
MAX_NAME_BYTES = 200
# Labels of one class column.
MAX_NAMES = 1000
# The types that `types=` may ask for, besides vectors and lists; classes have an option of their own.
SCALARS = tuple(name for name in ARROW_TYPES if name != "class")
LIST_TYPES = tuple(f"list<{name}>" for name in ("bool", "int64", "float64", "string"))
_VECTOR = re.compile(r"vector\(([1-9][0-9]{0,4})\)")


@dataclass(frozen=True, slots=True)
class UploadColumn:
    """A column of an upload.

    info      as in the dataset, where its number and its names may become others until the upload is sealed
    is_fixed  its type was asked for, or stands in the dataset: integers do not widen to floats
    """

    info: ColumnInfo
    is_fixed: bool

    @classmethod
    def from_header(cls, header: Header) -> "UploadColumn":
        return cls(ColumnInfo.from_json(header), header["fixed"])

    def header(self) -> Header:
        return {**self.info.as_json(), "fixed": self.is_fixed}


@dataclass(frozen=True, slots=True)
class Embedding:
    """A vector column that a model computes from a text column."""

    source: str
    column: str
    model: str
    dim: int


@dataclass(frozen=True, slots=True)
class Options:
    """What the sender of an upload asked for."""

    types: dict[str, str] = field(default_factory=dict)
    class_labels: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    embed: tuple[Embedding, ...] = ()
    skips_bad_rows: bool = False

    @classmethod
    def from_header(cls, header: Header) -> "Options":
        return cls(
            header.get("types") or {},
            tuple(header.get("class_labels") or ()),
            tuple(header.get("words") or ()),
            tuple(Embedding(**pair) for pair in header.get("embed") or ()),
            header.get("on_error") == "skip",
        )


class KnownColumns:
    """The columns that are known before the first row is read. RefusedUpload `invalid_parameter` where the options contradict.

    existing  of the dataset, in order
    asked     by name, those that the options bring; their numbers are not known yet
    """

    def __init__(self, existing: Iterable[ColumnInfo], options: Options) -> None:
        self.existing = {info.name: info for info in existing}
        self.asked: dict[str, ColumnInfo] = {}
        for name, word in options.types.items():
            self._ask(_typed(name, word))
        for name in options.class_labels:
            self._ask(ColumnInfo(0, name, "class"))
        for name in options.words:
            self._ask_for_words(name)
        for pair in options.embed:
            self._ask_for_vectors(pair)

    def _ask(self, wanted: ColumnInfo) -> None:
        """A column of this type must come, unless it is there already."""
        check_name(wanted.name)
        there = self.existing.get(wanted.name) or self.asked.get(wanted.name)
        if there is None:
            self.asked[wanted.name] = wanted
        elif (there.dtype, there.dim) != (wanted.dtype, wanted.dim):
            raise _contradiction(wanted.name, f"is {type_name(there)}, not {type_name(wanted)}")

    def _ask_for_words(self, name: str) -> None:
        self._ask(ColumnInfo(0, name, "string"))
        if name in self.asked:
            self.asked[name] = replace(self.asked[name], words=True)
        elif not self.existing[name].words:
            raise _contradiction(name, "has no word index: that is decided when the column is made")

    def _ask_for_vectors(self, pair: Embedding) -> None:
        self._ask(ColumnInfo(0, pair.source, "string"))
        wanted = ColumnInfo(0, pair.column, "vector", pair.dim, source=pair.source, model=pair.model)
        self._ask(wanted)
        there = self.existing.get(pair.column) or self.asked[pair.column]
        if (there.source, there.model) != (wanted.source, wanted.model):
            raise _contradiction(pair.column, f"is not computed from {in_quotes(pair.source)} by {pair.model}")

    def accepted(self, names: Iterable[str]) -> set[str]:
        """The known columns, and as many of these names as can be new columns."""
        accepted = {*self.existing, *self.asked}
        for name in names:
            if len(accepted) < MAX_COLUMNS and name_fault(name) is None:
                accepted.add(name)
        return accepted

    def columns(self, names: Iterable[str], found: dict[str, ColumnInfo]) -> list[UploadColumn]:
        """All columns, numbered: those of the dataset, then new ones as rows bring them, then those that no row has.

        A computed vector stands behind the text it is computed from.

        names  of the fields of the rows, in order
        found  the columns that the rows bring and nobody asked for
        """
        columns = [UploadColumn(info, True) for info in self.existing.values()]
        new = [name for name in dict.fromkeys((*names, *self.asked)) if name in found or name in self.asked]
        places = {name: i for i, name in enumerate(new)}
        for name in sorted(new, key=lambda name: self._place(name, places)):
            is_asked = name in self.asked
            info = self.asked[name] if is_asked else found[name]
            columns.append(UploadColumn(replace(info, number=len(columns)), is_asked))
        if len(columns) > MAX_COLUMNS:
            raise RefusedUpload("invalid_parameter", f"A dataset has at most {MAX_COLUMNS:,} columns.")
        return columns

    def _place(self, name: str, places: dict[str, int]) -> tuple[int, int]:
        source = self.asked[name].source if name in self.asked else None
        return (places[name], 0) if source is None or source not in places else (places[source], 1)


def _contradiction(name: str, what: str) -> RefusedUpload:
    return RefusedUpload("invalid_parameter", f"Column {in_quotes(name)} {what}.", column=name)


def _typed(name: str, word: str) -> ColumnInfo:
    """The column of one entry of `types`. RefusedUpload `invalid_parameter`."""
    if match := _VECTOR.fullmatch(word):
        return ColumnInfo(0, name, "vector", int(match[1]))
    if word not in SCALARS and word not in LIST_TYPES:
        known = ", ".join((*SCALARS, "vector(n)", *LIST_TYPES))
        raise RefusedUpload("invalid_parameter", f"{in_quotes(word)} is not a type; the types are {known}.", column=name)
    return ColumnInfo(0, name, word)


def type_name(info: ColumnInfo) -> str:
    """The type of a column as `types=` writes it."""
    return f"vector({info.dim})" if info.dtype == "vector" else info.dtype


def name_fault(name: str) -> str | None:
    """Why a column cannot have this name, or None."""
    return None if 1 <= len(name.encode(errors="surrogatepass")) <= MAX_NAME_BYTES else f"a name has 1 to {MAX_NAME_BYTES} bytes"


def check_name(name: str) -> None:
    """RefusedUpload `invalid_parameter` for a name that no column can have."""
    if fault := name_fault(name):
        raise RefusedUpload("invalid_parameter", f"{in_quotes(name)} cannot name a column: {fault}.")


def schema_header(columns: Iterable[UploadColumn]) -> list[dict[str, Any]]:
    return [column.header() for column in columns]


def schema_from(header: Iterable[Header]) -> list[UploadColumn]:
    return [UploadColumn.from_header(one) for one in header]
