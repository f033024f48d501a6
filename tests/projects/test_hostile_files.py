"""Hostile files: each upload ends as failed with a reason, or complete; no file costs a replica, and none tells what we are."""

import io
import zipfile
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.projects.asking import Client, assert_tells_nothing_of_us, made, new_project
from tests.projects.files import Sheet, sales, workbook
from tests.serving import Server

HEAD = b"Country,Region,Date,Product,UnitsSold,PricePerUnit\n"
GOOD = b"SWE,all,2018-01-07,all,10,1\n"
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def client(server: Server) -> Client:
    return new_project(server)


def archive(files: dict[str, bytes]) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in files.items():
            file.writestr(name, content)
    return written.getvalue()


def changed_workbook(name: str, old: bytes, new: bytes) -> bytes:
    """A workbook of sales with something else in one of its parts."""
    with zipfile.ZipFile(io.BytesIO(sales(["2018-01-07", "2018-01-14"], [1, 2]).xlsx())) as file:
        parts = {one: file.read(one) for one in file.namelist()}
    assert old in parts[name]
    return archive(parts | {name: parts[name].replace(old, new)})


def texts() -> dict[str, bytes]:
    return {
        "empty": b"",
        "one byte": b"\x00",
        "a header alone": HEAD,
        "nul bytes": HEAD + b"SWE,all,2018-01-07,\x00,10,1\n",
        "not utf-8": HEAD + b"SWE,all,2018-01-07,\xff\xfe,10,1\n",
        "utf-16": (HEAD + GOOD).decode().encode("utf-16"),
        "an open quote": HEAD + b'SWE,all,2018-01-07,"all,10,1\n' * 50,
        "ragged": HEAD + b"SWE,all\n" + GOOD + b"a,b,c,d,e,f,g,h,i\n",
        "one endless cell": HEAD + b"x" * (4 * MIB),
        "many columns": b",".join(b"c%d" % i for i in range(5000)) + b"\n" + b",".join(b"1" for _ in range(5000)) + b"\n",
        "no line end": (HEAD + GOOD)[:-1],
        "old mac": (HEAD + GOOD).replace(b"\n", b"\r"),
        "commas": b"," * 100_000,
        "newlines": b"\n" * 100_000,
        "quotes": b'"' * 100_001,
        "huge number": HEAD + b"SWE,all,2018-01-07,all," + b"9" * 5000 + b",1\n",
        "infinities": HEAD + b"SWE,all,2018-01-07,all,inf,-inf\n",
        "far years": HEAD + b"SWE,all,9999-12-31,all,1,1\nSWE,all,0001-01-01,all,1,1\n",
        "sql and html": HEAD + b"SWE,all,2018-01-07,'); DROP TABLE project; --<script>,10,1\n",
        "paths": HEAD + b"SWE,../../etc,2018-01-07,../../../passwd,10,1\n",
        "wide without dates": b"Country,SWE\nRegion,all\nProduct,all\nMetric,UnitsSold\n",
        "wide, many keys": b"Country" + b",SWE" * 3000 + b"\nRegion" + b",all" * 3000 + b"\n",
        "json": b'{"Country": "SWE"}',
        "pdf": b"%PDF-1.7\n" + bytes(range(256)) * 10,
        "gzip": b"\x1f\x8b\x08\x00" + b"\x00" * 100,
    }


def books() -> dict[str, bytes]:
    entity = b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>'
    sheet = "xl/worksheets/sheet1.xml"
    return {
        "no zip after all": b"PK\x03\x04" + b"\x00" * 100,
        "an empty zip": archive({}),
        "a zip of something": archive({"a.txt": b"a"}),
        "a bomb": archive({"xl/workbook.xml": b"\x00" * (80 * MIB)}),
        "cut off": sales(["2018-01-07"], [1]).xlsx()[:-200],
        "two sheets": workbook([["Country"]], [["Country"]]),
        "formulas": workbook([HEAD.decode().strip().split(","), ["SWE", "all", "2018-01-07", "all", "=1+1", 1]]),
        "entities": changed_workbook(sheet, b"<worksheet", entity + b"<worksheet"),
        "an outside entity": changed_workbook(
            sheet, b"<worksheet", b'<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><worksheet'
        ),
        "a far cell": changed_workbook(sheet, b'r="A1"', b'r="XFD1048576"'),
        "no cell at all": changed_workbook(sheet, b'r="A1"', b'r="../1"'),
        "paths": archive({"../../evil": b"a", "xl/workbook.xml": b"<workbook/>", "[Content_Types].xml": b"<Types/>"}),
        "not xml": archive({"xl/workbook.xml": b"workbook", "[Content_Types].xml": b"types"}),
    }


def end_of(client: Client, name: str, content: bytes) -> str:
    """How an upload ends: `complete`, or the code of its error."""
    body = client.waited(f"/datauploads/{made(client.upload(name, content, 'file.bin'))['IId']}")
    assert_tells_nothing_of_us(str(body["Error"]))
    assert body["Attempt"] == 1
    return "complete" if body["Status"] == "complete" else str(body["Error"]["Code"])


def cases() -> Iterator[tuple[str, bytes]]:
    yield from texts().items()
    yield from books().items()


FINE = {"no line end", "old mac", "sql and html"}


@pytest.mark.parametrize(("name", "content"), [pytest.param(*case, id=case[0]) for case in cases()])
def test_a_hostile_file_is_refused_as_a_whole(client: Client, name: str, content: bytes) -> None:
    end = end_of(client, "Sales", content)
    assert end == "invalid_file" or (end == "complete" and name in FINE)


@pytest.mark.parametrize("kind", ["Media", "Events", "Distribution", "Competitor", "Customer Experience", "Macro", "Anything else"])
def test_a_file_of_another_type_is_refused_by_every_type(client: Client, kind: str, plain: dict[str, Sheet]) -> None:
    assert end_of(client, kind, plain["Sales"].csv()) == "invalid_file"


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 2000), put=st.binary(max_size=30), cut=st.integers(0, 30), is_book=st.booleans())
def test_a_file_that_is_damaged_anywhere_ends_with_a_reason(
    client: Client, plain: dict[str, Sheet], place: int, put: bytes, cut: int, is_book: bool
) -> None:
    whole = plain["Sales"].xlsx() if is_book else plain["Sales"].csv()
    place %= len(whole)
    assert end_of(client, "Sales", whole[:place] + put + whole[place + cut :]) in ("complete", "invalid_file")


def test_the_replicas_are_those_of_before(client: Client) -> None:
    """None of the files above has cost a process."""
    for reason in ("died", "timeout", "memory"):
        assert f"reason={reason}" not in client.server.log
