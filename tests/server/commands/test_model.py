"""The command `model`, run as people run it: files are published, listed, rolled back, deleted; one line says what went wrong."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.publishing import uploads
from tests.serving import ROOT, Server, clean_environment, serving


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("model") / "data", SLUICE_SCORE_REPLICAS="1") as running:
        yield running


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "server", "model", *map(str, arguments)]


def environment(server: Server) -> dict[str, str]:
    """That of a person at the server's machine, who has told no client of an address or a key."""
    return clean_environment() | {"SLUICE_PORT": str(server.port), "SLUICE_DATA_DIR": str(server.data_dir)}


def model(server: Server, *arguments: object, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), capture_output=True, text=True, cwd=ROOT, env=environment(server) | more, timeout=60, check=False
    )


def done(server: Server, *arguments: object, **more: str) -> str:
    """Standard output of a command that ends well."""
    ended = model(server, *arguments, **more)
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout


def failed(server: Server, *arguments: object, code: int = 1, **more: str) -> str:
    """The one line that says why a command failed."""
    ended = model(server, *arguments, **more)
    assert (ended.returncode, ended.stdout) == (code, ""), ended
    [line] = ended.stderr.splitlines()
    return line


def listed(server: Server, *owner: str) -> dict[str, list[str]]:
    """The fields of each model, by its title."""
    rows = [line.split("\t") for line in done(server, "list", *owner).splitlines()]
    return {title: fields for title, *fields in rows}


def predicted(server: Server, title: str, x: float, auth: tuple[str, str] | None = None) -> float:
    answer = requests.post(server.model(title), json={"x": x}, auth=auth or server.auth, timeout=30)
    assert answer.status_code == 200, answer.text
    return float(answer.json()["result"]["y"])


def user(server: Server, name: str) -> tuple[str, str]:
    made = requests.post(f"{server.url}/api/users", json={"name": name}, auth=server.auth, timeout=30)
    return name, made.json()["key"]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "times.onnx"
    path.write_bytes(uploads.times(2))
    return path


def test_a_file_is_published_under_its_name_rolled_back_and_deleted(house: Server, file: Path) -> None:
    assert done(house, "publish", file) == "admin/times\tversion 1\n"
    assert predicted(house, "admin/times", 3) == 6
    file.write_bytes(uploads.times(5))
    assert done(house, "publish", file) == "admin/times\tversion 2\n"
    assert done(house, "publish", file) == "admin/times\tversion 2\n", "the same file again is no new version"
    assert listed(house, "admin")["admin/times"] == ["version 2", "of 1,2", "online", "predict", "private"]
    assert done(house, "rollback", "times") == "admin/times\tversion 1\n"
    assert predicted(house, "admin/times", 3) == 6
    assert failed(house, "rollback", "times") == "model rollback: no version before 1 is kept"
    assert failed(house, "rollback", "times", "--version", 0).startswith("model rollback:")
    assert done(house, "rollback", "admin/times", "--version", 2) == "admin/times\tversion 2\n"
    assert "409" in failed(house, "delete", "times", "--version", 2)
    assert done(house, "delete", "times", "--version", 1) == ""
    assert done(house, "delete", "times") == ""
    assert "admin/times" not in listed(house)
    assert failed(house, "delete", "times") == "model delete: 404 model not found"


def test_a_name_a_config_and_files_with_tensors_go_along(house: Server, file: Path, tmp_path: Path) -> None:
    config = tmp_path / "described.json"
    config.write_text(json.dumps(uploads.config(description="doubles a number")))
    assert done(house, "publish", file, "--name", "double", "--config", config) == "admin/double\tversion 1\n"
    shown = requests.get(f"{house.url}/api/models/admin/double", auth=house.auth, timeout=30).json()
    assert shown["description"] == "doubles a number"
    file.write_bytes(uploads.external("factor.bin"))
    (tmp_path / "factor.bin").write_bytes(b"\x00\x00\x80\x40")  # 4.0
    done(house, "publish", "--name", "four", "--data", tmp_path / "factor.bin", file)
    assert predicted(house, "admin/four", 3) == 12


