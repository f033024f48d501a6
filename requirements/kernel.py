"""Builds the native kernel where the install has found no compiler: `python requirements/kernel.py`, by an environment's Python.

The compiler then comes as a package, by version and hash (compiler.txt), into a folder that is removed again. It is 100 MB to get,
and takes 500 MB on the disk during the build. Without a network nothing is built, and the server answers the same, only slower.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
SOURCE = ROOT / "engine/tasks/scoring/kernel.cpp"
FETCHING = "found no C++ compiler: fetching one, 100 MB, to build the native kernel; it takes two minutes, and is removed again"
MISSING = "the native kernel is not built, and streams take longer without it; `make kernel` tries again"
# Says whether the kernel that is built can be loaded and keeps today's contract.
LOADS = "import sys; from engine.tasks.scoring.kernel import kernel; sys.exit(kernel() is None)"


def main() -> int:
    """Build the kernel if it is missing; the exit code is 1 if that is not possible here."""
    if os.environ.get("SLUICE_NATIVE") == "false" or is_built():
        return 0
    print(FETCHING, flush=True)
    with tempfile.TemporaryDirectory(prefix="sluice-compiler-") as folder:
        is_done = fetch(folder) and build(folder) and is_built()
    if not is_done:
        print(MISSING, file=sys.stderr)
    return 0 if is_done else 1


def is_built() -> bool:
    """Whether there is a kernel that is newer than its source and can be loaded."""
    built = [path for path in SOURCE.parent.glob("_kernel*") if path.stat().st_mtime >= SOURCE.stat().st_mtime]
    return bool(built) and ends_well([sys.executable, "-c", LOADS], stderr=subprocess.DEVNULL)


def fetch(folder: str) -> bool:
    """Install the compiler into the folder."""
    by_hash = ["--no-deps", "--require-hashes", "-r", str(HERE / "compiler.txt"), "--no-compile", "--target", folder]
    return ends_well([sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *by_hash])


def build(folder: str) -> bool:
    """Build the kernel in its place with the compiler in the folder."""
    zig = f"{sys.executable} -m ziglang"
    environment = {
        "CC": f"{zig} cc",
        "CXX": f"{zig} c++",
        "PYTHONPATH": folder,
        # Where the compiler keeps the standard library that it has built.
        "ZIG_GLOBAL_CACHE_DIR": f"{folder}/cache",
        "ZIG_LOCAL_CACHE_DIR": f"{folder}/cache",
    }
    return ends_well([sys.executable, "setup.py", "-q", "build_ext", "--inplace", "--force"], env=os.environ | environment)


def ends_well(command: list[str], **options: object) -> bool:
    """Run a command at the top of the checkout; whether it ends with 0."""
    return subprocess.run(command, cwd=ROOT, check=False, **options).returncode == 0  # type: ignore[call-overload]


if __name__ == "__main__":
    sys.exit(main())
