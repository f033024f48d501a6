"""Asking `read_upload`, `join` and `dates` in the test's own process, with files as people send them."""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq

from tests.engine.tasks.projects import sets

Cell = Any
Records = Sequence[Sequence[Cell]]
SALES = ("Country", "Region", "Date", "Product", "UnitsSold", "PricePerUnit")
MEDIA = ("Country", "Date", "Product", "Media", "Metric", "Value")
EVENTS = ("Country", "Region", "StartDate", "EndDate", "Event")
EXTRA = ("Country", "Date", "Name", "Value")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a task has answered."""

    part: dict[str, Any]
    body: Any
    frames: list[dict[str, Any]]
    folder: Path

    @property
    def refused(self) -> dict[str, Any]:
        refused: dict[str, Any] = self.part["refused"]
        return refused

    @property
    def faults(self) -> list[tuple[str, int | None, str | None]]:
        """Code, row and column of each detail."""
        return [(one["Code"], one["Row"], one["Column"]) for one in self.refused["details"]]

    @property
    def table(self) -> pa.Table:
        """The rows of an upload."""
        assert "refused" not in self.part, self.part
        return pq.read_table(self.folder / "rows.parquet")

    @property
    def rows(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.table.to_pylist()
        return rows


def ask(name: str, header: dict[str, Any], folder: Path) -> Answer:
    part, payload, frames = sets.task(name, header)
    return Answer(part, json.loads(payload) if payload else None, frames, folder)


def read(folder: Path, content: bytes | str, dataset_name: str = "Sales", max_rows: int = 2_000_000) -> Answer:
    """The answer of `read_upload` about a file with this content."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "file"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    header = {"file": str(file), "name": "s.csv", "dataset_name": dataset_name, "folder": str(folder), "max_rows": max_rows}
    return ask("read_upload", header, folder)


def files_of(answer: Answer) -> dict[str, str]:
    """An upload as a source of a join."""
    assert "refused" not in answer.part, answer.part
    return {answer.body["DatasetName"]: str(answer.folder / "rows.parquet")}


def join(folder: Path, *sources: Mapping[str, str]) -> Answer:
    folder.mkdir(parents=True)
    return ask("join", {"sources": sources, "title": "acme/demo-dataset-9", "folder": str(folder)}, folder)


def joined_files(answer: Answer) -> dict[str, str]:
    assert "refused" not in answer.part, answer.part
    return {name: str(answer.folder / file) for name, file in answer.part["types"].items()}


def dates(files: Mapping[str, str], dataset_name: str, *combinations: Sequence[str]) -> Answer:
    return ask("dates", {"files": files, "dataset_name": dataset_name, "combinations": combinations}, Path())


# Files


def as_csv(records: Records, line_end: str = "\r\n") -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator=line_end).writerows(records)
    return text.getvalue().encode()


def as_workbook(records: Records, *more_sheets: str) -> bytes:
    book = openpyxl.Workbook(write_only=True)
    for name in ("Data", *more_sheets):
        sheet = book.create_sheet(name)
        for record in records if name == "Data" else ():
            sheet.append(record)
    content = io.BytesIO()
    book.save(content)
    return content.getvalue()


def sales(dates: Iterable[str], units: Iterable[float] | None = None, place: tuple[str, str] = ("SWE", "all")) -> bytes:
    """Sales of one product at price 2 in the long layout."""
    days = list(dates)
    amounts = list(units or range(1, len(days) + 1))
    return as_csv([SALES, *((*place, day, "shoes", amount, 2) for day, amount in zip(days, amounts, strict=True))])
