"""Whatever a config says of whatever graph, the check ends with a config that works or with a refusal, and with no other error."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto

from engine.repository.config import ModelConfig
from engine.repository.drafts import parse_draft
from engine.tasks.publishing import check
from engine.tasks.scoring.model import LoadedModel
from tests.publishing.uploads import identities

TYPES = [TensorProto.FLOAT, TensorProto.INT64, TensorProto.UINT8, TensorProto.STRING, TensorProto.BOOL, TensorProto.BFLOAT16]
DIMS = st.sampled_from([0, 1, 3, "L", 8])
SHAPES = st.just(()) | st.tuples(st.sampled_from(["N", 1, 3]), DIMS) | st.lists(DIMS, max_size=3).map(lambda dims: ("N", *dims))
FIELDS = st.sampled_from(["a", "b", "x0", "a_out", "f"])
VALUES = st.sampled_from([0, 1, 2.5, "nan", "a", True, None, [], [0], [1, 2, 3], ["a"], ["a", "b", "c"], [8, 8], {"0": "a"}])
KINDS = st.sampled_from(["column", "matrix", "vector", "tensor"])
KEYS = st.sampled_from(["missing", "pad", "coerce", "decode", "size", "layout", "mean", "scale", "features"])
INPUT = st.fixed_dictionaries({"input": FIELDS}, optional={"kind": KINDS, "field": FIELDS})
INPUTS = st.builds(lambda entry, more: entry | more, INPUT, st.dictionaries(KEYS, VALUES | st.just("image"), max_size=2))
OUTPUT = st.fixed_dictionaries(
    {"output": FIELDS}, optional={"as": FIELDS, "labels": VALUES, "form": st.just("object"), "axis": DIMS}
)
CONFIGS = st.fixed_dictionaries(
    {},
    optional={
        "inputs": st.lists(INPUTS, max_size=2),
        "outputs": st.lists(OUTPUT, max_size=2),
        "example": st.dictionaries(FIELDS, VALUES, max_size=3),
        "max_batch_size": st.integers(1, 4),
        "batch_tolerance": st.sampled_from([0.1, 1]),
    },
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("wild")


@settings(max_examples=100, deadline=None)
@given(shapes=st.lists(st.tuples(st.sampled_from(TYPES), SHAPES), min_size=1, max_size=2), sent=CONFIGS)
def test_the_check_answers_whatever_comes(folder: Path, shapes: list[tuple[int, tuple[Any, ...]]], sent: dict[str, Any]) -> None:
    graph = identities(*((name, kind, shape) for name, (kind, shape) in zip("ab", shapes, strict=False)))
    (folder / "model.onnx").write_bytes(graph)
    draft = parse_draft(json.dumps(sent).encode(), "eva", "m")
    header = {"folder": str(folder), "owner": "eva", "name": "m", "config": draft.config.as_dict(), "faults": draft.faults}
    [answer] = check.check(json.loads(json.dumps(header)) | {"data": []})["parts"]
    if "refused" in answer:
        assert "\n" not in answer["refused"]
        return
    assert not draft.faults
    whole = {"task": "predict"} | draft.config.as_written() | answer["config"]
    config = ModelConfig.model_validate(json.loads(json.dumps(whole)))
    LoadedModel("eva/m@1", folder, config.as_dict()).warm_up(config.example)
