"""Tiny models of the owner `tester`, each of which misbehaves in one way. A test writes them before its server starts.

divide   divides the least 64-bit integer by `divisor`: 0 makes the run raise, -1 kills the process (SIGFPE: the quotient overflows)
turns    runs a loop `count` times, about a microsecond each: a slow model, and with a huge count a model that hangs
pick     returns entry `place` of a table with three entries: outside of 0..2 the run raises
kinds    returns its inputs unchanged: a boolean, an int8, a double and a vector of three floats; `wide` is not squeezed
private  the same as pick, but not shared
broken   the graph file does not hold a graph
unread   config.json has an unknown key
forger   makes a number of a text, or raises; the name of its node holds FORGED after a newline
misnamed the graph does not load; the name of its node is like that of `forger`
"""

import json
from pathlib import Path
from typing import Any

from onnx import TensorProto, helper

LEAST = -(2**63)
FOREVER = 10**15
# A line like those of the server's log.
FORGED = "2026-01-01 00:00:00,000 CRITICAL sluice the admin's key was stolen"


def write_all(data_dir: Path) -> Path:
    """Write every model of this file into `data_dir`/models; returns `data_dir`."""
    _write(data_dir, "divide", _divide(), [_column("divisor")], [_output("quotient")], {"divisor": 1})
    _write(data_dir, "turns", _turns(), [_column("count")], [_output("turned")], {"count": 1})
    _write(data_dir, "pick", _pick(), [_column("place")], [_output("found")], {"place": 1})
    _write(data_dir, "private", _pick(), [_column("place")], [_output("found")], {"place": 1}, shared=False)
    _write(data_dir, "kinds", *_kinds())
    _write(data_dir, "broken", b"this is no graph", [_column("x")], [_output("y")], {"x": 1})
    _write(data_dir, "forger", _forger("Cast", to=TensorProto.FLOAT), [_column("text")], [_output("number")], {"text": "1"})
    _write(data_dir, "misnamed", _forger("Misnamed"), [_column("text")], [_output("number")], {"text": "1"})
    _write(data_dir, "unread", _pick(), [_column("place") | {"colour": "red"}], [_output("found")], {"place": 1})
    return data_dir


def _write(
    data_dir: Path, name: str, graph: bytes, inputs: list[Any], outputs: list[Any], example: Any, *, shared: bool = True
) -> None:
    folder = data_dir / "models" / "tester" / name
    (folder / "1").mkdir(parents=True, exist_ok=True)
    (folder / "1" / "model.onnx").write_bytes(graph)
    head = {"owner": "tester", "name": name, "task": "predict", "shared": shared, "max_batch_size": 64}
    (folder / "config.json").write_text(json.dumps(head | {"inputs": inputs, "outputs": outputs, "example": example}))


def _column(name: str) -> dict[str, Any]:
    return {"kind": "column", "input": name, "field": name}


def _output(name: str, **options: Any) -> dict[str, Any]:
    return {"output": name, "as": name, **options}


def _model(nodes: list[Any], inputs: list[Any], outputs: list[Any], constants: list[Any] = []) -> bytes:  # noqa: B006
    graph = helper.make_graph(nodes, "graph", inputs, outputs, constants)
    text: bytes = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9).SerializeToString()
    return text


def _value(name: str, kind: int, *shape: str | int) -> Any:
    return helper.make_tensor_value_info(name, kind, list(shape))


def _integer(name: str, value: int) -> Any:
    return helper.make_tensor(name, TensorProto.INT64, [], [value])


def _divide() -> bytes:
    node = helper.make_node("Div", ["least", "divisor"], ["quotient"])
    ends = [_value("divisor", TensorProto.INT64, "N")], [_value("quotient", TensorProto.INT64, "N")]
    return _model([node], *ends, [_integer("least", LEAST)])


def _turns() -> bytes:
    """Returns turned = count, after as many turns as the sum of all counts in the batch."""
    step = [helper.make_node("Identity", ["go"], ["go_on"]), helper.make_node("Add", ["x", "one"], ["y"])]
    body = helper.make_graph(
        step,
        "body",
        [_value("i", TensorProto.INT64), _value("go", TensorProto.BOOL), _value("x", TensorProto.INT64)],
        [_value("go_on", TensorProto.BOOL), _value("y", TensorProto.INT64)],
    )
    nodes = [
        helper.make_node("ReduceSum", ["count"], ["total"], keepdims=0),
        helper.make_node("Loop", ["total", "true", "zero"], ["ended"], body=body),
        helper.make_node("Mul", ["ended", "zero"], ["nothing"]),
        helper.make_node("Add", ["count", "nothing"], ["turned"]),
    ]
    ends = [_value("count", TensorProto.INT64, "N")], [_value("turned", TensorProto.INT64, "N")]
    true = helper.make_tensor("true", TensorProto.BOOL, [], [True])
    return _model(nodes, *ends, [true, _integer("zero", 0), _integer("one", 1)])


def _pick() -> bytes:
    node = helper.make_node("Gather", ["table", "place"], ["found"])
    ends = [_value("place", TensorProto.INT64, "N")], [_value("found", TensorProto.FLOAT, "N")]
    return _model([node], *ends, [helper.make_tensor("table", TensorProto.FLOAT, [3], [0.5, 0.1, float("nan")])])


def _forger(operator: str, **attributes: Any) -> bytes:
    node = helper.make_node(operator, ["text"], ["number"], name=f"forger\n{FORGED}\n", **attributes)
    return _model([node], [_value("text", TensorProto.STRING, "N")], [_value("number", TensorProto.FLOAT, "N")])


def _kinds() -> tuple[bytes, list[Any], list[Any], Any]:
    shapes = {
        "flag": (TensorProto.BOOL, "N"),
        "small": (TensorProto.INT8, "N"),
        "exact": (TensorProto.DOUBLE, "N"),
        "three": (TensorProto.FLOAT, "N", 3),
        "wide": (TensorProto.FLOAT, "N", 1),
    }
    nodes = [helper.make_node("Identity", [name], [name + "_out"]) for name in shapes]
    ends = [[_value(name + end, *shape) for name, shape in shapes.items()] for end in ("", "_out")]
    inputs = [_column(name) for name in ("flag", "small", "exact", "wide")]
    inputs.append({"kind": "vector", "input": "three", "field": "three"})
    outputs = [{"output": name + "_out", "as": name, "squeeze": name != "wide"} for name in shapes]
    return _model(nodes, *ends), inputs, outputs, {"flag": True, "small": 1, "exact": 0.1, "wide": 2, "three": [1, 2, 3]}
