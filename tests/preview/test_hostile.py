"""Datasets that somebody has laid down in order to do harm, and requests of the same sort.

Whatever they are, each is answered in the forms of this surface, no answer names a path of this machine, no file outside a
dataset is read, and the replicas live on.
"""

import bz2
import gzip
import json
import os
import re
import socket
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import requests

from tests.clients import Raw
from tests.fixtures.preview import Content, front_matter, json_lines, lay, parquet, picture, wav
from tests.preview.asking import cells, get, is_quiet, lay_in, rows, until
from tests.serving import Server, serving

CSV = "a,b\n1,2\n3,4\n"
MARKUP = "<script>alert(1)</script>"
SECRET = "certainly-a-secret"


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, more: bytes = b"") -> bytes:
    """A picture of a few bytes that says that it is large."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + more + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


def nested(levels: int) -> pa.Array:
    array = pa.array([1])
    for _ in range(levels):
        array = pa.ListArray.from_arrays(pa.array([0, 1], pa.int32()), array)
    return array


def damaged(place: int) -> bytes:
    """A file of Parquet with one wrong byte."""
    content = bytearray(parquet(pa.table({"a": list(range(1000)), "b": ["x" * 50] * 1000})))
    content[place % len(content)] ^= 0xFF
    return bytes(content)


# Front matters, each beside a good csv.
READMES = {
    "deep": "a: " + "[" * 5000,
    "python": "a: !!python/object/apply:os.system ['id']",
    "no-date": "a: 2021-99-99",
    "digits": "a: " + "9" * 6000,
    "unhashable": "? [a]\n: b",
    "alias": "a: &x [*x]",
    "halves": 'a: "\\ud800"',
    "not-a-mapping": "- a",
    "configs-5": "configs: 5",
    "config-names": "configs: [{config_name: {a: 1}}, {config_name: .nan, data_files: train.csv}]",
    "config-markup": f"configs: [{{config_name: \"{MARKUP}'/..\", data_files: [{{split: 'a/b%2f', path: train.csv}}]}}]",
    "config-dots": "configs: [{config_name: '..', data_files: train.csv}, {config_name: a, data_files: [{split: '.', path: '*'}]}]",
    "config-control": 'configs: [{config_name: "a\\nb", data_files: train.csv}]',
    "files-outside": "configs: [{config_name: a, data_files: ['/etc/passwd', '../*/train.csv', 'http://127.83.7.11:49151/x']}]",
    "files-stars": f"configs: [{{config_name: a, data_files: '{'*' * 900}'}}]",
    "folder-outside": "configs: [{config_name: a, data_dir: '../..'}]",
    "separator": "configs: [{config_name: a, data_files: train.csv, sep: 'é'}]",
    "encoding": "configs: [{config_name: a, data_files: train.csv, encoding: rot13}]",
    "features": "dataset_info: {features: [{name: a, dtype: {class_label: {names: {x: y}}}}]}",
    "features-list": "dataset_info: {features: {a: []}}",
    "features-deep": "dataset_info: {features: [{name: a, sequence: " + "{sequence: " * 60 + "int32" + "}" * 60 + "}]}",
    "numbers": "dataset_info: {splits: [{name: train, num_bytes: -5, num_examples: 99999999999999999999}]}",
    "tags": "tags: 5\nlanguage: {a: b}\nlicense: [1, null]\ntitle: [x]\ndescription: {a: 1}\npaperswithcode_id: 5",
}
# Here the tests listen, and no replica may come.
CANARY = ("127.83.7.11", 49151)
ADDRESS = "http://{}:{}/x".format(*CANARY)
# Features that are none.
NOTE = '{"info":{"features":{"a":[]}}}'
OUTSIDE = ("/etc/passwd", "../secret/train.csv", ADDRESS, f"file:{ADDRESS[5:]}", "pipe", "link", 5)
DATASETS: dict[str, dict[str, Content]] = {f"readme-{name}": {"README.md": front_matter(text)} for name, text in READMES.items()}
for files in DATASETS.values():
    files["train.csv"] = CSV
DATASETS |= {
    "csv-columns": {"train.csv": ",".join(f"c{number}" for number in range(200_000)) + "\n"},
    "csv-same-names": {"train.csv": ",".join(["a"] * 200_000) + "\n"},
    "csv-quote": {"train.csv": 'a\n"' + "x" * 1_000_000},
    "csv-nul": {"train.csv": b"a,b\n\0,\0\0\n"},
    "csv-names": {"train.csv": f"a\x01\x1b[31m,{MARKUP},../x,a/b,a%2fb,\n1,2,3,4,5,6\n"},
    "csv-long": {"train.csv": "a\n" + "x" * 17_000_000 + "\n"},
    "json-deep": {"train.jsonl": '{"a":' + "[" * 100_000 + "]" * 100_000 + "}\n"},
    "json-halves": {"train.jsonl": '{"a":"\\ud800","\\ud800":1,"\\u0000":2,"":3}\n'},
    "json-names": {"train.jsonl": '{"__proto__":{"x":1},"constructor":1,"row_idx":5,"' + MARKUP + '":"' + MARKUP + '"}\n'},
    "json-wide": {"train.jsonl": "".join(json.dumps({f"k{number}": 1}) + "\n" for number in range(1500))},
    "json-numbers": {"train.jsonl": '{"a":' + "9" * 10_000 + ',"b":1e400,"c":NaN}\n'},
    "json-open": {"train.json": "[" * 100_000},
    "gz-short": {"train.csv.gz": gzip.compress(CSV.encode() * 1000)[:-20]},
    "gz-none": {"train.csv.gz": CSV},
    "bz-bomb": {"train.csv.bz2": bz2.compress(b"0\n" * 10_000_000)},
    "parquet-deep": {"train.parquet": parquet(pa.table({"a": nested(40)}))},
    "parquet-equal": {"train.parquet": parquet(pa.table({"a": ["x" * 10_000_000] * 100}))},
    "parquet-dictionary": {"train.parquet": parquet(pa.table({"a": pa.array(["x" * 10_000_000] * 100).dictionary_encode()}))},
    "parquet-zone": {"train.parquet": parquet(pa.table({"a": pa.array([0, 1], pa.timestamp("us", "Mars/Phobos"))}))},
    "parquet-dates": {"train.parquet": parquet(pa.table({"a": pa.array([2**31 - 1, -(2**31), 0], pa.date32())}))},
    "parquet-long-list": {"train.parquet": parquet(pa.table({"a": [list(range(2_000_000)), [1]]}))},
    "parquet-long-text": {"train.parquet": parquet(pa.table({"a": ["x" * 40_000_000, "y"]}))},
    "parquet-note": {"train.parquet": parquet(pa.table({"a": [1]}).replace_schema_metadata({"huggingface": NOTE}))},
    "json-field": {
        "README.md": front_matter("configs: [{config_name: a, data_files: train.json, field: 5}]"),
        "train.json": '{"5":[{"a":1}]}',
    },
    "parquet-names": {"train.parquet": parquet(pa.table([pa.array([1]), pa.array([2])], names=["a.b", ""]))},
    "parquet-garbage": {"train.parquet": b"PAR1" + bytes(1000) + struct.pack("<I", 900) + b"PAR1"},
    **{f"parquet-damaged-{place}": {"train.parquet": damaged(place)} for place in (10, 500, -9, -30, -200)},
    "pictures": {
        "README.md": "# Pictures\n",
        "train/bomb.png": png(100_000, 100_000),
        "train/zero.png": png(0, 0),
        "train/text.png": png(1, 1, chunk(b"zTXt", b"k\0\0" + zlib.compress(b"x" * 50_000_000))),
        "train/svg.png": f"<svg xmlns='http://www.w3.org/2000/svg'>{MARKUP}</svg>",
        "train/html.jpg": f"<html>{MARKUP}",
        "train/empty.png": b"",
        "train/'\"\n<b>.png": picture(),
    },
    "sounds": {"README.md": "# Sounds\n", "train/a.wav": b"RIFF" + b"\xff" * 100, "train/b.wav": MARKUP, "train/c.wav": wav()},
    "sounds-outside": {
        "README.md": front_matter("dataset_info: {features: [{name: sound, dtype: audio}, {name: many, sequence: image}]}"),
        "train.jsonl": json_lines([{"sound": {"path": path}, "many": [path, {"path": path}]} for path in OUTSIDE]),
    },
    "cells-outside": {
        "README.md": front_matter("dataset_info: {features: [{name: image, dtype: image}]}"),
        "train.jsonl": json_lines([{"image": path} for path in OUTSIDE]),
    },
    "metadata-outside": {
        "README.md": "# M\n",
        "train/a.png": picture(),
        "train/metadata.csv": "file_name,x\n../../secret/train.csv,1\n",
    },
    "file-names": {
        "README.md": "# N\n",
        **dict.fromkeys(("tra'in\".csv", "a\nb.csv", f"{MARKUP.replace('/', '_')}.csv", "\u202e.csv"), CSV),
    },
    "own-folders": {"train.csv": CSV, ".sluice/HEAD": "../../x", ".sluice/versions/1.json": "[]"},
    "list-outside": {"train.csv": CSV, ".sluice/hub.json": '[["/etc/passwd",5],["train.csv",12],["../secret/train.csv",9]]'},
    "list-deep": {"train.csv": CSV, ".sluice/hub.json": "[" * 100_000},
    "list-sizes": {"train.csv": CSV, ".sluice/hub.json": '[["train.csv",99999999999999999999999]]'},
}
STATUSES = {200, 400, 404}


def lay_special(root: Path) -> list[str]:
    """Datasets with links, pipes and sockets."""
    (root / "links" / "inner").mkdir(parents=True)
    (root / "links" / "README.md").write_text("# Links\n")
    os.symlink(root / "secret" / "train.csv", root / "links" / "train.csv")
    os.symlink(root / "secret", root / "links" / "inner" / "test")
    os.mkfifo(root / "links" / "validation.csv")
    lay(root, "piped-readme", {"train.csv": CSV})
    os.mkfifo(root / "piped-readme" / "README.md")
    lay(root, "linked-readme", {"train.csv": CSV})
    os.symlink(root / "secret" / "train.csv", root / "linked-readme" / "README.md")
    (root / "socket").mkdir()
    (root / "socket" / "README.md").write_text("# Socket\n")
    with socket.socket(socket.AF_UNIX) as listener:
        here = os.open(root / "socket", os.O_RDONLY)
        listener.bind(f"/proc/self/fd/{here}/train.csv")
        os.close(here)
    os.symlink(root / "secret", root / "linked-folder")
    for name in ("cells-outside", "sounds-outside"):
        os.symlink(root / "secret" / "train.csv", root / name / "link")
        os.mkfifo(root / name / "pipe")
    return ["links", "piped-readme", "linked-readme", "socket", "linked-folder"]


@pytest.fixture(scope="module")
def den(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with all of them, and one whose content nobody else may show."""
    settings = {"SLUICE_SCORE_REPLICAS": "1", "SLUICE_PREVIEW_TRACEBACKS": "all"}
    with socket.create_server(CANARY) as canary, serving(tmp_path_factory.mktemp("den") / "data", **settings) as server:
        root = server.data_dir / "datasets"
        for name, files in DATASETS.items():
            lay(root, name, files)
        lay_in(server, "secret", {"README.md": front_matter("private: true"), "train.csv": f"a\n{SECRET}\n"})
        server.special = lay_special(root)  # type: ignore[attr-defined]
        for name in (*DATASETS, *server.special):  # type: ignore[attr-defined]
            get(server, "/splits", dataset=name)
        until(lambda: is_quiet(server), 240)
        yield server
        assert "replica died" not in server.log
        assert "request failed" not in server.log
        canary.setblocking(False)
        with pytest.raises(BlockingIOError):
            canary.accept()


