"""Files of csv and tsv, as people write them."""

import bz2
import gzip
import lzma

import pytest

from tests.engine.tasks.preview.asking import Datasets
from tests.fixtures.preview import front_matter


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        (b"\xef\xbb\xbfa,b\r\n1,x\r\n", [{"a": 1, "b": "x"}]),
        (b"a,b\n1,caf\xe9\n", [{"a": 1, "b": "caf\ufffd"}]),
        (b'a,b\n1,"x\ny"\n', [{"a": 1, "b": "x\ny"}]),
        (b'a,b\n1,"say ""hi"""\n', [{"a": 1, "b": 'say "hi"'}]),
        (b"\n\na,b\n\n1,x\n\n", [{"a": 1, "b": "x"}]),
        (b"a,b,c\n1,x\n", [{"a": 1, "b": "x", "c": None}]),
        (b"a,a,a\n1,2,3\n", [{"a": 1, "a.1": 2, "a.2": 3}]),
        (b"a,,\n1,2,3\n", [{"a": 1, "Unnamed: 1": 2, "Unnamed: 2": 3}]),
        (b"a;b\n1;x\n", [{"a": 1, "b": "x"}]),
        (b"a\tb\n1\tx\n", [{"a": 1, "b": "x"}]),
        (b"a|b\n1|x\n", [{"a": 1, "b": "x"}]),
        (b"a,b;c\n1,x\n", [{"a": 1, "b;c": "x"}]),
        (b"a\n1", [{"a": 1}]),
    ],
    ids=[
        "bom and crlf",
        "bad byte",
        "newline",
        "quotes",
        "blank lines",
        "short row",
        "equal names",
        "no names",
        *";\t|",
        ",;",
        "no end",
    ],
)
def test_csv_is_read_as_people_write_it(datasets: Datasets, text: bytes, rows: list[dict[str, object]]) -> None:
    datasets.lay("d", {"a.csv": text})
    assert datasets.rows("d").rows == rows
    assert datasets.prepare("d").rows() == rows


