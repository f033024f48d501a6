"""The disk that holds the data directory: how much of it stays free, and how a full disk is told from other failures.

Every method here blocks on the disk: call it in a thread. Knows nothing of what is written.
"""

import errno
import os
import shutil
from pathlib import Path

from engine.errors import DISK_FULL, EngineError

# No space, no space for this user of the machine, and (where a limit of the process ends a file) a file that cannot grow. A disk
# without inodes says ENOSPC too.
FULL_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

# SQLite's write-ahead log and the index of that, each of which a clean stop removes, and a lock.
START_INODES = 3
START_BYTES = 1024 * 1024


class Disk:
    """The disk of one folder.

    reserve_bytes  what uploads and the spill leave free for everything else that the server and the machine write
    """

    def __init__(self, folder: Path, *, reserve_bytes: int) -> None:
        self.folder = folder
        self.reserve_bytes = reserve_bytes

    def has_room(self, num_bytes: int) -> bool:
        """Whether the reserve is still free after this many bytes more. False when the disk does not answer."""
        try:
            return shutil.disk_usage(self.folder).free >= self.reserve_bytes + num_bytes
        except OSError:
            return False

    def check(self, num_bytes: int) -> None:
        """EngineError `disk_full` when this many bytes more would leave less than the reserve."""
        if not self.has_room(num_bytes):
            raise disk_full()


def has_any_room(folder: Path) -> bool:
    """Whether a server can start there: it makes three small files. True when the disk does not answer, which has other reasons."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return True
    has_inodes = not found.f_files or found.f_favail >= START_INODES  # some file systems do not count inodes
    return has_inodes and found.f_bavail * found.f_frsize >= START_BYTES


def is_full(error: BaseException) -> bool:
    """Whether an error of the system says that the disk takes no more."""
    return isinstance(error, OSError) and error.errno in FULL_ERRORS


def disk_full() -> EngineError:
    return EngineError(DISK_FULL, "the server's disk is full")
