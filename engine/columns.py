"""One column of a dataset, as the server process and the replicas write it into headers, and the server into the files of versions.

Both sides import this file, and so it knows no numeric library.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    number  its place among the columns of the dataset, from 0; columns are only ever added, so a number keeps its meaning
    dtype   bool, int64, float64, string, bytes, timestamp, date, json, class, vector or list<T>
    dim     of a vector, else 0
    names   of the classes, by their index; empty for other types
    source  the text column that a vector column is computed from, or None
    model   the embedding model that computes it, or None
    words   whether there is a word index
    """

    number: int
    name: str
    dtype: str
    dim: int = 0
    names: tuple[str, ...] = ()
    source: str | None = None
    model: str | None = None
    words: bool = False

    @classmethod
    def from_json(cls, written: Mapping[str, Any]) -> Self:
        """From a version file or a header; other keys, such as `nulls`, are left out."""
        known = {name: written[name] for name in cls.__dataclass_fields__ if name in written}
        return cls(**{**known, "names": tuple(known.get("names", ()))})

    def as_json(self) -> dict[str, Any]:
        # The header of every query has its columns, and `asdict` would take 6 ms for 1,000 of them.
        return {**{name: getattr(self, name) for name in self.__dataclass_fields__}, "names": list(self.names)}
