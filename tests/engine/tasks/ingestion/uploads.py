"""Datasets on a disk, filled through the tasks of the family as the server does it, and read as a query reads them."""

import json
import secrets
import shutil
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.frames import Header
from engine.tasks.families import Families
from engine.tasks.ingestion import tasks
from engine.tasks.query.segments import ColumnInfo, Segment, Source

TASKS = tasks(Families())


def ask(task: str, payload: bytes = b"", **header: Any) -> tuple[Header, bytes]:
    """What a task answers, after a journey of the header through JSON as in a frame."""
    told, pieces = TASKS[task](json.loads(json.dumps(header)), memoryview(payload))
    [part] = json.loads(json.dumps(told))["parts"]
    data = b"".join(map(bytes, pieces))
    assert part.pop("size") == len(data)
    return part, data


def lines(rows: Iterable[Any]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def vector_of(text: str, dim: int) -> list[float]:
    """What the models of these tests make of a text."""
    return [float(len(text) + i) for i in range(dim)]


class Refusal(Exception):
    """A task refused an upload; `report` is its reason."""

    def __init__(self, report: Header) -> None:
        super().__init__(report)
        self.report = report


class Dataset:
    """One dataset: a folder of segments, and the columns and segments of its newest version."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "segments"
        self.folder.mkdir()
        self.columns: list[Header] = []
        self.segments: list[Header] = []
        self._uploads = folder

    def upload(self, *blocks: bytes | list[Any], **options: Any) -> Header:
        """Append blocks, each as raw lines or as a list of rows. Refusal. Returns `skipped` and `errors` of all blocks together."""
        staged = Staged(self._uploads / secrets.token_hex(4))
        staged.ingest([block if isinstance(block, bytes) else lines(block) for block in blocks], self.columns, options)
        self.take(staged.folder, staged.seal(self.columns))
        return {"skipped": staged.skipped, "errors": staged.errors}

    def take(self, staging: Path, sealed: Header) -> None:
        """Put what `seal` made in place."""
        for segment in sealed["segments"]:
            (staging / "segments" / segment["id"]).rename(self.folder / segment["id"])
        self.segments += sealed["segments"]
        self.columns = sealed["columns"]

    @property
    def infos(self) -> tuple[ColumnInfo, ...]:
        columns = [{name: value for name, value in column.items() if name != "nulls"} for column in self.columns]
        return tuple(ColumnInfo(**{**column, "names": tuple(column["names"])}) for column in columns)

    @property
    def source(self) -> Source:
        grant = {
            "title": "ann/facts@1",
            "folder": str(self.folder),
            "columns": [asdict(info) for info in self.infos],
            "segments": [{"id": one["id"], "rows": one["rows"]} for one in self.segments],
        }
        return Source.granted(grant)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """All rows in order, with the values that a sender would write: parsed JSON, labels, lists for vectors."""
        source = self.source
        columns = {info.name: self._values(source, info) for info in source.columns}
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def column(self, name: str) -> list[Any]:
        return [row[name] for row in self.rows]

    @property
    def types(self) -> dict[str, str]:
        return {info.name: f"vector({info.dim})" if info.dtype == "vector" else info.dtype for info in self.infos}

    def _values(self, source: Source, info: ColumnInfo) -> list[Any]:
        if info.dtype == "vector":
            return [row for vectors, norms in source.vectors(info) for row in _vector_rows(vectors, norms)]
        values = source.table[info.field].to_pylist()
        if info.dtype == "class":
            return [None if value is None else info.names[value] for value in values]
        return [None if value is None else json.loads(value) for value in values] if info.dtype == "json" else values

    def files(self) -> dict[str, bytes]:
        """The bytes of every file of every segment."""
        return {f"{path.parent.name}/{path.name}": path.read_bytes() for path in self.folder.rglob("*") if path.is_file()}

    def segment(self, i: int = 0) -> Segment:
        return self.source.segments[i]


def _vector_rows(vectors: np.ndarray, norms: np.ndarray) -> list[list[float] | None]:
    return [None if np.isnan(norm) else row.tolist() for row, norm in zip(vectors, norms, strict=True)]


class Staged:
    """One upload on its way."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folder.mkdir()
        self.blocks: list[int] = []
        self.schema: list[Header] | None = None
        self.skipped = 0
        self.errors: list[Header] = []

    def ingest(self, blocks: Iterable[bytes], existing: list[Header], options: Header) -> None:
        """Each block, and the vectors of its texts. Refusal."""
        first_line = 1
        for raw in blocks:
            number = len(self.blocks)
            where = {"staging": str(self.folder), "number": number}
            told, data = ask("ingest", raw, **where, first_line=first_line, schema=self.schema, existing=existing, options=options)
            if "refused" in told:
                raise Refusal(told["refused"])
            self.schema = self.schema or told["schema"]
            self.skipped += told["skipped"]
            self.errors += told["errors"]
            self._embed(told["texts"], data, where)
            self.blocks.append(number)
            first_line += raw.count(b"\n")

    def _embed(self, texts: list[Header], data: bytes, where: Header) -> None:
        for one in texts:
            given = [json.loads(line) for line in data[: one["size"]].splitlines()]
            data = data[one["size"] :]
            assert len(given) == one["lines"]
            vectors = np.array([vector_of(text, one["dim"]) for text in given], "<f4").tobytes()
            ask("vectors", vectors, **where, column=one["column"], dim=one["dim"], lines=one["lines"], form="f32")

    def seal(self, existing: list[Header]) -> Header:
        told, _ = ask("seal", staging=str(self.folder), blocks=self.blocks, schema=self.schema, existing=existing)
        if "refused" in told:
            raise Refusal(told["refused"])
        return told

    def discard(self) -> None:
        shutil.rmtree(self.folder)


def refusal(dataset: Dataset, *blocks: bytes | list[Any], **options: Any) -> dict[str, Any]:
    with pytest.raises(Refusal) as caught:
        dataset.upload(*blocks, **options)
    return caught.value.report
