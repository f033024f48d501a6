"""`python -m server watch` serves, and ends with its server. What it looks at are the files of the checkout."""

import signal
import subprocess
import sys
from pathlib import Path

import requests

from server.commands import watch
from tests.clients import until
from tests.serving import ADDRESS, ROOT, clean_environment


def test_watch_serves_starts_again_after_a_change_and_ends_with_a_signal(tmp_path: Path) -> None:
    # A copy of the checkout, so that nobody else's files change.
    for folder in (*watch.FOLDERS, "models"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    (tmp_path / "server").unlink()
    subprocess.run(["cp", "-r", str(ROOT / "server"), str(tmp_path / "server")], check=True)
    log = tmp_path / "log"
    environment = clean_environment() | {
        "SLUICE_PORT": "0",
        "SLUICE_DATA_DIR": str(tmp_path / "data"),
        "SLUICE_SCORE_REPLICAS": "1",
    }
    with log.open("wb") as output:
        command = [sys.executable, "-m", "server", "watch"]
        process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=output, stderr=subprocess.STDOUT)
    try:
        until(lambda: len(ADDRESS.findall(log.read_text())) == 1)
        (tmp_path / "server" / "names.py").touch()
        first, second = until(lambda: len(found := ADDRESS.findall(log.read_text())) == 2 and found)
        assert requests.get(f"{second}/openapi.json", timeout=10).status_code == 200
        assert "changed: server/names.py; starting the server again" in log.read_text()
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert first != second
    finally:
        process.kill()
        process.wait()
