"""Publishing through the front door: versions come, become active, go back and go, and nobody who predicts notices."""

import json
import os
import signal
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.clients import Raw, bulk, curl, is_alive, ndjson, until
from tests.serving import Server, serving
from tests.streaming import uploads
from tests.streaming.uploads import OCTETS, config, counting, files, predict, put, shown, times

LIMIT_BYTES = 1024 * 1024
CHECK_TIMEOUT_S = 3
TURNS_A_SECOND = 500_000


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that keeps 3 versions, takes 1 MiB, and checks for 3 seconds."""
    settings = {"SLUICE_KEEP_VERSIONS": "3", "SLUICE_MODEL_LIMIT_BYTES": str(LIMIT_BYTES)}
    with serving(tmp_path_factory.mktemp("house") / "data", **settings, SLUICE_CHECK_TIMEOUT_S=str(CHECK_TIMEOUT_S)) as running:
        yield running


@pytest.fixture(scope="session")
def eva(house: Server) -> tuple[str, str]:
    return user(house, "eva")


@pytest.fixture(scope="session")
def tom(house: Server) -> tuple[str, str]:
    return user(house, "tom")


def user(server: Server, name: str) -> tuple[str, str]:
    """A new user and its full key."""
    made = requests.post(f"{server.url}/api/users", json={"name": name}, auth=server.auth, timeout=30)
    assert made.status_code == 201, made.text
    return name, made.json()["key"]


def read_only(server: Server, auth: tuple[str, str]) -> tuple[str, str]:
    made = requests.post(f"{server.url}/api/keys", json={"kind": "read_only"}, auth=auth, timeout=30)
    return auth[0], made.json()["key"]


def patch(server: Server, model: str, auth: tuple[str, str] | None = None, **changes: Any) -> requests.Response:
    return requests.patch(f"{server.url}/api/models/{model}", json=changes, auth=auth or server.auth, timeout=30)


def delete(server: Server, model: str, query: str = "", auth: tuple[str, str] | None = None) -> requests.Response:
    return requests.delete(server.model(model) + query, auth=auth or server.auth, timeout=30)


def refused(answer: requests.Response, status: int) -> str:
    """The reason of a refusal, which names no path."""
    assert answer.status_code == status, answer.text
    reason: str = answer.json()["error"]
    assert "/tmp" not in reason
    assert "incoming" not in reason
    return reason


# A version comes


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
    """Acceptance 23, with the model that ships."""
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
    assert put(house, "admin/same", times(2)).status_code == 201
    again = put(house, "admin/same", times(2))
    assert (again.status_code, again.json()["version"], again.json()["status"]) == (200, 1, "Successfully deployed")
    other = put(house, "admin/same", times(2), config=config(description="another"))
    assert (other.status_code, other.json()["version"]) == (201, 2)
    assert put(house, "admin/same", times(2), config=config(description="another")).status_code == 200
    assert shown(house, "admin/same")["versions"] == [1, 2]
    assert not [name for name in files(house, "admin/same") if name.startswith(".")]


def test_what_is_not_said_about_the_model_stays_as_it_is(house: Server, eva: tuple[str, str]) -> None:
    put(house, "admin/said", times(2), config=config(description="doubles", shared=True))
    put(house, "admin/said", times(3))
    record = shown(house, "admin/said")
    assert (record["active_version"], record["description"], record["shared"]) == (2, "doubles", True)
    assert predict(house, "admin/said", auth=eva, x=1)["result"] == {"y": 3}


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
        put(house, "admin/kept", times(number))
    assert shown(house, "admin/kept")["versions"] == [3, 4, 5]
    assert sorted(name for name in files(house, "admin/kept") if "/" not in name) == ["3", "4", "5"]
    assert predict(house, "admin/kept", "?version=2", x=1) == {"error": "model not found"}


def test_a_form_brings_config_and_tensors(house: Server) -> None:
    graph, tensors = uploads.external("weights.bin"), struct.pack("<f", 5)
    answer = put(house, "admin/form", graph, data=("weights.bin", tensors), config=config(outputs=[{"output": "y", "as": None}]))
    assert (answer.status_code, predict(house, "admin/form", x=2)["result"]) == (201, 10)
    assert files(house, "admin/form") == ["1", "1/config.json", "1/model.onnx", "1/weights.bin"]


def test_curl_publishes_with_and_without_a_trailing_slash(house: Server, tmp_path: Path) -> None:
    path = tmp_path / "double.onnx"
    path.write_bytes(times(2))
    for i, end in enumerate(("", "/")):
        done = curl(
            house.model("admin/curled") + end, "-T", str(path), "-H", f"Content-Type: {OCTETS['Content-Type']}", auth=house.auth
        )
        assert (done.code, done.status) == (0, 201 if i == 0 else 200), done.body


# skl2onnx


@pytest.mark.parametrize(
    ("name", "record", "expected"),
    [
        ("matrix_zipmap", {"x0": 2.5, "x1": 0, "x2": 0}, {"output_label": "yes"}),
        ("matrix_zipmap", {"X": [2.5, 0, 0]}, {"output_label": "yes"}),
        ("matrix_plain", {"X": [-2.5, 0, 0]}, {"label": "no"}),
        ("mixed", {"age": 2.5, "fare": 0, "sex": "f", "town": "York"}, {"output_label": "yes"}),
        ("words", {"text": "good film"}, {"output_label": 1}),
    ],
)
def test_what_skl2onnx_makes_works_without_a_config(
    house: Server, name: str, record: dict[str, Any], expected: dict[str, Any]
) -> None:
    answer = put(house, f"admin/{name}", (uploads.DATA / f"{name}.onnx").read_bytes())
    assert answer.status_code in (200, 201), answer.text
    result = predict(house, f"admin/{name}", **record)["result"]
    assert expected.items() <= result.items()
    probabilities = result.get("output_probability", result.get("probabilities"))
    values = probabilities.values() if isinstance(probabilities, dict) else probabilities
    assert sum(values) == pytest.approx(1, abs=1e-4)
    [line] = bulk(house, f"admin/{name}", ndjson([record])).lines
    assert line["result"] == result


def test_a_list_and_fields_may_share_a_stream(house: Server) -> None:
    put(house, "admin/row", uploads.row(3))
    fields = {"x0": 1, "x1": 1, "x2": 1}
    body = ndjson([{"X": [1, 2, 3]}, fields, {"X": [1, 2]}, {"x0": 1}, fields | {"X": [7, 7, 7]}])
    lines = bulk(house, "admin/row", body, "&ordered=true").lines
    expected = [{"y": 6}, {"y": 3}, "wrong_length", "missing_field", {"y": 3}]
    assert [line.get("result", line.get("code")) for line in lines] == expected
    for record, result in ((fields | {"X": [7, 7, 7]}, {"y": 3}), ({"X": [7, 7, 7]}, {"y": 21})):
        lines = bulk(house, "admin/row", ndjson([record] * 100)).lines
        assert [line["result"] for line in lines] == [result] * 100


def test_a_graph_that_mixes_its_records_gets_them_one_by_one(house: Server) -> None:
    answer = put(house, "admin/mean", uploads.mean())
    assert answer.status_code == 201
    assert "max_batch_size is set to 1" in answer.json()["warnings"][0]
    assert shown(house, "admin/mean")["max_batch_size"] == 1
    lines = bulk(house, "admin/mean", ndjson({"x": i} for i in range(50))).lines
    assert [line["result"] for line in lines] == [{"y": 0}] * 50


# Refused


HEAD = {"kind": "matrix", "input": "X"}
BAD = {
    "garbage": (b"\x00\x01garbage" * 100, {}, "the file is not an ONNX graph"),
    "empty": (b"", {}, "the file is not an ONNX graph"),
    "custom domain": (uploads.foreign(), {}, "operators of the domain 'evil' are not allowed"),
    "external data": (uploads.external("../x"), {}, "a tensor lies outside of the model's folder"),
    "external data not sent": (uploads.external("weights.bin"), {}, "a tensor lies in the file 'weights.bin': send it"),
    "data of another name": (uploads.external("../x"), {"data": ("x", b"1234")}, "a tensor lies outside of the model's folder"),
    "data with a path": (uploads.external("x"), {"data": ("a/../x", b"1234")}, "the part 'data' needs the file name"),
    "data that nobody reads": (times(2), {"data": ("x", b"1234")}, "the graph has no tensor in the file 'x'"),
    "tensors cut short": (uploads.external("x"), {"data": ("x", b"12")}, "the graph does not load"),
    "an output without a batch": (uploads.constant(), {}, "output 'y' has 1 results for 2 records: its batch axis does not follow"),
    "a config that is none": (times(2), {"config": [1]}, "config.json: a JSON object is needed"),
    "an unknown key": (times(2), {"config": config(colour="red")}, "config.json: field 'colour'"),
    "another name": (times(2), {"config": config(owner="eva", name="z")}, "config.json names eva/z, the path admin/refused"),
    "too few features": (
        uploads.row(4),
        {"config": config(inputs=[HEAD | {"features": ["a", "b", "c"]}], example={"a": 1, "b": 1, "c": 1})},
        "input 'X' has 4 columns, config names 3 features",
    ),
    "an unknown input": (times(2), {"config": config(inputs=[HEAD | {"features": ["a"]}])}, "the graph has no input 'X'; it has"),
    "an unknown output": (times(2), {"config": config(outputs=[{"output": "z", "as": "z"}])}, "the graph has no output 'z'; it"),
    "a bad example": (times(2), {"config": config(example={"x": "one"})}, "the example is refused: field 'x' must be a number"),
    "a bad default": (
        times(2),
        {"config": config(inputs=[{"kind": "column", "input": "x", "field": "x", "missing": "none"}])},
        "input 'x': field 'missing' must be a number, not a string",
    ),
    "a tokenizer for nothing": (times(2), {"tokenizer": b"{}"}, "a tokenizer needs a config with an input of kind 'text'"),
    "an unknown part": (times(2), {"modle": b"x"}, "unknown part 'modle'"),
    "a graph that kills": (
        uploads.deadly(),
        {"config": config(inputs=[{"kind": "column", "input": "divisor", "field": "d"}],
                          outputs=[{"output": "quotient", "as": "q"}], example={"d": -1})},
        "the process that checked it failed",
    ),
    "a graph that hangs": (uploads.slow(), {"config": counting(10**15)}, "the check took longer than 3 seconds"),
    "a graph that eats memory": (uploads.hungry(), {"config": counting(10**9)}, "the example fails"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_what_makes_no_model_is_refused_and_leaves_nothing(house: Server, kind: str) -> None:
    """Acceptance 24."""
    graph, parts, reason = BAD[kind]
    put(house, "admin/refused", times(2))
    before, listed = files(house), shown(house, "admin/refused")
    answer = put(house, "admin/refused", graph, **parts)
    assert answer.json().get("code") == "invalid_model", answer.text
    assert refused(answer, 422).startswith(reason)
    assert refused(put(house, "admin/never", graph, **parts), 422)
    assert (files(house), shown(house, "admin/refused")) == (before, listed)
    assert predict(house, "admin/refused", x=1)["result"] == {"y": 2}


def test_a_form_without_a_model_is_refused(house: Server) -> None:
    answer = requests.put(house.model("admin/nothing"), files={"config": b"{}"}, auth=house.auth, timeout=30)
    assert refused(answer, 422) == "the part 'model' is missing"
    twice = [("model", ("a", times(1))), ("model", ("b", times(2)))]
    assert "twice" in refused(requests.put(house.model("admin/nothing"), files=twice, auth=house.auth, timeout=30), 422)
    assert "admin/nothing" not in " ".join(files(house))


@pytest.mark.parametrize("body", [b"", b"no form", b"--x\r\n", b"--x\r\nContent-Disposition: form-data; name=model\r\n\r\nabc"])
def test_a_form_that_is_none_is_400(house: Server, body: bytes) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    answer = requests.put(house.model("admin/nothing"), data=body, headers=headers, auth=house.auth, timeout=30)
    assert refused(answer, 400).startswith("could not decode body")
    assert "admin/nothing" not in " ".join(files(house))


@pytest.mark.parametrize(
    "headers", [{}, {"Content-Type": "application/json"}, {"Content-Type": "application/x-www-form-urlencoded"}]
)
def test_other_types_are_415(house: Server, headers: dict[str, str]) -> None:
    answer = requests.put(house.model("admin/nothing"), data=b"{}", headers=headers, auth=house.auth, timeout=30)
    assert refused(answer, 415) == "POST a record to predict; PUT application/octet-stream to publish"


@pytest.mark.parametrize("is_chunked", [False, True])
@pytest.mark.parametrize("is_form", [False, True])
def test_what_is_too_large_is_413_and_leaves_nothing(house: Server, is_chunked: bool, is_form: bool) -> None:
    body = b"x" * (LIMIT_BYTES + 1)
    headers = OCTETS
    if is_form:
        prepared = requests.Request("PUT", "http://x", files={"model": body}).prepare()
        body, headers = prepared.body, {"Content-Type": prepared.headers["Content-Type"]}  # type: ignore[assignment]
    data = iter([body[:1000], body[1000:]]) if is_chunked else body
    answer = requests.put(house.model("admin/large"), data=data, headers=headers, auth=house.auth, timeout=30)
    assert refused(answer, 413) == f"body larger than {LIMIT_BYTES} bytes"
    assert "admin/large" not in " ".join(files(house))


def test_a_client_that_leaves_leaves_nothing_behind(house: Server) -> None:
    before = files(house)
    with Raw(house) as client:
        client.ask("PUT", "/admin/models/left", Content_Type=OCTETS["Content-Type"], Content_Length="1000")
        client.send(b"x" * 500)
        until(lambda: any("admin/left/.incoming" in name for name in files(house)))
        client.reset()
        until(lambda: files(house) == before)
    assert "Traceback" not in house.log


# Who may


def test_who_may_publish(house: Server, eva: tuple[str, str], tom: tuple[str, str]) -> None:
    """Acceptance 20, for changes."""
    graph, may = times(2), read_only(house, eva)
    anonymous = requests.put(house.model("eva/mine"), data=graph, headers=OCTETS, timeout=30)
    assert refused(anonymous, 401) == "No basic authentication provided"
    assert refused(put(house, "eva/mine", graph, auth=("eva", "0" * 32)), 401) == "Unauthorized"
    assert refused(put(house, "eva/mine", graph, auth=may), 403) == "a full key is needed for this"
    assert refused(put(house, "eva/mine", graph, auth=tom), 404) == "model not found"
    assert put(house, "eva/mine", graph, auth=eva).status_code == 201
    assert refused(put(house, "eva/mine", graph, auth=tom), 404) == "model not found"
    for change in (patch(house, "eva/mine", tom, shared=True), delete(house, "eva/mine", auth=tom)):
        assert refused(change, 404) == "model not found"
    assert patch(house, "eva/mine", eva, shared=True).json()["shared"] is True
    for change in (
        put(house, "eva/mine", graph, auth=tom),
        patch(house, "eva/mine", tom, shared=False),
        delete(house, "eva/mine", auth=tom),
    ):
        assert change.status_code == 403
    for change in (patch(house, "eva/mine", may, shared=False), delete(house, "eva/mine", auth=may)):
        assert refused(change, 403) == "a full key is needed for this"
    assert predict(house, "eva/mine", auth=tom, x=1)["result"] == {"y": 2}
    assert put(house, "eva/mine", times(3)).status_code == 201, "the admin acts for everybody"
    assert patch(house, "eva/mine", eva, shared=False).json()["shared"] is False
    assert predict(house, "eva/mine", auth=tom, x=1) == {"error": "model not found"}
    assert delete(house, "eva/mine", auth=eva).status_code == 200


@pytest.mark.parametrize(
    ("path", "status"), [("eva/-x", 422), ("v2/models", 404), ("Datasets/x", 404), ("a b/x", 422), ("eva/" + "x" * 101, 422)]
)
def test_names_that_cannot_be(house: Server, path: str, status: int) -> None:
    assert put(house, path, times(1)).status_code == status


def test_a_refusal_comes_in_place_of_100_continue(house: Server, tom: tuple[str, str]) -> None:
    put(house, "admin/expected", times(2), config=config(shared=True))
    for auth, headers, status in (
        (None, OCTETS, 401),
        (("tom", "wrong"), OCTETS, 401),
        (tom, OCTETS, 403),
        (True, {"Content-Type": "text/plain"}, 415),
    ):
        with Raw(house) as client:
            named = {name.replace("-", "_"): text for name, text in headers.items()}
            client.ask("PUT", "/admin/models/expected", auth=auth, Expect="100-continue", Content_Length="10", **named)  # type: ignore[arg-type]
            assert client.head().status == status
    with Raw(house) as client:
        graph = times(9)
        client.ask(
            "PUT",
            "/admin/models/expected",
            Expect="100-continue",
            Content_Length=str(len(graph)),
            Content_Type=OCTETS["Content-Type"],
        )
        assert client.head().status == 100
        client.send(graph)
        assert client.head().status == 201


def test_models_that_ship_stay_as_they_are(house: Server) -> None:
    for answer in (
        delete(house, "sluice/wine"),
        delete(house, "sluice/wine", "?version=1"),
        patch(house, "sluice/wine", shared=False),
    ):
        assert answer.status_code == 409
    assert delete(house, "sluice/wine").text == '{"error":"this model ships with the server"}'
    assert predict(house, "sluice/wine", "?version=1").get("code") == "missing_field"


# Back and away


def test_patches_that_change_nothing(house: Server) -> None:
    put(house, "admin/patched", times(2))
    assert refused(patch(house, "admin/patched"), 422) == "send active_version or shared"
    assert refused(patch(house, "admin/patched", colour="red"), 422).startswith("field 'colour'")
    assert refused(patch(house, "admin/patched", active_version=99), 404) == "model not found"
    assert refused(patch(house, "admin/nobody", active_version=1), 404) == "model not found"
    assert patch(house, "admin/patched", active_version=1).status_code == 200


def test_the_active_version_is_not_deleted_alone(house: Server) -> None:
    put(house, "admin/active", times(2))
    assert delete(house, "admin/active", "?version=1").status_code == 409
    for query in ("?version=9", "?version=x", "?version="):
        assert refused(delete(house, "admin/active", query), 404) == "model not found"
    assert refused(delete(house, "admin/nobody"), 404) == "model not found"


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


def test_two_uploads_of_one_model_become_two_versions(house: Server) -> None:
    with ThreadPoolExecutor() as threads:
        answers = list(threads.map(lambda factor: put(house, "admin/both", times(factor)), range(1, 5)))
    assert sorted(answer.json()["version"] for answer in answers) == [1, 2, 3, 4]


# Nobody notices


class Singles:
    """One record after the other, 50 a second, on one connection. Seconds each took from when it was due."""

    def __init__(self, server: Server, model: str, **record: Any) -> None:
        self.seconds: list[float] = []
        self.statuses: list[int] = []
        self._url = server.model(model)
        self._auth = server.auth
        self._record = record
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Singles":
        self._thread.start()
        until(lambda: len(self.seconds) > 20)
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        with requests.Session() as session:
            due = time.monotonic()
            while not self._stopped.wait(max(0.0, due - time.monotonic())):
                answer = session.post(self._url, json=self._record, auth=self._auth, timeout=30)
                self.seconds.append(time.monotonic() - due)
                self.statuses.append(answer.status_code)
                due += 0.02


def test_publishing_disturbs_no_single(tmp_path: Path) -> None:
    """Acceptance 25. The first publish starts the replica that checks; a large one takes long to open."""
    with serving(tmp_path / "data") as server:
        put(server, "admin/steady", times(2))
        with Singles(server, "admin/steady", x=1) as singles:
            for factor in range(3, 7):
                assert put(server, "admin/steady", times(factor)).status_code == 201
            assert put(server, "admin/other", uploads.slow(), config=counting(TURNS_A_SECOND // 100)).status_code == 201
        assert set(singles.statuses) == {200}
        assert max(singles.seconds) < 0.2


def test_the_first_publish_disturbs_no_single(tmp_path: Path) -> None:
    """Acceptance 25. It starts the process that checks."""
    with serving(tmp_path / "data") as server, Singles(server, "brandon/HelloWorld", name="a") as singles:
        assert len(server.replica_pids()) == 2
        assert put(server, "admin/first", times(2)).status_code == 201
        assert len(server.replica_pids()) == 3
    assert set(singles.statuses) == {200}
    assert max(singles.seconds) < 0.2


# Whatever dies


@pytest.fixture
def slow_version() -> dict[str, Any]:
    """A version of `slow` that takes a replica about a second to open."""
    return counting(TURNS_A_SECOND // 256)


def test_a_server_that_dies_with_half_an_upload_has_the_old_version(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as server:
        put(server, "admin/model", times(2))
        with Raw(server) as client:
            client.ask("PUT", "/admin/models/model", Content_Type=OCTETS["Content-Type"], Content_Length="1000")
            client.send(b"x" * 500)
            until(lambda: any(".incoming" in name for name in files(server)))
            server.stop(signal.SIGKILL)
    _old_version_answers(tmp_path, "admin/model", {"x": 1}, {"y": 2}, versions=[1])


def test_a_server_that_dies_during_a_check_has_the_old_version(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as server, ThreadPoolExecutor() as threads:
        put(server, "admin/model", uploads.slow(), config=counting(1))
        publishing = threads.submit(put, server, "admin/model", uploads.slow(), config=counting(10**15))
        until(lambda: any(name.endswith("config.json") and ".incoming" in name for name in files(server)))
        server.stop(signal.SIGKILL)
        assert isinstance(publishing.exception(), requests.ConnectionError)
    _old_version_answers(tmp_path, "admin/model", {"count": 5}, {"turned": 5}, versions=[1])


def test_a_server_that_dies_after_the_rename_has_the_old_version(tmp_path: Path, slow_version: dict[str, Any]) -> None:
    with serving(tmp_path / "data") as server, ThreadPoolExecutor() as threads:
        put(server, "admin/model", uploads.slow(), config=counting(1))
        publishing = threads.submit(put, server, "admin/model", uploads.slow(), config=slow_version)
        until(lambda: "admin/model/2" in files(server))
        server.stop(signal.SIGKILL)
        assert isinstance(publishing.exception(), requests.ConnectionError)
    _old_version_answers(tmp_path, "admin/model", {"count": 5}, {"turned": 5}, versions=[1, 2])


def _old_version_answers(tmp_path: Path, model: str, record: Any, result: Any, versions: list[int]) -> None:
    with serving(tmp_path / "data") as server:
        record_ = shown(server, model)
        assert (record_["active_version"], record_["versions"]) == (1, versions)
        assert predict(server, model, **record)["result"] == result
        assert not [name for name in files(server) if "/." in name]
        assert put(server, model, times(9)).json()["version"] > versions[-1]


def test_a_replica_that_dies_while_it_opens_a_version_has_it_afterwards(tmp_path: Path, slow_version: dict[str, Any]) -> None:
    with serving(tmp_path / "data") as server:
        with ThreadPoolExecutor() as threads:
            put(server, "admin/model", uploads.slow(), config=counting(1))
            scorers = server.replica_pids()[:2]
            publishing = threads.submit(put, server, "admin/model", uploads.slow(), config=slow_version)
            until(lambda: "admin/model/2" in files(server))
            _kill(scorers[0])
            assert publishing.result().json()["version"] == 2
        loads = server.metric('sluice_model_loads_total{model="admin/model",outcome="loaded"}')
        until(lambda: server.metric('sluice_replicas{pool="score",state="ready"}') == 2)
        lines = bulk(server, "admin/model", ndjson({"count": i} for i in range(2000))).lines
        assert {line["version"] for line in lines} == {2}
        assert server.metric('sluice_model_loads_total{model="admin/model",outcome="loaded"}') >= loads


@pytest.mark.parametrize(("num_deaths", "status", "version"), [(1, 201, 2), (3, 500, 1)])
def test_the_only_replica_may_die_once_while_it_opens_a_version(
    tmp_path: Path, slow_version: dict[str, Any], num_deaths: int, status: int, version: int
) -> None:
    """Twice is too often; the first kill may come before the opening begins, so three are sure to be two."""
    with serving(tmp_path / "data", SLUICE_SCORE_REPLICAS="1") as server, ThreadPoolExecutor() as threads:
        put(server, "admin/model", uploads.slow(), config=counting(1))
        scorer, checker = server.replica_pids()
        publishing = threads.submit(put, server, "admin/model", uploads.slow(), config=slow_version)
        until(lambda: "admin/model/2" in files(server))
        for _ in range(num_deaths):
            scorer = _kill_and_await_next(server, scorer, checker)
        assert publishing.result().status_code == status
        until(lambda: requests.get(f"{server.url}/healthcheck", timeout=10).text == "ok")
        assert predict(server, "admin/model", count=3)["version"] == version


def _kill_and_await_next(server: Server, scorer: int, checker: int) -> int:
    """Kill the only replica that scores; the process id of the next one, as soon as that opens models."""
    started = "replica started name=score"
    num_started = server.log.count(started)
    _kill(scorer)
    until(lambda: server.log.count(started) > num_started)
    [found] = set(server.replica_pids()) - {checker}
    return found


def _kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    until(lambda: not is_alive(pid))


def test_a_version_that_does_not_load_is_kept_and_not_active(tmp_path: Path, slow_version: dict[str, Any]) -> None:
    """Its file is spoiled after the first replica has opened it."""
    with serving(tmp_path / "data") as server, ThreadPoolExecutor() as threads:
        put(server, "admin/model", uploads.slow(), config=counting(1))
        publishing: Future[requests.Response] = threads.submit(put, server, "admin/model", uploads.slow(), config=slow_version)
        until(lambda: "admin/model/2/model.onnx" in files(server))
        (server.data_dir / "models/admin/model/2/model.onnx").write_bytes(b"spoiled")
        answer = publishing.result()
        assert answer.json()["code"] == "load_failed"
        assert refused(answer, 500) == "version 2 does not load; the active version is as it was"
        record = shown(server, "admin/model")
        assert (record["active_version"], record["versions"], record["status"]) == (1, [1, 2], "online")
        assert predict(server, "admin/model", count=3)["version"] == 1
        assert patch(server, "admin/model", active_version=2).status_code == 500
        assert put(server, "admin/model", times(1)).json()["version"] == 3


def test_a_version_that_replicas_cannot_open_in_time_harms_no_other_model(tmp_path: Path) -> None:
    """It passes the check, whose time is longer; the replicas that open it are killed, twice, and then left in peace."""
    settings = {"SLUICE_BLOCK_TIMEOUT_S": "1", "SLUICE_CHECK_TIMEOUT_S": "60"}
    with serving(tmp_path / "data", **settings) as server:
        answer = put(server, "admin/heavy", uploads.slow(), config=counting(3_500_000))
        assert answer.status_code in (422, 500)
        until(lambda: server.metric('sluice_replicas{pool="score",state="ready"}') == 2)
        for _ in range(5):
            assert predict(server, "brandon/HelloWorld", name="a")["result"] == {"greeting": "Hello a"}
    with serving(tmp_path / "data", **settings) as server:
        url = server.model("brandon/HelloWorld")
        until(lambda: requests.post(url, json={"name": "a"}, auth=server.auth, timeout=30).status_code == 200, 30)
