"""A file's content is replaced as a whole, with the permissions that were asked for, and nothing stays beside it."""

import stat
from pathlib import Path

from engine import files


def test_the_new_content_takes_the_place_of_the_old_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "models.txt"
    for text in ("small\n", "small\nключ\n", ""):
        files.replace_text(path, text)
        assert path.read_text(encoding="utf-8") == text
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_crash_left_does_not_lend_its_permissions_to_the_new_file(tmp_path: Path) -> None:
    path, beside = tmp_path / "admin.key", tmp_path / ".admin.key.new"
    beside.write_text("half")
    beside.chmod(0o644)
    files.replace_text(path, "key\n", mode=0o600)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text() == "key\n"
    assert list(tmp_path.iterdir()) == [path]


def test_files_and_folders_can_be_brought_to_the_disk(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    files.fsync(tmp_path / "file")
    files.fsync(tmp_path)
