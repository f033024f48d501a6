"""The program of a replica, started as the server starts it: it imports a family with its first frame, and answers failures."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from engine import frames
from engine.frames import Header
from engine.replicas.replica import ReplicaOptions
from tests.embeddings.small_models import SmallModels
from tests.serving import ROOT

# The libraries that tasks need, by their folders in site-packages.
LIBRARIES = ("numpy", "onnxruntime", "onnx", "tokenizers", "orjson", "pydantic_core")
SCORING = {"numpy", "onnxruntime", "tokenizers", "orjson"}


class Child:
    """A replica at the other end of a socketpair."""

    def __init__(self, *families: str, **options: Any) -> None:
        ours, theirs = socket.socketpair()
        told = ReplicaOptions(families=families, **options).for_process()
        with theirs:
            line = [sys.executable, "-m", "engine.tasks", str(theirs.fileno()), told]
            self._process = subprocess.Popen(line, cwd=ROOT, pass_fds=[theirs.fileno()])
        ours.settimeout(60)
        self._socket = ours
        self._answers = frames.receive(ours)

    def ask(self, header: Header, payload: bytes = b"") -> tuple[Header, bytes]:
        frames.send(self._socket, header, [payload])
        return self.next_answer()

    def next_answer(self) -> tuple[Header, bytes]:
        answer, data = next(self._answers)
        return answer, bytes(data)

    def reason(self, header: Header) -> str:
        """The reason in the answer to a frame, whose code must be `task_failed`."""
        answer, data = self.ask(header)
        assert (list(answer), answer["error"]["code"], data) == (["error"], "task_failed", b"")
        return str(answer["error"]["reason"])

    def peak_bytes(self) -> int:
        """The most memory that the process has had."""
        lines = Path(f"/proc/{self._process.pid}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) * 1024

    def loaded(self) -> set[str]:
        """The LIBRARIES whose native code the process has loaded."""
        maps = Path(f"/proc/{self._process.pid}/maps").read_text()
        return {name for name in LIBRARIES if f"/{name}/" in maps}

    def end(self) -> int:
        self._socket.close()
        return self._process.wait(10)


@pytest.fixture
def child() -> Iterator[Child]:
    child = Child()
    try:
        yield child
    finally:
        assert child.end() == 0


@pytest.fixture(scope="module")
def doubler(tmp_path_factory: pytest.TempPathFactory) -> Header:
    """The `load` frame of a model: `{"x": 2}` -> 4."""
    folder = tmp_path_factory.mktemp("doubler")
    ends = [[helper.make_tensor_value_info(name, TensorProto.INT64, ["N"])] for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "graph", *ends)
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), folder / "model.onnx")
    inputs = [{"kind": "column", "input": "x", "field": "x"}]
    outputs = [{"output": "y", "as": None}]
    config = {"name": "doubler", "max_batch_size": 8, "inputs": inputs, "outputs": outputs, "example": {"x": 1}}
    return {"family": "scoring", "task": "load", "model": "eva/doubler@1", "folder": str(folder), "config": config}


@pytest.fixture(scope="module")
def sentences(tmp_path_factory: pytest.TempPathFactory) -> Header:
    """The `load` frame of a small embedding model."""
    folder, config = SmallModels(tmp_path_factory.mktemp("sentences")).files()
    config = config | {"max_batch_tokens": 512}
    return {"family": "embedding", "task": "load", "model": "eva/sentences@1", "folder": str(folder), "config": config}


def score(model: str, record: bytes) -> tuple[Header, bytes]:
    return {"family": "scoring", "task": "score", "model": model, "sizes": [len(record)]}, record


def test_a_sign_of_life_needs_no_library(child: Child) -> None:
    assert child.ask({}) == ({}, b"")
    assert child.loaded() == set()


def test_families_that_are_named_at_the_start_are_imported_before_the_first_sign_of_life() -> None:
    child = Child("scoring")
    try:
        assert child.ask({}) == ({}, b"")
        assert child.loaded() == SCORING
    finally:
        child.end()


def test_scoring_imports_what_it_needs_with_its_first_frame(child: Child, doubler: Header) -> None:
    answer, _ = child.ask(doubler)
    assert 0 < answer["seconds_per_record"] < 1
    assert child.loaded() == SCORING
    answer, body = child.ask(*score("eva/doubler@1", b'{"x":21}'))
    assert [part["code"] for part in answer["parts"]] == [None]
    assert body.startswith(b'{"result":42,')


def test_only_publishing_loads_the_library_for_graphs(child: Child, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"not a graph")
    header = {
        "family": "publishing",
        "task": "check",
        "folder": str(tmp_path),
        "owner": "eva",
        "name": "x",
        "config": None,
        "data": [],
    }
    answer, _ = child.ask(header)
    assert answer["parts"] == [{"size": 0, "refused": "the file is not an ONNX graph"}]
    assert "onnx" in child.loaded()


def test_both_families_score_with_the_same_collection_of_models(child: Child, doubler: Header, sentences: Header) -> None:
    child.ask(doubler)
    answer, _ = child.ask(sentences)
    assert answer["seconds_per_record"] > 0
    _, body = child.ask(*score("eva/sentences@1", b'{"text":"hello"}'))
    assert body.startswith(b'{"result":{"embedding":[')
    lines: dict[str, Any] = {"encoding_format": "float", "dimensions": None, "truncate": True, "sizes": [8]}
    answer, vector = child.ask({"family": "embedding", "task": "embed", "model": "eva/sentences@1", **lines}, b'"hello"\n')
    assert answer["results"] == 1
    assert vector in body


def test_an_unloaded_model_is_not_found_by_either_family(child: Child, sentences: Header) -> None:
    child.ask(sentences)
    assert child.ask({"family": "scoring", "task": "unload", "model": "eva/sentences@1"}) == ({}, b"")
    lost = {"error": {"code": "load_failed", "reason": "not loaded"}}
    assert child.ask(*score("eva/sentences@1", b"{}")) == (lost, b"")
    assert child.ask({"family": "embedding", "task": "embed", "model": "eva/sentences@1", "sizes": [0]}) == (lost, b"")


def test_a_model_that_does_not_load_says_why_now_and_to_each_block(child: Child, doubler: Header, tmp_path: Path) -> None:
    answer, _ = child.ask(doubler | {"folder": str(tmp_path)})
    assert answer["error"]["code"] == "load_failed"
    assert answer["error"]["reason"]
    assert child.ask(*score("eva/doubler@1", b'{"x":1}')) == (answer, b"")
    assert "seconds_per_record" in child.ask(doubler)[0]
    assert child.ask(*score("eva/doubler@1", b'{"x":1}'))[1].startswith(b'{"result":2,')


def test_an_unknown_family_or_task_is_an_error_and_the_replica_goes_on(child: Child) -> None:
    assert child.reason({"family": "juggling", "task": "throw"}) == "ModuleNotFoundError: No module named 'engine.tasks.juggling'"
    assert (
        child.reason({"family": "codec", "task": "dumps"})
        == "UnknownTask: 'codec' is a module of the replica, not a family of tasks"
    )
    assert child.reason({"family": "scoring", "task": "throw"}) == "UnknownTask: the family 'scoring' has no task 'throw'"
    assert child.reason({"task": "score"}) == "KeyError: 'family'"
    assert child.ask({}) == ({}, b"")


@pytest.mark.parametrize("name", ["os.path", "..frames", "scoring.score", "a b", "", "x" * 1000, "ä.b"])
def test_only_a_plain_name_is_imported(child: Child, name: str) -> None:
    assert child.reason({"family": name, "task": "load"}).startswith(("UnknownTask: '", "ModuleNotFoundError: "))
    assert child.loaded() == set()
