"""A model or one of its versions is deleted, once nobody uses it; the active version and shipped models are protected."""

from concurrent.futures import ThreadPoolExecutor

import requests

from tests.clients import Raw, until
from tests.publishing.asking import delete, files, patch, predict, put, refused
from tests.publishing.uploads import times
from tests.serving import Server


def test_a_model_is_deleted_when_its_running_streams_have_ended(house: Server) -> None:
    put(house, "admin/deleted", times(2))
    with Raw(house) as client, ThreadPoolExecutor() as threads:
        client.begin("admin/deleted")
        client.chunk(b'{"x":1}\n')
        client.head()
        client.line()
        deleting = threads.submit(delete, house, "admin/deleted")
        until(lambda: predict(house, "admin/deleted", x=1) == {"error": "model not found"})
        client.chunk(b'{"x":2}\n')
        assert client.line()["result"] == {"y": 4}
        assert not deleting.done()
        assert files(house, "admin/deleted") != []
        client.end()
        assert client.rest() == b""
        assert deleting.result().status_code == 200
    assert files(house, "admin/deleted") == []


def test_the_series_of_a_deleted_model_leave_the_metrics(house: Server) -> None:
    put(house, "admin/counted", times(2))
    assert predict(house, "admin/counted", x=1)["result"] == {"y": 2}
    record = 'sluice_records_total{model="admin/counted",outcome="result"}'
    until(lambda: house.metric(record) == 1)
    delete(house, "admin/counted")
    text = requests.get(f"{house.url}/metrics", auth=house.auth, timeout=30).text
    assert "admin/counted" not in text
    assert "sluice_records_total" in text


def test_the_active_version_is_not_deleted_alone(house: Server) -> None:
    put(house, "admin/active", times(2))
    assert delete(house, "admin/active", "?version=1").status_code == 409
    for query in ("?version=9", "?version=x", "?version="):
        assert refused(delete(house, "admin/active", query), 404) == "model not found"
    assert refused(delete(house, "admin/nobody"), 404) == "model not found"


def test_models_that_ship_stay_as_they_are(house: Server) -> None:
    for answer in (
        delete(house, "sluice/wine"),
        delete(house, "sluice/wine", "?version=1"),
        patch(house, "sluice/wine", shared=False),
    ):
        assert answer.status_code == 409
    assert delete(house, "sluice/wine").text == '{"error":"this model ships with the server"}'
    assert predict(house, "sluice/wine", "?version=1").get("code") == "missing_field"
