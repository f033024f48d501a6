"""The data directory belongs to the user who runs the server: keys, models and results are nobody else's."""

import logging
import os
import stat
from pathlib import Path

log = logging.getLogger("sluice.server")

# What this process and its replicas create is readable and writable by their user only.
UMASK = 0o077
OTHERS = stat.S_IRWXG | stat.S_IRWXO


def make_private(data_dir: Path) -> None:
    """Create the data directory, or close one that other users of the machine can enter. OSError when it cannot be created.

    Who cannot enter the directory reaches no file in it, so what an earlier version wrote there is closed with it.
    """
    os.umask(UMASK)
    data_dir.mkdir(parents=True, exist_ok=True)
    mode = stat.S_IMODE(data_dir.stat().st_mode)
    if not mode & OTHERS:
        return
    try:
        data_dir.chmod(mode & ~OTHERS)
    except OSError as error:  # it belongs to another user, as a mounted volume may
        log.warning("data directory stays open to others data=%s mode=%03o reason=%r", data_dir, mode, error.strerror)
    else:
        log.info("data directory closed to others data=%s mode=%03o before=%03o", data_dir, mode & ~OTHERS, mode)