@pytest.mark.parametrize("null", ["", "NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "None", "<NA>", "#N/A"])
def test_words_for_nothing_are_null_quoted_or_not(datasets: Datasets, null: str) -> None:
    datasets.lay("d", {"a.csv": f'a,b\n1,{null}\n2,"{null}"\n3,x\n'})
    assert datasets.rows("d").column("b") == [None, None, "x"]
    assert [row["b"] for row in datasets.prepare("d").rows()] == [None, None, "x"]


@pytest.mark.parametrize(
    ("cells", "kind", "values"),
    [
        (["1", "-2", "0"], "INT", [1, -2, 0]),
        (["1", "2.5"], "FLOAT", [1.0, 2.5]),
        ([".5", "5.", "-.5", "1e3", "1E-2"], "FLOAT", [0.5, 5.0, -0.5, 1000.0, 0.01]),
        (["007", "1"], "STRING", ["007", "1"]),
        (["+5"], "STRING", ["+5"]),
        (["1_000"], "STRING", ["1_000"]),
        (["inf", "1"], "STRING", ["inf", "1"]),
        ([" 1"], "STRING", [" 1"]),
        (["."], "STRING", ["."]),
        (["0x10"], "STRING", ["0x10"]),
        (["true", "False", "TRUE"], "BOOL", [True, False, True]),
        (["true", "1"], "STRING", ["true", "1"]),
        (["9223372036854775807"], "INT", [2**63 - 1]),
        (["9223372036854775808"], "STRING", ["9223372036854775808"]),
        ([str(2**70), "1"], "STRING", [str(2**70), "1"]),
        (["1e999", "1"], "FLOAT", [None, 1.0]),
        (["", "NA"], "JSON", [None, None]),
        (["\u0661"], "STRING", ["\u0661"]),
    ],
    ids=str,
)
def test_a_text_is_a_number_if_json_takes_it(datasets: Datasets, cells: list[str], kind: str, values: list[object]) -> None:
    datasets.lay("d", {"a.csv": "k,a\n" + "".join(f"x,{cell}\n" for cell in cells)})
    shown = datasets.rows("d")
    assert (shown.types["a"], shown.column("a")) == (kind, values)
    assert [row["a"] for row in datasets.prepare("d").rows()] == values


def test_a_long_row_is_an_error_with_its_line(datasets: Datasets) -> None:
    datasets.lay("d", {"a.csv": "a,b\n1,2\n1,2,3\n"})
    for task in ("rows", "prepare"):
        failure = datasets.failure("d", task=task)
        assert failure["code"] == "RowsError"
        assert (failure["cause_class"], failure["cause_message"]) == ("ParserError", "line 3: expected 2 fields, saw 3")
        assert failure["cause_traceback"][-1] == "ParserError: line 3: expected 2 fields, saw 3\n"
        assert not any('File "/' in line for line in failure["cause_traceback"])


def test_an_error_in_one_of_several_files_names_it(datasets: Datasets) -> None:
    datasets.lay("d", {"a.csv": "a,b\n1,2\n", "b.csv": 'a,b\n"x\ny",2\n1,2,3\n'})
    assert datasets.failure("d")["cause_message"] == "b.csv, line 4: expected 2 fields, saw 3"


def test_a_declared_delimiter_and_encoding_are_used(datasets: Datasets) -> None:
    readme = front_matter("configs:\n- data_files: a.csv\n  sep: ':'\n  encoding: cp1252")
    datasets.lay("d", {"README.md": readme, "a.csv": "a:b\n1,5:caf\xe9 \u20ac\n".encode("cp1252")})
    assert datasets.rows("d").rows == [{"a": "1,5", "b": "caf\xe9 \u20ac"}]
    assert datasets.prepare("d").rows() == [{"a": "1,5", "b": "caf\xe9 \u20ac"}]


def test_utf_16_is_an_encoding_too(datasets: Datasets) -> None:
    readme = front_matter("configs:\n- data_files: a.csv\n  encoding: utf-16")
    datasets.lay("d", {"README.md": readme, "a.csv": "a,b\n1,\u20ac\n".encode("utf-16")})
    assert datasets.prepare("d").rows() == datasets.rows("d").rows == [{"a": 1, "b": "\u20ac"}]


@pytest.mark.parametrize("encoding", ["klingon", "hex", "rot13", "idna"])
def test_an_encoding_that_is_none_is_an_error(datasets: Datasets, encoding: str) -> None:
    readme = front_matter(f"configs:\n- data_files: a.csv\n  encoding: {encoding}")
    datasets.lay("d", {"README.md": readme, "a.csv": "a\n1\n"})
    assert datasets.failure("d")["cause_class"] in ("ParserError", "UnicodeError", "UnicodeDecodeError")


def test_a_tab_is_the_delimiter_of_tsv(datasets: Datasets) -> None:
    datasets.lay("d", {"a.tsv": "a,x\tb\n1\t2\n"})
    assert datasets.rows("d").rows == [{"a,x": 1, "b": 2}]


@pytest.mark.parametrize("text", ["", "\n\n", "a,b\n"])
def test_a_file_without_rows_has_none(datasets: Datasets, text: str) -> None:
    datasets.lay("d", {"a.csv": text})
    shown = datasets.rows("d")
    assert (shown.rows, [*shown.types]) == ([], ["a", "b"] if "a" in text else [])
    assert shown.modern["truncated"] is False
    assert datasets.prepare("d").told["numbers"]["num_examples"] == 0


@pytest.mark.parametrize(
    "pack", [gzip.compress, bz2.compress, lzma.compress, lambda data: gzip.compress(data[:9]) + gzip.compress(data[9:])]
)
def test_a_packed_file_equals_a_plain_one(datasets: Datasets, pack: object) -> None:
    text = "a,b\n" + "".join(f"{i},text {i}\n" for i in range(300))
    packed = pack(text.encode())  # type: ignore[operator]
    suffix = {b"\x1f\x8b": "gz", b"BZ": "bz2", b"\xfd7": "xz"}[packed[:2]]
    datasets.lay("plain", {"a.csv": text})
    datasets.lay("packed", {f"a.csv.{suffix}": packed})
    assert datasets.rows("packed").rows == datasets.rows("plain").rows
    assert datasets.prepare("packed").rows() == datasets.prepare("plain").rows()


def test_a_packed_file_that_is_cut_is_an_error(datasets: Datasets) -> None:
    for suffix, pack in (("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress)):
        datasets.lay(suffix, {f"a.csv.{suffix}": pack(b"a\n" + b"1\n" * 100)[:-9]})
        assert datasets.failure(suffix)["code"] == "RowsError"
