"""Disks for tests: a small one that a test may fill, and a way to fill it."""

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

MIB = 1024 * 1024
# A last piece this small leaves no room that would matter.
PIECES = (MIB, 4096, 1)


@contextlib.contextmanager
def small_disk(folder: Path, size_mib: int, *, inodes: int = 0) -> Iterator[Path]:
    """A folder on a disk of its own, with this many inodes (0: as many as it needs). Skips where nobody may mount one."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size_mib}m,nr_inodes={inodes}", "tmpfs", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this machine does not let us mount a disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(path: Path, num_bytes: int | None = None) -> None:
    """Write a file of this many bytes, or until the disk is full."""
    with path.open("wb", buffering=0) as file:
        if num_bytes is not None:
            file.write(bytes(num_bytes))
            return
        for size in PIECES:
            with contextlib.suppress(OSError):
                while file.write(bytes(size)) == size:
                    pass
