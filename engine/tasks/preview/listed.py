"""Datasets of a hub: all their files are listed, and only some of them are here, perhaps in part (engine/tasks/hub/datasets.py).

A folder that somebody has laid down may have such a list, too. It can name no file outside the folder, because every file is opened
as any other.
"""

from engine.tasks import codec
from engine.tasks.preview.failures import TooManyFilesError
from engine.tasks.preview.files import File, Folder
from engine.tasks.preview.limits import MAX_FILES

LISTING = ".sluice/hub.json"
MAX_BYTES = 64 * 1024 * 1024


class PartlyFetched(ValueError):
    """A file of a hub is here in part, or not at all."""


def is_listed(folder: Folder) -> bool:
    return folder.has(LISTING)


def listing(folder: Folder, hidden: list[str]) -> list[File]:
    """All files, as `Folder.walk` gives them. TooManyFilesError; ValueError for a list that is none.

    hidden  names that begin with a dot and are still wanted
    """
    with folder.open(LISTING) as file:
        found = codec.parse_exactly(file.read(MAX_BYTES))
    if not isinstance(found, list) or not all(map(_is_file, found)):
        raise ValueError("the list of its files cannot be read")
    if len(found) > MAX_FILES:
        raise TooManyFilesError(f"the dataset has more than {MAX_FILES:,} files")
    shown = [File(path, size, 0) for path, size in found if _is_shown(path, hidden)]
    return sorted(shown, key=lambda file: file.path)


def _is_file(one: object) -> bool:
    return isinstance(one, list) and len(one) == 2 and isinstance(one[0], str) and type(one[1]) is int and one[1] >= 0


def _is_shown(path: str, hidden: list[str]) -> bool:
    return not any(part.startswith(".") and part not in hidden for part in path.split("/"))


def is_begun(folder: Folder, file: File) -> bool:
    """Whether any of a file is here."""
    return folder.has(file.path)


def is_whole(folder: Folder, file: File) -> bool:
    """Whether all of it is."""
    try:
        with folder.open(file.path) as opened:
            return opened.seek(0, 2) >= file.size
    except OSError:
        return False