def answers_about(server: Server, name: str) -> Iterator[tuple[str, requests.Response]]:
    for path in ("/splits", "/is-valid", "/size", "/parquet"):
        yield path, (answer := get(server, path, dataset=name))
        if path == "/splits" and answer.status_code == 200:
            listed = answer.json()["splits"]
    for one in listed if get(server, "/splits", dataset=name).status_code == 200 else ():
        place = {"dataset": name, "config": one["config"], "split": one["split"]}
        for path in ("/rows", "/first-rows", "/v2/rows", "/statistics"):
            yield path, get(server, path, **place)
        yield "/v2/rows", get(server, "/v2/rows", offset=1, **place)


def check_no_path(server: Server, answer: requests.Response) -> None:
    told = answer.text + str(answer.headers)
    folders = (str(server.data_dir), str(Path.cwd()), "site-packages", "/root/", "/home/", "root:x:0")
    assert [one for one in folders if one in told] == [], told[:1000]


@pytest.mark.parametrize("name", [*DATASETS, "links", "piped-readme", "linked-readme", "socket", "linked-folder"])
def test_every_answer_has_a_form_and_names_no_path(den: Server, name: str) -> None:
    for path, answer in answers_about(den, name):
        assert answer.status_code in STATUSES, f"{path}: {answer.text[:500]}"
        json.loads(answer.content)
        check_no_path(den, answer)
        assert SECRET not in answer.text