def test_a_shared_model_is_for_everybody_and_a_user_publishes_as_the_user(house: Server, file: Path) -> None:
    eva, bob = user(house, "eva"), user(house, "bob")
    keys = {"SLUICE_USER": eva[0], "SLUICE_KEY": eva[1]}
    done(house, "publish", file, "--name", "own", **keys)
    assert requests.post(house.model("eva/own"), json={"x": 1}, auth=bob, timeout=30).status_code == 404
    done(house, "publish", file, "--name", "own", "--shared", **keys)
    assert predicted(house, "eva/own", 1, bob) == 2
    assert listed(house, "eva")["eva/own"][-1] == "shared"
    assert failed(house, "publish", file, "--name", "bob/theirs", **keys).startswith("model publish: 404 ")
    assert "sluice/iris" in listed(house)
    assert "sluice/iris" not in listed(house, "eva")


def test_one_line_says_why_a_file_is_not_published(house: Server, file: Path, tmp_path: Path) -> None:
    (tmp_path / "model.pkl").write_bytes(b"\x80\x04\x95.")
    line = failed(house, "publish", tmp_path / "model.pkl")
    assert line.startswith("model publish: 422 ")
    assert failed(house, "publish", tmp_path / "none.onnx").startswith("model publish: ")
    assert "401" in failed(house, "publish", file, SLUICE_KEY="0" * 32)
    assert "no answer from http://127.0.0.1:1" in failed(house, "publish", file, "--url", "http://127.0.0.1:1")
    assert "admin/model" not in listed(house)


def test_a_file_that_is_refused_while_it_is_sent_is_one_line_with_the_reason(tmp_path: Path, file: Path) -> None:
    """The server answers after the head, and closes the connection before the rest is sent."""
    with serving(tmp_path / "data", SLUICE_SCORE_REPLICAS="1", SLUICE_MODEL_LIMIT_BYTES="1000000") as small:
        file.write_bytes(bytes(64_000_000))
        assert failed(small, "publish", file).startswith("model publish: 413 ")


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("nonsense",),
        ("publish",),
        ("publish", "a.onnx", "--name", "a/b/c"),
        ("publish", "a.onnx", "--name", "/b"),
        ("rollback", "a", "--version", "one"),
        ("delete",),
        ("list", "--url", "nowhere"),
        ("list", "--nothing"),
    ],
)
def test_a_usage_error_is_one_line_and_64(house: Server, arguments: tuple[str, ...]) -> None:
    assert "Traceback" not in failed(house, *arguments, code=64)


def test_a_port_that_is_none_is_a_usage_error(house: Server) -> None:
    assert "SLUICE_PORT=abc does not say where the server listens" in failed(house, "list", code=64, SLUICE_PORT="abc")


def test_the_list_goes_through_a_pipe_that_is_closed(house: Server) -> None:
    line = " ".join(command("list"))
    run = subprocess.run(
        ["bash", "-c", f"{line} | true; echo ${{PIPESTATUS[0]}}"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment(house),
        check=True,
    )
    assert (run.stdout in ("0\n", "141\n"), run.stderr) == (True, "")


def test_the_commands_start_without_loading_the_server() -> None:
    program = (
        "import sys, server.commands.model, server.commands.health; "
        "print(*sorted({'aiohttp', 'engine', 'handlers', 'server.config'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.split() == []


def test_health_is_an_exit_code(house: Server) -> None:
    def health(**more: str) -> tuple[int, str, str]:
        line = [sys.executable, "-m", "server", "health"]
        run = subprocess.run(line, capture_output=True, text=True, cwd=ROOT, env=environment(house) | more, check=False)
        return run.returncode, run.stdout, run.stderr

    assert health() == (0, "ok\n", "")
    code, _, said = health(SLUICE_PORT="1")
    assert (code, said.startswith("health: no answer from http://127.0.0.1:1")) == (1, True)
    assert health(SLUICE_URL="nowhere")[0] == 64
