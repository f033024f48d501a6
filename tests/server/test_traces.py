"""Traces: one span for each request, with its route, its model and its status. Nothing of it is loaded while traces are off."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import requests

from server.middlewares import answer_everything
from server.traces import traced
from tests.serving import ROOT, Server, clean_environment, serving

HELLO = "brandon/HelloWorld"
PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def spans(server: Server) -> list[dict[str, Any]]:
    return [json.loads(line) for line in server.log.splitlines() if line.startswith("{")]


def test_traces_that_are_off_load_nothing_and_change_nothing() -> None:
    with traced("none", answer_everything) as around:
        assert around is answer_everything
    program = "import sys, server.serve, server.cli; print(*[name for name in sys.modules if name.startswith('opentelemetry')])"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_without_the_packages_the_server_says_what_to_install(tmp_path: Path) -> None:
    program = f"""
import sys
sys.modules["opentelemetry"] = None
from server import cli
sys.exit(cli.main(["--port", "0", "--data-dir", {str(tmp_path / "data")!r}, "--traces", "console"]))
"""
    line = [sys.executable, "-c", program]
    done = subprocess.run(line, cwd=ROOT, env=clean_environment(), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    [said] = done.stderr.splitlines()
    assert "SLUICE_TRACES=console needs more packages: pip install 'sluice[otel]'" in said


def test_the_console_gets_a_span_for_each_request(tmp_path: Path) -> None:
    with serving(tmp_path / "data", SLUICE_TRACES="console", SLUICE_SCORE_REPLICAS="1") as server:
        before = len(spans(server))  # the fixture has asked for the health
        url = server.model(HELLO)
        headers = {"traceparent": PARENT}
        requests.post(f"{url}?secret=s3cret", json={"name": "Kermit"}, auth=server.auth, headers=headers, timeout=30)
        requests.post(f"{url}/?bulk=true", data=b'{"name":"a"}\n', auth=server.auth, timeout=30)
        requests.post(server.model("brandon/nothing"), json={}, auth=server.auth, timeout=30)
        requests.get(f"{server.url}/s3cret/path", timeout=30)
        server.stop()
        found = spans(server)[before:]
        log = server.log
    route = "/{owner}/models/{model}"
    told = [(one["name"], one["attributes"].get("sluice.model"), one["attributes"]["http.response.status_code"]) for one in found]
    assert told == [
        (f"POST {route}", HELLO, 200),
        (f"POST {route}", HELLO, 200),
        (f"POST {route}", "brandon/nothing", 404),
        ("GET", None, 404),
    ]
    single, stream, _, unknown = found
    assert single["attributes"] | {} == {
        "http.request.method": "POST",
        "http.route": route,
        "sluice.model": HELLO,
        "http.response.status_code": 200,
    }
    assert (single["context"]["trace_id"][2:], single["parent_id"][2:]) == tuple(PARENT.split("-")[1:3])
    assert stream["parent_id"] is None
    assert "http.route" not in unknown["attributes"]
    assert single["resource"]["attributes"]["service.name"] == "sluice"
    assert "s3cret" not in log
    assert server.key not in log


@contextmanager
def collector(answers: threading.Event) -> Iterator[tuple[str, list[bytes]]]:
    """A collector on this machine, and what it got. It answers once the event is set."""
    got: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(self.path.encode() + b" " + self.rfile.read(int(self.headers["Content-Length"])))
            answers.wait(30)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as listener:
        thread = threading.Thread(target=listener.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.server_port}", got
        finally:
            answers.set()
            listener.shutdown()
            thread.join()


def test_a_collector_gets_the_spans_at_the_end_at_the_latest(tmp_path: Path) -> None:
    answers = threading.Event()
    answers.set()
    settings = {"SLUICE_TRACES": "otlp", "SLUICE_SCORE_REPLICAS": "1"}
    with (
        collector(answers) as (url, got),
        serving(tmp_path / "data", OTEL_SERVICE_NAME="shop", OTEL_EXPORTER_OTLP_ENDPOINT=url, **settings) as server,
    ):
        requests.post(server.model(HELLO), json={"name": "Kermit"}, auth=server.auth, timeout=30)
        assert server.stop() == 0
    text = b"".join(got)
    assert text.startswith(b"/v1/traces ")
    assert b"POST /{owner}/models/{model}" in text
    assert HELLO.encode() in text
    assert b"shop" in text


def test_a_collector_that_hangs_does_not_keep_the_server_alive(tmp_path: Path) -> None:
    with (
        collector(threading.Event()) as (url, _),
        serving(tmp_path / "data", SLUICE_TRACES="otlp", OTEL_EXPORTER_OTLP_ENDPOINT=url, SLUICE_SCORE_REPLICAS="1") as server,
    ):
        requests.post(server.model(HELLO), json={"name": "Kermit"}, auth=server.auth, timeout=30)
        started = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - started < 10
