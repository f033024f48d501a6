"""Pictures and sounds: decoded and written anew, or sent as what they are; never a foreign byte, never a lost row."""

import io
import json
import os
import stat
from pathlib import Path

import pytest
from PIL import Image

from engine.tasks.preview import sounds
from engine.tasks.preview.cells import column_hash
from engine.tasks.preview.pictures import written_anew
from tests.engine.tasks.preview.asking import Datasets
from tests.fixtures.preview import flat_picture, picture, wav


@pytest.mark.parametrize(
    ("mode", "kind", "suffix"),
    [
        ("RGB", "PNG", "jpg"),
        ("L", "PNG", "jpg"),
        ("1", "PNG", "jpg"),
        ("RGB", "JPEG", "jpg"),
        ("CMYK", "JPEG", "jpg"),
        ("RGBA", "PNG", "png"),
        ("LA", "PNG", "png"),
        ("I;16", "PNG", "png"),
        ("P", "GIF", "jpg"),
        ("RGB", "WEBP", "jpg"),
        ("RGBA", "WEBP", "png"),
        ("RGB", "BMP", "jpg"),
        ("RGB", "TIFF", "jpg"),
        ("F", "TIFF", "jpg"),
    ],
)
def test_pictures_of_all_kinds_are_written_anew(mode: str, kind: str, suffix: str) -> None:
    given = flat_picture((9, 5), kind, mode)
    made = written_anew(given)
    assert made is not None
    assert (made.suffix, made.width, made.height) == (suffix, 9, 5)
    with Image.open(io.BytesIO(made.data)) as opened:
        assert opened.format == {"jpg": "JPEG", "png": "PNG"}[suffix]


def test_a_palette_with_transparency_becomes_png() -> None:
    image = Image.new("P", (4, 4))
    out = io.BytesIO()
    image.save(out, "PNG", transparency=0)
    made = written_anew(out.getvalue())
    assert made is not None
    assert made.suffix == "png"


def test_orientation_is_applied_and_no_note_is_left() -> None:
    image = Image.new("RGB", (4, 8), "red")
    exif = image.getexif()
    exif[0x0112], exif[0x010E] = 6, "s3cret note"
    for kind in ("JPEG", "PNG", "WEBP"):
        out = io.BytesIO()
        image.save(out, kind, exif=exif, icc_profile=b"s3cret profile", comment=b"s3cret comment")
        assert b"s3cret" in out.getvalue()
        made = written_anew(out.getvalue())
        assert made is not None
        assert (made.width, made.height) == (8, 4)
        assert b"s3cret" not in made.data
        assert b"Exif" not in made.data


@pytest.mark.parametrize(
    "data",
    [b"", b"no picture", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"%!PS-Adobe", picture()[:60], b"\xff\xd8\xff" + bytes(40)],
    ids=["empty", "text", "svg", "eps", "cut", "no jpeg"],
)
def test_what_is_no_picture_is_none(data: bytes) -> None:
    assert written_anew(data) is None


@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP"])
def test_a_picture_of_too_many_pixels_is_none(kind: str) -> None:
    assert written_anew(flat_picture((6000, 4100), kind, "1" if kind == "PNG" else "L")) is None


def test_a_webp_of_too_many_pixels_is_none_before_it_is_opened() -> None:
    header = b"RIFF\x64\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + (16000).to_bytes(3, "little") * 2
    assert written_anew(header + bytes(80)) is None


def test_a_jpeg_of_too_many_pixels_is_drafted_down() -> None:
    made = written_anew(flat_picture((6000, 4100), "JPEG"))
    assert made is not None
    assert (made.width, made.height) == (3000, 2050)


def test_a_folder_of_pictures_is_shown_with_the_others_where_one_is_broken(datasets: Datasets) -> None:
    datasets.lay("pics", {"a.png": picture(), "b.png": b"broken", "c.png": picture("RGBA")})
    shown = datasets.rows("pics")
    assert shown.column("image") == [
        "assets/pics/--/default/train/0/image/image.jpg",
        None,
        "assets/pics/--/default/train/2/image/image.png",
    ]
    assert shown.old["rows"][1]["truncated_cells"] == ["image"]
    assert "truncated_cells" not in shown.old["rows"][0]
    assert shown.told["truncated"] == ["cells"]
    assert (shown.told["assets"], shown.told["sizes"][3]) == (2, 0)
    modern = shown.modern["rows"][0]["row"]["image"]
    assert modern == {"src": "assets/pics/--/default/train/0/image/image.jpg?v=7-1", "height": 6, "width": 8}


def test_files_lie_by_row_and_hash_of_column(datasets: Datasets) -> None:
    datasets.lay("pics", {"a.png": picture()})
    datasets.rows("pics")
    files = [str(path.relative_to(datasets.assets)) for path in datasets.assets.rglob("*") if path.is_file()]
    assert files == [f"0/{column_hash('image')}/image.jpg"]
    assert len(column_hash("image")) == 16


def test_the_public_address_comes_in_where_the_bases_are(datasets: Datasets) -> None:
    datasets.lay("org/pics", {"a.png": picture(), "b.wav": wav(), "c.png": picture()})
    shown = datasets.rows("org/pics")
    body, about = shown.bodies[2], shown.told["first_rows"]
    for offset in reversed(about["bases"]):
        body = body[:offset] + b"https://h/" + body[offset:]
    rows = json.loads(body)["rows"]
    assert [row["row"]["image"]["src"][:26] for row in rows] == ["https://h/assets/org/pics/"] * 2
    for row, (start, end, cell) in zip(shown.modern["rows"], about["rows"], strict=True):
        assert json.loads(shown.bodies[2][start:end]) == row
        assert shown.bodies[2][cell : cell + 2] == b"},"


