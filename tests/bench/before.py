"""The code of an earlier commit, which serves in the environment of today: what streams and single predictions are compared with.

The commit is the code of the day on which the task of a native kernel was set, which asks for these comparisons. It has neither the
kernel nor the surfaces of queries and projects. The lines are left out where the history or git is missing.
"""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench import clients
from tests.serving import ROOT

COMMIT = "418259c0ed8a497f02f565b51c745c311b89f457"


@contextmanager
def checkout() -> Iterator[Path | None]:
    """A folder with that code and the models of today; None, after a note that says why, where there is none."""
    with tempfile.TemporaryDirectory(prefix="sluice-before-") as name:
        folder = Path(name)
        try:
            code = subprocess.run(["git", "archive", COMMIT], cwd=ROOT, capture_output=True, check=True).stdout
        except (OSError, subprocess.CalledProcessError):
            clients.note(f"before: skipped, git does not give commit {COMMIT}")
            yield None
            return
        subprocess.run(["tar", "-x"], cwd=folder, input=code, check=True)
        shutil.copytree(ROOT / "models" / "sluice", folder / "models" / "sluice", dirs_exist_ok=True)
        yield folder
