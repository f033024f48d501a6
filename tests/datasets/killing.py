"""A server that kills itself, as kill -9 does, just before one step of its work on the files of datasets.

Python tells a hook of each file that it opens, makes, renames or removes. The hook counts nothing before a file called `armed`
stands beside the data directory.
"""

from pathlib import Path

HOOK = """
import os, signal, sys

EVENTS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree"}
armed = os.environ["KILL_ARMED"]
wanted = os.environ.get("KILL_BEFORE", "")
left = int(os.environ.get("KILL_AFTER", "0"))


def hook(event, args):
    global left
    if event not in EVENTS:
        return
    paths = [os.fsdecode(arg) for arg in args[:2] if isinstance(arg, (str, bytes, os.PathLike))]
    step = f"{event} {paths[-1] if paths else ''}"
    if "/datasets/" not in step or not os.path.exists(armed):
        return
    if wanted in step if wanted else left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1


if "engine.tasks" not in sys.orig_argv:
    sys.addaudithook(hook)
"""


def killing(tmp_path: Path, *, before: str = "", after: int = 0) -> dict[str, str]:
    """Settings of a server that dies once `arm` was called: before the first step that contains a text, or after some steps."""
    folder = tmp_path / "hook"
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(HOOK)
    settings = {"PYTHONPATH": str(folder), "KILL_ARMED": str(tmp_path / "armed")}
    return settings | ({"KILL_BEFORE": before} if before else {"KILL_AFTER": str(after)})


def arm(tmp_path: Path) -> None:
    (tmp_path / "armed").touch()


def disarm(tmp_path: Path) -> None:
    (tmp_path / "armed").unlink(missing_ok=True)
