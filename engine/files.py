"""Files that survive a crash: their content is on the disk before anybody sees it.

Every function here blocks on the disk: call it in a thread, or before the server starts.
"""

import os
from pathlib import Path


def replace_text(path: Path, text: str, *, mode: int = 0o666) -> None:
    """Replace a file's content in one step, so that a crash leaves the old text or the new one.

    The new text is written to a hidden file in the same folder and fsynced; then that file is renamed, and the folder fsynced.

    mode  permissions of the new file from its creation on, less the umask
    """
    beside = path.with_name(f".{path.name}.new")
    beside.unlink(missing_ok=True)  # a crash may have left it, with other permissions
    with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    fsync(path.parent)


def fsync(path: Path) -> None:
    """Wait until the disk has the content of a file, or the names in a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
