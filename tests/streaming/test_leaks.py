"""After a thousand requests of every kind the server is in the same state as before (acceptance 30)."""

import gzip
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import requests

from tests.clients import Raw, bulk, health, ndjson, open_files, spill_files, until
from tests.serving import Server, serving

HELLO = "brandon/HelloWorld"
RECORDS = ndjson({"name": f"n{i}"} for i in range(200))


def _reset(server: Server) -> None:
    with Raw(server) as client:
        client.begin(HELLO)
        client.chunk(RECORDS)
        client.reset()


def _leave_inside(server: Server) -> None:
    with Raw(server) as client:
        client.begin(HELLO, "&ordered=true")
        client.head()
        client.chunk(RECORDS)
        client.line()


def _half_a_head(server: Server) -> None:
    with Raw(server) as client:
        client.send(b"POST /brandon/models/HelloWorld HTTP/1.1\r\nHost")


def _not_http(server: Server) -> None:
    with Raw(server) as client:
        client.send(b"\x16\x03\x01 hello\r\n\r\n")
        client.rest()


def _refused_expect(server: Server) -> None:
    with Raw(server) as client:
        client.ask(
            "POST", "/brandon/models/HelloWorld?bulk=true", auth=("admin", "no"), Expect="100-continue", Content_Length="100"
        )
        assert client.head().status == 401


def _single(server: Server) -> None:
    assert requests.post(server.model(HELLO), data=b'{"name":"a"}', auth=server.auth, timeout=30).status_code == 200


def _refused_single(server: Server) -> None:
    assert requests.post(server.model(HELLO), data=b"{}", auth=server.auth, timeout=30).status_code == 422


def _stream(server: Server) -> None:
    url = server.model(HELLO) + "?bulk=true"
    assert requests.post(url, data=RECORDS + b"[1]\n", auth=server.auth, timeout=30).status_code in (200, 429)


def _broken_gzip(server: Server) -> None:
    headers = {"Content-Encoding": "gzip"}
    try:
        body = gzip.compress(RECORDS)[:-9]
        answer = requests.post(server.model(HELLO) + "?bulk=true", data=body, headers=headers, auth=server.auth, timeout=30)
        assert answer.status_code == 429, "a cut must raise"
    except requests.exceptions.ChunkedEncodingError:
        pass


def _status(server: Server) -> None:
    assert requests.get(server.model(HELLO), auth=server.auth, timeout=30).status_code == 200


def _nowhere(server: Server) -> None:
    assert requests.get(f"{server.url}/nowhere", timeout=30).status_code == 404


STREAMS: list[Callable[[Server], None]] = [_reset, _leave_inside, _stream, _broken_gzip]
OTHERS: list[Callable[[Server], None]] = [_half_a_head, _not_http, _refused_expect, _single, _refused_single, _status, _nowhere]
KINDS = STREAMS + OTHERS


def test_after_1_000_mixed_requests_descriptors_and_streams_are_back(tmp_path: Path) -> None:
    """Acceptance 30."""
    with serving(tmp_path / "data") as server:
        for kind in KINDS:
            kind(server)
        until(lambda: health(server)["streams"] == 0)
        before, memory = open_files(server), server.rss_bytes()
        kinds = random.Random(3).choices(KINDS, k=1000)
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda kind: kind(server), kinds))
        until(lambda: health(server)["streams"] == 0)
        until(lambda: open_files(server) <= before, what=f"{before} descriptors again")
        assert spill_files(server) == []
        for state in ("running", "spilling", "full", "finishing"):
            assert server.metric(f'sluice_streams{{state="{state}"}}') == 0
        for lane in ("interactive", "bulk"):
            assert server.metric(f'sluice_queue_blocks{{lane="{lane}"}}') == 0
        assert server.rss_bytes() - memory < 24 * 1024 * 1024
        assert len(bulk(server, HELLO, RECORDS).lines) == 200
        assert len(server.replica_pids()) == server.metric('sluice_replicas{pool="score",state="ready"}')
        assert server.metric('sluice_replica_restarts_total{pool="score"}') == 0
        assert "Traceback" not in server.log
        assert " ERROR " not in server.log
