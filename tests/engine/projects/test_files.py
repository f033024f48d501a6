"""Files of projects: what takes its place does so whole, also after an attempt that was cut off, and what is removed is gone."""

from pathlib import Path

from engine.projects import files
from engine.projects.attempts import Attempts
from engine.projects.files import ProjectFolders, made_name
from engine.projects.uploads import cleaned
from engine.store import ObjectName

NINE = ObjectName("acme", "demo", "dataset", 9)


def written(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "file").write_text(text)
    return folder


def test_folders_are_made_of_ids_alone_and_no_catalogue_looks_into_those_of_attempts(tmp_path: Path) -> None:
    folders = ProjectFolders(tmp_path)
    assert made_name(NINE) == "demo-dataset-9"
    assert folders.dataset(NINE) == tmp_path / "datasets" / "acme" / "demo-dataset-9"
    assert folders.attempt(NINE, 2).relative_to(tmp_path / "datasets").parts[0].startswith(".")
    assert folders.attempt(NINE, 2) != folders.attempt(NINE, 3)


def test_a_folder_takes_its_place_also_where_an_earlier_attempt_was_cut_off_after_it_did(tmp_path: Path) -> None:
    place = tmp_path / "datasets" / "acme" / "demo-dataset-9"
    files.put(written(tmp_path / "datasets" / ".staging" / "1", "first"), place)
    files.put(written(tmp_path / "datasets" / ".staging" / "2", "second"), place)
    assert (place / "file").read_text() == "second"
    assert [path.name for path in place.parent.iterdir()] == ["demo-dataset-9"]


def test_what_is_removed_is_gone_and_may_be_removed_again(tmp_path: Path) -> None:
    folder = written(tmp_path / "one", "text")
    (folder / "more").mkdir()
    files.remove(folder)
    files.remove(folder)
    assert list(tmp_path.iterdir()) == []


def test_a_removal_that_was_cut_off_is_ended_by_the_next_one(tmp_path: Path) -> None:
    written(tmp_path / "one", "text").rename(tmp_path / ".one.gone")
    files.remove(tmp_path / "one")
    assert list(tmp_path.iterdir()) == []
    written(tmp_path / ".one.gone", "text")
    files.remove(written(tmp_path / "one", "text"))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_emptied_before_an_attempt_writes_into_it(tmp_path: Path) -> None:
    folder = written(tmp_path / "staging" / "one", "left by a process that was killed")
    files.empty_folder(folder)
    assert list(folder.iterdir()) == []


def test_a_file_gets_its_name_when_its_content_is_there(tmp_path: Path) -> None:
    folder = files.new_upload(ProjectFolders(tmp_path))
    assert len(folder.name) == 32
    (folder / ".file.new").write_text("content")
    files.keep(folder / ".file.new", folder / files.FILE)
    assert [path.name for path in folder.iterdir()] == ["file"]


def test_a_name_that_is_no_text_can_be_written_down() -> None:
    assert cleaned("a/b\\c\udcff.csv") == "c?.csv"
    assert cleaned("a" * 300) == "a" * 255


async def test_an_attempt_of_which_nothing_is_kept_is_gone_and_others_stay(tmp_path: Path) -> None:
    attempts, folders = Attempts(ProjectFolders(tmp_path)), ProjectFolders(tmp_path)
    for number in (1, 2):
        written(folders.attempt(NINE, number), "half")
    await attempts.discard(NINE, 1)
    assert [path.name for path in folders.staging.iterdir()] == ["acme.demo-dataset-9.2"]
    await attempts.discard(NINE, 1)
