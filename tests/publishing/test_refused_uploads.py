"""An upload that makes no model is refused with its reason, and nothing of it is left behind."""

import gzip
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.clients import Raw, until
from tests.publishing import uploads
from tests.publishing.asking import LIMIT_BYTES, OCTETS, files, predict, put, refused, shown
from tests.publishing.uploads import config, counting, times
from tests.serving import Server, serving

DEEP = json.loads("[" * 700 + "]" * 700)
HEAD = {"kind": "matrix", "input": "X"}
BAD = {
    "garbage": (b"\x00\x01garbage" * 100, {}, "the file is not an ONNX graph"),
    "empty": (b"", {}, "the file is not an ONNX graph"),
    "a pickle": (pickle.dumps({"a": HEAD}), {}, "the file is not an ONNX graph: the file is a pickle, which could"),
    "a pickle by joblib": (gzip.compress(pickle.dumps([1])), {}, "the file is not an ONNX graph: the file is compressed"),
    "a model of PyTorch": (b"PK\x03\x04" + bytes(99), {}, "the file is not an ONNX graph: the file is a zip file, such as PyTorch"),
    "JSON": (b'{"learner":{}}', {}, "the file is not an ONNX graph: the file is JSON"),
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
    "a deep example": (times(2), {"config": config(example={"x": DEEP})}, "config.json is nested deeper than 64 levels"),
    "a long description": (times(2), {"config": config(description="x" * 4097)}, "config.json: field 'description': it has more"),
    "another name": (times(2), {"config": config(owner="eva", name="z")}, "config.json: it names eva/z, but the path names"),
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
    "a graph that eats memory": (uploads.hungry(), {"config": counting(10**9)}, "the example fails"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_what_makes_no_model_is_refused_and_leaves_nothing(house: Server, kind: str) -> None:
    """Acceptance 24."""
    is_refused_and_leaves_nothing(house, *BAD[kind])


def test_a_graph_that_hangs_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with serving(tmp_path / "data", SLUICE_CHECK_TIMEOUT_S="3") as server:
        # The first check imports what checks need, which may take longer on a busy machine.
        until(lambda: put(server, "admin/refused", times(1)).status_code == 201)
        parts = {"config": counting(10**15)}
        is_refused_and_leaves_nothing(server, uploads.slow(), parts, "the check took longer than 3 seconds")


def is_refused_and_leaves_nothing(server: Server, graph: bytes, parts: dict[str, Any], reason: str) -> None:
    put(server, "admin/refused", times(2))
    before, listed = files(server), shown(server, "admin/refused")
    answer = put(server, "admin/refused", graph, **parts)
    assert answer.json().get("code") == "invalid_model", answer.text
    assert refused(answer, 422).startswith(reason)
    assert refused(put(server, "admin/never", graph, **parts), 422)
    assert (files(server), shown(server, "admin/refused")) == (before, listed)
    assert predict(server, "admin/refused", x=1)["result"] == {"y": 2}


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
