"""Families: a package is imported with its first task, once; what families share exists once in each replica."""

from pathlib import Path

import pytest

import engine.tasks
from engine.tasks.__main__ import Worker
from engine.tasks.families import Families, UnknownTask

NOTHING = memoryview(b"")


class Counter:
    def __init__(self) -> None:
        self.count = 0


@pytest.fixture
def more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose packages are families, too."""
    monkeypatch.setattr(engine.tasks, "__path__", [*engine.tasks.__path__, str(tmp_path)])
    return tmp_path


def write_family(folder: Path, name: str, text: str) -> None:
    (folder / name).mkdir(exist_ok=True)
    (folder / name / "__init__.py").write_text(text)


def test_a_shared_object_is_made_once_a_replica() -> None:
    one, other = Families(), Families()
    assert one.the(Counter) is one.the(Counter)
    assert one.the(Counter) is not other.the(Counter)


def test_a_family_is_asked_for_its_tasks_once(more: Path) -> None:
    write_family(
        more,
        "counting",
        "from tests.engine.tasks.test_families import Counter\n"
        "def tasks(families):\n"
        "    families.the(Counter).count += 1\n"
        "    return {'count': lambda header, payload: ({'asked': families.the(Counter).count}, [])}\n",
    )
    families = Families()
    for _ in range(2):
        assert families.task("counting", "count")({}, NOTHING) == ({"asked": 1}, [])


def test_a_family_that_cannot_be_imported_is_tried_again_with_the_next_frame(more: Path) -> None:
    worker = Worker()
    frame = {"family": "fragile", "task": "go"}
    write_family(more, "fragile", "raise ImportError('a library is missing')\n")
    [(answer, _)] = worker.run(frame, NOTHING)
    assert (answer["error"]["code"], answer["error"]["reason"]) == ("task_failed", "ImportError: a library is missing")
    write_family(more, "fragile", "def tasks(families):\n    return {'go': lambda header, payload: ({'gone': True}, [])}\n")
    assert list(worker.run(frame, NOTHING)) == [({"gone": True}, [])]


def test_an_unknown_task_of_a_known_family_is_named() -> None:
    with pytest.raises(UnknownTask, match="the family 'scoring' has no task 'juggle'"):
        Families().task("scoring", "juggle")
