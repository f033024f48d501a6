"""A server that cannot start says why in one line and ends with exit code 1. It harms no other server."""

import os
import stat
import subprocess
import sys
from pathlib import Path

from tests.serving import ROOT, Server, serving


def start(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "server", *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def test_the_server_loads_no_command_in_order_to_serve() -> None:
    program = "import sys, server.serve; print(*sorted(name for name in sys.modules if name.startswith('server.commands')))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_a_port_that_is_taken_is_one_line(server: Server, tmp_path: Path) -> None:
    done = start("--port", str(server.port), "--data-dir", str(tmp_path))
    assert done.returncode == 1
    assert "cannot listen on 127.0.0.1 port" in done.stderr
    assert "Traceback" not in done.stderr


def test_two_servers_do_not_share_a_data_directory(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as first:
        kept = first.data_dir / "spill" / "of-the-first"
        kept.write_text("results")
        done = start("--port", "0", "--data-dir", str(first.data_dir))
        assert done.returncode == 1
        assert "another server is using the data directory" in done.stderr
        assert kept.exists()
    with serving(tmp_path / "data"):  # the lock ended with the process
        pass


def test_a_data_directory_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = start("--port", "0", "--data-dir", str(tmp_path / "file" / "data"))
    assert done.returncode == 1
    assert "cannot write to the data directory" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_broken_database_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "sluice.db").write_bytes(b"not a database, but long enough to look at" * 100)
    done = start("--port", "0", "--data-dir", str(tmp_path))
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


def test_everything_in_the_data_directory_is_for_its_user_only(tmp_path: Path) -> None:
    """Also in a directory that an earlier version left open to others, which is told in one line."""
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    data_dir.chmod(0o755)  # whatever the umask of this process is
    with serving(data_dir, SLUICE_SCORE_REPLICAS="1") as server:
        assert stat.S_IMODE(data_dir.stat().st_mode) == 0o700
        assert server.log.count("data directory closed to others") == 1
        for path in data_dir.rglob("*"):
            assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path
    with serving(data_dir, SLUICE_SCORE_REPLICAS="1") as server:
        assert "closed to others" not in server.log
    with serving(tmp_path / "new" / "data", SLUICE_SCORE_REPLICAS="1"):
        assert stat.S_IMODE(os.stat(tmp_path / "new" / "data").st_mode) == 0o700


def test_an_unknown_variable_is_a_warning_that_names_the_nearest_setting(tmp_path: Path) -> None:
    with serving(tmp_path / "data", SLUICE_MAX_STREAM="3", SLUICE_SCORE_REPLICAS="1") as server:
        assert "WARNING sluice.server setting unknown name=SLUICE_MAX_STREAM nearest=SLUICE_MAX_STREAMS" in server.log


def test_a_wrong_value_is_one_line_in_plain_words() -> None:
    done = start("--port", "abc")
    assert done.returncode == 64
    assert done.stderr.startswith(
        "SLUICE_PORT=abc: this value must be a whole number. What it sets: port that the server listens on"
    )
    assert done.stderr.count("\n") == 1
