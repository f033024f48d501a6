"""Folders of versions: made, put in place, compared and removed, so that a kill at any moment leaves a version whole or not there.

Everything here blocks on the disk: call it in a thread. Knows nothing of replicas, of requests, or of which version is active.
"""

import contextlib
import filecmp
import json
import logging
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from engine.model_config import ModelConfig
from engine.repository import CONFIG_FILE, VERSION, Version

log = logging.getLogger("sluice.folders")

# Hidden folders beside a model's versions: one being received, one being removed.
INCOMING, GOING = ".incoming-", ".going-"


def incoming_folder(model_folder: Path) -> Path:
    """A place for one upload; not made yet."""
    return model_folder / f"{INCOMING}{secrets.token_hex(8)}"


def clean(root: Path) -> None:
    """Remove what publishing left behind when it was cut off. For a start, before anything is published."""
    for pattern in (f"*/*/{INCOMING}*", f"*/*/{GOING}*"):
        for folder in root.glob(pattern):
            remove(folder)
            log.info("leftover removed model=%s/%s", folder.parent.parent.name, folder.parent.name)


def make(folder: Path) -> None:
    """With its parents, which another upload that fails may be removing just now."""
    for tries_left in range(9, -1, -1):
        try:
            folder.mkdir(parents=True)
            return
        except FileNotFoundError:
            if not tries_left:
                raise


def remove(folder: Path) -> None:
    """A hidden folder, and those above it that have nothing else."""
    shutil.rmtree(folder, ignore_errors=True)
    _remove_empty(folder.parent)


def _remove_empty(model_folder: Path) -> None:
    with contextlib.suppress(OSError):  # something else is in it
        model_folder.rmdir()
        model_folder.parent.rmdir()


def remove_version(folder: Path) -> None:
    """A version, whole or not at all."""
    hidden = folder.with_name(f"{GOING}{secrets.token_hex(8)}")
    with contextlib.suppress(FileNotFoundError):  # it was never in our root, or a person was faster
        folder.rename(hidden)
        _fsync(folder.parent)
        remove(hidden)


def remove_config(model_folder: Path) -> None:
    (model_folder / CONFIG_FILE).unlink(missing_ok=True)
    _remove_empty(model_folder)


def put_in_place(incoming: Path, config: ModelConfig, folder: Path) -> None:
    """The upload becomes a version: everything on the disk first, then the rename."""
    text = json.dumps(config.as_written(), indent=1, ensure_ascii=False) + "\n"
    (incoming / CONFIG_FILE).write_text(text, encoding="utf-8")
    for path in (*incoming.iterdir(), incoming):
        _fsync(path)
    incoming.rename(folder)
    for parent in (folder.parent, folder.parent.parent, folder.parent.parent.parent):
        _fsync(parent)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def highest_number(folders: list[Path]) -> int:
    """Of all version folders, also of those that were put there by hand since the start."""
    return max((number for folder in folders for number in _numbers(folder)), default=0)


def _numbers(folder: Path) -> Iterator[int]:
    with contextlib.suppress(FileNotFoundError):
        yield from (int(child.name) for child in folder.iterdir() if VERSION.fullmatch(child.name))


def is_same(incoming: Path, config: ModelConfig, version: Version) -> bool:
    """Whether a version has the same config and the same files, byte for byte."""
    if config.as_dict() != version.config.as_dict():
        return False
    sent = _file_names(incoming)
    _, different, odd = filecmp.cmpfiles(incoming, version.folder, sent, shallow=False)
    return sent == _file_names(version.folder) and not different and not odd


def _file_names(folder: Path) -> set[str]:
    """Without the config, which is compared by what it says."""
    return {path.name for path in folder.iterdir()} - {CONFIG_FILE}