def test_the_lists_have_all_of_them_and_name_no_path(den: Server) -> None:
    for path in (
        "/cache",
        "/cache-reports",
        "/valid",
        "/queue",
        "/queue-dump",
        "/hf_datasets",
        "/hf-datasets-count-by-cache-status",
    ):
        answer = get(den, path)
        assert answer.status_code == 200
        check_no_path(den, answer)
    listed = {one["id"] for one in get(den, "/hf_datasets").json()["datasets"]}
    assert listed == {*DATASETS, "links", "piped-readme", "linked-readme", "socket"}


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("parquet-deep", 1),
        ("parquet-equal", 10),
        ("parquet-dictionary", 10),
        ("parquet-zone", 2),
        ("parquet-long-list", 2),
        ("parquet-long-text", 2),
        ("parquet-note", 1),
        ("json-field", 1),
        ("json-halves", 1),
        ("json-names", 1),
        ("csv-names", 1),
        ("piped-readme", 2),
        ("linked-readme", 2),
        ("readme-separator", 2),
    ],
)
def test_what_can_be_shown_of_them_is_shown(den: Server, name: str, wanted: int) -> None:
    [split] = get(den, "/splits", dataset=name).json()["splits"]
    answer = get(den, "/first-rows", dataset=name, config=split["config"], split=split["split"])
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["rows"]) >= wanted


