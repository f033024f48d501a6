"""Folders of versions: created, put in place, compared and removed.

The process may be killed at any moment: a version is then complete or not there at all. Every function here blocks on the disk, so
call it in a thread. Knows nothing of replicas, of requests, or of which version is active.
"""

import contextlib
import filecmp
import json
import logging
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from engine import files
from engine.repository.config import ModelConfig
from engine.repository.index import CONFIG_FILE, VERSION, Version

log = logging.getLogger("sluice.folders")

# Hidden folders beside a model's versions: an upload that is being received, a version that is being removed.
INCOMING, GOING = ".incoming-", ".going-"


def incoming_folder(model_folder: Path) -> Path:
    """The path for the files of one upload; the folder is not created yet."""
    return model_folder / f"{INCOMING}{secrets.token_hex(8)}"


def clean(root: Path) -> None:
    """Remove what a publisher left behind when it was killed. Call it at start-up, before anybody publishes."""
    for pattern in (f"*/*/{INCOMING}*", f"*/*/{GOING}*"):
        for folder in root.glob(pattern):
            remove(folder)
            log.info("leftover removed model=%s/%s", folder.parent.parent.name, folder.parent.name)


def make(folder: Path) -> None:
    """Create a folder and its parents. Try again when another upload has just failed and removes the empty parents meanwhile."""
    for tries_left in range(9, -1, -1):
        try:
            folder.mkdir(parents=True)
            return
        except FileNotFoundError:
            if not tries_left:
                raise


def remove(folder: Path) -> None:
    """Remove a hidden folder, then the model's and the owner's folder if they are empty."""
    shutil.rmtree(folder, ignore_errors=True)
    _remove_empty(folder.parent)


def _remove_empty(model_folder: Path) -> None:
    with contextlib.suppress(OSError):  # the folder is not empty
        model_folder.rmdir()
        model_folder.parent.rmdir()


def remove_version(folder: Path) -> None:
    """Remove a version in one step: it is renamed to a hidden folder, which is then removed."""
    hidden = folder.with_name(f"{GOING}{secrets.token_hex(8)}")
    with contextlib.suppress(FileNotFoundError):  # the version is not in our root, or a person has removed it already
        folder.rename(hidden)
        files.fsync(folder.parent)
        remove(hidden)


def remove_config(model_folder: Path) -> None:
    """Remove the config that all versions of a model share, then the model's and the owner's folder if they are empty."""
    (model_folder / CONFIG_FILE).unlink(missing_ok=True)
    _remove_empty(model_folder)


def put_in_place(incoming: Path, config: ModelConfig, folder: Path) -> None:
    """Make an upload a version: write its config, bring all files to the disk, then rename the folder."""
    text = json.dumps(config.as_written(), indent=1, ensure_ascii=False) + "\n"
    (incoming / CONFIG_FILE).write_text(text, encoding="utf-8")
    for path in (*incoming.iterdir(), incoming):
        files.fsync(path)
    incoming.rename(folder)
    for parent in (folder.parent, folder.parent.parent, folder.parent.parent.parent):
        files.fsync(parent)


def highest_number(folders: list[Path]) -> int:
    """The highest version number in these folders, including versions that somebody put there by hand since the server started."""
    return max((number for folder in folders for number in _numbers(folder)), default=0)


def _numbers(folder: Path) -> Iterator[int]:
    with contextlib.suppress(FileNotFoundError):
        yield from (int(child.name) for child in folder.iterdir() if VERSION.fullmatch(child.name))


def is_same(incoming: Path, config: ModelConfig, version: Version) -> bool:
    """Whether the upload has the same config as a version, and the same files byte for byte."""
    if not version.folder.is_dir():  # a person has removed it
        return False
    if config.as_dict() != version.config.as_dict():
        return False
    sent = _file_names(incoming)
    _, different, odd = filecmp.cmpfiles(incoming, version.folder, sent, shallow=False)
    return sent == _file_names(version.folder) and not different and not odd


def _file_names(folder: Path) -> set[str]:
    """The names of all files but config.json: configs are compared by their values, not byte for byte."""
    return {path.name for path in folder.iterdir()} - {CONFIG_FILE}
