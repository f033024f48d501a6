"""Writes the lock files beside this file from the requirements in setup.cfg: `python requirements/lock.py`, with uv installed.

A lock file names one version of each package that an environment needs, and the hashes of all its files, for every system and every
Python that setup.cfg allows. It names no place to fetch from: that is up to the pip of each machine.
"""

import configparser
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
SETUP = HERE.parent / "setup.cfg"

# Lock file -> the extras of setup.cfg that it adds to what the server needs.
ENVIRONMENTS: dict[str, tuple[str, ...]] = {"test": ("test", "otel"), "run": (), "build": ("build",)}
# Lock files that hold one extra of setup.cfg and nothing else, not even what its packages require.
ALONE = ("install", "client", "lock", "compiler")
# Lock files that hold one extra and what its packages require, for an environment without the server.
SEPARATE = ("rivals", "pages")

HEADER = "# Written by `make lock` from setup.cfg. Do not edit.\n"
# What a lock file must not hold: an address, a path, an option of pip.
FOREIGN = re.compile(r"://|(^|\s)[./~]|^-|@", re.MULTILINE)


def main() -> int:
    """Write every file; the exit code is that of the first run of uv that fails."""
    setup = configparser.ConfigParser()
    setup.read(SETUP)
    extras = setup["options.extras_require"]
    lowest = setup["options"]["python_requires"].removeprefix(">=")
    for name, chosen in ENVIRONMENTS.items():
        wanted = setup["options"]["install_requires"] + extras["install"] + "".join(extras[extra] for extra in chosen)
        # `make test` installs into the environment of `make run`, so both must have the same versions.
        write(name, wanted, lowest, *(("--constraint", str(HERE / "test.txt")) if name == "run" else ()))
    for name in ALONE:
        write(name, extras[name], lowest, "--no-deps")
    for name in SEPARATE:
        write(name, extras[name], lowest)
    return 0


def write(name: str, wanted: str, lowest: str, *options: str) -> None:
    """Lock the newest versions that these requirements allow."""
    command = [sys.executable, "-m", "uv", "--quiet", "pip", "compile", "-", "--universal", "--python-version", lowest]
    trust = ("--system-certs",)  # the certificates of this machine, as pip uses them
    plain = ("--generate-hashes", "--no-header", "--no-annotate", "--no-config", "--no-emit-index-url", "--no-emit-find-links")
    done = subprocess.run([*command, *trust, *plain, *options], input=wanted, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(done.returncode)
    text = HEADER + done.stdout
    if found := FOREIGN.search(text.replace("    --hash=", " ")):
        sys.exit(f"{name}.txt would hold {text[found.start() : found.end() + 60]!r}")
    (HERE / f"{name}.txt").write_text(text, encoding="utf-8")
    print(f"{name}.txt: {text.count('==')} packages")


if __name__ == "__main__":
    sys.exit(main())