def test_names_in_an_address_are_escaped_part_by_part(datasets: Datasets) -> None:
    readme = "---\nconfigs:\n- config_name: a/b ?\n  data_files: '*.png'\n---\n"
    datasets.lay("pics", {"README.md": readme, "a.png": picture()})
    shown = datasets.rows("pics", "a/b ?")
    assert shown.column("image") == ["assets/pics/--/a%2Fb%20%3F/train/0/image/image.jpg"]


def test_parent_folders_are_labels_the_same_in_all_splits(datasets: Datasets) -> None:
    files = {path: picture() for path in ("train/dog/1.png", "train/cat/2.png", "test/eel/3.png")}
    datasets.lay("d", {"README.md": "# x", **files})
    shown = datasets.rows("d")
    assert shown.old["columns"][1]["column"] == {"name": "label", "type": "CLASS_LABEL", "labels": ["cat", "dog", "eel"]}
    assert shown.column("label") == [0, 1]
    assert datasets.rows("d", split="test").column("label") == [2]


def test_metadata_adds_columns_in_place_of_labels(datasets: Datasets) -> None:
    files: dict[str, bytes | str] = {f"{name}.png": picture() for name in ("x/a", "x/sub/b", "y/c")} | {"README.md": "# x"}
    files |= {
        "x/metadata.csv": "file_name,n,s\na.png,1,u\nsub/b.png,2,v\n",
        "y/metadata.jsonl": '{"file_name": "c.png", "s": "w"}\n',
    }
    datasets.lay("d", files)
    shown = datasets.rows("d")
    assert [(row["n"], row["s"]) for row in shown.rows] == [(1, "u"), (2, "v"), (None, "w")]
    assert [*shown.types] == ["image", "n", "s"]


def test_a_column_of_metadata_does_not_take_the_place_of_the_picture(datasets: Datasets) -> None:
    datasets.lay("d", {"a.png": flat_picture((4, 4), "PNG"), "metadata.csv": "file_name,image,n\na.png,x,1\n"})
    assert datasets.rows("d").rows == [{"image": "assets/d/--/default/train/0/image/image.jpg", "n": 1}]


def test_a_sound_is_sent_as_it_is(datasets: Datasets, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sounds, "_ffmpeg", lambda: None)
    datasets.lay("d", {"a.wav": wav(), "b.wav": b"RIFFbroken"})
    shown = datasets.rows("d")
    assert shown.types == {"audio": "AUDIO_RELATIVE_SOURCES"}
    assert shown.column("audio") == [[{"src": "assets/d/--/default/train/0/audio/audio.wav", "type": "audio/wav"}], None]
    assert (datasets.assets / "0" / column_hash("audio") / "audio.wav").read_bytes() == wav()


def test_with_ffmpeg_a_wav_is_also_an_mp3(datasets: Datasets, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "ffmpeg"
    program.write_text("#!/bin/sh\nprintf 'ID3 sound'\n")
    os.chmod(program, stat.S_IRWXU)
    monkeypatch.setattr(sounds, "_ffmpeg", lambda: str(program))
    datasets.lay("d", {"a.wav": wav()})
    [cell] = datasets.rows("d").column("audio")
    assert [source["type"] for source in cell] == ["audio/mpeg", "audio/wav"]
    assert (datasets.assets / "0" / column_hash("audio") / "audio.mp3").read_bytes() == b"ID3 sound"


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"ID3\x03", "audio/mpeg"),
        (b"\xff\xfb\x90\x00", "audio/mpeg"),
        (b"fLaC\0\0", "audio/flac"),
        (b"OggS\0OpusHead", "audio/ogg"),
    ],
)
def test_the_type_of_a_sound_comes_from_its_content(datasets: Datasets, data: bytes, kind: str) -> None:
    datasets.lay("d", {"a.opus": data, "b.mp3": data})
    assert [cell[0]["type"] for cell in datasets.rows("d").column("audio")] == [kind] * 2


def test_files_and_splits_have_a_limit_of_media(datasets: Datasets, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.tasks.preview.cells.MAX_ASSET_BYTES", 2500)
    monkeypatch.setattr("engine.tasks.preview.storing.MAX_MEDIA_BYTES", 10_000)
    monkeypatch.setattr(sounds, "_ffmpeg", lambda: None)
    datasets.lay("d", {"a.wav": wav(1.0), "b.wav": wav(0.1), "c.wav": wav(0.1)})
    assert [cell is None for cell in datasets.rows("d").column("audio")] == [True, False, True]


def test_prepared_pictures_and_sounds_are_shown_on_their_pages(datasets: Datasets, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sounds, "_ffmpeg", lambda: None)
    datasets.lay("pics", {"a.png": picture(), "b.png": b"broken"})
    datasets.lay("tones", {"a.wav": wav()})
    for name, column in (("pics", "image"), ("tones", "audio")):
        prepared = datasets.prepare(name)
        told, page, _ = prepared.page()
        assert page["rows"] == datasets.rows(name).modern["rows"]
        assert prepared.page(records=True)[2].splitlines() == [b'{"yhat_id":%d}' % i for i in range(told["num_rows"])]
        assert prepared.statistics()[column][0] == column
