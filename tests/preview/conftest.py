"""A server with a few datasets that most tests of preview share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures.preview import front_matter, lay, picture, wav
from tests.preview.asking import is_quiet, rows, until
from tests.preview.preludes import Preludes, preluding
from tests.serving import Server, serving

CARD = """
language: [en]
license: mit
task_categories: [text-classification]
tags: [small]
description: People by name.
"""


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with datasets: `people` (csv, train and test), `pics` (pictures and sound), `ann/notes` (text), `broken` (csv)."""
    data_dir = tmp_path_factory.mktemp("preview") / "data"
    root = data_dir / "datasets"
    people = "name,age\n" + "".join(f"n{number},{number}\n" for number in range(150))
    lay(root, "people", {"README.md": front_matter(CARD), "train.csv": people, "test.csv": "name,age\nzoë,1\n"})
    lay(root, "pics", {"README.md": "# Pictures\n", "train/a.png": picture(size=(20, 10)), "train/b.png": b"no picture"})
    lay(root, "sounds", {"README.md": "# Sounds\n", "train/a.wav": wav()})
    lay(root, "ann/notes", {"train.txt": "one\ntwo\n"})
    lay(root, "broken", {"train.csv": "a,b\n1,2\n1,2,3\n"})
    with serving(data_dir, SLUICE_SCORE_REPLICAS="1") as server:
        assert rows(server, "people").status_code == 200
        assert rows(server, "people", "test").status_code == 200
        until(lambda: is_quiet(server))  # files and statistics that come later change the answers of some routes
        yield server
        assert "Traceback" not in server.log


@pytest.fixture
def preludes(tmp_path: Path) -> Iterator[Preludes]:
    """Servers and workers whose jobs do what a test says before their own work."""
    with preluding(tmp_path) as preludes:
        yield preludes