def test_a_separator_that_is_no_ascii_prepares_the_same_rows(den: Server) -> None:
    place = {"dataset": "readme-separator", "config": "a", "split": "train"}
    assert get(den, "/v2/rows", **place).json()["partial"] is False
    assert [one["row"] for one in get(den, "/v2/rows", **place).json()["rows"]] == cells(get(den, "/rows", **place))


def test_dates_that_no_calendar_has_leave_the_statistics_of_others(den: Server) -> None:
    body = get(den, "/statistics", dataset="parquet-dates", config="default", split="train").json()
    [column] = body["statistics"]
    assert (column["column_type"], column["column_statistics"]["min"]) == ("datetime", "1970-01-01T00:00:00")


@pytest.mark.parametrize("name", ["cells-outside", "sounds-outside"])
def test_cells_that_name_something_outside_are_null(den: Server, name: str) -> None:
    for row in rows(den, name).json()["rows"]:
        shown = [*row["row"].values()]
        assert [one for one in shown if one not in (None, [None, None])] == []
        assert row["truncated_cells"] == list(row["row"])


def test_a_record_that_is_too_long_is_told_with_its_line_and_the_limit(den: Server) -> None:
    body = rows(den, "csv-long").json()
    assert "line 2" in body["cause_message"]
    assert "16,777,216" in body["cause_message"]


def test_pictures_and_sounds_are_written_anew_or_not_shown(den: Server) -> None:
    shown = [row["image"] for row in cells(rows(den, "pictures"))]
    found = [get(den, "/" + path) for path in shown if path]
    assert len(found) == 1, "the good one"
    for answer in found:
        assert answer.headers["Content-Type"] == "image/jpeg"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "sandbox" in answer.headers["Content-Security-Policy"]
        assert answer.content.startswith(b"\xff\xd8")
    sounds = [row["audio"] for row in cells(rows(den, "sounds"))]
    assert [bool(one) for one in sounds] == [False, False, True]


