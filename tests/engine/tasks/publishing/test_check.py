"""The task `check`: what a graph may hold, which config is derived from it, and how it is tried out. Real files and sessions."""

import re
import resource
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from engine.tasks.publishing import check
from engine.tasks.publishing.trying import difference
from tests.publishing import uploads
from tests.publishing.uploads import FLOAT, config, identities, model, times, value

INT64, STRING = TensorProto.INT64, TensorProto.STRING
DEFAULTS = {"max_batch_size": 1024}


def checked(folder: Path, graph: bytes, config: dict[str, Any] | None = None, **files: bytes) -> dict[str, Any]:
    """The task's answer for one upload; `files` are more files to send, by their names with _ instead of the dot."""
    (folder / "model.onnx").write_bytes(graph)
    names = [name.replace("_", ".") for name in files]
    for name, text in zip(names, files.values(), strict=True):
        (folder / name).write_bytes(text)
    data = [name for name in names if name != "tokenizer.json"]
    header = {"folder": str(folder), "owner": "eva", "name": "m", "config": config and DEFAULTS | config, "data": data}
    [part] = check.check(header)["parts"]
    return part


def refusal(folder: Path, graph: bytes, config: dict[str, Any] | None = None, **files: bytes) -> str:
    answer = checked(folder, graph, config, **files)
    assert "refused" in answer, answer
    assert str(folder) not in answer["refused"]
    return str(answer["refused"])


# Derived configs


def test_a_column_becomes_a_field_of_its_type(tmp_path: Path) -> None:
    graph = identities(("f", FLOAT, ("N",)), ("i", INT64, ("N", 1)), ("b", TensorProto.BOOL, ("N",)), ("s", STRING, ("N", 1)))
    assert checked(tmp_path, graph) == {
        "size": 0,
        "config": {
            "inputs": [{"kind": "column", "input": name, "field": name} for name in "fibs"],
            "outputs": [{"output": f"{name}_out", "as": f"{name}_out"} for name in "fibs"],
            "example": {"f": 0.0, "i": 0, "b": False, "s": "a"},
        },
        "warnings": [],
    }


def test_several_columns_become_a_matrix_that_takes_a_list_as_well(tmp_path: Path) -> None:
    answer = checked(tmp_path, uploads.row(3))["config"]
    assert answer["inputs"] == [{"kind": "matrix", "input": "X", "features": ["x0", "x1", "x2"], "field": "X"}]
    assert answer["example"] == {"x0": 0.0, "x1": 0.0, "x2": 0.0}


@pytest.mark.parametrize(
    ("shapes", "reason"),
    [
        ([("a", TensorProto.BFLOAT16, ("N",))], "input 'a' is a tensor(bfloat16), which no record can give"),
        ([("a", FLOAT, (1, 4))], "input 'a' takes batches of 1 only: export the graph with an open first axis, or send"),
        ([("a", FLOAT, (8, 4))], "input 'a' takes batches of 8 only: export the graph with an open first axis"),
    ],
)
def test_what_cannot_be_derived_asks_for_a_config(tmp_path: Path, shapes: Any, reason: str) -> None:
    assert refusal(tmp_path, identities(*shapes)).startswith(reason)


@pytest.mark.parametrize("name", ["matrix_zipmap", "matrix_plain", "mixed", "words"])
def test_graphs_of_skl2onnx_need_no_config(tmp_path: Path, name: str) -> None:
    assert "config" in checked(tmp_path, (uploads.DATA / f"{name}.onnx").read_bytes())


def test_the_example_has_categories_that_its_encoders_know(tmp_path: Path) -> None:
    example = checked(tmp_path, (uploads.DATA / "mixed.onnx").read_bytes())["config"]["example"]
    assert example == {"age": 0.0, "fare": 0.0, "sex": "f", "town": "Hull"}


