"""Hostile files: a replica with the memory of a job refuses each in words and lives on, opens no other file and shows no path."""

import csv
import io
import itertools
import json
import struct
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.tasks.projects.uploads import archive
from tests.engine.tasks.projects.uploads.asking import EXTRA, as_csv, as_workbook, read
from tests.engine.tasks.test_main import Child

GIB = 1024**3
HEADER = b"Country,Date,Name,Value\n"
ROW = b"SWE,2018-01-07,x,1\n"
GOOD = as_workbook([EXTRA, ("SWE", "2018-01-07", "x", 1)])
SHEET, RELATIONS = "xl/worksheets/sheet1.xml", "xl/_rels/workbook.xml.rels"
MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
# What wild CSV is made of.
PIECES = [HEADER, ROW, b"2018-01-07", b"SWE", *(bytes([byte]) for byte in b',"\n\r;1-.a\0\xe9\xef\xbb\xbf')]
OPENED: list[str] = []
IS_LISTENING = False


# Workbooks


def parts_of(content: bytes = GOOD) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as book:
        return {name: book.read(name) for name in book.namelist()}


def with_parts(changes: Mapping[str, bytes]) -> bytes:
    """A good workbook with other parts."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as book:
        for name, part in {**parts_of(), **changes}.items():
            book.writestr(name, part)
    return content.getvalue()


def with_sheet(rows: str, before: str = "") -> bytes:
    """A workbook with these rows below its header."""
    sheet = parts_of()[SHEET].decode()
    start, end = sheet.index("<sheetData>"), sheet.index("</row>") + len("</row>")
    return with_parts({SHEET: (sheet[:start] + before + sheet[start:end] + rows + sheet[sheet.rindex("</sheetData>") :]).encode()})


def cells(number: int, value: str = "<v>1</v>") -> str:
    texts = zip("ABC", ("SWE", "2018-01-07", f"x{number}"), strict=True)
    named = "".join(f'<c r="{column}{number}" t="inlineStr"><is><t>{text}</t></is></c>' for column, text in texts)
    return f'<row r="{number}">{named}<c r="D{number}">{value}</c></row>'


def with_entities(encoding: str) -> bytes:
    """A sheet whose entities grow to a thousand million letters, and one of which is a file."""
    names = "abcdefghi"
    entities = ['<!ENTITY z SYSTEM "file:///etc/passwd">', '<!ENTITY a "aaaaaaaaaa">']
    entities += [f'<!ENTITY {name} "{f"&{last};" * 10}">' for last, name in itertools.pairwise(names)]
    sheet = parts_of()[SHEET].decode().replace("<sheetData>", "<sheetData><row><c><v>&i;&z;</v></c></row>")
    text = f'<?xml version="1.0" encoding="{encoding}"?><!DOCTYPE w [{"".join(entities)}]>{sheet[sheet.index("<worksheet") :]}'
    return with_parts({SHEET: text.encode(encoding)})


def lying_about_its_size() -> bytes:
    """A sheet of 8 MiB that the archive says has 100 bytes."""
    content = bytearray(with_sheet(" " * 8 * 1024**2))
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        name_offset = 30 if signature == b"PK\x03\x04" else 46
        start = content.index(signature)
        while content[start + name_offset : start + name_offset + len(SHEET)] != SHEET.encode():
            start = content.index(signature, start + 4)
        content[start + offset : start + offset + 4] = struct.pack("<I", 100)
    return bytes(content)


def relation(target: str) -> bytes:
    return with_parts({RELATIONS: parts_of()[RELATIONS].replace(b"/xl/worksheets/sheet1.xml", target.encode())})


WORKBOOKS: dict[str, tuple[Callable[[], bytes], str]] = {
    "a bomb of spaces": (lambda: with_sheet(" " * 30 * 1024**2), "too_many_rows"),
    "a size that is not true": (lying_about_its_size, "bad_layout"),
    "entities": (lambda: with_entities("UTF-8"), "bad_layout"),
    "entities in UTF-16": (lambda: with_entities("UTF-16"), "bad_layout"),
    "macros": (lambda: with_parts({"xl/vbaProject.bin": b"x"}), "bad_layout"),
    "links to other files": (lambda: with_parts({"xl/externalLinks/externalLink1.xml": b"<x/>"}), "bad_layout"),
    "a sheet that is another file": (lambda: relation("../../../../../../etc/passwd"), "bad_layout"),
    "a sheet that is elsewhere": (lambda: relation("http://127.0.0.1/sheet.xml"), "bad_layout"),
    "two parts of one name": (lambda: with_parts({SHEET.upper(): b"<x/>"}), "bad_layout"),
    "a huge part of styles": (lambda: with_parts({"xl/styles.xml": json.dumps(list(range(2_000_000))).encode()}), "too_many_rows"),
    "an archive of something else": (lambda: _zip({"a.csv": HEADER}), "bad_layout"),
    "half an archive": (lambda: GOOD[: len(GOOD) // 2], "bad_layout"),
    "no XML": (lambda: with_parts({SHEET: b"hello"}), "bad_layout"),
    "half a sheet": (lambda: with_parts({SHEET: parts_of()[SHEET][:-30]}), "bad_layout"),
    "a cell in the last row and column": (
        lambda: with_sheet('<row r="1048576"><c r="XFD1048576"><v>1</v></c></row>'),
        "too_many_rows",
    ),
    "a row far below all rows": (lambda: with_sheet(cells(99_999_999_999)), "too_many_rows"),
    "empty cells in the last column": (
        lambda: with_sheet("".join(f'<row r="{row}"><c r="XFD{row}"/></row>' for row in range(2, 20_000))),
        "too_many_rows",
    ),
    "too many empty rows": (lambda: with_sheet("".join(f'<row r="{row}"/>' for row in range(2, 1_100_000))), "too_many_rows"),
    "elements that are no cells": (lambda: with_sheet("", _noise(200_000)), "too_many_rows"),
    "rows of another language": (lambda: with_sheet(_noise(200_000, 'row xmlns="urn:x"')), "too_many_rows"),
    "elements inside each other": (lambda: with_sheet(_nested(120_000)), "too_many_rows"),
    "a row of too many cells": (lambda: with_sheet(f"<row>{_noise(200_000, 'c')}</row>"), "too_many_rows"),
    "a cell of megabytes": (lambda: with_sheet(cells(2, f"<v>{_digits(9 * 1024**2)}</v>")), "bad_layout"),
    "a cell of a megabyte": (lambda: with_sheet(cells(2).replace("x2", _digits(1024**2))), "bad_charset"),
    "a number of many digits": (lambda: with_sheet(cells(2, f"<v>{'9' * 5000}</v>")), "bad_layout"),
    "a text that is not there": (lambda: with_sheet(cells(2).replace('<c r="D2">', '<c r="D2" t="s">')), "bad_layout"),
    "a column that is none": (lambda: with_sheet(cells(2).replace('r="D2"', 'r="ZZZZ2"')), "bad_layout"),
}


def _zip(parts: Mapping[str, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        for name, part in parts.items():
            file.writestr(name, part)
    return content.getvalue()


def _noise(count: int, tag: str = "x") -> str:
    """Elements that do not shrink to nothing in an archive."""
    return "".join(f'<{tag} a="{number * 7919 % 1_000_003}"/>' for number in range(count))


def _nested(depth: int) -> str:
    return "".join(f"<x{number * 7919 % 997}>" for number in range(depth))


def _digits(count: int) -> str:
    text = "".join(str(number * 7919 % 1_000_003) for number in range(count // 5 + 1))
    return text[:count]


# CSV


def rows(count: int) -> bytes:
    return b"".join(b"SWE,2018-01-07,x%d,1\n" % number for number in range(count))


FILES: dict[str, tuple[Callable[[], bytes], str]] = {
    "blank lines": (lambda: HEADER + b"\n" * 5_000_000, "too_many_rows"),
    "rows of one cell": (lambda: HEADER + b"1\n" * 3_000_000, "bad_layout"),
    "rows of commas": (lambda: HEADER + ROW + b",,,\n" * 3_000_000, "too_many_rows"),
    "too many rows": (lambda: HEADER + ROW * 2_000_001, "too_many_rows"),
    "too many columns": (lambda: b",".join([b"Country"] * 2_001), "too_many_rows"),
    "one record of millions of cells": (lambda: HEADER + b"," * 20_000_000, "too_many_rows"),
    "one record of many lines": (lambda: HEADER + rows(50) + b'"a\n",' * 5_000_000, "bad_layout"),
    "one long cell": (lambda: HEADER + rows(50) + b"SWE,2018-01-07," + b"x" * 20_000_000 + b",1\n", "bad_layout"),
    "a cell of a megabyte": (lambda: HEADER + rows(50) + b"SWE,2018-01-07," + b"x" * 1_000_000 + b",1\n", "bad_charset"),
    "one long header": (lambda: b"x" * 20_000_000, "bad_layout"),
    "a quote that stays open": (lambda: HEADER + ROW + b'SWE,2018-01-08,"x,1\n' + rows(500_000), "bad_layout"),
    "a quote that stays open at the end": (lambda: HEADER + rows(500_000) + b'SWE,2018-01-08,"x,1\n', "bad_layout"),
    "quotes": (lambda: HEADER + b'"' * 20_000_001, "bad_layout"),
    "NUL": (lambda: HEADER + b"SWE,2018-01-07,\0,1\n", "bad_charset"),
    "nothing but NUL": (lambda: b"\0" * 20_000_000, "bad_layout"),
    "too many places": (
        lambda: b"Country,Region,Date,Name,Value\n" + b"".join(b"SWE,n%d,2018-01-07,x,1\n" % n for n in range(10_001)),
        "too_many_rows",
    ),
    "bytes of chance": (lambda: bytes(number * number * 7919 % 251 for number in range(1_000_000)), "bad_charset"),
    "an old workbook": (lambda: bytes.fromhex("d0cf11e0a1b11ae1") + b"\0" * 1000, "bad_layout"),
}


@pytest.fixture(scope="module")
def replica() -> Iterator[Child]:
    """One replica for all files, as the server starts those of the pool `jobs`."""
    child = Child("projects", memory_bytes=GIB, is_confined=True)
    yield child
    assert child.peak_bytes() < GIB
    assert child.end() == 0


@pytest.mark.parametrize(("make", "code"), [*WORKBOOKS.values(), *FILES.values()], ids=[*WORKBOOKS, *FILES])
def test_a_hostile_file_is_refused_in_words(replica: Child, tmp_path: Path, make: Callable[[], bytes], code: str) -> None:
    file = tmp_path / "file"
    file.write_bytes(make())
    asked = {"file": str(file), "name": "s.csv", "dataset_name": "Extra", "folder": str(tmp_path), "max_rows": 2_000_000}
    header, body = replica.ask({"family": "projects", "task": "read_upload", **asked})
    while header.get("more"):
        header, body = replica.next_answer()
    refused = header["parts"][0]["refused"]
    assert (refused["code"], body) == ("invalid_file", b"")
    assert refused["details"][0]["Code"] == code, refused["details"][0]
    assert str(tmp_path) not in json.dumps(header)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_what_a_workbook_says_of_its_size_is_not_believed(tmp_path: Path) -> None:
    rows = cells(2) + cells(1_048_576)
    answer = read(tmp_path, with_sheet(rows, '<dimension ref="A1:XFD1048576"/>'), "Extra")
    assert [row["name"] for row in answer.rows] == ["x1048576", "x2"]


def test_a_workbook_may_not_unpack_to_more_than_is_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = sum(map(len, parts_of().values()))
    monkeypatch.setattr(archive, "MAX_UNPACKED_BYTES", size)
    assert read(tmp_path, GOOD, "Extra").body["Rows"] == 1
    monkeypatch.setattr(archive, "MAX_UNPACKED_BYTES", size - 1)
    assert read(tmp_path, GOOD, "Extra").faults == [("too_many_rows", None, None)]


@pytest.mark.parametrize("limit", [csv.field_size_limit(), 2**31 - 1], ids=["", "where preview has raised the limit of csv"])
def test_a_cell_that_is_far_too_long_is_found_where_it_stands(tmp_path: Path, limit: int) -> None:
    before = csv.field_size_limit(limit)
    try:
        for content in (FILES["one long cell"][0](), FILES["a quote that stays open at the end"][0]()):
            [(code, row, column)] = read(tmp_path, content, "Extra").faults
            assert (code, row, column) == ("bad_layout", content.rstrip(b"\n").count(b"\n") + 1, None)
    finally:
        csv.field_size_limit(before)


def test_of_very_many_short_rows_the_first_are_counted(tmp_path: Path) -> None:
    refused = read(tmp_path, HEADER + b"1\n" * 50_000, "Extra").refused
    assert refused["details_total"] == 20_000


@pytest.mark.parametrize("name", ["entities", "a sheet that is another file", "a sheet that is elsewhere", "links to other files"])
def test_no_other_file_is_opened(tmp_path: Path, name: str) -> None:
    read(tmp_path, GOOD, "Extra")  # what is imported first is opened here
    global IS_LISTENING
    sys.addaudithook(_note_opened)
    OPENED.clear()
    IS_LISTENING = True
    try:
        read(tmp_path, WORKBOOKS[name][0](), "Extra")
    finally:
        IS_LISTENING = False
    assert OPENED
    assert {path for path in OPENED if not path.startswith(str(tmp_path))} == set()


def _note_opened(event: str, arguments: tuple[Any, ...]) -> None:
    if IS_LISTENING and event in ("open", "socket.connect", "socket.getaddrinfo"):
        OPENED.append(str(arguments[0]))


@settings(max_examples=150, deadline=None)
@given(st.integers(4, len(GOOD) - 1), st.integers(0, 4), st.binary(max_size=4))
def test_a_workbook_that_is_damaged_anywhere_is_read_or_refused(place: int, gone: int, put: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        read(Path(folder), GOOD[:place] + put + GOOD[place + gone :], "Extra")


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=30))
def test_any_text_is_read_or_refused(pieces: list[bytes]) -> None:
    for start in (b"", HEADER, b"Country,SWE\nName,x\n"):
        with tempfile.TemporaryDirectory() as folder:
            answer = read(Path(folder), start + b"".join(pieces), "Extra")
            assert answer.body or answer.refused["details"]


def test_a_good_file_is_still_read_after_all_that(replica: Child, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(as_csv([EXTRA, ("SWE", "2018-01-07", "x", 1)]))
    asked = {"file": str(tmp_path / "file"), "name": "s.csv", "dataset_name": "Extra", "folder": str(tmp_path), "max_rows": 10}
    header, body = replica.ask({"family": "projects", "task": "read_upload", **asked})
    assert header["parts"][0]["rows"] == json.loads(body)["Rows"] == 1
