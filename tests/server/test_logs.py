"""The log as JSON: every line is one object, with its fields, and with a traceback inside where there is one."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import requests

from tests.clients import Raw, until
from tests.serving import ROOT, serving
from tests.streaming import graphs

KEYS = {"time", "level", "logger", "message"}


def events(text: str) -> list[dict[str, Any]]:
    """The lines of a log, each of which must be an object."""
    found = [json.loads(line) for line in text.splitlines()]
    assert all(event.keys() >= KEYS and event.keys() <= KEYS | {"fields", "traceback"} for event in found)
    return found


def python(program: str, **more: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-W", "default", "-c", program]
    return subprocess.run(line, cwd=ROOT, env=os.environ | more, capture_output=True, text=True, timeout=60, check=False)


def test_every_line_of_a_server_is_an_object_with_its_fields(tmp_path: Path) -> None:
    settings = {"SLUICE_LOG_FORMAT": "json", "SLUICE_SCORE_REPLICAS": "1", "SLUICE_LOG_LEVEL": "DEBUG"}
    with serving(graphs.write_all(tmp_path / "data"), **settings) as server:
        assert "error" in requests.post(server.model("tester/misnamed"), json={"text": "2"}, auth=server.auth, timeout=30).json()
        with Raw(server) as stranger:
            stranger.socket.sendall(b"this is not HTTP\r\n\r\n")
            stranger.socket.recv(1000)
        [replica] = server.replica_pids()
        os.kill(replica, signal.SIGKILL)
        until(lambda: "replica" in server.log and server.replica_pids() not in ([], [replica]))
        server.stop()
        found = events(server.log)
    [listening] = [event for event in found if event["message"].startswith("server listening")]
    about = {"docs": f"{server.url}/docs", "key_file": str(server.data_dir / "admin.key")}
    assert listening["fields"] == {"address": server.url, **about, "replicas": 1, "data": str(server.data_dir)}
    assert (listening["level"], listening["logger"]) == ("INFO", "sluice.server")
    assert [event["message"] for event in found if "not HTTP" in event["message"]]
    assert found[-1]["message"] == "server stopped"


LOGGED = """
import logging, sys, threading, warnings
from server import logs
logs.configure("INFO", "json")
log = logging.getLogger("sluice.test")
log.info("block done model=%s size=%d 100%% share=%.2f name=%r by %s", "a/b", 3, 0.25, "x", "me")
log.info("nothing model=%s", float("inf"))
log.info("two\\nlines %(key)s", {"key": 1})
try:
    raise ValueError("a\\nb")
except ValueError:
    log.exception("failed")
warnings.warn("careful")
thread = threading.Thread(target=lambda: 1 / 0)
thread.start()
thread.join()
raise KeyError("the end")
"""


def test_warnings_tracebacks_and_the_end_of_the_process_are_events() -> None:
    done = python(LOGGED)
    assert done.returncode == 1
    plain, infinite, lines, failed, warned, thread, end = events(done.stderr)
    assert plain["message"] == "block done model=a/b size=3 100% share=0.25 name='x' by me"
    assert plain["fields"] == {"model": "a/b", "size": 3, "share": 0.25, "name": "x"}
    assert infinite["fields"] == {"model": "inf"}
    assert lines["message"] == "two\nlines 1"
    assert "ValueError: a\nb" in failed["traceback"]
    assert "careful" in warned["message"]
    assert "ZeroDivisionError" in thread["traceback"]
    assert (end["level"], "KeyError: 'the end'" in end["traceback"]) == ("CRITICAL", True)


REPLICA = """
import sys, warnings
from engine.tasks.reports import prepare_stderr, report
prepare_stderr()
try:
    raise ValueError("a record")
except ValueError as error:
    report(error)
sys.stderr.write("half a ")
print("line", file=sys.stderr)
raise KeyError("a record")
"""


def test_what_a_replica_writes_is_an_event_without_the_message_of_the_error() -> None:
    failed, line, end = events(python(REPLICA, SLUICE_LOG_FORMAT="json").stderr)
    assert (failed["message"], failed["logger"]) == ("task failed error=ValueError", "sluice.replica")
    assert "<string>" in failed["traceback"]
    assert line["message"] == "half a line"
    assert end["message"] == "task failed error=KeyError"
    text = python(REPLICA).stderr
    assert text.startswith("Traceback (most recent call last):")
    assert "a record" not in text
