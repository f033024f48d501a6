"""The command `sluice`: its version, its help, and what it says to somebody who calls it wrongly."""

import subprocess
import sys
from pathlib import Path

import pytest

from server import __version__
from tests.serving import ROOT, clean_environment

SLUICE = Path(sys.prefix) / "bin" / "sluice"
PROGRAMS = {"sluice": [str(SLUICE)], "python -m server": [sys.executable, "-m", "server"]}


def run(program: str, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    environment = clean_environment() | {"PYTHONPATH": str(ROOT), "COLUMNS": "80", **more}
    return subprocess.run(
        [*PROGRAMS[program], *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_version_is_one_line(program: str) -> None:
    done = run(program, "--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"sluice {__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nonsense",), "invalid choice: 'nonsense'"),
        (("--nothing",), "unrecognized arguments: --nothing"),
        (("--port",), "argument --port: expected one argument"),
        (("user",), "the following arguments are required: action"),
        (("user", "add"), "the following arguments are required: name"),
        (("--port", "1", "score", "a/b", "file"), "write the word score first"),
        (("--data-dir", "x", "model", "list"), "write the word model first, and set SLUICE_DATA_DIR in the environment"),
        (("--data-dir=x", "--port", "1", "model", "publish", "a.onnx"), "set SLUICE_PORT, SLUICE_DATA_DIR in the environment"),
        (("--data-dir", "x", "model", "delete", "--key", "y", "eva/iris"), "set SLUICE_DATA_DIR in the environment"),
        (("user", "list", "--url", "x"), "unrecognized arguments: --url x"),
        (("--data-dir", "dataset", "dataset", "list"), "set SLUICE_DATA_DIR in the environment"),
        (("score", "a/b"), "the following arguments are required: FILE"),
        (("model", "publish"), "the following arguments are required: FILE"),
    ],
)
def test_a_usage_error_is_one_short_line_that_names_the_help(arguments: tuple[str, ...], said: str) -> None:
    done = run("sluice", *arguments)
    assert (done.returncode, done.stdout) == (64, "")
    [line] = done.stderr.splitlines()
    assert line.startswith("sluice")
    assert said in line
    assert line.endswith("--help")


def test_the_help_is_named_as_the_command_was_typed() -> None:
    assert run("python -m server", "score").stderr.endswith("; see python -m server score --help\n")


def test_a_bad_setting_is_one_line() -> None:
    done = run("sluice", SLUICE_PORT="abc")
    assert done.returncode == 64
    assert len(done.stderr.splitlines()) == 1


def test_the_help_names_every_command() -> None:
    text = run("sluice", "--help").stdout
    for word in ("serve", "worker", "score", "dataset", "model", "user", "health", "warm"):
        assert f"\n    {word} " in text
    text = run("sluice", "model", "--help").stdout
    for word in ("publish", "list", "rollback", "delete", "import"):
        assert f"\n    {word} " in text
