"""Uploads that drip: they end, and they never take the places of all others."""

import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.clients import Raw, until
from tests.publishing.asking import files, put, refused, user
from tests.publishing.uploads import times
from tests.serving import Server, serving

UPLOAD_S = 2


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    settings = {"SLUICE_UPLOAD_TIMEOUT_S": str(UPLOAD_S), "SLUICE_MAX_UPLOADS_PER_USER": "2", "SLUICE_SCORE_REPLICAS": "1"}
    with serving(tmp_path_factory.mktemp("house") / "data", **settings) as running:
        yield running
        assert "Traceback" not in running.log


def begin(server: Server, model: str, auth: tuple[str, str]) -> Raw:
    """The beginning of an upload."""
    client = Raw(server)
    owner, name = model.split("/")
    client.ask("PUT", f"/{owner}/models/{name}", auth=auth, Content_Type="application/octet-stream", Content_Length="1000")
    client.send(b"x")
    return client


def test_an_upload_that_drips_is_ended(house: Server) -> None:
    """It never pauses for as long as SLUICE_IDLE_TIMEOUT_S."""
    started = time.monotonic()
    with begin(house, "admin/dripping", house.auth) as client:
        while client.is_quiet(0.1):
            client.send(b"x")
        assert UPLOAD_S <= time.monotonic() - started < UPLOAD_S + 20
        assert client.head().status == 503
        assert client.rest() == b'{"error":"the upload took longer than 2 seconds"}'
    until(lambda: not files(house, "admin/dripping"))


def test_a_user_who_drips_leaves_places_for_others(house: Server) -> None:
    eva = user(house, "eva")
    with ExitStack() as stack:
        clients = [stack.enter_context(begin(house, f"eva/model{i}", eva)) for i in range(2)]
        assert all(client.is_quiet(0.2) for client in clients)
        assert refused(put(house, "eva/more", times(2), auth=eva), 429) == "too many uploads"
        assert put(house, "admin/mine", times(2)).status_code == 201
        for client in clients:
            assert client.head().status == 503
    assert put(house, "eva/more", times(2), auth=eva).status_code == 201
