"""A publish adds a version and makes it active; old versions stay for those who use them, and one may be made active again."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.clients import Raw, ndjson, until
from tests.publishing.asking import delete, files, patch, predict, put, refused, shown
from tests.publishing.uploads import config, times
from tests.serving import Server


def test_a_graph_is_a_model_and_then_a_version(house: Server) -> None:
    first = put(house, "admin/first", times(2))
    assert (first.status_code, first.text) == (
        201,
        '{"model":"first","owner":"admin","status":"Successfully deployed","version":1}',
    )
    assert predict(house, "admin/first", x=3)["result"] == {"y": 6}
    assert put(house, "admin/first", times(3)).json()["version"] == 2
    answer = predict(house, "admin/first", x=3)
    assert (answer["result"], answer["version"]) == ({"y": 9}, 2)
    assert predict(house, "admin/first", "?version=1", x=3)["result"] == {"y": 6}


def test_a_stream_begun_before_finishes_on_its_version(house: Server) -> None:
    """Acceptance 23, with a shipped model."""
    iris = (Path(__file__).parents[2] / "models/sluice/iris/1/model.onnx").read_bytes()
    flower = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}
    with Raw(house) as client:
        client.begin("sluice/iris", "&summary=true")
        client.chunk(ndjson([flower]))
        assert client.head().status == 200
        assert client.line()["version"] == 1
        put_ = put(house, "sluice/iris", iris)
        assert (put_.status_code, put_.json()["version"]) == (201, 2)
        assert predict(house, "sluice/iris", X=[5.1, 3.5, 1.4, 0.2])["version"] == 2
        client.chunk(ndjson([flower] * 500))
        client.end()
        lines = [json.loads(line) for line in client.rest().splitlines()]
        assert client.has_ended
        assert not client.was_cut
    assert [line["version"] for line in lines] == [1] * 501
    assert lines[-1]["summary"]["results"] == 501
    record = patch(house, "sluice/iris", active_version=1)
    assert (record.status_code, record.json()["active_version"], record.json()["versions"]) == (200, 1, [1, 2])
    assert predict(house, "sluice/iris", **flower)["version"] == 1
    assert delete(house, "sluice/iris", "?version=2").status_code == 200
    assert shown(house, "sluice/iris")["versions"] == [1]


def test_the_old_version_is_unloaded_when_its_last_stream_has_ended(house: Server) -> None:
    loads = 'sluice_model_loads_total{model="admin/unloaded",outcome="loaded"}'
    put(house, "admin/unloaded", times(2))
    with Raw(house) as client:
        client.begin("admin/unloaded")
        client.chunk(b'{"x":1}\n')
        client.head()
        client.line()
        put(house, "admin/unloaded", times(3))
        before = house.metric(loads)
        assert predict(house, "admin/unloaded", "?version=1", x=1)["result"] == {"y": 2}
        assert house.metric(loads) == before, "the stream holds it open"
        client.end()
        client.rest()
    until(lambda: predict(house, "admin/unloaded", "?version=1", x=1) and house.metric(loads) > before)


def test_the_same_bytes_are_the_same_version(house: Server) -> None:
    assert put(house, "admin/same_bytes", times(2)).status_code == 201
    again = put(house, "admin/same_bytes", times(2))
    assert (again.status_code, again.json()["version"], again.json()["status"]) == (200, 1, "Successfully deployed")
    other = put(house, "admin/same_bytes", times(2), config=config(description="another"))
    assert (other.status_code, other.json()["version"]) == (201, 2)
    assert put(house, "admin/same_bytes", times(2), config=config(description="another")).status_code == 200
    assert shown(house, "admin/same_bytes")["versions"] == [1, 2]
    assert not [name for name in files(house, "admin/same_bytes") if name.startswith(".")]


def test_what_is_not_said_about_the_model_stays_as_it_is(house: Server, eva: tuple[str, str]) -> None:
    put(house, "admin/said", times(2), config=config(description="doubles", shared=True))
    put(house, "admin/said", times(3))
    record = shown(house, "admin/said")
    assert (record["active_version"], record["description"], record["shared"]) == (2, "doubles", True)
    assert predict(house, "admin/said", auth=eva, x=1)["result"] == {"y": 3}


def test_two_uploads_of_one_model_become_two_versions(house: Server) -> None:
    with ThreadPoolExecutor() as threads:
        answers = list(threads.map(lambda factor: put(house, "admin/both", times(factor)), range(1, 5)))
    assert sorted(answer.json()["version"] for answer in answers) == [1, 2, 3, 4]


def test_numbers_are_never_used_again(house: Server) -> None:
    for number in (1, 2):
        assert put(house, "admin/numbers", times(number)).json()["version"] == number
    patch(house, "admin/numbers", active_version=1)
    assert delete(house, "admin/numbers", "?version=2").json() == {
        "model": "numbers",
        "owner": "admin",
        "status": "Successfully deleted",
        "version": 2,
    }
    assert put(house, "admin/numbers", times(7)).json()["version"] == 3
    assert delete(house, "admin/numbers").status_code == 200
    assert files(house, "admin/numbers") == []
    assert put(house, "admin/numbers", times(1)).json()["version"] == 4


def test_the_newest_versions_are_kept_and_the_active_one_always(house: Server) -> None:
    for number in range(1, 6):
        put(house, "admin/newest", times(number))
    assert shown(house, "admin/newest")["versions"] == [3, 4, 5]
    assert sorted(name for name in files(house, "admin/newest") if "/" not in name) == ["3", "4", "5"]
    assert predict(house, "admin/newest", "?version=2", x=1) == {"error": "model not found"}


def test_patches_that_change_nothing(house: Server) -> None:
    put(house, "admin/patched", times(2))
    assert refused(patch(house, "admin/patched"), 422) == "send active_version or shared"
    assert refused(patch(house, "admin/patched", colour="red"), 422).startswith("field 'colour'")
    assert refused(patch(house, "admin/patched", active_version=99), 404) == "model not found"
    assert refused(patch(house, "admin/nobody", active_version=1), 404) == "model not found"
    assert patch(house, "admin/patched", active_version=1).status_code == 200
