"""The examples in README.md and docs/ do what they say: bash runs every `sh` block and Python every `python` block, in order.

Each document is read from its top, beside a server that all of them share; a block may use what earlier blocks of its document
made. Blocks marked `sh errors` show errors; no other may. Blocks marked `bash` are for a person at a terminal and are not run.
"""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from server.docs import DOCUMENTS
from tests.serving import ROOT, Server, serving

ADDRESS = "http://127.0.0.1:9000"
# How each document names the server and the key for all of its examples.
SETUP = f"export URL={ADDRESS}\nexport KEY=$(cat data/admin.key)\n"
BLOCK = re.compile(r"^```(sh|sh errors|bash|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# An example that asks an embedding model.
EMBEDS = re.compile(r"MiniLM|URL/embed|URL/info")
# An error in any shape: its message or object, its code, its status. A counter of errors is none.
SHOWN_ERROR = re.compile(r'"[eE]rror":\s*["{]|"code":|"status_code":')
WEIGHTS = ROOT / "models/sluice/all-MiniLM-L6-v2/1/model.onnx"
LANGUAGES = {"sh", "sh errors", "bash", "python", "json", "nginx", "haproxy"}


class Block(NamedTuple):
    """One example: where it stands (`document:line`), its language, and its text."""

    place: str
    kind: str
    text: str


def blocks(document: Path) -> list[Block]:
    text = document.read_text(encoding="utf-8")
    return [
        Block(f"{document.name}:{text.count(chr(10), 0, found.start()) + 2}", found[1], found[2]) for found in BLOCK.finditer(text)
    ]


def examples(document: Path) -> list[Block]:
    """The blocks that are run."""
    return [block for block in blocks(document) if block.kind != "bash"]


class Reader:
    """Somebody who follows one document: a folder with `data/` and `.venv/` in it, beside a running server."""

    def __init__(self, server: Server, folder: Path) -> None:
        self._setup = SETUP.replace(ADDRESS, server.url)
        self._folder = folder
        (folder / "data").symlink_to(server.data_dir)
        (folder / ".venv").symlink_to(sys.prefix)
        # To the reader this folder is the checkout.
        self._environment = os.environ | {"PYTHONPATH": str(ROOT)}

    def run(self, block: Block) -> str:
        """What a block prints, after the document's two variables were set; fails when the block fails."""
        text = f"exec .venv/bin/python -c {shlex.quote(block.text)}" if block.kind == "python" else block.text.replace(SETUP, "")
        done = subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", self._setup + text],
            cwd=self._folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"{block.place}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server for the examples alone: they make a user, keys and models."""
    with serving(tmp_path_factory.mktemp("examples") / "data") as server:
        yield server


@pytest.mark.parametrize("document", [path for path in DOCUMENTS if examples(path)], ids=lambda path: path.name)
def test_the_examples_work_as_they_stand(running: Server, tmp_path: Path, document: Path) -> None:
    reader = Reader(running, tmp_path)
    for block in examples(document):
        if EMBEDS.search(block.text) and not WEIGHTS.exists():
            continue  # fetched by `make test`, where there is a network
        printed = reader.run(block)
        is_error = SHOWN_ERROR.search(printed) is not None
        assert is_error == (block.kind == "sh errors"), f"{block.place} printed\n{printed}"


def test_the_quick_start_is_two_commands() -> None:
    start, ask = blocks(ROOT / "README.md")[:2]
    assert start.text == "make run\n"
    assert ask.text.startswith(SETUP)
    assert re.fullmatch(r"curl .*\n", ask.text.removeprefix(SETUP))


@pytest.mark.parametrize("document", [path for path in DOCUMENTS if examples(path)], ids=lambda path: path.name)
def test_the_examples_name_the_server_and_the_key_once(document: Path) -> None:
    first, *others = examples(document)
    assert first.text.startswith(SETUP)
    assert not [block.place for block in others if re.search(r"^\s*export ", block.text, re.MULTILINE)]
    for block in blocks(document):
        text = block.text.replace(SETUP, "").replace(f'os.environ.get("URL", "{ADDRESS}")', "")
        assert "127.0.0.1" not in text, block.place
        assert all("$URL/" in command for command in re.findall(r"\bcurl (?:.*\\\n)*.*", text)), block.place


@pytest.mark.parametrize("document", [path for path in DOCUMENTS if examples(path)], ids=lambda path: path.name)
def test_no_example_shows_a_key_to_other_users_of_the_machine(document: Path) -> None:
    """`ps` shows the arguments of programs; `echo` is no program to a shell, and curl overwrites what it got with -u."""
    for block in blocks(document):
        text = block.text.replace("export KEY=", "")
        for line in re.sub(r'echo "Authorization: Bearer \$\w+" \|| -u "?admin:\$KEY"?', "", text).splitlines():
            assert not re.search(r"\$\{?(KEY|TOKEN)\b", line), block.place


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_example_is_run_or_marked(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    assert set(re.findall(r"^```(.+)$", text, re.MULTILINE)) <= LANGUAGES


def test_the_examples_are_found() -> None:
    assert len([block for document in DOCUMENTS for block in examples(document)]) >= 35


@pytest.mark.parametrize("document", [*DOCUMENTS, ROOT / "CHANGES.md", ROOT / "models/README.md"], ids=lambda path: path.name)
def test_every_link_between_the_documents_leads_somewhere(document: Path) -> None:
    for link in re.findall(r"\]\((?!http)([^)]+)\)", document.read_text(encoding="utf-8")):
        path, _, heading = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        assert target.exists(), link
        if heading:
            assert heading in anchors(target), link


def anchors(document: Path) -> set[str]:
    """The names under which a page on GitHub can be entered: its headings in lower case, without punctuation, joined by hyphens."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
