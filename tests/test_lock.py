"""The lock files in requirements/: what setup.cfg asks for, by version and hash, and nothing about the machine that wrote them."""

import configparser
import re
import sys

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.serving import ROOT

sys.path.append(str(ROOT / "requirements"))
import lock

NAMES = (*lock.ENVIRONMENTS, *lock.ALONE, *lock.SEPARATE)
ENTRY = re.compile(r"^([a-z0-9._-]+)==(\S+)( ; [^\\\n]+)? \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", re.MULTILINE)


def text(name: str) -> str:
    return (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")


def locked(name: str) -> dict[str, set[Version]]:
    """The versions of each package; more than one where they differ by Python."""
    found: dict[str, set[Version]] = {}
    for package, version, _, _ in ENTRY.findall(text(name)):
        found.setdefault(canonicalize_name(package), set()).add(Version(version))
    return found


def declared(name: str) -> list[Requirement]:
    """What setup.cfg asks for in the environment of this lock file."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    extras = setup["options.extras_require"]
    parts = [extras[name]] if name in (*lock.ALONE, *lock.SEPARATE) else [setup["options"]["install_requires"], extras["install"]]
    parts += [extras[extra] for extra in lock.ENVIRONMENTS.get(name, ())]
    return [Requirement(line) for part in parts for line in part.splitlines() if line]


@pytest.mark.parametrize("name", NAMES)
def test_a_lock_file_holds_only_versions_and_hashes(name: str) -> None:
    assert ENTRY.sub("", text(name)) == lock.HEADER
    assert ENTRY.search(text(name))


@pytest.mark.parametrize("name", NAMES)
def test_a_lock_file_has_what_setup_cfg_asks_for(name: str) -> None:
    versions = locked(name)
    for wanted in declared(name):
        found = versions.get(canonicalize_name(wanted.name), set())
        assert found, f"{wanted} is not locked; run `make lock`"
        assert all(wanted.specifier.contains(version) for version in found), f"{wanted} is locked as {found}; run `make lock`"


def test_the_server_and_the_tests_have_the_same_versions() -> None:
    """They share an environment: `make test` after `make run` must not change what runs."""
    tests = locked("test")
    assert {name: tests.get(name) for name in locked("run")} == locked("run")


def test_the_makefile_installs_locked_packages_only() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    installs = [line for line in makefile.splitlines() if re.search(r"pip install|\(PIP_INSTALL\)", line)]
    [tool, by_hash, ourselves] = [line.strip() for line in installs]
    assert tool.startswith("PIP_INSTALL := -m pip install")
    assert "--require-hashes" in by_hash
    assert ourselves.endswith("--no-deps --no-build-isolation -e .")
    assert set(re.findall(r"environment,\$\(\w*VENV\),(\w+)\)|\(LOCKED\)/(\w+)\.txt", makefile)) >= {
        *((name, "") for name in (*lock.ENVIRONMENTS, "lock", *lock.SEPARATE)),
        *(("", name) for name in ("install", "client")),
    }


def test_the_compiler_is_fetched_by_version_and_hash() -> None:
    fetch = (ROOT / "requirements" / "kernel.py").read_text(encoding="utf-8")
    assert len(re.findall(r'"install"', fetch)) == 1
    assert re.search(r'"--no-deps", "--require-hashes", "-r", str\(HERE / "compiler.txt"\)', fetch)
