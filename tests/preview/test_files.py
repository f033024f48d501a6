"""Files: pictures, sound and Parquet, whole and in parts."""

import io
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import requests
from PIL import Image

from handlers.preview.ranges import NotSatisfiable, is_range_current, wanted_range
from tests.fixtures.preview import picture, wav
from tests.preview.asking import cells, get, hook, is_quiet, lay_in, refused, rows, until
from tests.serving import Server, serving


def asset(server: Server, path: str, **headers: str) -> requests.Response:
    """The path is sent as it is."""
    request = requests.Request(
        "GET", server.url, headers={name.replace("_", "-"): value for name, value in headers.items()}
    ).prepare()
    request.url = f"{server.url}/{path}"
    with requests.Session() as session:
        return session.send(request, timeout=30)


def test_a_picture_is_a_cell_with_an_address_and_a_broken_one_is_null(house: Server) -> None:
    answer = rows(house, "pics")
    assert [row["image"] for row in cells(answer)] == ["assets/pics/--/default/train/0/image/image.jpg", None]
    assert answer.json()["rows"][1]["truncated_cells"] == ["image"]
    shown = asset(house, cells(answer)[0]["image"])
    assert shown.status_code == 200
    assert shown.headers["Content-Type"] == "image/jpeg"
    assert shown.headers["X-Content-Type-Options"] == "nosniff"
    assert shown.headers["Content-Security-Policy"] == "default-src 'none'; sandbox"
    assert shown.headers["Accept-Ranges"] == "bytes"
    assert shown.headers["Cache-Control"] == "no-cache"
    assert "ETag" in shown.headers
    assert "Last-Modified" in shown.headers
    assert Image.open(io.BytesIO(shown.content)).size == (20, 10)


def test_the_modern_address_is_absolute_and_may_be_kept_for_ever(house: Server) -> None:
    rows(house, "pics")
    answer = get(house, "/first-rows", dataset="pics", config="default", split="train")
    cell = answer.json()["rows"][0]["row"]["image"]
    assert (cell["height"], cell["width"]) == (10, 20)
    assert re.fullmatch(rf"{re.escape(house.url)}/assets/pics/--/default/train/0/image/image\.jpg\?v=\S+", cell["src"])
    shown = requests.get(cell["src"], timeout=30)
    assert (shown.status_code, shown.headers["Cache-Control"]) == (200, "max-age=31536000, immutable")
    other = requests.get(
        house.url + "/first-rows",
        params={"dataset": "pics", "config": "default", "split": "train"},
        headers={"Host": "data.example"},
        timeout=30,
    )
    assert other.json()["rows"][0]["row"]["image"]["src"].startswith("http://data.example/assets/")
    assert other.headers["ETag"] != answer.headers["ETag"]
    old = requests.get(cell["src"].partition("?")[0] + "?v=0-0", timeout=30)
    assert old.headers["Cache-Control"] == "no-cache"


def test_sound_is_sent_byte_by_byte_as_it_was(house: Server) -> None:
    answer = rows(house, "sounds")
    source = cells(answer)[0]["audio"][-1]
    assert source["type"] == "audio/wav"
    assert asset(house, source["src"]).content == wav()


@pytest.mark.parametrize("has_ffmpeg", [False, True])
def test_a_wav_is_also_an_mp3_where_ffmpeg_is_installed_and_nothing_fails_where_it_is_not(tmp_path: Path, has_ffmpeg: bool) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    if has_ffmpeg:
        (programs / "ffmpeg").write_text("#!/bin/sh\nprintf 'ID3 sound'\n")
        (programs / "ffmpeg").chmod(0o700)
    with serving(tmp_path / "data", SLUICE_SCORE_REPLICAS="1", PATH=str(programs)) as server:
        lay_in(server, "sounds", {"README.md": "# Sounds\n", "train/a.wav": wav(), "train/b.wav": wav(), "train/c.wav": b"RIFF"})
        first, second, broken = (row["audio"] for row in cells(rows(server, "sounds")))
        found = {one["type"]: asset(server, one["src"]).content for one in first}
        assert found == ({"audio/mpeg": b"ID3 sound"} if has_ffmpeg else {}) | {"audio/wav": wav()}
        assert [one["type"] for one in second] == [*found]
        assert broken is None
        assert "Traceback" not in server.log


@pytest.mark.parametrize(
    "path",
    [
        "assets/pics/--/default/train/0/image/image.png",
        "assets/pics/--/default/train/1/image/image.jpg",
        "assets/pics/--/default/train/x/image/image.jpg",
        "assets/pics/--/default/train/0/other/image.jpg",
        "assets/pics/--/default/train/0/image/..%2Fimage.jpg",
        "assets/pics/--/default/train/0/image/%2e%2e%2f%2e%2e%2fx.jpg",
        "assets/pics/--/default/train/0/image/image.jpg/more",
        "assets/pics/--/default/train/0/image",
        "assets/pics/default/train/0/image/image.jpg",
        "assets/pics/--/default/other/0/image/image.jpg",
        "assets/nothing/--/default/train/0/image/image.jpg",
        "assets/..%2F..%2Fpics/--/default/train/0/image/image.jpg",
        "assets/%ff/--/default/train/0/image/image.jpg",
        "assets/pics/--/default/train/0/image/image%00.jpg",
        "parquet/pics/--/default/train/0000.jpg",
        "parquet/people/--/default/train/9999.parquet",
        "parquet/people/--/default/nothing/0000.parquet",
    ],
)
def test_what_is_not_there_is_404_with_six_keys(house: Server, path: str) -> None:
    rows(house, "pics")
    answer = asset(house, path)
    assert answer.status_code == 404
    refused(answer, 404, answer.headers["X-Error-Code"])