def test_a_column_of_a_matrix_has_the_category_of_its_own_encoder(tmp_path: Path) -> None:
    nodes = []
    for i, names in enumerate((["red", "blue"], ["big", "small"])):
        nodes.append(helper.make_node("Gather", ["S", f"i{i}"], [f"s{i}"], axis=1))
        nodes.append(helper.make_node("OneHotEncoder", [f"s{i}"], [f"y{i}"], domain="ai.onnx.ml", cats_strings=names, zeros=0))
    places = [helper.make_tensor(f"i{i}", INT64, [1], [i]) for i in (0, 1)]
    outputs = [value(f"y{i}", FLOAT, None, 1, 2) for i in (0, 1)]
    graph = model(nodes, [value("S", STRING, None, 2)], outputs, places, {"ai.onnx.ml": 3})
    assert checked(tmp_path, graph)["config"]["example"] == {"x0": "red", "x1": "big"}


# Operators and tensors from elsewhere


def tensor(name: str, location: str, **entries: str) -> TensorProto:
    made = TensorProto(name=name, data_type=FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    for key, text in ({"location": location} | entries).items():
        made.external_data.add(key=key, value=text)
    return made


def constant_node(location: str) -> Any:
    return helper.make_node("Constant", [], ["c"], value=tensor("c", location))


def hidden_graphs(location: str) -> dict[str, onnx.ModelProto]:
    """The same external tensor in every place of the format that can hold one."""
    branch = helper.make_graph([constant_node(location)], "branch", [], [value("c", FLOAT, 1)])
    condition = helper.make_node("If", ["go"], ["c"], then_branch=branch, else_branch=branch)
    function = helper.make_function("", "Mine", [], ["c"], [constant_node(location)], [helper.make_opsetid("", 20)])
    sparse = helper.make_sparse_tensor(tensor("c", location), helper.make_tensor("i", INT64, [1], [0]), [3])
    found = {
        name: onnx.ModelProto.FromString(times(2)) for name in ("initializer", "node", "branch", "function", "sparse", "training")
    }
    found["initializer"].graph.initializer.append(tensor("c", location))
    found["node"].graph.node.append(constant_node(location))
    found["branch"].graph.node.append(condition)
    found["function"].functions.append(function)
    found["sparse"].graph.sparse_initializer.append(sparse)
    found["training"].training_info.add().initialization.node.append(constant_node(location))
    return found


@pytest.mark.parametrize("location", ["../x", "/etc/passwd", "a/b", "", "*/_ORT_MEM_ADDR_/*", "..", "model.onnx"])
@pytest.mark.parametrize("corner", hidden_graphs("x"))
def test_a_tensor_elsewhere_is_found_in_every_corner(tmp_path: Path, corner: str, location: str) -> None:
    graph = hidden_graphs(location)[corner].SerializeToString()
    assert refusal(tmp_path, graph, x=b"1234").startswith("a tensor lies")


@pytest.mark.parametrize("domain", ["evil", "ai.onnx.training", "com.microsoft.nchwc", "AI.ONNX", " "])
@pytest.mark.parametrize("corner", ["import", "node", "branch", "function"])
def test_a_foreign_domain_is_found_in_every_corner(tmp_path: Path, corner: str, domain: str) -> None:
    proto = onnx.ModelProto.FromString(times(2))
    node = helper.make_node("Mul", ["x", "x"], ["z"], domain=domain)
    if corner == "import":
        proto.opset_import.append(helper.make_opsetid(domain, 1))
    elif corner == "node":
        proto.graph.node.append(node)
    elif corner == "branch":
        branch = helper.make_graph([node], "branch", [], [value("z", FLOAT, 1)])
        proto.graph.node.append(helper.make_node("If", ["go"], ["z"], then_branch=branch, else_branch=branch))
    else:
        proto.functions.append(helper.make_function(domain, "Mine", ["x"], ["y"], [], [helper.make_opsetid("", 20)]))
    assert refusal(tmp_path, proto.SerializeToString()).startswith(f"operators of the domain '{domain}' are not allowed")


def test_tensors_beside_the_graph_are_taken_by_their_plain_name(tmp_path: Path) -> None:
    assert "config" in checked(tmp_path, uploads.external("weights.bin"), weights_bin=np.float32(5).tobytes())


@pytest.mark.parametrize("graph", [b"", b"garbage", b"\xff" * 1000, times(2)[:-10], times(2)[:20], bytes(1000)])
def test_what_is_no_graph_is_refused(tmp_path: Path, graph: bytes) -> None:
    assert refusal(tmp_path, graph)


def test_a_locale_that_is_not_installed_is_exchanged(tmp_path: Path) -> None:
    node = helper.make_node("StringNormalizer", ["s"], ["y"], case_change_action="UPPER", locale="tlh_KLINGON.UTF-8")
    answer = checked(tmp_path, model([node], [value("s", STRING, None)], [value("y", STRING, None)]))
    assert answer["warnings"] == ["the locale of StringNormalizer is not installed here: it was changed to C.UTF-8"]
    [written] = onnx.load(tmp_path / "model.onnx").graph.node
    assert {entry.name: entry.s for entry in written.attribute} == {"case_change_action": b"UPPER", "locale": b"C.UTF-8"}


# Given configs


COLUMN = {"kind": "column", "input": "X", "field": "a"}
MATRIX = {"kind": "matrix", "input": "X", "features": ["a", "b", "c"]}
VECTOR = {"kind": "vector", "input": "X", "field": "a"}
ABC = {"a": 1, "b": 1, "c": 1}


@pytest.mark.parametrize(
    ("width", "inputs", "example", "reason"),
    [
        (3, [MATRIX], ABC, None),
        (None, [MATRIX], ABC, None),
        (3, [VECTOR], {"a": [1, 2, 3]}, None),
        (1, [COLUMN], {"a": 1}, None),
        (4, [MATRIX], ABC, "input 'X' has 4 columns, config names 3 features"),
        (4, [COLUMN], {"a": 1}, "input 'X' has 4 columns, config gives it one field"),
        (None, [VECTOR], {"a": [1]}, "input 'X' has no fixed number of columns: the kind 'tensor' takes lists of any length"),
        (3, [VECTOR], {"a": [1]}, "the example is refused: field 'a' has 1 values, the model takes 3"),
        (3, [MATRIX], {"a": 1}, "the example is refused: field 'b' is missing"),
        (3, [MATRIX, MATRIX], ABC, "config gives the same input twice"),
        (3, [VECTOR | {"missing": [1, 2]}], {"a": [1, 2, 3]}, "input 'X': 'missing' has 2 values, the input 3 columns"),
        (3, [MATRIX | {"missing": True}], ABC, "input 'X': field 'missing' must be a number, not a boolean"),
        (3, [MATRIX | {"missing": "nan"}], {}, None),
    ],
)
def test_a_config_is_held_against_its_graph(tmp_path: Path, width: int, inputs: Any, example: Any, reason: str | None) -> None:
    answer = checked(tmp_path, uploads.row(width), config(inputs=inputs, example=example))
    assert answer.get("refused") == reason, answer


def test_an_input_of_which_a_config_says_nothing_is_derived(tmp_path: Path) -> None:
    graph = identities(("x", FLOAT, ("N",)), ("z", FLOAT, ("N",)))
    given = config(outputs=[{"output": "x_out", "as": "y"}], example={"x": 1, "z": 2})
    column = {"kind": "column", "input": "z", "field": "z"}
    assert checked(tmp_path, graph, given)["config"] == {"inputs": [*given["inputs"], column]}


def test_a_graph_for_single_records_is_taken_with_a_config_that_says_so(tmp_path: Path) -> None:
    graph = identities(("X", FLOAT, (1, 3)))
    single = config(inputs=[VECTOR], outputs=[{"output": "X_out", "as": "y"}], example={"a": [1, 2, 3]}, max_batch_size=1)
    assert checked(tmp_path, graph, single) == {"size": 0, "config": {}, "warnings": []}


def test_text_takes_a_tokenizer(tmp_path: Path) -> None:
    entry = {"kind": "text", "input": "input_ids", "field": "text", "tokenizer": "tokenizer.json", "max_tokens": 8}
    entry |= {"pad_id": 0, "pad_token": "[PAD]"}
    graph = identities(("input_ids", INT64, ("N", "T")), ("attention_mask", INT64, ("N", "T")))
    text = config(inputs=[entry], outputs=[{"output": "input_ids_out", "as": "y"}], example={"text": "a b"})
    assert refusal(tmp_path, graph, text) == "input 'input_ids' needs tokenizer.json: send it as the part 'tokenizer'"
    assert refusal(tmp_path, graph, text, tokenizer_json=b"{}").startswith("the model cannot be built")
    words = b'{"version":"1.0","model":{"type":"WordLevel","vocab":{"[PAD]":0,"a":1,"b":2},"unk_token":"[PAD]"}}'
    assert checked(tmp_path, graph, text, tokenizer_json=words)["warnings"] == []


# Trying it out


def test_a_graph_that_mixes_its_records_runs_them_one_by_one(tmp_path: Path) -> None:
    answer = checked(tmp_path, uploads.mean())
    assert answer["config"]["max_batch_size"] == 1
    [warning] = answer["warnings"]
    assert warning.startswith("records in a batch get other results than alone (by up to 7.9; a replica runs ")
    assert re.search(r"runs [\d,]+ records/s alone, [\d,]+ in batches of 64\): max_batch_size is set to 1; a config with", warning)
    (tmp_path / "model.onnx").unlink()
    assert checked(tmp_path, uploads.mean(), config())["config"] == {"max_batch_size": 1}


def test_an_output_must_follow_the_batch(tmp_path: Path) -> None:
    assert refusal(tmp_path, uploads.constant()) == "output 'y' has 1 results for 2 records: its batch axis does not follow"
    assert refusal(tmp_path, times(2), config(outputs=[{"output": "y", "as": "y", "axis": 1}])) == "output 'y' has no batch axis 1"


def test_an_output_may_have_its_batch_on_another_axis(tmp_path: Path) -> None:
    node = helper.make_node("Transpose", ["X"], ["y"])
    graph = model([node], [value("X", FLOAT, "N", 3)], [value("y", FLOAT, 3, "N")])
    turned = config(inputs=[MATRIX], outputs=[{"output": "y", "as": "y", "axis": 1}], example=ABC)
    assert checked(tmp_path, graph, turned) == {"size": 0, "config": {}, "warnings": []}


def test_memory_is_limited_while_a_check_runs_and_not_after_it(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_AS)
    assert refusal(tmp_path, uploads.hungry(), uploads.counting(10**9)).startswith("the example fails")
    assert resource.getrlimit(resource.RLIMIT_AS) == before
    assert "config" in checked(tmp_path, uploads.hungry(), uploads.counting(10**6))


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (np.float32([1, np.nan, np.inf]), np.float32([1, np.nan, np.inf]), 0.0),
        (np.float32([0.5]), np.float32([0.75]), 0.25),
        (np.float32([1000.05]), np.float32([1000]), 5e-5),
        (np.float32([np.nan]), np.float32([1]), np.inf),
        (np.float32([1]), np.float32([1, 2]), np.inf),
        ({"a": 0.5}, {"a": 0.25}, 0.25),
        ({"a": 0.5}, {"b": 0.5}, np.inf),
        ("yes", "no", np.inf),
        (3, 3, 0.0),
        (np.int64(3), np.int64(4), np.inf),
        ([{"a": 1.0}, 2.0], [{"a": 1.0}, 2.5], 0.2),
    ],
)
def test_a_difference_is_relative_to_values_over_one(one: Any, other: Any, expected: float) -> None:
    assert difference(one, other) == pytest.approx(expected, rel=0.1)
