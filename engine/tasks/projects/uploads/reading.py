"""The task `read_upload`: a file that a person has sent becomes canonical rows, or is refused as a whole with all that is wrong."""

from contextlib import closing
from pathlib import Path

import pyarrow as pa

from engine.frames import Header
from engine.tasks import codec
from engine.tasks.families import Reply
from engine.tasks.projects.progress import Stage
from engine.tasks.projects.uploads import archive, combinations, rows
from engine.tasks.projects.uploads.combinations import Combination, TooManyCombinations
from engine.tasks.projects.uploads.csv_file import CsvFile
from engine.tasks.projects.uploads.files import MAX_COLUMNS, DataFile
from engine.tasks.projects.uploads.long import HEADER_ROW, Long
from engine.tasks.projects.uploads.problems import Problems
from engine.tasks.projects.uploads.types import DataType, type_of
from engine.tasks.projects.uploads.wide import Wide, is_wide, num_head_rows

ROWS_FILE = "rows.parquet"
OLD_WORKBOOK = bytes.fromhex("d0cf11e0a1b11ae1")
UTF_16 = (b"\xff\xfe", b"\xfe\xff")


def run(header: Header) -> Stage[Reply]:
    """The answer of the task. Refusal `invalid_file`."""
    kind, name = type_of(header["dataset_name"]), header["name"]
    with closing(_opened(Path(header["file"]), name)) as file:
        layout = _layout(kind, file, name)
        table = yield from _rows(layout, header["max_rows"], name)
    found = _combinations(kind, table, name)
    rows.write(table, kind, Path(header["folder"]) / ROWS_FILE)
    body = codec.dumps(
        {
            "DatasetName": kind.name,
            "Layout": "wide" if isinstance(layout, Wide) else "long",
            "Rows": table.num_rows,
            "Frequency": None if kind.name == "Events" else combinations.frequency_of(found),
            "Combinations": [one.told() for one in found],
            "FirstDate": str(combinations.first_day(table, kind)),
            "LastDate": str(combinations.last_day(table, kind)),
        }
    )
    return {"parts": [{"size": len(body), "rows": table.num_rows}]}, [body]


def _opened(path: Path, name: str) -> DataFile:
    """The file with its first records; its kind is told by its first bytes. Refusal."""
    problems = Problems()
    file: DataFile
    if archive.is_archive(path):
        archive.check(path, problems)
        problems.refuse(name)
        # openpyxl takes 30 MB and 0.2 s, and only a workbook needs it.
        from engine.tasks.projects.uploads.workbook import WorkbookFile

        file = WorkbookFile(path, problems)
    else:
        _check_signature(path, problems)
        problems.refuse(name)
        file = CsvFile(path, problems)
    if problems:
        file.close()
    problems.refuse(name)
    return file


def _check_signature(path: Path, problems: Problems) -> None:
    """Note a file that begins as something else than text in UTF-8."""
    with open(path, "rb") as file:
        start = file.read(len(OLD_WORKBOOK))
    if start == OLD_WORKBOOK:
        problems.add("bad_layout", "This is an old workbook, or one with a password. Save it as .xlsx without one, or as CSV.")
    elif start.startswith(UTF_16):
        problems.add("bad_charset", "The file is UTF-16. Save it as CSV in UTF-8.")


def _layout(kind: DataType, file: DataFile, name: str) -> Long | Wide:
    """Refusal for what is wrong with the first records."""
    problems = Problems()
    if not any(file.head):
        problems.add("empty_file", "The file is empty.")
    elif not file.head[0]:
        problems.add("bad_layout", "The first row is empty; write the headers there.", 1)
    elif len(file.head[0]) == 1 and any(mark in str(file.head[0][0]) for mark in ";\t|"):
        problems.add("bad_layout", "Separate the cells with commas, and write decimals with a point.", 1)
    elif max(map(len, file.head)) > MAX_COLUMNS:
        problems.add("too_many_rows", f"A file has at most {MAX_COLUMNS:,} columns.")
    elif is_wide(kind, file.head) and not kind.has_wide_layout:
        problems.add("bad_layout", f"{kind.name} has the long layout only: a row for each record.")
    problems.refuse(name)
    file.check_head(num_head_rows(file.head) if is_wide(kind, file.head) else HEADER_ROW, problems)
    problems.refuse(name)
    layout: Long | Wide = (Wide if is_wide(kind, file.head) else Long).of(kind, file, problems)
    problems.refuse(name)
    return layout


def _rows(layout: Long | Wide, max_rows: int, name: str) -> Stage[pa.Table]:
    """The canonical rows. Where there is a problem the file is read again as text, so that problems show what is written.

    Refusal.
    """
    problems = Problems()
    table = yield from layout.read(max_rows, problems, as_text=False)
    if layout.file.is_text:
        problems.refuse(name)
    if problems:
        problems = Problems()
        yield from layout.read(max_rows, problems, as_text=True)
        problems.refuse(name)
    return table


def _combinations(kind: DataType, table: pa.Table, name: str) -> list[Combination]:
    """Refusal if there are too many, or if they have no frequency where there must be one."""
    problems = Problems()
    try:
        found = combinations.of(table, kind.date_columns[0])
    except TooManyCombinations as error:
        problems.add("too_many_rows", str(error))
        problems.refuse(name)
        raise
    if kind.name == "Sales":
        for one, message in combinations.misfits(found):
            problems.add("mixed_frequency", message, None, "Date", one.label)
    problems.refuse(name)
    return found