def test_a_column_and_a_dataset_may_have_a_slash_in_their_names(house: Server) -> None:
    lay_in(house, "ann/pics", {"train.jsonl": '{"a/b":"x"}\n'})
    assert cells(rows(house, "ann/pics")) == [{"a/b": "x"}]
    assert asset(house, "assets/ann/pics/--/default/train/0/a%2Fb/image.jpg").status_code == 404


def test_parts_of_a_file(house: Server) -> None:
    path = cells(rows(house, "pics"))[0]["image"]
    whole = asset(house, path)
    size, etag = len(whole.content), whole.headers["ETag"]
    parts = {"bytes=0-9": (0, 10), "bytes=10-": (10, size), "bytes=-5": (size - 5, size), f"bytes=5-{size * 2}": (5, size)}
    for header, (start, end) in parts.items():
        answer = asset(house, path, Range=header)
        assert (answer.status_code, answer.content) == (206, whole.content[start:end])
        assert answer.headers["Content-Range"] == f"bytes {start}-{end - 1}/{size}"
    for header in ("bytes=0-1,3-4", "bytes=9-3", "bytes=x-", "lines=0-1", "bytes=-", "bytes"):
        answer = asset(house, path, Range=header)
        assert (answer.status_code, answer.content) == (200, whole.content), header
    beyond = asset(house, path, Range=f"bytes={size}-")
    refused(beyond, 416, "RangeNotSatisfiable")
    assert beyond.headers["Content-Range"] == f"bytes */{size}"
    assert asset(house, path, Range="bytes=0-1", If_Range=etag).status_code == 206
    assert asset(house, path, Range="bytes=0-1", If_Range=whole.headers["Last-Modified"]).status_code == 206
    assert asset(house, path, Range="bytes=0-1", If_Range='"other"').status_code == 200
    assert asset(house, path, Range="bytes=0-1", If_Range="Mon, 01 Jan 2001 00:00:00 GMT").status_code == 200
    assert asset(house, path, If_None_Match=etag).status_code == 304
    assert asset(house, path, If_None_Match='"other"', If_Modified_Since=whole.headers["Last-Modified"]).status_code == 200
    assert asset(house, path, If_Modified_Since=whole.headers["Last-Modified"]).status_code == 304
    head = requests.head(f"{house.url}/{path}", timeout=30)
    assert (head.status_code, head.headers["Content-Length"], head.content) == (200, str(size), b"")


@pytest.mark.parametrize(
    ("header", "size", "wanted"),
    [
        (None, 10, None),
        ("bytes=0-0", 10, (0, 1)),
        ("bytes= 2-3", 10, (2, 4)),
        ("BYTES=2-3", 10, (2, 4)),
        ("bytes=-20", 10, (0, 10)),
        ("bytes=9-", 10, (9, 10)),
        ("bytes=3-2", 10, None),
        ("bytes=0-1,2-3", 10, None),
        ("bytes=٣-٤", 10, None),
    ],
)
def test_which_part_a_range_means(header: str | None, size: int, wanted: tuple[int, int] | None) -> None:
    assert wanted_range(header, size) == wanted


@pytest.mark.parametrize(("header", "size"), [("bytes=10-", 10), ("bytes=0-", 0), ("bytes=-0", 10), ("bytes=-1", 0)])
def test_a_range_beyond_the_end_cannot_be_had(header: str, size: int) -> None:
    with pytest.raises(NotSatisfiable):
        wanted_range(header, size)


def test_a_weak_etag_keeps_no_range() -> None:
    assert not is_range_current('W/"1"', '"1"', 0)
    assert is_range_current('"1"', '"1"', 0)


def test_the_parquet_file_has_all_rows(house: Server) -> None:
    rows(house, "people")
    until(lambda: not get(house, "/parquet", dataset="people").json()["partial"])
    listed = get(house, "/parquet", dataset="people", config="default", split="train").json()
    assert list(listed) == ["parquet_files", "pending", "failed", "partial"]
    [file] = listed["parquet_files"]
    assert list(file) == ["dataset", "config", "split", "url", "filename", "size"]
    answer = requests.get(file["url"], timeout=30)
    assert (answer.status_code, len(answer.content)) == (200, file["size"])
    assert pq.read_table(io.BytesIO(answer.content)).num_rows == 150
    assert requests.get(file["url"], headers={"Range": "bytes=0-3"}, timeout=30).content == b"PAR1"


def test_after_an_update_the_same_address_shows_the_new_picture_and_after_a_removal_none(tmp_path: Path) -> None:
    settings = {
        "SLUICE_PUBLIC_URL": "https://data.example/sluice/",
        "SLUICE_ASSETS_DIR": str(tmp_path / "assets"),
    }
    with serving(tmp_path / "data", SLUICE_SCORE_REPLICAS="1", **settings) as server:
        lay_in(server, "pics", {"README.md": "# Pictures\n", "train/a.png": picture(size=(20, 10))})
        path = cells(rows(server, "pics"))[0]["image"]
        until(lambda: is_quiet(server))
        assert Image.open(io.BytesIO(asset(server, path).content)).size == (20, 10)
        modern = get(server, "/first-rows", dataset="pics", config="default", split="train").json()["rows"][0]["row"]["image"]
        assert modern["src"].startswith("https://data.example/sluice/assets/pics/")
        lay_in(server, "pics", {"train/a.png": picture(size=(30, 15))})
        hook(server, {"update": "datasets/pics"})
        until(lambda: Image.open(io.BytesIO(asset(server, path).content)).size == (30, 15))
        until(lambda: is_quiet(server))
        assert list((tmp_path / "assets").rglob("*.jpg"))
        assert not (tmp_path / "data" / "assets").exists()
        hook(server, {"remove": "datasets/pics"})
        assert asset(server, path).status_code == 404
