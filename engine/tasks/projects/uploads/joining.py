"""The task `join`: rows of datasets and uploads become one dataset, laid out as on a hub. Of equal keys the last one counts."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from engine.frames import Header
from engine.tasks import codec
from engine.tasks.families import Reply
from engine.tasks.projects.periods import written
from engine.tasks.projects.progress import Progress, Stage
from engine.tasks.projects.refusals import Refusal, warning
from engine.tasks.projects.uploads import combinations, rows
from engine.tasks.projects.uploads.combinations import Combination, TooManyCombinations
from engine.tasks.projects.uploads.keys import codes_of, sorting
from engine.tasks.projects.uploads.types import DataType, place_of, type_of, word_of

SALES = "sales"
README = "README.md"
SPLIT = "train"
# Warnings name at most this many combinations with gaps, and this many dates of each.
MAX_GAPS, MAX_GAP_DATES = 100, 100


@dataclass(frozen=True, slots=True)
class JoinedType:
    """One type of the dataset.

    replaced  how many rows are left out because a later one has their key
    """

    kind: DataType
    num_rows: int
    first_day: str
    last_day: str
    replaced: int

    @property
    def word(self) -> str:
        """A name that a file and a config can have."""
        return self.kind.name.replace(" ", "_")

    def told(self) -> dict[str, Any]:
        span = {"FirstDate": self.first_day, "LastDate": self.last_day}
        return {"DatasetName": self.kind.name, "Rows": self.num_rows, **span, "Replaced": self.replaced}


def run(header: Header) -> Stage[Reply]:
    """The answer of the task. Refusal `sales_missing`, `mixed_frequency`, `too_many_rows`."""
    paths, folder = paths_by_type(header["sources"]), Path(header["folder"])
    if SALES not in {word_of(kind.name) for kind in paths}:
        raise Refusal("sales_missing", "None of the uploads and datasets has Sales.")
    types: list[JoinedType] = []
    sales: list[Combination] = []
    done, num_files = 0, sum(map(len, paths.values()))
    for kind in sorted(paths, key=lambda kind: place_of(kind.name)):
        yield Progress("join", done, num_files)
        table, replaced = joined(kind, paths[kind])
        if word_of(kind.name) == SALES:
            sales = checked_sales(table)
        first, last = (str(day(table, kind)) for day in (combinations.first_day, combinations.last_day))
        types.append(JoinedType(kind, table.num_rows, first, last, replaced))
        rows.write(table, kind, folder / f"{types[-1].word}.parquet")
        done += len(paths[kind])
    _write_readme(folder, header["title"], types)
    return _answer(types, sales)


def paths_by_type(sources: Iterable[Mapping[str, str]]) -> dict[DataType, list[str]]:
    """The files of each type, in the order of the sources. A type has the name by which it comes first."""
    kinds: dict[str, DataType] = {}
    paths: dict[DataType, list[str]] = {}
    for files in sources:
        for name, path in files.items():
            kind = kinds.setdefault(word_of(name), type_of(name))
            paths.setdefault(kind, []).append(path)
    return paths


def joined(kind: DataType, paths: Sequence[str]) -> tuple[pa.Table, int]:
    """The rows of several files, sorted by key, the last one of each key; and how many are not there for that."""
    table = pa.concat_tables([rows.read(path, kind) for path in paths]).unify_dictionaries().combine_chunks()
    codes = codes_of(table, kind.sorted_keys)
    order = sorting(codes)
    if order is None:
        order = np.arange(len(codes))
    is_last = np.ones(len(codes), dtype=bool)
    is_last[:-1] = codes[order[1:]] != codes[order[:-1]]
    return rows.taken(table, order[is_last]), len(codes) - int(is_last.sum())


def checked_sales(table: pa.Table) -> list[Combination]:
    """The combinations of Sales. Refusal `mixed_frequency` if they have not one frequency, `too_many_rows` if they are too many."""
    try:
        found = combinations.of(table, "date")
    except TooManyCombinations as error:
        raise Refusal("too_many_rows", str(error)) from None
    details = [{"Code": "mixed_frequency", "Message": told, "Value": one.label} for one, told in combinations.misfits(found)]
    if details:
        raise Refusal("mixed_frequency", "The dates of Sales have not one frequency.", details)
    if combinations.frequency_of(found) is None:
        raise Refusal("mixed_frequency", "Sales has one date, from which no frequency follows.")
    return found


def gaps(sales: Sequence[Combination]) -> Iterator[dict[str, Any]]:
    """A warning for each combination that lacks periods between its first and its last one."""
    frequency = str(combinations.frequency_of(sales))
    for one in sales:
        if len(lacking := combinations.missing(one, frequency)):
            message = f"Sales of {one.label} lacks {len(lacking)} periods, the first on {lacking[0]}."
            yield warning("gap", message) | {"Dates": written(lacking[:MAX_GAP_DATES])}


def _answer(types: Sequence[JoinedType], sales: Sequence[Combination]) -> Reply:
    told = {
        "Types": [one.told() for one in types],
        "Frequency": combinations.frequency_of(sales),
        "Combinations": [one.told() for one in sales],
    }
    body = codec.dumps(told)
    part = {
        "size": len(body),
        "warnings": [one for one, _ in zip(gaps(sales), range(MAX_GAPS), strict=False)],
        "types": {one.kind.name: f"{one.word}.parquet" for one in types},
        "rows": sum(one.num_rows for one in types),
    }
    return {"parts": [part]}, [body]


def _write_readme(folder: Path, title: str, types: Sequence[JoinedType]) -> None:
    with open(folder / README, "w", encoding="utf-8") as file:
        file.write(readme(title, types))
        file.flush()
        os.fsync(file.fileno())
    rows.fsync(folder)


def readme(title: str, types: Sequence[JoinedType]) -> str:
    """A dataset card with one config for each type. Strings of JSON are strings of YAML."""
    lines = ["---", f"pretty_name: {json.dumps(title)}", "private: true", "configs:"]
    for one in types:
        lines += [f"- config_name: {json.dumps(one.word)}", *(["  default: true"] if one is types[0] else [])]
        lines += ["  data_files:", f"  - split: {SPLIT}", f"    path: {json.dumps(one.word + '.parquet')}"]
    spans = [f"* {one.kind.name}: {one.num_rows:,} rows, {one.first_day} to {one.last_day}" for one in types]
    return "\n".join([*lines, "---", f"# {title}", "", "What a project has joined; each type of data is a config.", "", *spans, ""])