def test_a_dataset_that_says_that_it_is_private_in_a_text_is_so(den: Server) -> None:
    lay_in(den, "quoted", {"README.md": front_matter("private: 'true'"), "train.csv": f"a\n{SECRET}\n"})
    assert get(den, "/splits", dataset="quoted", wait=5).status_code == 404
    assert get(den, "/splits", auth=den.auth, dataset="quoted", wait=30).status_code == 200


# Requests


@pytest.mark.parametrize(
    "host",
    ['x"y', "a b", "<script>", "x\\y", "x/../y", "", "x" * 5000, "é", "x@y", "a\tb", "x?y#z", "http://x", "[::1", "x:99999999"],
)
def test_a_host_that_is_none_does_not_come_into_an_answer(den: Server, host: str) -> None:
    place = "dataset=sounds&config=default&split=train"
    with Raw(den) as client:
        client.send(f"GET /first-rows?{place} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        head = client.head()
        body = client.rest()
    if head.status == 200:
        [source] = json.loads(body)["rows"][2]["row"]["audio"]
        assert re.fullmatch(r"/assets/sounds/--/default/train/2/audio/audio\.wav\?v=\S+", source["src"])
    else:
        assert head.status == 400


@pytest.mark.parametrize("host", ["data.example", "data.example:8000", "127.0.0.1:5", "[::1]:5", "a_b"])
def test_a_host_that_is_one_does(den: Server, host: str) -> None:
    answer = get(den, "/first-rows", headers={"Host": host}, dataset="sounds", config="default", split="train")
    assert f'"src":"http://{host}/assets/' in answer.text


QUERIES = [
    "dataset=%00",
    "dataset=%ff%fe",
    "dataset=%ED%A0%80",
    "dataset=" + "a" * 7000,
    "dataset=secret%2F..",
    "dataset=../datasets/secret",
    "dataset=.sluice",
    "dataset=sounds&config=%00&split=%ff",
    "dataset=sounds&config=%22%3E&split='",
    "dataset=sounds&config=default&split=train&offset=%00",
    "dataset=sounds&config=default&split=train&offset=999999999999999&length=100",
    "dataset=sounds&config=default&split=train&wait=nan",
    "dataset=sounds&config=default&split=train&wait=1e400",
    "dataset=sounds&config=default&split=train&predict=%00",
    "&&&=;",
]


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_that_nobody_would_send_is_answered_in_a_form(den: Server, query: str) -> None:
    for path in ("/splits", "/rows", "/first-rows", "/v2/rows", "/size", "/parquet", "/statistics", "/is-valid"):
        answer = requests.get(f"{den.url}{path}?{query}", timeout=30)
        assert answer.status_code in STATUSES | {401, 422}, answer.text
        json.loads(answer.content)
        check_no_path(den, answer)


ADDRESSES = [
    "/assets/sounds/--/default/train/2/audio/../audio/audio.wav",
    "/assets/sounds/--/default/train/2/audio/audio.wav%00",
    "/assets/sounds/--/default/train/2/..%2f..%2f..%2f/audio.wav",
    "/assets/..%2f..%2fetc/--/default/train/0/image/passwd.jpg",
    "/assets/sounds/--/default/train/-1/audio/audio.wav",
    "/assets/sounds/--/default/train/%D9%A2/audio/audio.wav",
    "/assets/%ff/--/a/b/0/c/d.jpg",
    "/assets//--/////",
    "/parquet/sounds/--/default/train/..%2f0000.parquet",
    "/parquet/secret/--/default/train/0000.parquet",
    "/static/..%2fpage.py",
]


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_that_leads_elsewhere_leads_nowhere(den: Server, address: str) -> None:
    with Raw(den) as client:
        client.send(f"GET {address} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        assert client.head().status == 404
        assert SECRET.encode() not in client.rest()


def test_the_replicas_have_lived_through_all_of_it(den: Server) -> None:
    lay_in(den, "good", {"train.csv": CSV})
    assert rows(den, "good").status_code == 200
    died: Any = [line for line in den.log.splitlines() if "replica died" in line or "reason=died" in line]
    assert died == []
