"""The lines of README.md do what it says: every `sh` block is run by bash, every `python` block by Python, in order.

Against a server of its own, since the lines make a user. Blocks marked `sh errors` show errors; no other may. Lines for a person at
a terminal are marked `bash` and are not run.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.serving import ROOT, Server, serving

ADDRESS = "http://127.0.0.1:9000"
BLOCK = re.compile(r"^```(sh|sh errors|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
WEIGHTS = ROOT / "models/sluice/all-MiniLM-L6-v2/1/model.onnx"
KEY = "KEY=$(cat data/admin.key)\n"


class Block(NamedTuple):
    line: int
    kind: str
    text: str


def blocks() -> list[Block]:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return [Block(text.count("\n", 0, found.start()) + 2, found[1], found[2]) for found in BLOCK.finditer(text)]


class Reader:
    """Somebody who follows README.md: a folder with `data/` in it, beside a running server."""

    def __init__(self, server: Server, folder: Path) -> None:
        self._server = server
        self._folder = folder
        (folder / "data").symlink_to(server.data_dir)
        (folder / ".venv").symlink_to(sys.prefix)
        # The folder is the checkout to the reader, and port 9000 the server's.
        self._environment = os.environ | {"PYTHONPATH": str(ROOT), "SLUICE_URL": server.url}

    def run(self, block: Block) -> str:
        """What a block prints; fails when it fails."""
        text = block.text.replace(ADDRESS, self._server.url)
        command = [sys.executable, "-c", text] if block.kind == "python" else ["bash", "-e", "-o", "pipefail", "-c", KEY + text]
        done = subprocess.run(
            command, cwd=self._folder, env=self._environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, f"README.md line {block.line}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    with serving(tmp_path / "served") as server:
        folder = tmp_path / "reader"
        folder.mkdir()
        yield Reader(server, folder)


def test_the_lines_of_the_readme_work_as_they_stand(reader: Reader) -> None:
    for block in blocks():
        if "MiniLM" in block.text and not WEIGHTS.exists():
            continue  # fetched by `make test`, where there is a network
        printed = reader.run(block)
        assert ('"error":' in printed) == (block.kind == "sh errors"), f"README.md line {block.line} printed\n{printed}"


def test_the_quick_start_is_two_commands() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Quick start")[2]
    commands = re.findall(r"^```(?:ba)?sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert commands[0] == "make run\n"
    assert commands[1].startswith("curl ")
    assert commands[2] == KEY


def test_every_line_for_a_shell_is_run_or_marked() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    languages = set(re.findall(r"^```(.+)$", text, re.MULTILINE))
    assert languages <= {"sh", "sh errors", "bash", "python", "json", "nginx"}
    assert len(blocks()) > 15
