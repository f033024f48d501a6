"""The commands `user add`, `user list` and `user remove`, run beside a running server and without one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from tests.clients import until
from tests.serving import ROOT, serving


def user(data_dir: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "server", "--data-dir", str(data_dir), "user", *arguments]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SLUICE_")}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_users_are_added_listed_and_removed_without_a_server(tmp_path: Path) -> None:
    key = user(tmp_path / "data", "add", "eva")
    assert (key.returncode, key.stderr) == (0, "")
    assert len(key.stdout.strip()) > 20
    assert [line.split("\t")[0] for line in user(tmp_path / "data", "list").stdout.splitlines()] == ["eva"]
    assert user(tmp_path / "data", "remove", "eva").returncode == 0
    assert user(tmp_path / "data", "list").stdout == ""


def test_a_key_made_beside_a_running_server_is_valid_there(tmp_path: Path) -> None:
    with serving(tmp_path / "data", SLUICE_SCORE_REPLICAS="1") as server:
        key = user(server.data_dir, "add", "eva").stdout.strip()
        assert requests.get(f"{server.url}/models", auth=("eva", key), timeout=10).status_code == 200
        assert requests.get(f"{server.url}/models", auth=("eva", "wrong"), timeout=10).status_code == 401
        other = user(server.data_dir, "key", "eva").stdout.strip()
        assert requests.get(f"{server.url}/models", auth=("eva", other), timeout=10).status_code == 200
        until(lambda: requests.get(f"{server.url}/models", auth=("eva", key), timeout=10).status_code == 401)


@pytest.mark.parametrize(
    "arguments",
    [
        ("add", "models"),
        ("add", "API"),
        ("add", "brandon"),
        ("add", "Admin"),
        ("add", "SLUICE"),
        ("add", "models.txt"),
        ("key", "nobody"),
        ("add", "a b"),
        ("remove", "nobody"),
    ],
)
def test_a_refusal_is_one_line_and_exit_code_1(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = user(tmp_path, *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("user: ")
    assert len(done.stderr.splitlines()) == 1


def test_a_missing_word_is_a_usage_error(tmp_path: Path) -> None:
    assert user(tmp_path).returncode == 64
    assert user(tmp_path, "add").returncode == 64
