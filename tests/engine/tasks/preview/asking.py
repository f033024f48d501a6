"""Asking the tasks of the family `preview` in the test's own process, as a replica would."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.frames import Header
from engine.tasks.preview import answer, works
from engine.tasks.preview.scan import Scanner
from tests.fixtures.preview import Content, lay

WORKS = works(Scanner())


@dataclass(frozen=True, slots=True)
class Shown:
    """The answers of `rows`. told: the header."""

    told: Header
    bodies: list[bytes]

    @property
    def old(self) -> dict[str, Any]:
        body: dict[str, Any] = json.loads(self.bodies[0])
        return body

    @property
    def modern(self) -> dict[str, Any]:
        body: dict[str, Any] = json.loads(self.bodies[2])
        return body

    @property
    def types(self) -> dict[str, str]:
        return {one["column"]["name"]: one["column"]["type"] for one in self.old["columns"]}

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [one["row"] for one in self.old["rows"]]

    def column(self, name: str) -> list[Any]:
        return [row[name] for row in self.rows]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A prepared split. told: the header of `prepare`."""

    told: Header
    asked: Header

    def page(self, offset: int = 0, length: int = 100, **more: Any) -> tuple[Header, dict[str, Any], bytes]:
        """The header of the page, its body, and the lines of records."""
        told, bodies = run("page", **{**self._asked(), "offset": offset, "length": length, **more})
        assert "failure" not in told, told
        return told, json.loads(bytes(bodies[0])), bytes(bodies[1])

    def rows(self) -> list[dict[str, Any]]:
        """All rows, page by page."""
        total = self.told["numbers"]["num_examples"]
        found = [self.page(offset)[1]["rows"] for offset in range(0, total, 100)]
        return [one["row"] for page in found for one in page]

    def statistics(self) -> dict[str, tuple[str, dict[str, Any]]]:
        """Kind and figures of each column."""
        asked = self._asked()
        told, bodies = run("statistics", folder=asked["folder"], segments=asked["segments"], columns=asked["columns"])
        assert "failure" not in told, told
        body = json.loads(bytes(bodies[0]))
        return {one["column_name"]: (one["column_type"], one["column_statistics"]) for one in body["statistics"]}

    def _asked(self) -> Header:
        folder = f"{self.asked['staging']}/segments"
        return {**self.asked, "folder": folder, "segments": self.told["segments"], "columns": self.told["columns"]}


def run(task: str, **header: Any) -> tuple[Header, list[Any]]:
    """One task, through JSON as a frame takes it."""
    told, bodies = answer(WORKS[task], json.loads(json.dumps(header)))
    return json.loads(json.dumps(told)), bodies


class Datasets:
    """A root with datasets, and folders for what tasks write."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        self.root.mkdir()
        self.assets = folder / "assets"
        self._staging = folder / "staging"
        self._count = 0

    def lay(self, name: str, files: Mapping[str, Content]) -> Path:
        return lay(self.root, name, files)

    def splits(self, name: str) -> Header:
        return run("splits", root=str(self.root), name=name)[0]

    def listed(self, name: str) -> dict[str, list[str]]:
        """The names of the splits of each config."""
        told = self.splits(name)
        assert "failure" not in told, told
        return {config["config"]: [one["split"] for one in config["splits"]] for config in told["configs"]}

    def rows(self, name: str, config: str = "default", split: str = "train", **more: Any) -> Shown:
        told, bodies = run("rows", **self.asked(name, config, split), **more)
        assert "failure" not in told, told
        return Shown(told, [bytes(body) for body in bodies])

    def failure(self, name: str, config: str = "default", split: str = "train", task: str = "rows", **more: Any) -> Header:
        """Why a task came to nothing."""
        told, _ = run(task, **self.asked(name, config, split), staging=str(self.new_staging()), **more)
        failure: Header = told["failure"]
        return failure

    def prepare(self, name: str, config: str = "default", split: str = "train", **more: Any) -> Prepared:
        asked = {**self.asked(name, config, split), "staging": str(self.new_staging()), **more}
        told, _ = run("prepare", **asked)
        assert "failure" not in told, told
        return Prepared(told, asked)

    def asked(self, name: str, config: str, split: str) -> Header:
        where = {"root": str(self.root), "name": name, "config": config, "split": split}
        return {**where, "assets": str(self.assets), "run": "7-1"}

    def new_staging(self) -> Path:
        self._count += 1
        folder = self._staging / str(self._count)
        folder.mkdir(parents=True)
        return folder
